"""The trackers of a run, each by the library of its makers, imported only if it is asked for.

A value keeps its name in the log, with its phase in front: `application/distillation`. Both phases count their steps by
themselves, so Weights & Biases and Trackio also get `application/step` and `synthesis/step`, to draw the curves over.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from datafree.runs.reading.log import PHASES
from datafree.types import InputError

PROJECT = "datafree"
"""name of the project in Weights & Biases and Trackio"""


@runtime_checkable
class Tracker(Protocol):
    """Where the values of a log are also written."""

    def log(self, phase: str, step: int, values: Mapping[str, float]) -> None:
        """Write the values of one line of the log."""
        ...

    def close(self) -> None:
        """Write what is still in memory."""
        ...


class TensorBoard:
    """Event files in the folder `tensorboard` of a run, by the writer of torch."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError as fault:
            raise not_installed("tensorboard") from fault
        self.writer = SummaryWriter(str(folder / "tensorboard"))

    def log(self, phase: str, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(f"{phase}/{name}", value, step)

    def close(self) -> None:
        self.writer.close()


class LibraryTracker:
    """A library with the functions `init`, `log` and `finish`, as Weights & Biases and Trackio have them.

    Args:
        library: The library.
        folder: The run folder; its name is that of the run, and of the group of the runs that continue it.
        settings: The settings of the run, flat.
        init: Further arguments of `init`.

    Raises:
        InputError: If the library cannot start.
    """

    def __init__(self, library: Any, folder: Path, settings: Mapping[str, Any], **init: Any) -> None:
        self.library, name = library, library.__name__
        config = {
            key: value if isinstance(value, (int, float, bool)) else str(value) for key, value in settings.items()
        }
        try:
            self.run = library.init(project=PROJECT, name=folder.name, group=folder.name, config=config, **init)
        except Exception as fault:  # these libraries have no common error
            reason = str(fault).splitlines()[0] if str(fault) else type(fault).__name__
            raise InputError(
                f"{name} cannot start ({reason}); log in to it, or remove {name} from --trackers"
            ) from fault

    def log(self, phase: str, step: int, values: Mapping[str, float]) -> None:
        self.library.log({f"{phase}/step": step, **{f"{phase}/{name}": value for name, value in values.items()}})

    def close(self) -> None:
        self.library.finish()


class WeightsAndBiases(LibraryTracker):
    """A run of Weights & Biases. Where it is sent is set by the variables of its own, such as `WANDB_MODE=offline`."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        try:
            import wandb  # pyright: ignore[reportMissingImports]
        except ImportError as fault:
            raise not_installed("wandb") from fault
        super().__init__(wandb, folder, settings)
        for phase in PHASES:
            self.run.define_metric(f"{phase}/*", step_metric=f"{phase}/step")


class Trackio(LibraryTracker):
    """A run of Trackio, on this machine unless its own variables say otherwise."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        try:
            import trackio  # pyright: ignore[reportMissingImports]
        except ImportError as fault:
            raise not_installed("trackio") from fault
        super().__init__(trackio, folder, settings, embed=False)


def not_installed(name: str) -> InputError:
    """Return the error about a tracker that is not installed."""
    return InputError(
        f"{name} is not installed; run `pip install 'datafree[{name}]'`, or remove {name} from --trackers"
    )


TRACKERS: dict[str, Any] = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases, "trackio": Trackio}
"""the trackers by the names that `--trackers` takes"""


def open_trackers(names: Sequence[str], folder: Path, settings: Mapping[str, Any]) -> list[Tracker]:
    """Open the trackers of a run.

    Raises:
        InputError: If one is not installed or cannot start; those before it are closed.
    """
    opened: list[Tracker] = []
    try:
        for name in dict.fromkeys(names):
            opened.append(TRACKERS[name](folder, settings))
    except BaseException:
        for tracker in opened:
            tracker.close()
        raise
    return opened
