r"""When the next checkpoint is saved, so that a kill costs at most the interval.

What a kill costs is the time since the newest complete checkpoint. It is largest at the end of saving the next one. So one is
saved as soon as the next step could not be followed by saving within the interval any more:

.. math:: a + t + s > I

with the time :math:`a` since the last checkpoint, the time :math:`t` of the last step, that of saving, :math:`s`, and the
interval :math:`I`. A step that is longer than the interval is followed by a checkpoint, and a kill costs such a step at most.
"""

import time
from collections.abc import Callable

MOST = 0.1
"""part of the time that saving may take; where it takes longer, the interval is longer than the one that was asked for"""
UNKNOWN = 0.5
"""part of the interval after which the first checkpoint is saved: how long saving takes is not known yet"""
EARLY = 0.1
"""part of the interval after which a checkpoint is saved before work that may fail or that no checkpoint can hold"""
NOTABLE = 1.0
"""seconds of an interval from which on it is said that it is longer than the one that was asked for"""


class Due:
    """The time of the next checkpoint.

    Args:
        interval: Seconds that a kill may cost.
        clock: Returns the time in seconds.

    Attributes:
        seconds: Seconds that saving the last checkpoint took; 0 before the first one.
        slack: Seconds that may pass between a step and a checkpoint that is due, because processes have to agree.
    """

    def __init__(self, interval: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.asked, self.clock = interval, clock
        self.seconds = self.slack = 0.0
        self.last = self.checked = clock()
        self.is_said = False

    @property
    def interval(self) -> float:
        """Seconds that a kill costs at most: those that were asked for, unless saving is so slow that they must be more."""
        return max(self.asked, self.seconds / MOST)

    def check(self, *, early: bool = False) -> bool:
        """Return whether a checkpoint is due after a step.

        Args:
            early: Whether work follows that may fail, or that no checkpoint can hold.
        """
        now = self.clock()
        age, step, self.checked = now - self.last, now - self.checked, now
        if early and age > EARLY * self.interval:
            return True
        if not self.seconds:
            return age + step + self.slack > UNKNOWN * self.interval
        return age + step + self.seconds + self.slack > self.interval

    def saved(self, start: float) -> None:
        """Remember that a checkpoint was saved just now.

        Args:
            start: When saving began.
        """
        self.last = self.checked = self.clock()
        self.seconds = max(1e-9, self.last - start)

    def note(self) -> str:
        """Return what the user should know about the interval, once; empty if it is the one that was asked for."""
        if self.is_said or not self.asked or self.interval <= max(self.asked, NOTABLE):
            return ""
        self.is_said = True
        return (
            f"saving a checkpoint takes {self.seconds:.1f} s, so one is saved every {self.interval:.0f} s instead of every "
            f"{self.asked:g} s, and a kill costs at most that"
        )
