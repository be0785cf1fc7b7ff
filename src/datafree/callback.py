"""Who watches a loop: a base class that does nothing, so that every loop may be watched and none has to be."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from datafree.types import Batch, Stateful, Terms

T = TypeVar("T")


class Callback:
    """What a loop tells the world. Overridden by the run's report; by itself it is silent and costs nothing."""

    def track(self, steps: Iterable[T], label: str) -> Iterator[T]:
        """The steps themselves; a watcher may show how far they are."""
        return iter(steps)

    def on_batch(self, batch: Batch, count: int, due: int) -> None:
        """A batch was synthesized, number `count` of the `due` that are wanted now."""

    def register(self, **state: Stateful) -> int:
        """What a checkpoint of this loop must hold; returns the step to begin with, 0 unless a run is resumed."""
        return 0

    def log(self, step: int, terms: Terms) -> None:
        """Step number `step` is complete; the terms are not yet moved off the device."""


silent = Callback()
