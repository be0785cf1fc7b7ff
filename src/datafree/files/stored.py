"""Files of a run that a checkpoint names instead of holding their content."""

import re
from dataclasses import dataclass

from datafree.errors import InputError

_STEP = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""a folder or a file in the path"""
MAX_STEPS = 6


@dataclass(frozen=True)
class StoredFile:
    """A file that is complete and is never changed, with its hash.

    Raises:
        InputError: If the path is not a plain one below the run folder.
    """

    path: str
    """relative to the run folder, with `/` between folders"""
    sha256: str

    def __post_init__(self) -> None:
        steps = self.path.split("/")
        if len(steps) > MAX_STEPS or not all(_STEP.fullmatch(step) for step in steps):
            raise InputError(f"{self.path[:50]!r} is not a plain path in a run folder; restore the file that names it")
