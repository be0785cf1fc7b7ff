"""The trials of a race on disk, so that a kill costs at most the interval: each has a folder of its own with checkpoints."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from datafree.callback import Callback
from datafree.classifier import Classifier, fingerprint
from datafree.runs.launching.together import Together
from datafree.runs.logger import RunLogger
from datafree.runs.reading.layout import EXPERIMENT, read_experiment
from datafree.runs.run_folder import RunFolder
from datafree.runs.serialization import from_json, to_json
from datafree.synthesis import Method, Schedule
from datafree.types import InputError, Terms

Result = TypeVar("Result")


@dataclass(frozen=True)
class Counts:
    """What a trial does."""

    method: Method
    schedule: Schedule
    steps: int


class TrialLogger(RunLogger):
    """The callback of a trial, which saves its last step too: a finished trial is not repeated."""

    steps = 0

    def log(self, step: int, terms: Terms) -> None:
        super().log(step, terms)
        if step == self.steps:
            self.save()


@dataclass
class Trials:
    """The trials of a race in a folder.

    Attributes:
        folder: A folder for each trial is made in it.
        interval: Seconds that a kill costs at most.
        together: The processes of the race; it saves the checkpoints of the trial that is carried out.
        keep: Called in the first process when work was done that is worth keeping.
        earlier: Seconds that trials have taken before this process was started.
    """

    folder: Path
    interval: float
    together: Together
    keep: Callable[[], None]
    earlier: float = 0.0

    def counts(self, name: str, measured: Callable[[], Counts]) -> Counts:
        """Return what a trial does: as its folder says, so that it is continued in the same way; else as it is measured."""
        stored = self.stored(name) if self.together.rank == 0 else None
        return self.together.fabric.broadcast(stored) or measured()

    def stored(self, name: str) -> Counts | None:
        """Return what the folder of a trial says that it does; None if it has not begun.

        Raises:
            InputError: If the folder is damaged.
        """
        path = self.folder / name
        if not (path / EXPERIMENT).is_file():
            return None
        content = read_experiment(path)
        if not isinstance(content, dict) or type(content.get("steps")) is not int or content["steps"] < 1:
            raise InputError(f"{path / EXPERIMENT} is damaged; start a new run")
        method, schedule = (from_json(content.get(key), str(path / EXPERIMENT)) for key in ("method", "schedule"))
        if not (isinstance(method, Method) and isinstance(schedule, Schedule)):
            raise InputError(f"{path / EXPERIMENT} is damaged; start a new run")
        return Counts(method, schedule, content["steps"])

    def carry_out(self, name: str, counts: Counts, teacher: Classifier, work: Callable[[Callback], Result]) -> Result:
        """Carry out a trial, or continue it.

        Args:
            name: Its name.
            counts: What it does.
            teacher: The teacher.
            work: Trains a student with a callback, and returns the result.
        """
        path, start = self.folder / name, time.monotonic()
        settings: dict[str, Any] = {
            "method": to_json(counts.method),
            "schedule": to_json(counts.schedule),
            "steps": counts.steps,
        }
        given = {"checkpoint_interval": self.interval, "dependencies": {"the teacher": fingerprint(teacher.model)}}
        self.together.path = path
        with ExitStack() as stack:
            folder = None
            if self.together.rank == 0:
                folder = stack.enter_context(RunFolder(path, settings, resume=(path / EXPERIMENT).is_file()))
                self.keep()
            logger = TrialLogger(folder, teacher, None, together=self.together, **given)
            logger.steps = counts.steps
            stack.enter_context(logger)
            result = work(logger)
            self.earlier += max(0.0, logger.seconds() - (time.monotonic() - start))
        return result
