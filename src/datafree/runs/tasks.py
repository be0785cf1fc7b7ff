"""Tasks: which teacher, which student and which real images an experiment uses, as a value that loads the networks."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from datafree import teachers
from datafree.classifier import Classifier
from datafree.ensemble import Ensemble
from datafree.files import read_json
from datafree.files.validation import from_plain
from datafree.matching import chosen_classes, is_numbered, match_classes
from datafree.networks.head_surgery import keep_classes, reorder_classes
from datafree.networks.inheritance import inherit
from datafree.networks.input_fitting import require_accepts_images
from datafree.real.ledger import LEDGER, Entry, Ledger
from datafree.runs.reading.summary import StudentStart as StudentStart
from datafree.runs.serialization import serializable
from datafree.synthesis import Method
from datafree.synthesis.mixture import of_each_part
from datafree.synthesis.outputs import inspect_teachers
from datafree.synthesis.turns import PerTeacher, WithOthers
from datafree.teachers import code
from datafree.teachers.candidates import AUTO, RATIO, candidates
from datafree.teachers.code import is_code
from datafree.teachers.copying import require_copyable
from datafree.teachers.folders import LOCAL, architecture, untrained
from datafree.teachers.naming import divided, has_weights
from datafree.teachers.options import TeacherOptions, parse_arguments
from datafree.types import InputError, require_at_least, require_below_one, require_choices, require_one_of

StudentInit = Literal["", "random", "weights"]


@dataclass(frozen=True, kw_only=True)
class SingleTeacherTask(TeacherOptions):
    """One teacher, and the real images for evaluation, if any."""

    teacher: str
    """teacher: a folder, a weights file, an ONNX file, a timm name, torchvision:NAME, transformers:NAME, hf-hub:NAME, or
    FILE.py:FUNCTION"""
    data: str = ""
    """real images, only used to evaluate the finished student: digits, mnist, cifar10, folder:PATH, or unlabelled:PATH for the
    agreement with the teacher; default: none"""
    data_root: str = ""
    """folder of the data sets; default: $DATAFREE_DATA, else ./data"""

    def applied(self, method: Method) -> Method:
        """Return a method as it is used for this task."""
        return method

    def load_teacher(self, download: bool = True) -> Classifier:
        """Load the teacher; see `TeacherOptions.load_network`."""
        return self.load_network(self.teacher, download)


@serializable
@dataclass(frozen=True, kw_only=True)
class Task(SingleTeacherTask):
    """One teacher and one student."""

    student: str = ""
    """student: a timm name (including the papers' networks), a network with weights in any form of --teacher, or auto;
    default: a copy of the teacher"""
    max_parameters: int = 0
    """with student auto, most parameters; default: see ratio"""
    max_macs: int = 0
    """with student auto, most multiply-accumulate operations for one image; 0: no limit"""
    ratio: float = RATIO
    """with student auto, most parameters as a fraction of those of the teacher"""
    student_args: tuple[str, ...] = ()
    """arguments of a student given by its timm name, as NAME=VALUE: patch_size=2 depth=4"""
    student_init: StudentInit = ""
    """start of a student that has weights: these, or random ones; default: weights"""
    inherit: bool = False
    """initialise the student with the teacher's strongest channels; it must be a narrower version of the teacher"""
    labels: tuple[str, ...] = ()
    """classes of the student, by name or by index, in this order; default: all classes of the teacher"""
    others: float = 0.2
    """with labels, share of the synthesized batches that show the teacher's other classes"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_student_init(self.student, self.student_init)
        require_at_least(0, others=self.others, max_parameters=self.max_parameters, max_macs=self.max_macs)
        require_at_least(1e-6, ratio=self.ratio)
        require_below_one(others=self.others)
        if self.student != AUTO and (self.max_parameters or self.max_macs):
            raise InputError(
                "max-parameters and max-macs limit the student auto; leave them out, or use --student auto"
            )

    def applied(self, method: Method) -> Method:
        """Return a method as it is used for this task: with labels, some batches show other classes."""
        if not self.labels:
            return method
        return of_each_part(method, lambda part: WithOthers(method=part, others=self.others))

    def student_for(self, teacher: Classifier) -> str:
        """Return the name of the student; for auto, of the largest network within the limits.

        Raises:
            InputError: If there is none.
        """
        if self.student != AUTO:
            return self.student
        return candidates(teacher, self.max_parameters, self.max_macs, self.ratio)[0].name

    def load(self, download: bool = True) -> tuple[Classifier, Classifier]:
        """Load the teacher and create the student, with the teacher's normalisation.

        Raises:
            InputError: If a network cannot be loaded or the two do not fit.
        """
        teacher = whole = self.load_teacher(download)
        if self.labels:
            inspect_teachers(whole)
            labels = chosen_classes(whole.classes, self.labels, multi_label=whole.multi_label)
            teacher = Ensemble([whole], labels).eval()
        arguments = parse_arguments(self.student_args, "student-args")
        student = (
            create_student(teacher, self.student_for(whole), arguments, self.student_init, download)
            if self.student
            else copy_of(whole, teacher.classes)
        )
        if self.inherit:
            inherit(student, copy_of(whole, teacher.classes))
        return teacher, student


@serializable
@dataclass(frozen=True, kw_only=True)
class ExtensionTask(SingleTeacherTask):
    """One teacher and the new classes that its student learns in addition."""

    new_data: str
    """real images of the new classes: digits, mnist or cifar10 with a selection such as mnist:5-9, or folder:PATH"""

    def load(self, download: bool = True) -> tuple[Classifier, Classifier]:
        """Load the teacher, and copy it as the student; the new classes are added when their images are opened.

        Raises:
            InputError: If the teacher cannot be loaded, is multi-label, or cannot be trained and saved.
        """
        teacher = self.load_teacher(download)
        if teacher.multi_label:
            raise InputError("the teacher is multi-label; only single-label teachers can be extended")
        require_copyable(teacher)
        return teacher, deepcopy(teacher)


@serializable
@dataclass(frozen=True, kw_only=True)
class AmalgamationTask:
    """Several teachers that are amalgamated into one student."""

    teacher: tuple[str, ...]
    """two or more teachers, in any form that `inspect` takes, or NETWORK@WEIGHTS for a network by name or code and its weights
    file; repeat --teacher for each"""
    labels: tuple[str, ...] = ()
    """labels of the student, in this order; default: all labels of all teachers"""
    student: str = ""
    """student: a timm name, including the papers' networks, or a network with weights; default: the architecture of the first
    teacher"""
    student_init: StudentInit = ""
    """start of a student that has weights: these, or random ones; default: weights"""
    gate: Literal["centred", "energy", "entropy", "even", "origin"] = "centred"
    """how the teachers are weighted for each image: see `Ensemble`; origin: only the teacher that the image was
    synthesized from, which needs --per-teacher"""
    per_teacher: bool = False
    """synthesize each batch from a single teacher, in turn, instead of from all teachers together"""
    shared_labels: Literal["", "same", "distinct"] = ""
    """meaning of a label that several teachers have: same: one label; distinct: separate labels 1/NAME, 2/NAME, ..."""
    data: str = ""
    """real images, only used to evaluate the finished student: digits, mnist, cifar10, folder:PATH, or unlabelled:PATH for the
    agreement with the teacher; default: none"""
    data_root: str = ""
    """folder of the data sets; default: $DATAFREE_DATA, else ./data"""

    def __post_init__(self) -> None:
        require_choices(self)
        require_student_init(self.student, self.student_init)
        if len(self.teacher) < 2:
            raise InputError("amalgamation needs two or more teachers; use `datafree distill` for one")
        if self.gate == "origin" and not self.per_teacher:
            raise InputError("gate origin needs images synthesized from single teachers; add --per-teacher")

    def applied(self, method: Method) -> Method:
        """Return a method as it is used for this task: for one teacher at a time, if the task says so."""
        if not self.per_teacher:
            return method
        return of_each_part(method, lambda part: PerTeacher(method=part, origin=self.gate == "origin"))

    def load(self, download: bool = True) -> tuple[Ensemble, Classifier]:
        """Load the teachers as an ensemble, and create the student.

        Raises:
            InputError: If a network cannot be loaded, or the teachers do not fit together.
        """
        members = [teachers.load(name, download=download) for name in self.teacher]
        if self.shared_labels == "distinct":
            for number, member in enumerate(members, 1):
                member.classes = tuple(f"{number}/{name}" for name in member.classes)
        elif not self.shared_labels:
            require_unambiguous_labels(members)
        for number, member in enumerate(members, 1):
            if self.labels and not set(self.labels) & set(member.classes):
                raise InputError(f"teacher {number} has none of the labels in --labels; remove this teacher")
        ensemble = Ensemble(members, self.labels, "centred" if self.gate == "origin" else self.gate).eval()
        student = self.student or architecture(members[0].model)
        return ensemble, create_student(ensemble, student, init=self.student_init, download=download)


def networks_in(task: SingleTeacherTask | AmalgamationTask) -> dict[str, tuple[str, ...]]:
    """Return the teachers and the student that a task names, by the options that name them."""
    teacher, student = task.teacher, getattr(task, "student", "")
    return {
        "--teacher": teacher if isinstance(teacher, tuple) else (teacher,),
        "--student": (student,) if student else (),
    }


def copy_of(teacher: Classifier, classes: Sequence[str]) -> Classifier:
    """Return a copy of a teacher, with some of its classes.

    Raises:
        InputError: If it cannot be trained and saved; or if classes are removed, and its last layer is not a fully connected
            one.
    """
    require_copyable(teacher)
    copy = deepcopy(teacher)
    if tuple(classes) == teacher.classes:
        return copy
    return keep_classes(copy, [teacher.classes.index(name) for name in classes])


def require_unambiguous_labels(members: Sequence[Classifier]) -> None:
    """Check that no two teachers share a label that is a bare number, which may have two meanings.

    Raises:
        InputError: Names the first shared number.
    """
    for number, member in enumerate(members, 1):
        for earlier, other in enumerate(members[: number - 1], 1):
            shared = [name for name in member.classes if name in other.classes and name.isdecimal()]
            if shared:
                raise InputError(
                    f"teachers {earlier} and {number} share the label {shared[0]!r}, a number whose meaning may differ; "
                    "add --shared-labels same or --shared-labels distinct"
                )


def require_student_init(student: str, init: str) -> None:
    """Check that a student can start as requested.

    Raises:
        InputError: If the start is unknown, or the student has no weights to start from.
    """
    require_one_of(get_args(StudentInit), student_init=init)
    if init == "weights" and not (student and has_weights(student)):
        raise InputError("--student-init weights needs a student with weights; give a folder or a weights file")


def create_student(
    teacher: Classifier,
    name: str,
    arguments: Mapping[str, Any] | None = None,
    init: StudentInit = "",
    download: bool = True,
) -> Classifier:
    """Create a network with the input shape, classes, normalisation and preprocessing of a teacher.

    Args:
        teacher: The teacher.
        name: A timm name, including the papers' networks, or the user's own code; or a network with weights, in every form
            of `teachers.load`: a folder, a weights file, a name of the hub, NETWORK@WEIGHTS.
        arguments: Arguments of a network given by its timm name or as code; see `create`.
        init: Whether a network with weights starts from them, or from random ones; default: weights.
        download: Download weights that are not on this machine yet.

    Returns:
        The student, untrained unless `name` has weights.

    Raises:
        InputError: If the network of a folder has other channels or classes than the teacher, or the network cannot
            take images of the teacher's size.
    """
    if has_weights(name):
        student = load_student(teacher, name, arguments, download)
        return untrained(student) if init == "random" else student
    if is_code(name):
        return code.create_student(name, teacher, arguments or {})
    student = teachers.create(
        name,
        classes=teacher.classes,
        shape=teacher.shape,
        mean=teacher.mean.flatten().tolist(),
        std=teacher.std.flatten().tolist(),
        preprocessing=teacher.preprocessing,
        arguments=arguments,
    )
    require_accepts_images(student, name)
    student.multi_label = teacher.multi_label
    return student


def load_student(
    teacher: Classifier, spec: str, arguments: Mapping[str, Any] | None = None, download: bool = True
) -> Classifier:
    """Load a student with weights, and check that it fits the teacher.

    Args:
        teacher: The teacher.
        spec: See `teachers.load`. A network that is named with its weights gets the input shape and the normalisation of the
            teacher; another one has its own.
        arguments: Arguments of a network that is named with its weights.
        download: Download weights that are not on this machine yet.

    Raises:
        InputError: If the network cannot be loaded or trained, or the classes, the number of channels or the kind of labels
            differ.
    """
    named = bool(divided(spec)[1])
    if arguments and not named:
        raise InputError(f"{spec} has its own arguments; remove --student-args")
    like = {
        "classes": teacher.classes,
        "shape": teacher.shape,
        "mean": teacher.mean.flatten().tolist(),
        "std": teacher.std.flatten().tolist(),
        "preprocessing": teacher.preprocessing,
        "arguments": arguments,
        "multi_label": teacher.multi_label,
    }
    student = teachers.load(spec, download=download, **(like if named else {}))
    if not any(parameter.requires_grad for parameter in student.parameters()):
        raise InputError(f"{spec} cannot be trained: it is forward-only; give a network of torch as the student")
    if student.outputs != "logits":
        raise InputError(f"{spec} returns probabilities; give a student that returns logits")
    for what, expected, actual in (
        ("classes", len(teacher.classes), len(student.classes)),
        ("channels", teacher.shape[0], student.shape[0]),
    ):
        if actual != expected:
            raise InputError(f"the teacher has {expected} {what} and the student {actual}; they must be equal")
    if student.multi_label != teacher.multi_label:
        raise InputError("one of teacher and student is multi-label and the other is not; both must be the same")
    match_to_teacher(student, teacher, spec)
    return student


def match_to_teacher(student: Classifier, teacher: Classifier, folder: str) -> None:
    """Put the classes of a student in the order of its teacher's, in place; it predicts the same.

    Raises:
        InputError: If the class names differ, or the student's last layer cannot be reordered.
    """
    match = match_classes(teacher.classes, student.classes, "the teacher", folder)
    if match.changes_order:
        reorder_classes(student, match.order)
    elif not is_numbered(teacher.classes):
        student.classes = teacher.classes
    student.notes += (match.note,) if match.note else ()


def student_start(task: Any) -> StudentStart | None:
    """Return the weights that the student of a task starts from; None if they are random or the teacher's."""
    student, init = getattr(task, "student", ""), getattr(task, "student_init", "")
    if not student or init == "random" or not has_weights(student):
        return None
    folder = Path(divided(student)[1] or student.removeprefix(LOCAL))
    path = (folder.parent if folder.is_file() else folder).absolute()
    for place in (path, path.parent) if path.name == "student" else (path,):  # in a run folder, the ledger is beside it
        with suppress(InputError):
            entries = from_plain(tuple[Entry, ...], read_json(place / LEDGER, follow_links=True), LEDGER)
            return StudentStart(str(folder), Ledger(list(entries)).images_seen_in_training())
    return StudentStart(str(folder), None)


def starts_fresh(task: Any) -> bool:
    """Return whether the student of a task starts from random weights, all of them."""
    return bool(getattr(task, "student", "")) and not getattr(task, "inherit", False) and student_start(task) is None
