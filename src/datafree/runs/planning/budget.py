"""The budget of a run, such as `10m` or `500steps`."""

import re
from dataclasses import dataclass
from math import floor, inf

from datafree.progress.words import duration as duration
from datafree.types import InputError

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
"""seconds of each unit"""
STEPS = "steps"
MAX_SECONDS, MAX_STEPS = 30 * 86400, 10**9
"""largest budgets, to catch typing errors"""
EXAMPLE = "write it as 90s, 10m, 2h or 500steps"


@dataclass(frozen=True)
class Budget:
    """What a run may cost: seconds from the command to its end, or steps of the student. One of the two is given."""

    seconds: float = inf
    steps: int = 0

    def __str__(self) -> str:
        """Return the budget in words, such as `10 min`."""
        return f"{self.steps:,} steps" if self.steps else duration(self.seconds)


def parse_budget(text: str) -> Budget:
    """Read a budget: a number and a unit, one of s, m, h, d or steps.

    Raises:
        InputError: If there is no unit, or the number is not positive or too large.
    """
    return _parse(text, EXAMPLE)


def parse_time(text: str) -> float:
    """Read a budget that is a time, in seconds, where several steps share it.

    Raises:
        InputError: If it is no time, not positive or too long.
    """
    budget = _parse(text, "write it as 90s, 10m or 2h")
    if budget.steps:
        raise InputError(f"budget {text!r} counts steps, but several steps share it; give a time, such as 30m")
    return budget.seconds


def _parse(text: str, example: str) -> Budget:
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([a-z]*)\s*", text.lower())
    if not match or len(text) > 40:
        raise InputError(f"budget {text[:40]!r} is not a time or a number of steps; {example}")
    number, unit = float(match[1]), {"step": STEPS, "min": "m", "sec": "s"}.get(match[2], match[2])
    if not number:
        raise InputError(f"the budget is 0; {example}")
    if not unit:
        raise InputError(f"budget {text!r} has no unit; {example}")
    if unit == STEPS:
        if number != floor(number) or number > MAX_STEPS:
            raise InputError(f"budget {text!r} must be a whole number of steps, at most {MAX_STEPS:,}; {example}")
        return Budget(steps=int(number))
    if unit not in UNITS:
        raise InputError(f"budget {text!r} has the unknown unit {unit!r}; {example}")
    seconds = number * UNITS[unit]
    if seconds > MAX_SECONDS:
        raise InputError(f"budget {text!r} is longer than {MAX_SECONDS // 86400} days; give a shorter one")
    return Budget(seconds=seconds)
