"""A race in the run folder: its trials are kept there, and so is what it decides, so that a kill costs little."""

from contextlib import ExitStack
from pathlib import Path

from datafree.applications.trainer import Fabric
from datafree.runs.launching.lost import ending_together
from datafree.runs.launching.racing import Trials
from datafree.runs.launching.together import Together
from datafree.runs.planning.setup import Setup, set_up
from datafree.runs.reading.layout import RACE
from datafree.runs.run_folder import RunFolder
from datafree.runs.serialization import to_json
from datafree.runs.settings import Experiment, experiment_json


def after_race(experiment: Experiment, out: Path, resuming: bool, started: float | None, devices: int = 0) -> Setup:
    """Carry out a race in a run folder, or continue it, and store what it has decided: then the run can be resumed.

    Args:
        experiment: The settings.
        out: The run folder.
        resuming: Whether the race was interrupted.
        started: When the command started, in seconds of `time.monotonic`; default: now.
        devices: Number of processes, instead of that of the experiment; 0: the same.

    Raises:
        InputError: If a setting is invalid or a file cannot be used.
        Stopped: If a process was asked to stop; the race can be continued.
        ProcessLost: If another process was lost.
    """
    folder: RunFolder | None = None
    together: Together | None = None
    with ExitStack() as stack:

        def trials(fabric: Fabric) -> Trials:
            """Open the run folder, in the first process, once all processes have started."""
            nonlocal folder, together
            stack.enter_context(ending_together(fabric))
            if fabric.is_global_zero:
                settings = experiment_json(experiment, out, resuming)
                folder = stack.enter_context(RunFolder(out, settings, resume=resuming))
            together = stack.enter_context(Together(fabric, out / RACE))
            return Trials(
                together.path, experiment.checkpoint_interval, together, folder.keep if folder else lambda: None
            )

        setup = set_up(experiment, resuming, started, devices, trials)
        if folder is not None:
            folder.decide(to_json(setup.experiment))
        if together is not None:
            together.stop_if_asked()
    return setup
