"""The progress of loops: bars on a terminal, plain lines in a file or a notebook, events for a program."""

import time
from collections.abc import Iterable, Iterator, Sequence, Sized
from types import TracebackType
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from datafree.progress.output import Output, emit, shows_bars
from datafree.progress.pace import Pace
from datafree.progress.words import duration

T = TypeVar("T")
Group = TypeVar("Group", bound=Sized)

LINE_EVERY = 30.0
"""seconds between two plain lines"""
EVENT_EVERY = 1.0
"""seconds between two events"""
BAR_EVERY = 0.1
"""seconds between two updates of a bar"""
WHOLE = 1000
"""units of the bar of a whole run"""


class Loop:
    """A loop under way.

    Args:
        label: What it does, in a word or two.
        done: Steps that were done before, as in a resumed run.
        total: Steps in all.
    """

    def __init__(self, label: str, done: int, total: int) -> None:
        self.label, self.first, self.done, self.total = label, done, done, total
        self.start = time.monotonic()
        self.shown = 0.0
        self.bar: TaskID | None = None

    @property
    def rate(self) -> float:
        """Steps per second in this process."""
        return (self.done - self.first) / max(time.monotonic() - self.start, 1e-9)

    @property
    def seconds_left(self) -> float | None:
        """Seconds to the end of this loop; None before its first step."""
        return (self.total - self.done) / self.rate if self.done > self.first else None


class Display:
    """Shows how far loops are. Use it as a context manager.

    Args:
        console: Where; nothing is shown if it is quiet.
        pace: How far the whole run is, for the total time left; None: each loop is shown by itself.
    """

    def __init__(self, console: Console, pace: Pace | None = None) -> None:
        self.console, self.pace = console, pace
        self.loops: list[Loop] = []
        self.start = self.last = time.monotonic()
        self.bars = Progress(
            TextColumn("{task.description:>10}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}", markup=False),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}", markup=False),
            console=console,
            transient=True,
            disable=not shows_bars(console),
        )
        self.every = EVENT_EVERY if isinstance(console, Output) and console.mode == "json" else LINE_EVERY
        self.whole: TaskID | None = None

    def __enter__(self) -> "Display":
        self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bars.stop()

    def track(self, steps: Iterable[T], label: str) -> Iterator[T]:
        """Yield the steps of a loop and show how many are done; see `Callback.track`."""
        all_steps: Sequence[T] = steps if isinstance(steps, Sequence) else list(steps)
        first = steps.start if isinstance(steps, range) and steps.step == 1 and len(steps) else 0
        loop = self.begin(label, first + len(all_steps), first)
        try:
            for step in all_steps:
                yield step
                self.advance(loop, loop.done + 1)
        finally:
            self.end(loop)

    def begin(self, label: str, total: int, done: int = 0) -> Loop:
        """Show a new loop."""
        loop = Loop(label, done, total)
        if self.pace and self.whole is None:
            self.whole = self.bars.add_task("run", total=WHOLE, rate="", left="")
        loop.bar = self.bars.add_task(label, total=total, completed=done, rate="", left="")
        self.loops.append(loop)
        return loop

    def advance(self, loop: Loop, done: int) -> None:
        """Show that a number of steps of a loop are done."""
        loop.done, now = done, time.monotonic()
        if now - loop.shown >= BAR_EVERY or done == loop.total:
            loop.shown = now
            if not self.bars.disable:
                self.draw(loop)
        if now - self.last >= self.every:
            self.last = now
            self.report()

    def end(self, loop: Loop) -> None:
        """Remove a loop from the display."""
        if loop.bar is not None:
            self.bars.remove_task(loop.bar)
        if loop in self.loops:
            self.loops.remove(loop)

    def draw(self, loop: Loop) -> None:
        """Update the bar of a loop and that of the run."""
        assert loop.bar is not None
        own = "" if self.pace else in_words(loop.seconds_left)
        self.bars.update(loop.bar, completed=loop.done, rate=f"{loop.rate:.1f}/s", left=own)
        if self.pace and self.whole is not None:
            left = in_words(self.pace.seconds_left)
            self.bars.update(self.whole, completed=round(WHOLE * self.pace.fraction), left=left)

    def report(self) -> None:
        """Print a plain line or an event, unless bars show the same."""
        if not self.loops or not self.bars.disable:
            return
        outer, inner = self.loops[0], self.loops[-1]
        loops = {"loop": inner.label, "done": inner.done, "total": inner.total}
        whole = self.pace.counts() if self.pace else {"seconds_left": outer.seconds_left}
        seconds = round(time.monotonic() - self.start, 1)
        if not emit(self.console, "progress", **loops, seconds=seconds, **whole):
            self.console.print(Text(f"{'progress':<8} {self.line(outer, inner)}"), soft_wrap=True)

    def line(self, outer: Loop, inner: Loop) -> str:
        """Return how far a run is, in words: the innermost loop, the counts of the whole run, and the time left."""
        words = [f"{inner.label} {inner.done:,}/{inner.total:,}"]
        if self.pace:
            words.append(self.pace.describe())
        elif outer is not inner:
            words.insert(0, f"{outer.label} {outer.done:,}/{outer.total:,}")
        words.append(in_words(self.pace.seconds_left if self.pace else outer.seconds_left))
        return ", ".join(filter(None, words))


def in_words(seconds: float | None) -> str:
    """Return the time left, such as `about 5 min left`; nothing if it is not known."""
    return "" if seconds is None else f"about {duration(seconds)} left"


def with_progress(batches: Iterable[Group], images: int, label: str, console: Console | None) -> Iterator[Group]:
    """Yield batches and show how many of their images are done.

    Args:
        batches: The batches.
        images: Total number of images.
        label: What is being done, in one word.
        console: Where progress is shown; default: nowhere.
    """
    with Display(console or Console(quiet=True)) as display:
        loop = display.begin(label, images)
        for batch in batches:
            yield batch
            display.advance(loop, loop.done + len(batch))
