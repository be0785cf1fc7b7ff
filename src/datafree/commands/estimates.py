"""`datafree estimate`: how much of its teacher's accuracy a student keeps, without real images."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from datafree import teachers
from datafree.classifier import Classifier
from datafree.commands.options.parsing import Form
from datafree.commands.runs import console
from datafree.ensemble import Ensemble
from datafree.estimation.cache import cache_folder
from datafree.estimation.estimate import Settings, estimate, named_method
from datafree.estimation.planning import IMAGES
from datafree.estimation.result import Estimate, not_estimated
from datafree.progress.output import emit
from datafree.real.ledger import Ledger
from datafree.runs.estimating.history import UNKNOWN, History, history_in, known_accuracy
from datafree.runs.estimating.quantized import is_quantized, quantized_file, quantized_history
from datafree.runs.hardware import set_threads, to_device
from datafree.runs.logger import RunLogger
from datafree.runs.reporting import report
from datafree.runs.reporting.console import say
from datafree.runs.task_data import open_task_data
from datafree.runs.tasks import Task
from datafree.teachers.folders import LOCAL
from datafree.teachers.options import TeacherOptions
from datafree.types import Batch, InputError, require_at_least, require_at_most, require_seed

UNLABELLED = "unlabelled:"


@dataclass(frozen=True, kw_only=True)
class EstimateOptions(TeacherOptions):
    """A student and its teacher."""

    student: str
    """student: its folder, the folder of its run or of its quantisation, or a network by its name"""
    teacher: tuple[str, ...]
    """teacher, or all teachers of an amalgamated student: a folder, a weights file, an ONNX file, a timm name,
    torchvision:NAME, transformers:NAME, hf-hub:NAME, or FILE.py:FUNCTION"""
    method: str = ""
    """how the student's images were synthesized: methods separated by commas; default: as its run folder says"""
    teacher_accuracy: float = 0.0
    """accuracy of the teacher, from 0 to 1, for an accuracy besides the retention; default: as its folder says"""
    data: str = ""
    """unlabelled:PATH for the agreement on real pictures besides; default: none"""
    images: int = IMAGES
    """synthesized images of each family, if time allows"""
    seconds: float = 60.0
    """time for the pools of synthesized images that are not there yet"""
    cache: Literal["use", "renew", "off"] = "use"
    """use: read the pools of this teacher from disk, and store new ones; renew: make them again; off: neither"""
    seed: int = 0
    """random seed of the pools"""
    device: str = "auto"
    """cpu, cuda, mps, ...; auto: an accelerator if available, else the CPU"""
    threads: int = 1
    """CPU threads"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, images=self.images)
        require_at_least(0, seconds=self.seconds, teacher_accuracy=self.teacher_accuracy)
        require_at_most(1, teacher_accuracy=self.teacher_accuracy)
        require_seed(self.seed)
        if self.data and not self.data.startswith(UNLABELLED):
            raise InputError(f"data is {self.data}; `datafree evaluate` uses labels, and here it is unlabelled:PATH")


ESTIMATE = Form(verb="estimate", options=lambda: EstimateOptions)
FORMS = (ESTIMATE,)


def estimate_student(arguments: list[str]) -> None:
    """`datafree estimate`."""
    options: EstimateOptions = ESTIMATE.parse(arguments)
    set_threads(options.threads)
    found_teachers, student = load_teachers(options), teachers.load(student_folder(options.student))
    for model in (*found_teachers, student):
        to_device(model, options.device)
    history = history_for(options, found_teachers[0])
    teacher = of_labels(found_teachers, student)
    several = len(found_teachers) > 1  # the accuracy of each says little about that of all
    with RunLogger(None, teacher, student, console=console) as logger:
        found = (
            not_estimated(history.reason)
            if history.reason
            else estimate(
                student,
                teacher,
                method=history.method,
                accuracy=options.teacher_accuracy or (known_accuracy(options.teacher[0]) if not several else None),
                real=real_pictures(options, student, teacher),
                settings=Settings(
                    images=options.images, seconds=options.seconds, seed=options.seed, cache=options.cache
                ),
                callback=logger,
            )
        )
    show(found, student, teacher)
    if options.cache != "off" and found.pools:
        say(console, "pools", f"{cache_folder()}  (they may reveal training data; delete the folder to forget them)")


def show(found: Estimate, student: Classifier, teacher: Classifier) -> None:
    """Print an estimate."""
    if not emit(console, "estimate", **found.as_dict()):
        say(console, "estimate", found.sentence)
        if found.pools:
            listed = ", ".join(f"{name} {count:,}" for name, count in found.pools.items())
            say(console, "images", listed)
        if found.per_class and not found.lost_classes:
            lowest = min(range(len(found.per_class)), key=found.per_class.__getitem__)
            say(console, "lowest", f"class {teacher.classes[lowest]}, {report.percent(found.per_class[lowest])}")
        for note in dict.fromkeys((*teacher.notes, *student.notes)):
            say(console, "note", note)


def student_folder(spec: str) -> str:
    """Return the network of a student, which may be given as the folder of its run or of its quantisation.

    Raises:
        InputError: If the quantised network is no ONNX file.
    """
    path = Path(spec.removeprefix(LOCAL))
    if is_quantized(path):
        return str(quantized_file(path))
    inner = path / "student"
    return f"{LOCAL}{inner}" if inner.is_dir() and not (path / "config.json").is_file() else spec


def load_teachers(options: EstimateOptions) -> list[Classifier]:
    """Return the teachers.

    Raises:
        InputError: If one cannot be loaded, or several do not fit together.
    """
    return [options.load_network(spec) for spec in options.teacher]


def history_for(options: EstimateOptions, teacher: Classifier) -> History:
    """Return how the student was made: as its run folder or the folder of its quantisation says, or as the user says.

    Args:
        options: Names the student.
        teacher: The teacher.

    Raises:
        InputError: If a method is unknown, or the run folder is damaged.
    """
    path = Path(options.student.removeprefix(LOCAL))
    found = quantized_history(path, teacher) if is_quantized(path) else history_in(path)
    if options.method:
        stated = named_method(options.method)
        return History(stated, found.reason if found and not found.reason.startswith(UNKNOWN) else "")
    return found or History(None, f"{UNKNOWN}; name their methods with --method")


def of_labels(found: Sequence[Classifier], student: Classifier) -> Classifier:
    """Return a teacher with the classes of its student, if the student has only some of them; several teachers as one.

    Raises:
        InputError: If several teachers do not fit together.
    """
    if len(found) > 1:
        return Ensemble(found, student.classes).eval()
    teacher, chosen = found[0], set(student.classes)
    if len(chosen) < len(teacher.classes) and chosen <= set(teacher.classes):
        return Ensemble([teacher], student.classes).eval()
    return teacher


def real_pictures(options: EstimateOptions, student: Classifier, teacher: Classifier) -> Iterable[Batch] | None:
    """Return the unlabelled real pictures; None if there are none.

    Raises:
        InputError: If they cannot be read.
    """
    if not options.data:
        return None
    task = Task(teacher=options.teacher[0], student=options.student, data=options.data)
    return open_task_data(task, "test", Ledger(), student).batches_for(student, teacher)
