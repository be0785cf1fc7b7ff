"""What a verdict is based on: the log of a run, and what was measured of its student."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

LATEST = 8
"""checked batches that are averaged, the latest ones"""
HEALTH = "health/"
NOT_LOSSES = ("phase", "step", "filters")
"""entries of a line about a training step that are no loss terms"""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What is known about a run."""

    log: Sequence[Mapping[str, Any]] = ()
    """the lines of its log"""
    classes: int = 0
    """classes of the teacher"""
    batch_images: Mapping[str, int] = field(default_factory=dict)
    """images of a checked batch, by part of a mixture"""
    images: Mapping[str, int] = field(default_factory=dict)
    """images that were synthesized, by part of a mixture"""
    aims: bool = False
    """whether the method chooses the class of each image before"""
    probe: Mapping[str, float] = field(default_factory=dict)
    """what was measured of the student at its last step, on images that it was trained on; see `probe`"""

    @property
    def parts(self) -> list[str]:
        """The parts of the mixture of which batches were checked; one empty name if the method is no mixture."""
        names = (
            name.removeprefix(HEALTH).rpartition("/")[0]
            for line in self.log
            if line["phase"] == "synthesis"
            for name in line
            if name.startswith(HEALTH)
        )
        return list(dict.fromkeys(names))

    def signals(self, part: str, name: str) -> list[float]:
        """Return a signal of all checked batches of a part; see `health`."""
        key = HEALTH + (f"{part}/{name}" if part else name)
        return [line[key] for line in self.log if line["phase"] == "synthesis" and key in line]

    def latest(self, part: str, name: str) -> float | None:
        """Return the mean of a signal over the latest checked batches of a part; None if there is none."""
        values = self.signals(part, name)[-LATEST:]
        return statistics.fmean(values) if values else None

    def has_term(self, part: str, name: str) -> bool:
        """Return whether the objective of a part has a term."""
        key = f"{part}/{name}" if part else name
        return any(key in line for line in self.log if line["phase"] == "synthesis")

    @property
    def losses(self) -> list[float]:
        """The objective of the student at each logged step: the sum of its terms."""
        return [
            math.fsum(value for name, value in line.items() if name not in NOT_LOSSES)
            for line in self.log
            if line["phase"] == "application"
        ]
