"""The estimate at the end of a run that has no labelled images."""

from rich.console import Console

from datafree.estimation.estimate import Settings, estimate
from datafree.estimation.result import Estimate, not_estimated
from datafree.runs.estimating.duration import seconds_after
from datafree.runs.estimating.history import history_of, known_accuracy
from datafree.runs.logger import RunLogger
from datafree.runs.planning.setup import Setup
from datafree.types import Diverged, InputError


def estimate_of(setup: Setup, elapsed: float, console: Console | None) -> Estimate | None:
    """Estimate the student of a run; None if it was evaluated on labelled images.

    A fault in the networks or the pools leaves the run as it is: then the estimate says why there is none.

    Args:
        setup: The finished run.
        elapsed: Seconds that it has taken so far.
        console: Where progress is shown; None: nowhere.
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
            return estimate(
                setup.student,
                setup.teacher,
                method=history.method,
                accuracy=known_accuracy(teacher) if isinstance(teacher, str) else None,
                real=test.batches_for(setup.student, setup.teacher) if test else None,
                settings=Settings(seconds=seconds_after(elapsed)),
                callback=logger,
            )
    except (InputError, Diverged, RuntimeError, ValueError) as fault:
        reason = str(fault).strip().splitlines()[0] if str(fault).strip() else type(fault).__name__
        return not_estimated(f"a pool could not be made ({reason[:200]})")
