"""The estimate at the end of a run that has no labelled images."""

from collections.abc import Callable

from rich.console import Console

from datafree.estimation.estimate import Settings, estimate
from datafree.estimation.result import Estimate, not_estimated
from datafree.runs.estimating.duration import seconds_after
from datafree.runs.estimating.history import history_of, known_accuracy
from datafree.runs.logger import RunLogger
from datafree.runs.planning.setup import Setup
from datafree.types import Diverged, InputError


def estimate_of(setup: Setup, elapsed: float, console: Console | None, seconds: float | None = None) -> Estimate | None:
    """Estimate the student of a run; None if it was evaluated on labelled images.

    A fault in the networks or the pools leaves the run as it is: then the estimate says why there is none.

    Args:
        setup: The finished run.
        elapsed: Seconds that it has taken so far.
        console: Where progress is shown; None: nowhere.
        seconds: Time for pools that are not there yet; default: a part of what the run has taken.
    """
    test = setup.data.test
    if test and test.labelled:
        return None
    history = history_of(setup.experiment, setup.data.ledger)
    if history.reason:
        return not_estimated(history.reason)
    teacher = getattr(setup.experiment.task, "teacher", "")
    try:
        with RunLogger(None, setup.teacher, setup.student, console=console) as logger:

            def found() -> Estimate:
                return estimate(
                    setup.student,
                    setup.teacher,
                    method=history.method,
                    accuracy=known_accuracy(teacher) if isinstance(teacher, str) else None,
                    real=test.batches_for(setup.student, setup.teacher) if test else None,
                    settings=Settings(seconds=seconds_after(elapsed) if seconds is None else seconds),
                    callback=logger,
                )

            return found() if seconds is None else with_more_time(found)
    except (InputError, Diverged, RuntimeError, ValueError) as fault:
        reason = str(fault).strip().splitlines()[0] if str(fault).strip() else type(fault).__name__
        return not_estimated(f"a pool could not be made ({reason[:200]})")


def with_more_time(found: Callable[[], Estimate]) -> Estimate:
    """Return an estimate; if there were too few pools, that of a second part of the time, for which the first ones are kept.

    Args:
        found: Makes pools, as far as time allows, and estimates.
    """
    first = found()
    return found() if first.retention is None and first.pools else first
