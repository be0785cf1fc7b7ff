"""Progress: where a command prints, how far its loops are, and how much time is left."""

from datafree.progress.display import Display as Display
from datafree.progress.display import with_progress as with_progress
from datafree.progress.output import Output as Output
from datafree.progress.output import emit as emit
from datafree.progress.pace import Pace as Pace
from datafree.progress.pace import Work as Work
