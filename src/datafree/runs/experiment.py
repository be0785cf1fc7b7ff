"""The one place where everything meets: an experiment is a value, `run` carries it out."""

import math
import platform
import resource
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.utilities.exceptions import MisconfigurationException
from rich.console import Console

from datafree import __version__

from datafree.runs.hardware import set_threads

from datafree.runs import report
from datafree.applications.base import Application
from datafree.applications.continual import ExtensionConfig
from datafree.applications.distillation import DistillationConfig
from datafree.classifier import Classifier, ClassSubset, fingerprint
from datafree.real.data import Ledger, Purpose, RealImages, Split, open_real
from datafree.runs.serialization import serializable, to_json, from_json
from datafree.teachers.doctor import require
from datafree.evaluation import evaluate, measure
from datafree.runs.logger import RunLogger, shown
from datafree.synthesis.per_teacher import PerTeacher
from datafree.sets.saved import NAMED
from datafree.runs.run_folder import RunFolder, read_description
from datafree.synthesis import Method, Schedule, Stream
from datafree.runs.tasks import AmalgamationTask, ExtensionTask, Task, SingleTeacherTask
from datafree.types import Batch, Diverged, InputError, at_least, is_seed, one_of
from datafree.networks.head_surgery import widen

PRECISIONS = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
"""in which a network computes where it may compute in less than 32 bits, by Fabric's names"""


@dataclass(frozen=True, kw_only=True)
class RuntimeConfig:
    """Where an experiment runs, and what it writes on the way."""

    seed: int = 0
    """of everything random"""
    device: str = "auto"
    """cpu, cuda, mps, ...; auto: an accelerator if there is one"""
    devices: int = 1
    """processes, one device each; each makes its own images, and the student's gradients are averaged"""
    precision: str = "32-true"
    """as Lightning Fabric names it: 32-true, bf16-mixed, 16-mixed"""
    threads: int = 1
    """of each process, on the CPU; results depend on it in the last bits"""
    checkpoint_interval: float = 20.0
    """seconds from one checkpoint to the next"""
    evaluation_interval: float = 0.0
    """seconds from one evaluation of the student to the next, for a plot; it selects nothing; 0: only at the end"""
    tensorboard: bool = False
    """write TensorBoard events as well"""

    def __post_init__(self) -> None:
        at_least(1, devices=self.devices, threads=self.threads)
        at_least(0, checkpoint_interval=self.checkpoint_interval, evaluation_interval=self.evaluation_interval)
        is_seed(self.seed)
        one_of(("32-true", *PRECISIONS), precision=self.precision)


@serializable
@dataclass(frozen=True, kw_only=True)
class Experiment(RuntimeConfig):
    """Everything that decides a result. Equal experiments give equal students on one machine at one thread count."""

    task: Task | ExtensionTask | AmalgamationTask
    method: Method | None
    """None: real images, the ceiling"""
    schedule: Schedule
    application: Application = field(default_factory=DistillationConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.task, ExtensionTask) != isinstance(self.application, ExtensionConfig):
            kinds = f"{type(self.task).__name__} and {type(self.application).__name__}"
            raise InputError(f"{kinds} do not belong together; an ExtensionTask needs an ExtensionConfig")


@dataclass(frozen=True)
class Result:
    """What a run found; `student` is the network itself."""

    student: Classifier
    summary: dict[str, Any]
    path: Path


def resume(path: Path, console: Console | None = None) -> Result:
    """Goes on with a run that was interrupted, to the student it would have had."""
    return run(from_json(read_description(path)), path, console=console, resuming=True)


def run(experiment: Experiment, out: Path, *, console: Console | None = None, resuming: bool = False) -> Result:
    """Carries out an experiment and leaves everything it found in a directory.

    Args:
        experiment: What to do.
        out: The run's directory; made if it is not there, refused if it holds another run.
        console: Where progress is shown; silent if not given.
        resuming: Go on from the newest checkpoint.

    Raises:
        InputError: If something the user gave cannot be used; nothing half-written is left.
        Diverged: If a loss or an image stopped being finite; the last checkpoint is intact.
    """
    fabric = launch(experiment)
    torch.manual_seed(experiment.seed + fabric.global_rank)
    teacher, student = (place(model, experiment, fabric) for model in experiment.task.load())
    if experiment.method is not None and experiment.application.replays:
        require(teacher, experiment.method)
    ledger = Ledger()
    new = open_new_classes(experiment.task, ledger, student)
    test = open_task_data(experiment.task, "test", ledger, student) if experiment.task.data else None
    digest = fingerprint(teacher.model)

    with ExitStack() as stack:
        folder = None
        if fabric.is_global_zero:
            folder = stack.enter_context(RunFolder(out, identity(experiment, out, resuming), resume=resuming))
        with RunLogger(
            folder,
            teacher,
            student,
            console=console,
            interval=experiment.checkpoint_interval if fabric.world_size == 1 else math.inf,
            tensorboard=experiment.tensorboard,
            curve=experiment.evaluation_interval,
            judge=(lambda: evaluate(student, teacher, test.once()).score) if test else None,
        ) as logger:
            batches = batches_of(experiment, teacher, student, ledger, logger)
            more = {"new": new_batches(experiment, new, logger)} if new else {}
            experiment.application.build()(student, teacher, batches, **more, fabric=fabric, callback=logger)
            logger.warn_of_collapse()
        require_finite(student)
        if fingerprint(teacher.model) != digest:
            raise RuntimeError("the teacher was changed by this run; that is a fault of datafree, please report it")
        summary: dict[str, Any] = {
            "experiment": repr(experiment),
            "method": experiment.application.called(name_of(experiment.method)),
            "classes": list(student.classes),
            "teacher": judge(teacher, teacher, test, console),
            "student": judge(student, teacher, test, console),
            "teacher sha256": digest,
            "student sha256": fingerprint(student.model),
            **experiment.application.findings(student, teacher),
            "images synthesized": logger.images_made,
            "real images seen by the student": ledger.students(),
            "real images of new classes": ledger.count("student training (new classes)") if new else None,
            "real images measured": ledger.statistics(),
            "health": logger.health,
            "notes": logger.notes,
            "ledger": ledger.as_json(),
            "seconds": round(logger.seconds(), 2),
            "peak memory MB": peak_memory(),
            "environment": environment(experiment, fabric),
        }
        if folder:
            report.close(folder.path, summary, teacher, student, logger.first)
            folder.forget()
    return Result(student, summary, out)


def require_finite(student: Classifier) -> None:
    """Refuses to keep a student that diverged in its last steps, of which no loss was looked at.

    Raises:
        Diverged: If one of its numbers is not finite.
    """
    for name, tensor in student.state_dict().items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise Diverged(f"{name} of the student is not finite after the last step; lower the learning rate")


def launch(experiment: Experiment) -> Fabric:
    """Processes, devices and precision, by Lightning Fabric.

    Raises:
        InputError: If the device or the precision is not to be had here.
    """
    set_threads(experiment.threads)
    try:
        fabric = Fabric(
            accelerator=experiment.device,
            devices=experiment.devices,
            precision=experiment.precision,  # type: ignore[arg-type]
            strategy="auto" if experiment.devices == 1 else "ddp",
        )
        fabric.launch()
    except (ValueError, RuntimeError, MisconfigurationException) as fault:
        why = str(fault).splitlines()[0]
        raise InputError(
            f"device {experiment.device!r} with precision {experiment.precision!r} is not to be had ({why})"
        ) from fault
    return fabric


def place(model: Classifier, experiment: Experiment, fabric: Fabric) -> Classifier:
    """Moves a classifier to its device, sets its precision, and makes it equal in all processes."""
    fabric.to_device(model)
    for one in model.modules():  # of a ensemble, its teachers too
        if isinstance(one, Classifier):
            one.precision = PRECISIONS.get(experiment.precision, torch.float32)
    if fabric.world_size > 1:
        model.load_state_dict(fabric.broadcast(model.state_dict()))
    return model


def batches_of(
    experiment: Experiment, teacher: Classifier, student: Classifier, ledger: Ledger, logger: RunLogger
) -> Iterator[Batch]:
    """The stream of the method; or real images, for the ceiling, counted by the ledger."""
    if experiment.method is not None:
        old = len(teacher.classes)
        seen = student if len(student.classes) == old else ClassSubset(student, range(old))
        stream = Stream.of(method_of(experiment), teacher, seen, experiment.schedule, logger)
        measured = stream.synthesizer.measured_from
        ledger.measured(measured)
        about = [f"features were measured on {count:,} real images of {source}" for source, count in measured.items()]
        for note in (*stream.synthesizer.notes, *about):
            logger.note(note)
        logger.also_register(stream=stream)
        return stream
    if not experiment.task.data:
        raise InputError("the ceiling is trained on real images; name them with --data")
    real = open_task_data(experiment.task, "train", ledger, student, purpose="student training (ceiling)")
    if len(student.classes) > len(teacher.classes):
        real = real.only(teacher.classes)
    logger.also_register(real=real)
    return real.forever(experiment.schedule.batch_size)


def identity(experiment: Experiment, out: Path, resuming: bool) -> Any:
    """How a run is written down; one that goes on, as it was when it began: it may lack settings that came later."""
    if resuming and (out / "experiment.json").is_file() and from_json(began := read_description(out)) == experiment:
        return began
    return to_json(experiment)


def method_of(experiment: Experiment) -> Method:
    """The method; on one teacher after another, where a task wants it so."""
    assert experiment.method is not None
    task = experiment.task
    if isinstance(task, AmalgamationTask) and task.per_teacher:
        return PerTeacher(method=experiment.method, origin=task.gate == "origin")
    return experiment.method


def open_task_data(
    task: SingleTeacherTask | AmalgamationTask, split: Split, ledger: Ledger, model: Classifier, purpose: Purpose = "evaluation"
) -> RealImages:
    """The task's real images, which must have the classes of the model that is made.

    They are numbered as it does, where they go by the same names.

    Raises:
        InputError: If they do not.
    """
    real = open_real(task.data, split, purpose, ledger, shape=model.shape, view=model.view, root=task.data_root)
    require_kind(task.data, real, model)
    if isinstance(task, ExtensionTask):
        others = sorted(set(real.classes) ^ set(model.classes))
        if others:
            raise InputError(
                f"{task.data} and the extended network differ in class {others[0]!r}; give data of all classes, old and new"
            )
        return real.only(model.classes)
    if isinstance(task, AmalgamationTask):
        missing = [name for name in model.classes if name not in real.classes]
        if missing:
            raise InputError(f"{task.data} has no class {missing[0]!r}; give data of all labels of the student")
        return real.only(model.classes)
    if len(real.classes) != len(model.classes):
        raise InputError(
            f"{task.data} has {len(real.classes)} classes and the network {len(model.classes)}; they must be equal"
        )
    return real.only(model.classes) if set(real.classes) == set(model.classes) else real


def require_kind(name: str, real: RealImages, model: Classifier) -> None:
    """Refuses images with several labels each for a network that gives one answer, and the other way round.

    Raises:
        InputError: Naming both.
    """
    if real.multi_label != model.multi_label:
        has, gives = ("several labels", "one answer") if real.multi_label else ("one label", "an answer for each label")
        raise InputError(f"an image of {name} has {has}, but the network gives {gives}; give data of its kind")


def open_new_classes(task: SingleTeacherTask | AmalgamationTask, ledger: Ledger, student: Classifier) -> RealImages | None:
    """Real images of the classes to learn, where a task has some; the student is widened by them."""
    if not isinstance(task, ExtensionTask):
        return None
    purpose = "student training (new classes)"
    new = open_real(
        task.new_data, "train", purpose, ledger, shape=student.shape, view=student.view, root=task.data_root
    )
    require_kind(task.new_data, new, student)
    widen(student, new.classes)
    return new


def new_batches(experiment: Experiment, new: RealImages, logger: RunLogger) -> Iterator[Batch]:
    """New images without end, as many at a time as the application shows."""
    assert isinstance(experiment.application, ExtensionConfig)
    logger.also_register(new=new)
    return new.forever(experiment.application.new_batch_size)


def judge(
    model: Classifier, teacher: Classifier, test: RealImages | None, console: Console | None = None
) -> dict[str, Any]:
    """What a network costs and, where there are real images to ask, how good it is."""
    found = asdict(measure(model))
    if test is None:
        return found
    return found | asdict(evaluate(model, teacher, shown(test.once(), len(test), "evaluate", console)))


def name_of(method: Method | None) -> str:
    """A method as people call it: the name of the preset of the same kind that is nearest to it."""
    if method is None:
        return "real images"

    def differences(preset: Method) -> int:
        return sum(bool(getattr(method, f.name)) != bool(getattr(preset, f.name)) for f in fields(method))

    presets = {name: preset for name, preset in NAMED.items() if type(preset) is type(method)}
    if not presets:
        return type(method).__name__.removesuffix("Config")
    return min(presets, key=lambda name: differences(presets[name]))


def peak_memory() -> int:
    """The most memory this process has held, in MB; on an accelerator, the most held there."""
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() // 10**6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) // 10**6


def environment(experiment: Experiment, fabric: Fabric) -> dict[str, Any]:
    """What the numbers depend on besides the experiment."""
    return {
        "datafree": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": str(fabric.device),
        "processor": torch.cuda.get_device_name() if fabric.device.type == "cuda" else platform.machine(),
        "threads": experiment.threads,
        "processes": fabric.world_size,
    }
