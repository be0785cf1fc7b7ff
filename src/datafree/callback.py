"""The callback of training and synthesis loops: progress, logging and checkpoints."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from datafree.types import Batch, Stateful, Terms

T = TypeVar("T")


class Callback:
    """What a loop reports to. This base class ignores everything; a run overrides it.

    Override the methods you need, for example `on_batch` to save every synthesized batch.
    """

    def track(self, steps: Iterable[T], label: str) -> Iterator[T]:
        """Yield the steps of a loop; an override may show progress.

        Args:
            steps: The steps. A range that does not start at 0 continues a loop: its start counts as done.
            label: The name of the loop.
        """
        return iter(steps)

    def on_step(self) -> None:
        """Handle a step inside of a batch. All registered objects are in a state from which the next step can follow."""

    def on_measurement(self) -> None:
        """Handle the end of a part of the work between two student steps, such as a batch that importance is measured on.

        All registered objects are in a state from which the next part can follow.
        """

    def on_batch(self, batch: Batch, count: int, due: int) -> None:
        """Handle a synthesized batch.

        Args:
            batch: The batch.
            count: Number of batches synthesized so far, with this one.
            due: Number of batches that are needed before the next student step.
        """

    def note(self, text: str) -> None:
        """Handle a sentence for the user.

        Args:
            text: The sentence, without a full stop.
        """

    def register(self, **state: Stateful) -> int:
        """Register what a checkpoint of the loop must contain.

        Args:
            state: Objects with a state dict, by name. If a run is resumed, an override loads their state here.

        Returns:
            The step to start with, which is the number of steps already done; 0 in a new run.
        """
        return 0

    def log(self, step: int, terms: Terms) -> None:
        """Handle the loss terms of a step.

        Args:
            step: Number of steps done so far, with this one.
            terms: The terms, still on the device.
        """


silent = Callback()
"""the callback that ignores everything"""
