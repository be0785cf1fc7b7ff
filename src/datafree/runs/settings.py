"""Experiments: a value with all settings of a run, and how a run folder stores it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from datafree.applications.base import Application
from datafree.applications.continual import ExtensionConfig
from datafree.applications.distillation import DistillationConfig
from datafree.runs.hardware import DOUBLE, MAX_DEVICES, PRECISIONS, require_threads
from datafree.runs.planning.budget import parse_budget
from datafree.runs.planning.sizes import parse_size
from datafree.runs.run_folder import EXPERIMENT, read_experiment
from datafree.runs.serialization import from_json, serializable, to_json
from datafree.runs.tasks import AmalgamationTask, ExtensionTask, Task
from datafree.synthesis import Method, Schedule
from datafree.types import InputError, require_at_least, require_at_most, require_one_of, require_seed


@dataclass(frozen=True, kw_only=True)
class RuntimeConfig:
    """Where an experiment runs, and what it writes while it runs."""

    seed: int = 0
    """random seed"""
    device: str = "auto"
    """cpu, cuda, mps, ...; auto: an accelerator if available, else the CPU"""
    devices: int = 1
    """number of processes with one device each; they divide every batch among them, so the result does not depend on their
    number but for rounding"""
    shard_teacher: bool = False
    """divide the weights of the teacher among the processes, for one that is too large for each device; a layer is gathered
    when it is used. The student stays whole in every process"""
    precision: str = "32-true"
    """precision by its name in Lightning Fabric: 32-true, bf16-mixed, 16-mixed, 64-true"""
    threads: int = 1
    """CPU threads of each process; results depend on it in the last bits"""
    deterministic: bool = False
    """use kernels of CUDA that give the same result each time, where there are some; on a CPU all are such kernels"""
    checkpoint_interval: float = 20.0
    """seconds that a kill costs at most; longer if saving a checkpoint would take more than a tenth of them"""
    evaluation_interval: float = 0.0
    """seconds between two evaluations of the student during training; they are only logged and select nothing;
    0: evaluate at the end only"""
    budget: str = ""
    """what the run may cost, from the command to its end, such as 10m, 2h or 500steps; it decides the steps and the number
    of images; default: none, or 15m on a CPU and 10m on a GPU if the method is auto"""
    memory: str = ""
    """memory that the stored images of each process may take, such as 8GB; a larger pool lies on disk in the run folder, and
    the student is the same; default: half of the memory that is free when the run begins"""
    tensorboard: bool = False
    """write TensorBoard events as well; the same as --trackers tensorboard"""
    trackers: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()
    """experiment trackers that get the values of the log as well; wandb may send them to another machine"""

    def __post_init__(self) -> None:
        require_at_least(1, devices=self.devices)
        require_at_most(MAX_DEVICES, devices=self.devices)
        require_threads(self.threads)
        require_at_least(0, checkpoint_interval=self.checkpoint_interval, evaluation_interval=self.evaluation_interval)
        require_seed(self.seed)
        if self.budget:
            parse_budget(self.budget)
        if self.memory:
            parse_size(self.memory)
        require_one_of(("32-true", *PRECISIONS, DOUBLE), precision=self.precision)

    @property
    def memory_bytes(self) -> int:
        """The setting `memory` in bytes; 0 if it is not set."""
        return parse_size(self.memory) if self.memory else 0


@serializable
@dataclass(frozen=True, kw_only=True)
class Experiment(RuntimeConfig):
    """All settings that determine a result. Equal experiments give equal students on one machine with equal threads."""

    task: Task | ExtensionTask | AmalgamationTask
    """the networks and the real images"""
    method: Method | None
    """the synthesis method; None: train on real images (the ceiling)"""
    schedule: Schedule
    """when images are synthesized, and which ones the student sees"""
    application: Application = field(default_factory=DistillationConfig)
    """what the images are used for"""
    fit_memory: tuple[str, ...] = ()
    """parts of a mixture, by name, whose batch size is halved until a step fits into the memory; an empty name stands for a
    method that is no mixture. A run decides it once and stores plain sizes"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.task, ExtensionTask) != isinstance(self.application, ExtensionConfig):
            task, application = type(self.task).__name__, type(self.application).__name__
            raise InputError(f"{task} and {application} do not fit; use an ExtensionTask with an ExtensionConfig")


def read_settings(path: str | Path) -> Experiment:
    """Read the experiment of a run folder.

    Raises:
        InputError: If the folder has no valid experiment.
    """
    file = Path(path) / EXPERIMENT
    experiment = from_json(read_experiment(path), str(file))
    if not isinstance(experiment, Experiment):
        raise InputError(f"{file}: its content is no experiment; restore it from a copy")
    return experiment


def experiment_json(experiment: Experiment, out: Path, resuming: bool) -> Any:
    """Return an experiment as JSON. A resumed one keeps the JSON in its folder, which may lack newer settings."""
    if resuming and (out / EXPERIMENT).exists() and read_settings(out) == experiment:
        return read_experiment(out)
    return to_json(experiment)
