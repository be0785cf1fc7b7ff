"""Where the time of a run is spent."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from datafree.synthesis import Stream


class Stopwatch:
    """Adds up seconds by phase, in the order in which the phases began."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def measure(self, phase: str) -> Iterator[None]:
        """Add the time of a `with` block to a phase."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[phase] = self.seconds.get(phase, 0.0) + time.monotonic() - start

    def with_training(self, seconds: float, stream: object) -> dict[str, float]:
        """Return the seconds by phase, with those of synthesis and training between loading and the other phases.

        Args:
            seconds: Of synthesis and training together.
            stream: The stream of the run, if it is one; it knows how long synthesis took.
        """
        synthesis = stream.seconds if isinstance(stream, TimedStream) else 0.0
        middle = {"synthesis": synthesis} if synthesis else {}
        middle["training"] = max(0.0, seconds - synthesis)
        loading = {phase: spent for phase, spent in self.seconds.items() if phase == "loading"}
        return {phase: round(spent, 2) for phase, spent in (loading | middle | self.seconds).items()}


class TimedStream(Stream):
    """A stream that knows how long synthesis took, also after a run was resumed."""

    seconds: float = 0.0

    def synthesize_until(self, count: int, with_student: bool = True) -> None:
        """Synthesize batches, and measure the time."""
        start = time.monotonic()
        try:
            super().synthesize_until(count, with_student)
        finally:
            self.seconds += time.monotonic() - start

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the stream, with the seconds so far."""
        return super().state_dict() | {"seconds": self.seconds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state returned by `state_dict`."""
        super().load_state_dict(state)
        self.seconds = float(state.get("seconds", 0.0))
