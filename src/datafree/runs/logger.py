"""The logger of a run: a callback that shows progress, writes the log, monitors health and saves checkpoints."""

import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from datafree.callback import Callback
from datafree.classifier import Classifier, fingerprint
from datafree.evaluation import health
from datafree.randomness import RandomState
from datafree.runs.run_folder import RunFolder
from datafree.types import Batch, Diverged, InputError, Stateful, Terms, require_unchanged

T = TypeVar("T")

LOG = "log.jsonl"
LOG_EVERY = 20
"""steps between two lines of the log"""
HEALTH_EVERY = 50
"""batches between two health checks; the first eight batches are all checked"""
MIN_LABELS_PER_IMAGE = 0.1
"""mean number of predicted labels per image below which images count as collapsed"""
RANDOM = "random_state"


def progress_bars(console: Console) -> Progress:
    """Return a progress display with rate, elapsed and remaining time, disabled unless the console is a terminal."""
    return Progress(
        TextColumn("{task.description:>10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def with_progress(batches: Iterable[Batch], images: int, label: str, console: Console | None) -> Iterator[Batch]:
    """Yield the batches and show how many of their images are done.

    Args:
        batches: The batches.
        images: Total number of images.
        label: What is being done, in one word.
        console: Where progress is shown; default: nowhere.
    """
    start, done = time.monotonic(), 0
    with progress_bars(console or Console(quiet=True)) as progress:
        bar = progress.add_task(label, total=images, rate="")
        for batch in batches:
            yield batch
            done += len(batch)
            progress.update(bar, completed=done, rate=f"{done / (time.monotonic() - start):.0f}/s")


class RunLogger(Callback):
    """The callback of a run. Use it as a context manager: it owns a progress display and an open file.

    Args:
        folder: The run folder; None in a process that writes nothing.
        teacher: The teacher, for health checks.
        student: The student, for health checks.
        console: Where progress is shown; default: nowhere.
        checkpoint_interval: Seconds between two checkpoints.
        tensorboard: Write TensorBoard events as well.
        evaluation_interval: Seconds between two evaluations during training; 0: none.
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
        tensorboard: bool = False,
        evaluation_interval: float = 0.0,
        evaluate: Callable[[], float] | None = None,
    ) -> None:
        self.folder, self.teacher, self.student = folder, teacher, student
        self.console = console or Console(quiet=True)
        self.checkpoint_interval, self.evaluation_interval = checkpoint_interval, evaluation_interval
        self.evaluate = evaluate
        self.states: dict[str, Stateful] = {RANDOM: RandomState()}
        self.step = 0
        self.notes: list[str] = []
        self.health: dict[str, float] = {}
        self.images_synthesized = 0
        self.first_batch: Batch | None = None
        self.start = self.last_save = self.last_evaluation = time.monotonic()
        self.save_seconds = 0.0
        self.file = (folder.path / LOG).open("a") if folder else None
        self.events = _tensorboard_writer(folder.path) if tensorboard and folder else None
        self.progress = progress_bars(self.console)

    def __enter__(self) -> "RunLogger":
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()
        if self.file:
            self.file.close()
        if self.events:
            self.events.close()

    def track(self, steps: Iterable[T], label: str) -> Iterator[T]:
        steps = steps if isinstance(steps, Sequence) else list(steps)
        bar = self.progress.add_task(label, total=len(steps), rate="")
        start = time.monotonic()
        for index, step in enumerate(steps):
            yield step
            if index % 10 == 9:
                rate = f"{(index + 1) / (time.monotonic() - start):.1f}/s"
                self.progress.update(bar, completed=index + 1, rate=rate)
        self.progress.remove_task(bar)

    def on_batch(self, batch: Batch, count: int, due: int) -> None:
        self.images_synthesized += len(batch)
        if self.first_batch is None:
            self.first_batch = batch
        if count <= 8 or count % HEALTH_EVERY == 0:
            self.check_health(batch, count)
        self.save_if_due()

    def check_health(self, batch: Batch, count: int) -> None:
        """Log the loss terms and the health of a batch.

        Raises:
            Diverged: If a pixel is not finite.
        """
        if not torch.isfinite(batch.images).all():
            raise Diverged(f"batch {count} has non-finite pixels; lower the learning rate of the method")
        self.health = health(self.teacher, self.student, batch)
        terms = {name: float(term) for name, term in batch.terms.items()}
        self.write("synthesis", count, {**terms, **{f"health/{name}": value for name, value in self.health.items()}})
        if count % HEALTH_EVERY == 0:
            self.warn_of_collapse()

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
        """Add a note to the summary and print it."""
        self.notes.append(text)
        self.console.print(f"note     {text}", highlight=False, soft_wrap=True)

    def also_register(self, **state: Stateful) -> None:
        """Add objects to the checkpoints, before the application registers its own."""
        self.states |= state

    def register(self, **state: Stateful) -> int:
        self.states |= state
        checkpoint = self.folder.newest() if self.folder else None
        if checkpoint is None:
            if self.file:
                self.file.truncate(0)
            return 0
        self.step, saved = checkpoint
        require_unchanged("the teacher", fingerprint(self.teacher), saved.get("teacher_sha256"))
        for name, stateful in self.states.items():
            if name != RANDOM:
                stateful.load_state_dict(saved["states"][name])
        self.states[RANDOM].load_state_dict(saved["states"][RANDOM])  # last, since loading may draw random numbers
        self.images_synthesized, self.health = saved["images_synthesized"], saved["health"]
        self.start = time.monotonic() - saved["seconds"]
        if saved["first_batch"]:
            self.first_batch = Batch(saved["first_batch"]["images"], saved["first_batch"]["targets"], {})
        if self.file:
            self.file.truncate(saved["log_bytes"])
        return self.step

    def log(self, step: int, terms: Terms) -> None:
        self.step = step
        if step % LOG_EVERY == 0 or step == 1:
            values = {name: float(term) for name, term in terms.items()}
            for name, value in values.items():
                if not math.isfinite(value):
                    raise Diverged(f"{name} is {value} at step {step}; lower the learning rate")
            self.write("application", step, values)
        evaluation_age = time.monotonic() - self.last_evaluation
        if self.evaluation_interval and self.evaluate and evaluation_age > self.evaluation_interval:
            self.log_accuracy(step, self.evaluate)
        self.save_if_due()

    def log_accuracy(self, step: int, evaluate: Callable[[], float]) -> None:
        """Log the student's current accuracy. Its evaluation does not count in the seconds of the run."""
        start = time.monotonic()
        self.write("evaluation", step, {"seconds": self.seconds(), "accuracy": evaluate()})
        self.last_evaluation = time.monotonic()
        self.start += self.last_evaluation - start

    def write(self, phase: str, step: int, values: dict[str, float]) -> None:
        """Write one line of the log."""
        if self.file:
            rounded = {name: round(value, 6) for name, value in values.items()}
            self.file.write(json.dumps({"phase": phase, "step": step, **rounded}) + "\n")
        if self.events:
            for name, value in values.items():
                self.events.add_scalar(f"{phase}/{name}", value, step)

    def save_if_due(self) -> None:
        """Save a checkpoint if the last one is old enough, in at most a twentieth of the time of the run."""
        age = time.monotonic() - self.last_save
        if self.file and age > max(self.checkpoint_interval, 20 * self.save_seconds):
            start = time.monotonic()
            self.save()
            self.save_seconds = time.monotonic() - start

    def save(self) -> None:
        """Save a checkpoint of all registered objects."""
        assert self.file is not None and self.folder is not None
        self.file.flush()
        first = self.first_batch
        checkpoint = {
            "states": {name: stateful.state_dict() for name, stateful in self.states.items()},
            "teacher_sha256": fingerprint(self.teacher),
            "images_synthesized": self.images_synthesized,
            "health": self.health,
            "first_batch": None if first is None else {"images": first.images, "targets": first.targets},
            "log_bytes": os.fstat(self.file.fileno()).st_size,
            "seconds": self.seconds(),
        }
        self.folder.commit(self.step, checkpoint)
        self.last_save = time.monotonic()


def _tensorboard_writer(path: Path) -> Any:
    try:
        from torch.utils.tensorboard.writer import SummaryWriter
    except ImportError as fault:
        raise InputError("tensorboard is not installed; install it, or remove --tensorboard") from fault
    return SummaryWriter(str(path / "tensorboard"))


def read_log(path: str | Path) -> list[dict[str, Any]]:
    """Read the log of a run folder; a last line that is incomplete is skipped."""
    lines = []
    for line in (Path(path) / LOG).read_text().splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            print(f"datafree: skipped an incomplete line of {path}/{LOG}", file=sys.stderr)
    return lines
