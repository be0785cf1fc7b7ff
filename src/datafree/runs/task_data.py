"""The real images of a task: for evaluation, for the ceiling, and of new classes."""

from dataclasses import dataclass, replace
from typing import Any, cast

from datafree.classifier import Classifier
from datafree.ensemble import whole_teacher
from datafree.methods.pictures import PicturesConfig
from datafree.networks.head_surgery import widen
from datafree.real.data import RealImages, open_real, require_downloaded
from datafree.real.ledger import Ledger, Purpose, Split
from datafree.real.pictures import open_pictures
from datafree.runs.tasks import AmalgamationTask, ExtensionTask, SingleTeacherTask, Task, student_start
from datafree.synthesis import Method
from datafree.synthesis.mixture import Mixture
from datafree.types import InputError

AnyTask = SingleTeacherTask | AmalgamationTask


@dataclass(frozen=True)
class TaskData:
    """The real images that a run opens at its start."""

    ledger: Ledger
    """counts every real image that is read"""
    test: RealImages | None
    """held-out images for evaluation; None without `data`"""
    new_classes: RealImages | None
    """training images of the new classes; None if the task adds no classes"""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know about the images; more is known after they were read."""
        opened = [real for real in (self.test, self.new_classes) if real]
        return tuple(dict.fromkeys(note for real in opened for note in real.notes))

    @property
    def dependencies(self) -> dict[str, Any]:
        """What the result of a run depends on, by name, as for `dependencies_of`."""
        opened = {"the evaluation images": self.test, "the images of the new classes": self.new_classes}
        return {name: f"{len(real)} images of {len(real.classes)} classes" for name, real in opened.items() if real}


def require_data(task: AnyTask, *, ceiling: bool) -> None:
    """Check that the real images of a task are on this machine, so that a resumed run makes no request.

    Args:
        task: The task.
        ceiling: Whether the student is trained on real images.

    Raises:
        InputError: If a data set would be downloaded.
    """
    if isinstance(task, ExtensionTask):
        require_downloaded(task.new_data, "train", task.data_root)
    for split in ("train", "test") if ceiling else ("test",):
        require_downloaded(task.data, split, task.data_root)


def open_data(task: AnyTask, student: Classifier, teacher: Classifier | None = None) -> TaskData:
    """Open the real images of a task, and add the new classes of the task to the student.

    Args:
        task: The task.
        student: The student.
        teacher: The teacher, of which the student may have some classes only.

    Raises:
        InputError: If a data set is not available or does not fit the student.
    """
    ledger = Ledger()
    new_classes = open_new_classes(task, ledger, student) if isinstance(task, ExtensionTask) else None
    if start := student_start(task):
        ledger.add_start(start.source, start.images)
    test = open_task_data(task, "test", ledger, student, teacher=teacher) if task.data else None
    return TaskData(ledger, test, new_classes)


def open_task_data(
    task: AnyTask,
    split: Split,
    ledger: Ledger,
    model: Classifier,
    purpose: Purpose = "evaluation",
    teacher: Classifier | None = None,
) -> RealImages:
    """Open the data set that a task names with `data`, with labels in the order of the model's classes.

    Images without labels are returned as they are. Classes are matched by name; by position, with a note, if the data set or
    the model has only numbers for names.

    Args:
        task: The task.
        split: `train` or `test`.
        ledger: The ledger of the run.
        model: The network that is trained or evaluated on the images.
        purpose: What the images are used for; recorded in the ledger.
        teacher: The teacher of a task with `labels`: only images of these classes are opened.

    Raises:
        InputError: If the data set lacks classes of the model, or has another kind of labels.
    """
    real = open_real(
        task.data, split, purpose, ledger, shape=model.shape, preprocessing=model.preprocessing, root=task.data_root
    )
    if not real.labelled:
        return real
    require_same_label_kind(task.data, real, model)
    if isinstance(task, ExtensionTask):
        require_same_classes(task.data, real, model)
    elif isinstance(task, Task) and task.labels and teacher is not None:
        return of_labels(real, model, whole_teacher(teacher))
    elif isinstance(task, AmalgamationTask):
        require_all_labels(task.data, real, model)
    else:
        return real.matched_with(model.classes)
    return real.select_classes(model.classes)


def of_labels(real: RealImages, model: Classifier, teacher: Classifier) -> RealImages:
    """Return the images of the classes of a model, which are some of the classes of its teacher.

    Raises:
        InputError: If the data set has neither the classes of the model nor those of the teacher.
    """
    if set(model.classes) <= set(real.classes):
        return real.select_classes(model.classes)
    matched = real.matched_with(teacher.classes, "the teacher")
    return matched.select_classes([matched.classes[teacher.classes.index(name)] for name in model.classes])


def open_new_classes(task: ExtensionTask, ledger: Ledger, student: Classifier) -> RealImages:
    """Open the training images of the new classes, and add these classes to the student.

    Raises:
        InputError: If the images have another kind of labels than the student, or the student cannot be extended.
    """
    new_classes = open_real(
        task.new_data,
        "train",
        "student training (new classes)",
        ledger,
        shape=student.shape,
        preprocessing=student.preprocessing,
        root=task.data_root,
    )
    require_same_label_kind(task.new_data, new_classes, student)
    widen(student, new_classes.classes)
    return new_classes


def with_pictures(method: Method, teacher: Classifier, ledger: Ledger) -> Method:
    """Return a method whose folders of pictures are open, also those of its parts. Methods open no real images.

    Raises:
        InputError: If a folder cannot be used.
    """

    def opened(inner: Method) -> Method:
        return with_pictures(inner, teacher, ledger)

    if isinstance(method, PicturesConfig):
        return method.opened(open_pictures(method.images, teacher, ledger))
    if isinstance(method, Mixture):
        return method.map(opened) if any(map(reads_pictures, (part.method for part in method.parts))) else method
    inner = getattr(method, "method", None)  # of a method that applies another one to some teachers or classes
    return replace(cast(Any, method), method=opened(inner)) if isinstance(inner, Method) else method


def reads_pictures(method: Method) -> bool:
    """Return whether a method reads pictures of the user."""
    return isinstance(method, PicturesConfig) or isinstance(getattr(method, "method", None), PicturesConfig)


def require_same_label_kind(name: str, real: RealImages, model: Classifier) -> None:
    """Check that images and network are both single-label or both multi-label.

    Raises:
        InputError: If one is single-label and the other multi-label.
    """
    if real.multi_label != model.multi_label:
        data_kind, model_kind = ("multi-label", "single-label") if real.multi_label else ("single-label", "multi-label")
        raise InputError(f"{name} is {data_kind}, but the network is {model_kind}; use {model_kind} data")


def require_same_classes(name: str, real: RealImages, model: Classifier) -> None:
    """Check that a data set has exactly the classes of an extended network.

    Raises:
        InputError: Names the first class that only one of them has.
    """
    differing = sorted(set(real.classes) ^ set(model.classes))
    if differing:
        raise InputError(
            f"{name} and the extended network differ in class {differing[0]!r}; use data of all classes, old and new"
        )


def require_all_labels(name: str, real: RealImages, model: Classifier) -> None:
    """Check that a data set has all labels of an amalgamated student.

    Raises:
        InputError: Names the first missing label.
    """
    missing = [label for label in model.classes if label not in real.classes]
    if missing:
        raise InputError(f"{name} has no class {missing[0]!r}; use data with all labels of the student")
