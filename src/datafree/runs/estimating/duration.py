"""How long the estimate at the end of a run may take."""

MOST = 60.0
"""seconds for the pools of an estimate, at most"""
OF_BUDGET = 0.2
"""fraction of a budget, at most"""


def seconds_after(elapsed: float) -> float:
    """Return the seconds for an estimate after a run: at most a minute, and a quarter of the run.

    Args:
        elapsed: Seconds that the run has taken so far. A quarter of it is a fifth of the whole.
    """
    return min(MOST, elapsed * OF_BUDGET / (1 - OF_BUDGET))


def seconds_within(budget: float) -> float:
    """Return the seconds that are kept for the estimate within a budget: at most a minute, and a fifth.

    Args:
        budget: Seconds; infinite if it is given in steps.
    """
    return min(MOST, OF_BUDGET * budget)
