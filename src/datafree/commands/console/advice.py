"""What to do after a command was interrupted, or failed because of the machine."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

EXPERIMENT, SUMMARY, COMPRESSION = "experiment.json", "summary.json", "compression.json"


@dataclass(frozen=True)
class Unfinished:
    """What an interrupt would leave behind."""

    path: Path
    """the output of the command"""
    is_run: bool
    """whether it is a run folder, which can be resumed; other output is written at once, or must be deleted"""
    words: tuple[str, ...] = ()
    """the options that name the user's own code, which must be repeated"""
    repeats: bool = False
    """whether it is a folder of several runs, which is continued as a whole"""

    @property
    def advice(self) -> str:
        """How to go on from what is there now."""
        name = shlex.quote(str(self.path))
        if self.is_run and (self.path / SUMMARY).is_file():
            return f"the run is finished; see it with: datafree report {name}"
        if self.is_run and (self.path / EXPERIMENT).is_file():
            return f"continue with: datafree resume {shlex.join([str(self.path), *self.words])}"
        if self.repeats and (self.path / COMPRESSION).is_file():
            return f"continue with: datafree resume {shlex.join([str(self.path), *self.words])}"
        if not (self.is_run or self.repeats) and self.path.exists():
            return f"delete {name}, then run the command again"
        return "run the command again"


unfinished: list[Unfinished] = []
"""the output that the command is writing, if there is any"""


def begin_run(path: Path, words: Sequence[str] = ()) -> None:
    """Remember the folder of a new run, unless another run is in it, which is not to be resumed with other settings.

    Args:
        path: The folder.
        words: The options that name the user's own code.
    """
    if not os.path.exists(path / EXPERIMENT):  # unlike that of pathlib, it takes any name
        unfinished.append(Unfinished(path, is_run=True, words=tuple(words)))


def how_to_continue() -> str:
    """Return what to do after the command was interrupted."""
    return unfinished[-1].advice if unfinished else "run the command again"
