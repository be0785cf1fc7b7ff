"""How far a run is and how much time is left: a model of its two kinds of work, synthesis and the steps of the student.

The time left of a kind with a fraction :math:`f` done, of which :math:`f - f_0` took :math:`t` seconds in this process, is

.. math:: \\frac{t}{f - f_0} (1 - f)

Before anything was measured, the expected time takes its place. So a resumed run does not count what was done before.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

LEAST = 1.0
"""seconds of a kind of work after which its measured speed is trusted; before, the expected time is used if there is one"""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a run has to do, and how long it is expected to take."""

    steps: int = 0
    """steps of the student"""
    batches: Mapping[str, int] = field(default_factory=dict)
    """batches to synthesize, by part of a mixture; the name of a single method is empty"""
    weights: Mapping[str, float] = field(default_factory=dict)
    """cost of a batch of each part, relative to each other"""
    steps_per_batch: Mapping[str, int] = field(default_factory=dict)
    """optimization steps of a batch of each part; 0 if its batches are not optimized one by one"""
    synthesis_seconds: float | None = None
    """expected duration of all synthesis"""
    student_seconds: float | None = None
    """expected duration of all steps of the student"""
    bytes: int | None = None
    """expected memory of images, activations and optimizer states"""

    @property
    def seconds(self) -> float | None:
        """Expected duration of everything; None if it is not known."""
        if self.synthesis_seconds is None or self.student_seconds is None:
            return None
        return self.synthesis_seconds + self.student_seconds


class Pace:
    """What was done of some work, and when.

    Args:
        work: The work.
        clock: Returns the time in seconds.
    """

    def __init__(self, work: Work, clock: Callable[[], float] = time.monotonic) -> None:
        self.work, self.clock = work, clock
        self.batches = dict.fromkeys(work.batches, 0)
        self.batch_step = 0
        """optimization steps done of the batch in progress"""
        self.step = 0
        self.seconds = {"synthesis": 0.0, "application": 0.0}
        """duration of each kind of work, interrupted parts included"""
        self.begin()

    def begin(self) -> None:
        """Measure the speed from now on."""
        self.first = {"synthesis": self.synthesized, "application": self.trained}
        self.measured = dict.fromkeys(self.seconds, 0.0)
        self.last = self.clock()

    def spend(self, kind: str) -> None:
        """Count the time since the last call for a kind of work."""
        now = self.clock()
        self.seconds[kind] += now - self.last
        self.measured[kind] += now - self.last
        self.last = now

    def skip(self) -> None:
        """Do not count the time since the last call."""
        self.last = self.clock()

    def on_step(self) -> None:
        """Count an optimization step of a batch in progress."""
        self.batch_step += 1
        self.spend("synthesis")

    def on_batch(self, part: str = "") -> None:
        """Count a synthesized batch."""
        self.batches[part] = self.batches.get(part, 0) + 1
        self.batch_step = 0
        self.spend("synthesis")

    def on_student_step(self, step: int) -> None:
        """Count the steps of the student up to this one."""
        self.step = step
        self.spend("application")

    @property
    def synthesized(self) -> float:
        """Fraction of the synthesis that is done; 1 if there is none."""
        due = sum(count * self._weight(part) for part, count in self.work.batches.items())
        done = sum(min(self.batches[part], count) * self._weight(part) for part, count in self.work.batches.items())
        for part, count in self.work.batches.items():  # the parts are synthesized in this order
            steps = self.work.steps_per_batch.get(part, 0)
            if steps and self.batches[part] < count:
                done += min(1.0, self.batch_step / steps) * self._weight(part)
                break
        return done / due if due else 1.0

    def _weight(self, part: str) -> float:
        return self.work.weights.get(part, 1.0)

    @property
    def trained(self) -> float:
        """Fraction of the student's steps that is done; 1 if there are none."""
        return min(1.0, self.step / self.work.steps) if self.work.steps else 1.0

    @property
    def fraction(self) -> float:
        """Fraction of the whole work that is done, by its expected duration if known."""
        parts = (
            (self.synthesized, self._whole("synthesis", self.synthesized)),
            (self.trained, self._whole("application", self.trained)),
        )
        known = [(done, seconds) for done, seconds in parts if seconds is not None]
        total = sum(seconds for _, seconds in known)
        if not total or len(known) < len(parts):
            return (self.synthesized + self.trained) / 2
        return sum(done * seconds for done, seconds in known) / total

    def _whole(self, kind: str, done: float) -> float | None:
        """Return the duration of all work of a kind, measured or expected; None if neither is known."""
        expected = {"synthesis": self.work.synthesis_seconds, "application": self.work.student_seconds}[kind]
        if not (self.work.batches if kind == "synthesis" else self.work.steps):
            return 0.0
        gained, seconds = done - self.first[kind], self.measured[kind]
        if gained > 0 and (seconds >= LEAST or expected is None):
            return seconds / gained
        return expected

    @property
    def seconds_left(self) -> float | None:
        """Seconds to the end of the work; None if they cannot be told yet."""
        left = 0.0
        for kind, done in (("synthesis", self.synthesized), ("application", self.trained)):
            whole = self._whole(kind, done)
            if whole is None:
                return None
            left += whole * (1 - done)
        return left

    def describe(self) -> str:
        """Return what was done of each kind of work in words."""
        counts = []
        if self.work.batches:
            done, due = sum(self.batches.values()), sum(self.work.batches.values())
            counts.append(f"{min(done, due):,}/{due:,} batches")
        if self.work.steps:
            counts.append(f"{self.step:,}/{self.work.steps:,} steps")
        return ", ".join(counts)

    def counts(self) -> dict[str, Any]:
        """Return what was done of each kind of work, for a program."""
        return {
            "batches": sum(self.batches.values()),
            "batches_total": sum(self.work.batches.values()),
            "steps": self.step,
            "steps_total": self.work.steps,
            "fraction": round(self.fraction, 4),
            "seconds_left": None if self.seconds_left is None else round(self.seconds_left, 1),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return what was done, for a checkpoint."""
        return {"batches": dict(self.batches), "batch_step": self.batch_step, "seconds": dict(self.seconds)}

    def load_state_dict(self, state: Mapping[str, Any], step: int) -> None:
        """Restore what was done, and measure the speed from now on."""
        self.batches |= {str(part): int(count) for part, count in state["batches"].items()}
        self.batch_step, self.step = int(state["batch_step"]), step
        self.seconds |= {kind: float(state["seconds"][kind]) for kind in self.seconds if kind in state["seconds"]}
        self.begin()
