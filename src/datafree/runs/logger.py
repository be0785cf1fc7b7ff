"""The watcher of a run: shows progress, writes the log, measures health, and keeps checkpoints."""

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

from datafree.classifier import Classifier, fingerprint
from datafree.evaluation import health
from datafree.randomness import RandomState
from datafree.runs.run_folder import RunFolder
from datafree.types import Batch, Diverged, Stateful, Terms, same_as_before
from datafree.callback import Callback

T = TypeVar("T")

LOG_EVERY = 20
"""steps from one line of the log to the next"""
HEALTH_EVERY = 50
"""batches from one look at a fast synthesizer's health to the next; the first eight are all looked at"""
EMPTY = 0.1
"""labels per image under which images are taken for collapsed"""


def bars(console: Console) -> Progress:
    """How far something is, at which rate, for how long and for how long still; nothing if the console is no terminal."""
    return Progress(
        TextColumn("{task.description:>9}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def shown(batches: Iterable[Batch], images: int, label: str, console: Console | None) -> Iterator[Batch]:
    """The batches themselves, which are so many images together, with a bar of how many of them are done."""
    begin, done = time.monotonic(), 0
    with bars(console or Console(quiet=True)) as progress:
        bar = progress.add_task(label, total=images, rate="")
        for batch in batches:
            yield batch
            done += len(batch)
            progress.update(bar, completed=done, rate=f"{done / (time.monotonic() - begin):.0f}/s")


class RunLogger(Callback):
    """Watches one run. Used as a context, since it owns the progress display and an open file.

    Args:
        folder: The run's directory; None in a process that does not write.
        teacher: For health.
        student: For health.
        console: Where progress is shown; nothing is shown if not given, or if it is no terminal.
        interval: Seconds from one checkpoint to the next.
        tensorboard: Write TensorBoard events as well.
        curve: Seconds from one point of the accuracy curve to the next; 0 draws none.
        judge: The student's accuracy now; only for the curve, nothing is decided by it.
    """

    def __init__(
        self,
        folder: RunFolder | None,
        teacher: Classifier,
        student: Classifier | None,
        *,
        console: Console | None = None,
        interval: float = 20.0,
        tensorboard: bool = False,
        curve: float = 0.0,
        judge: Callable[[], float] | None = None,
    ) -> None:
        self.console = console or Console(quiet=True)
        self.notes: list[str] = []
        self.folder, self.teacher, self.student = folder, teacher, student
        self.interval = interval
        self.kept: dict[str, Stateful] = {"random": RandomState()}
        self.step = 0
        self.first: Batch | None = None
        self.health: dict[str, float] = {}
        self.images_made = 0
        self.curve, self.judge = curve, judge
        self.began = self.saved_at = self.judged_at = time.monotonic()
        self.save_took = 0.0
        self.file = (folder.path / "log.jsonl").open("a") if folder else None
        self.events = _tensorboard(folder.path) if tensorboard and folder else None
        self.progress = bars(self.console)

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
        wanted = steps if isinstance(steps, Sequence) else list(steps)
        bar = self.progress.add_task(label, total=len(wanted), rate="")
        begin = time.monotonic()
        for done, step in enumerate(wanted):
            yield step
            if done % 10 == 9:
                rate = f"{(done + 1) / (time.monotonic() - begin):.1f}/s"
                self.progress.update(bar, completed=done + 1, rate=rate)
        self.progress.remove_task(bar)

    def on_batch(self, batch: Batch, count: int, due: int) -> None:
        self.images_made += len(batch)
        if self.first is None:
            self.first = batch
        if count <= 8 or count % HEALTH_EVERY == 0:
            if not torch.isfinite(batch.images).all():
                raise Diverged(f"batch {count} has pixels that are not finite; lower the learning rate of the method")
            self.health = health(self.teacher, self.student, batch)
            terms = {name: float(term) for name, term in batch.terms.items()}
            self.write("synthesis", count, {**terms, **{f"health/{name}": x for name, x in self.health.items()}})
            if count % HEALTH_EVERY == 0:
                self.warn_of_collapse()
        self.maybe_save()

    def warn_of_collapse(self) -> None:
        """Says once if images have next to no label: empty ones are what one-hot and sparsity losses like best."""
        labels, warning = self.health.get("positives", math.inf), "the images have collapsed: almost none has a label"
        if labels < EMPTY and not any(note.startswith(warning) for note in self.notes):
            self.note(
                f"{warning} ({labels:.3f} each); another seed, or less weight on one-hot and sparsity, may mend it"
            )

    def seconds(self) -> float:
        """How long the run has taken, before it was interrupted too; evaluations along the curve are left out."""
        return time.monotonic() - self.began

    def note(self, text: str) -> None:
        """What a user must know."""
        self.notes.append(text)
        self.console.print(f"note     {text}", highlight=False, soft_wrap=True)

    def also_register(self, **state: Stateful) -> None:
        """What a checkpoint must hold besides what the application keeps."""
        self.kept |= state

    def register(self, **state: Stateful) -> int:
        self.kept |= state
        found = self.folder.newest() if self.folder else None
        if found is None:
            if self.file:
                self.file.truncate(0)
            return 0
        self.step, saved = found
        same_as_before("the teacher", fingerprint(self.teacher), saved.get("teacher"))
        for name, stateful in self.kept.items():
            if name != "random":
                stateful.load_state_dict(saved["kept"][name])
        self.kept["random"].load_state_dict(saved["kept"]["random"])
        self.images_made, self.health = saved["images_made"], saved["health"]
        self.began = time.monotonic() - saved["seconds"]
        if saved["first"]:
            self.first = Batch(saved["first"]["images"], saved["first"]["targets"], {})
        if self.file:
            self.file.truncate(saved["log"])
        return self.step

    def log(self, step: int, terms: Terms) -> None:
        self.step = step
        if step % LOG_EVERY == 0 or step == 1:
            values = {name: float(term) for name, term in terms.items()}
            for name, value in values.items():
                if not math.isfinite(value):
                    raise Diverged(f"{name} is {value} at step {step}; lower the learning rate")
            self.write("application", step, values)
        if self.curve and self.judge and time.monotonic() - self.judged_at > self.curve:
            self.draw_point(step, self.judge)
        self.maybe_save()

    def draw_point(self, step: int, judge: Callable[[], float]) -> None:
        """One point of the accuracy curve. The clock of the run stands still for it."""
        begin = time.monotonic()
        self.write("curve", step, {"seconds": self.seconds(), "accuracy": judge()})
        self.judged_at = time.monotonic()
        self.began += self.judged_at - begin

    def write(self, phase: str, step: int, values: dict[str, float]) -> None:
        """One line of the log."""
        if self.file:
            self.file.write(
                json.dumps({"phase": phase, "step": step, **{k: round(v, 6) for k, v in values.items()}}) + "\n"
            )
        if self.events:
            for name, value in values.items():
                self.events.add_scalar(f"{phase}/{name}", value, step)

    def maybe_save(self) -> None:
        """A checkpoint, if the last one is old enough; a large pool is saved less often, to stay under a twentieth."""
        if self.file and time.monotonic() - self.saved_at > max(self.interval, 20 * self.save_took):
            begin = time.monotonic()
            self.save()
            self.save_took = time.monotonic() - begin

    def save(self) -> None:
        """A checkpoint of everything that was kept, now."""
        assert self.file is not None and self.folder is not None
        self.file.flush()
        first = None if self.first is None else {"images": self.first.images, "targets": self.first.targets}
        kept = {name: stateful.state_dict() for name, stateful in self.kept.items()}
        log = os.fstat(self.file.fileno()).st_size
        told = {
            "teacher": fingerprint(self.teacher),
            "images_made": self.images_made,
            "health": self.health,
            "first": first,
            "log": log,
            "seconds": self.seconds(),
        }
        self.folder.commit(self.step, {"kept": kept, **told})
        self.saved_at = time.monotonic()


def _tensorboard(path: Path) -> Any:
    from datafree.types import InputError

    try:
        from torch.utils.tensorboard.writer import SummaryWriter
    except ImportError as fault:
        raise InputError("tensorboard is not installed; pip install tensorboard, or leave --tensorboard out") from fault
    return SummaryWriter(str(path / "tensorboard"))


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a run's log; a last line that was cut off is left out."""
    lines = []
    for line in (path / "log.jsonl").read_text().splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            print(f"datafree: {path}/log.jsonl has a line that was cut off", file=sys.stderr)
    return lines
