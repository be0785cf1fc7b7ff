"""The logger of a run: a callback that shows progress, writes the log, monitors health and saves checkpoints."""

import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, TypeVar

import torch
from rich.console import Console

from datafree import processes
from datafree.callback import Callback
from datafree.classifier import Classifier
from datafree.files import append_text, open_for_appending
from datafree.files.validation import from_plain
from datafree.progress import Display, Pace, Work
from datafree.progress.display import in_words
from datafree.randomness import RandomState
from datafree.runs.checkpoints import restore
from datafree.runs.dependencies import compare
from datafree.runs.launching.due import Due
from datafree.runs.launching.together import INTERVAL as AGREEMENT
from datafree.runs.launching.together import Stopped, Together
from datafree.runs.reading.log import read_log as read_log
from datafree.runs.reporting.console import say
from datafree.runs.run_folder import LOG, RunFolder
from datafree.runs.tracking import Tracker
from datafree.runs.verdict import Evidence, findings
from datafree.signals import IMAGES, health
from datafree.types import Batch, Diverged, InputError, Stateful, Terms

T = TypeVar("T")

LOG_BUFFER = 20
"""lines that are kept in memory before they are written"""
LOG_EVERY = 20
"""steps between two lines of the log"""
HEALTH_EVERY = 50
"""batches between two health checks; the first eight batches are all checked"""
MIN_LABELS_PER_IMAGE = 0.1
"""mean number of predicted labels per image below which images count as collapsed"""
RANDOM = "random_state"
NOT_PLAIN = ("states", "health", "first_batch", "first_batches")
"""entries of a checkpoint with tensors; `first_batch` is that of earlier versions"""


@dataclass(frozen=True, kw_only=True)
class Saved:
    """The plain values in a checkpoint; the tensors and the states of objects are beside them."""

    images_synthesized: int
    part_images: Mapping[str, int] = field(default_factory=dict)
    """images synthesized by each part of a mixture"""
    log_bytes: int
    seconds: float
    dependencies: Mapping[str, Any] = field(default_factory=dict)
    """see `dependencies_of`"""
    notes: tuple[str, ...] = ()
    """notes about earlier resumptions, and those of the training"""
    pace: Mapping[str, Any] = field(default_factory=dict)
    """see `Pace.state_dict`"""


class RunLogger(Callback):
    """The callback of a run. Use it as a context manager: it owns a progress display and an open file.

    Args:
        folder: The run folder; None in a process that writes nothing.
        teacher: The teacher, for health checks.
        student: The student, for health checks.
        console: Where progress is shown; default: nowhere.
        checkpoint_interval: Seconds that a kill costs at most; see `Due`.
        dependencies: What the result depends on besides the state; saved in checkpoints, and compared when one is loaded.
        trackers: Where the values of the log are also written; they are closed with the logger.
        work: What there is to do, for the time left.
        aims: Whether the method chooses the class of each image before.
        evaluation_interval: Seconds between two evaluations during training; 0: none.
        together: The processes of the run; default: this one alone.
        evaluate: Returns the student's current held-out accuracy. It is only logged; nothing is selected by it.
    """

    def __init__(
        self,
        folder: RunFolder | None,
        teacher: Classifier,
        student: Classifier | None,
        *,
        console: Console | None = None,
        checkpoint_interval: float = 20.0,
        dependencies: Mapping[str, Any] | None = None,
        trackers: Sequence[Tracker] = (),
        work: Work | None = None,
        aims: bool = False,
        evaluation_interval: float = 0.0,
        evaluate: Callable[[], float] | None = None,
        together: Together | None = None,
    ) -> None:
        self.together = together
        self.folder, self.teacher, self.student = folder, teacher, student
        self.console = console or Console(quiet=True)
        self.evaluation_interval = evaluation_interval
        self.due = Due(checkpoint_interval)
        if together and together.count > 1:
            self.due.slack = AGREEMENT
        self.evaluate, self.dependencies = evaluate, dependencies or {}
        self.states: dict[str, Stateful] = {RANDOM: RandomState()}
        self.step = 0
        self.notes: list[str] = []
        self.kept_notes: list[str] = []
        self.health: dict[str, float] = {}
        self.images_synthesized = 0
        self.part_images: dict[str, int] = {}
        self.first_batches: dict[str, Batch] = {}
        self.start = self.last_evaluation = time.monotonic()
        self.lines: list[str] = []
        self.file = open_for_appending(folder.path / LOG) if folder else None
        self.history: list[dict[str, Any]] = []
        self.said: set[str] = set()
        self.registered = False
        self.trackers, self.aims = trackers, aims
        self.pace = Pace(work or Work())
        self.display = Display(self.console, self.pace if work else None)

    def __enter__(self) -> "RunLogger":
        self.display.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.display.__exit__(kind, error, trace)
        try:
            with suppress(*([] if kind is None else [InputError, OSError])):  # the first error is the one to report
                self.flush()
        finally:
            if self.file is not None:
                os.close(self.file)
            for tracker in self.trackers:
                tracker.close()

    def track(self, steps: Iterable[T], label: str) -> Iterator[T]:
        return self.display.track(steps, label)

    def on_step(self) -> None:
        self.keep_folder()
        self.pace.on_step()
        self.save_if_due()

    def on_measurement(self) -> None:
        self.keep_folder()
        self.pace.spend("application")
        self.save_if_due()

    def on_batch(self, batch: Batch, count: int, due: int) -> None:
        self.keep_folder()
        self.pace.on_batch(batch.part)
        images = (batch.stands_for or len(batch)) * processes.count()
        self.images_synthesized += images
        if batch.part:
            self.part_images[batch.part] = self.part_images.get(batch.part, 0) + images
        self.first_batches.setdefault(batch.part, batch)
        if count <= 8 or count % HEALTH_EVERY == 0:
            self.check_health(batch, count)
        if count % HEALTH_EVERY == 0 or count == due:
            self.warn_of_collapse()
            if self.folder:  # pools of an estimate, and sets, are checked at their end
                self.warn_of_faults()
        self.save_if_due(early=count == due > 1 and not self.step)  # the student's first step may lack memory

    def check_health(self, batch: Batch, count: int) -> None:
        """Log the loss terms and the health of a batch.

        Raises:
            Diverged: If a pixel is not finite.
        """
        prefix, of_part = (f"{batch.part}/", f" of {batch.part}") if batch.part else ("", "")
        if not torch.isfinite(batch.images).all():
            raise Diverged(f"batch {count}{of_part} has non-finite pixels; lower the learning rate of the method")
        self.health = health(self.teacher, self.student, batch)
        terms = {f"{prefix}{name}": float(term) for name, term in batch.terms.items()}
        signals = {f"health/{prefix}{name}": value for name, value in self.health.items()}
        self.write("synthesis", count, {**terms, **signals})

    def evidence(self, **measured: Any) -> Evidence:
        """Return what is known about the run so far.

        Args:
            measured: What only the end of a run knows, by the names of the fields of `Evidence`.
        """
        firsts = self.first_batches.items()
        return Evidence(
            log=self.history,
            classes=len(self.teacher.classes),
            batch_images={part: min(IMAGES, len(first)) for part, first in firsts},
            images=self.part_images or {"": self.images_synthesized},
            aims=self.aims,
            **measured,
        )

    def warn_of_faults(self) -> None:
        """Say each fault that is found while the run goes on once. It is part of the verdict at the end if it stays."""
        for finding in findings(self.evidence(), while_it_runs=True):
            if finding.level == "fault" and finding.rule not in self.said:
                self.said.add(finding.rule)
                say(self.console, "warning", f"{finding.sentence}; {finding.advice.replace('`', '')}")

    def warn_of_collapse(self) -> None:
        """Add a note, once, if hardly any image has a label: empty images minimise one-hot and sparsity losses."""
        labels = self.health.get("labels_per_image", math.inf)
        warning = "the images have collapsed: almost none has a label"
        if labels < MIN_LABELS_PER_IMAGE and not any(note.startswith(warning) for note in self.notes):
            self.note(
                f"{warning} ({labels:.3f} labels per image); try another seed or lower one-hot and sparsity weights"
            )

    def seconds(self) -> float:
        """Return the duration of the run, interrupted parts included, without evaluations during training."""
        return time.monotonic() - self.start

    def note(self, text: str) -> None:
        """Add a note to the summary and print it. A note of the training is kept in checkpoints."""
        self.notes.append(text)
        if self.registered and text not in self.kept_notes:
            self.kept_notes.append(text)
        say(self.console, "note", text)

    def also_register(self, **state: Stateful) -> None:
        """Add objects to the checkpoints, before the application registers its own."""
        self.states |= state

    def register(self, **state: Stateful) -> int:
        self.states |= state
        checkpoint, note = self.newest()
        if checkpoint is None:
            if self.file is not None:
                os.truncate(self.file, 0)
            self.registered = True
            return 0
        for sentence in self.folder.skipped if self.folder else ():
            self.note(sentence)
        self.step, state = checkpoint
        self.load(state)
        self.registered = True
        if note:
            self.note(note)
        return self.step

    def newest(self) -> tuple[tuple[int, Any] | None, str]:
        """Return the step and the state of the newest checkpoint, if there is one, and a note about it."""
        if not self.together:
            return (self.folder.newest() if self.folder else None), ""
        step, state, note = self.together.newest(self.folder) or (0, None, "")
        return (None if state is None else (step, state)), note

    def load(self, state: Any) -> None:
        """Load the state of a checkpoint into all registered objects.

        Raises:
            InputError: If something that decides the result has changed, or the state is not that of this run.
        """
        plain = {name: value for name, value in state.items() if name not in NOT_PLAIN}
        saved = from_plain(Saved, plain, "the checkpoint", ignore_unknown=True)
        self.kept_notes = list(dict.fromkeys([*saved.notes, *compare(saved.dependencies, self.dependencies)]))
        for note in self.kept_notes:
            self.note(note)
        states, firsts = state["states"], state.get("first_batches") or {"": state.get("first_batch")}
        for name, stateful in self.states.items():
            if name != RANDOM:
                restore(name, stateful, states[name])
        restore(RANDOM, self.states[RANDOM], states[RANDOM])  # last, since loading may draw random numbers
        self.images_synthesized, self.health = saved.images_synthesized, dict(state["health"])
        self.part_images = dict(saved.part_images)
        self.start = time.monotonic() - saved.seconds
        for part, first in firsts.items():
            if first:
                self.first_batches[part] = Batch(first["images"], first["targets"], {}, part=part)
        if self.file is not None:
            os.truncate(self.file, min(saved.log_bytes, os.fstat(self.file).st_size))
        self.history = read_log(self.folder.path) if self.folder else []
        if saved.pace:
            self.pace.load_state_dict(saved.pace, self.step)
        if done := self.pace.describe():
            done = ", ".join(filter(None, (done, in_words(self.pace.seconds_left))))
        else:
            done = f"step {self.step:,}" if self.student else f"{self.images_synthesized:,} images"
        say(self.console, "resumed", f"after {done}")

    def log(self, step: int, terms: Terms) -> None:
        self.keep_folder()
        self.step = step
        self.pace.on_student_step(step)
        if step % LOG_EVERY == 0 or step == 1:
            values = {name: float(term) for name, term in terms.items()}
            for name, value in values.items():
                if not math.isfinite(value):
                    raise Diverged(f"{name} is {value} at step {step}; lower the learning rate")
            self.write("application", step, values)
        evaluation_age = time.monotonic() - self.last_evaluation
        if (
            self.evaluation_interval
            and self.evaluate
            and self.file is not None
            and evaluation_age > self.evaluation_interval
        ):
            self.log_accuracy(step, self.evaluate)
        self.save_if_due(early=step == self.pace.work.steps)  # the evaluation at the end is not in checkpoints

    def log_accuracy(self, step: int, evaluate: Callable[[], float]) -> None:
        """Log the student's current accuracy. Its evaluation does not count in the seconds of the run."""
        start = time.monotonic()
        self.write("evaluation", step, {"seconds": self.seconds(), "accuracy": evaluate()})
        self.last_evaluation = time.monotonic()
        self.start += self.last_evaluation - start
        self.pace.skip()

    def write(self, phase: str, step: int, values: dict[str, float]) -> None:
        """Write one line of the log."""
        rounded = {name: round(value, 6) for name, value in values.items()}
        self.history.append({"phase": phase, "step": step, **rounded})
        if self.file is not None:
            self.lines.append(json.dumps(self.history[-1]) + "\n")
            if len(self.lines) >= LOG_BUFFER:
                self.flush()
        for tracker in self.trackers:
            tracker.log(phase, step, values)

    def flush(self) -> None:
        """Write the lines of the log that are still in memory.

        Raises:
            InputError: If another process has taken the folder.
            OSError: If the disk fails or is full.
        """
        if self.folder and self.file is not None and self.lines:
            self.folder.require_owner()
            append_text(self.file, "".join(self.lines))
            self.lines = []

    def keep_folder(self) -> None:
        """Keep the run folder from now on: work was done."""
        if self.folder:
            self.folder.keep()

    def save_if_due(self, *, early: bool = False) -> None:
        """Save a checkpoint if one is due, or stop the run.

        Args:
            early: Whether work follows that may fail, or that no checkpoint can hold.

        Raises:
            Stopped: If the run was asked to stop; a checkpoint was saved.
        """
        due, stop = self.due.check(early=early) and self.file is not None, False
        if self.together:
            due, stop = self.together.agree(due)
        if due:
            start = time.monotonic()
            self.save()
            self.due.saved(start)
            if note := self.due.note():
                say(self.console, "note", note)  # not in the summary: it depends on the machine
        if stop:
            raise Stopped

    def save(self) -> None:
        """Save a checkpoint of all registered objects."""
        self.flush()
        firsts = self.first_batches.items()
        checkpoint = {
            "states": {name: stateful.state_dict() for name, stateful in self.states.items()},
            "dependencies": self.dependencies,
            "notes": self.kept_notes,
            "images_synthesized": self.images_synthesized,
            "health": self.health,
            "part_images": self.part_images,
            "first_batches": {part: {"images": first.images, "targets": first.targets} for part, first in firsts},
            "log_bytes": 0 if self.file is None else os.fstat(self.file).st_size,
            "seconds": self.seconds(),
            "pace": self.pace.state_dict(),
        }
        if self.together:
            self.together.commit(self.folder, self.step, checkpoint)
        elif self.folder:
            self.folder.commit(self.step, checkpoint)
