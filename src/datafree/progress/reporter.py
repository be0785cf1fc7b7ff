"""The callback of `progress=True`: it shows how far a training is, and passes everything on to another callback."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.text import Text

from datafree.callback import Callback
from datafree.progress.display import Display
from datafree.progress.pace import Pace, Work
from datafree.types import Batch, Stateful, Terms

T = TypeVar("T")


class Reporter(Callback):
    """Shows progress: bars on a terminal, a plain line every 30 s in a notebook or a file.

    Args:
        inner: The callback that gets everything as well.
        work: What there is to do.
        console: Where it is shown; default: standard output.
    """

    def __init__(self, inner: Callback, work: Work, console: Console | None = None) -> None:
        self.inner, self.pace = inner, Pace(work)
        self.console = console or Console()
        self.display = Display(self.console, self.pace)

    def track(self, steps: Iterable[T], label: str) -> Iterator[T]:
        all_steps: Sequence[T] = steps if isinstance(steps, Sequence) else list(steps)
        shown = self.display.track(all_steps, label)
        for step in self.inner.track(all_steps, label):
            next(shown, None)
            yield step
        for _ in shown:
            pass

    def on_step(self) -> None:
        self.pace.on_step()
        self.inner.on_step()

    def on_measurement(self) -> None:
        self.pace.spend("application")
        self.inner.on_measurement()

    def on_batch(self, batch: Batch, count: int, due: int) -> None:
        self.pace.on_batch(batch.part)
        self.inner.on_batch(batch, count, due)

    def note(self, text: str) -> None:
        self.console.print(Text(f"{'note':<8} {text}"), soft_wrap=True)
        self.inner.note(text)

    def register(self, **state: Stateful) -> int:
        step = self.inner.register(**state)
        self.pace.step = step
        self.pace.begin()
        return step

    def log(self, step: int, terms: Terms) -> None:
        self.pace.on_student_step(step)
        self.inner.log(step, terms)
