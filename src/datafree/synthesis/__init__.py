"""How images are made, when, and where they are kept until a student has seen them."""

from datafree.synthesis.stream import Method as Method
from datafree.synthesis.stream import Schedule as Schedule
from datafree.synthesis.stream import Stream as Stream
from datafree.synthesis.stream import Synthesizer as Synthesizer
from datafree.synthesis.stream import descend as descend
from datafree.synthesis.stream import total as total
