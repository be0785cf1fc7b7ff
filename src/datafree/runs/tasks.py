"""Who teaches and who learns: what an experiment is about, as a value that loads its networks."""

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from datafree import teachers
from datafree.teachers.sources import architecture
from datafree.classifier import Classifier
from datafree.ensemble import Ensemble
from datafree.runs.serialization import serializable
from datafree.networks.input_fitting import require_answer
from datafree.networks.inheritance import inherit
from datafree.types import InputError, words_known


@dataclass(frozen=True, kw_only=True)
class SingleTeacherTask:
    """Who teaches, and which real images judge what comes of it, if any."""

    teacher: str
    """a timm name, or local-dir:FOLDER with config.json and model.safetensors"""
    weights: str = ""
    """a file with the teacher's weights, if it is a timm name and timm's own are not wanted"""
    classes: int = 0
    """classes of a teacher by timm name; 0: as it comes"""
    input: tuple[int, ...] = ()
    """channels, height and width of a teacher by timm name; empty: as it comes"""
    mean: tuple[float, ...] = ()
    """the teacher's normalisation, in pixel units; empty: as it comes"""
    std: tuple[float, ...] = ()
    """likewise"""
    data: str = ""
    """real images for the evaluation at the end: digits, mnist, cifar10 or folder:PATH; empty: none"""
    data_root: str = ""
    """where data sets lie; empty: $DATAFREE_DATA, or ./data"""

    def load_teacher(self) -> Classifier:
        """The teacher.

        Raises:
            InputError: If it cannot be made.
        """
        if self.input and (len(self.input) != 3 or not all(1 <= size <= 4096 for size in self.input)):
            raise InputError(f"input is {self.input}; give channels, height and width, each from 1 to 4096")
        given: dict[str, Any] = {"shape": self.input, "mean": self.mean, "std": self.std, "classes": self.classes}
        return teachers.load(
            self.teacher, weights=self.weights, **{name: value for name, value in given.items() if value}
        )


@serializable
@dataclass(frozen=True, kw_only=True)
class Task(SingleTeacherTask):
    """Who teaches, who learns, and which real images judge them afterwards, if any."""

    student: str = ""
    """a timm name, the papers' networks included, or local-dir:FOLDER; empty: a copy of the teacher"""
    student_args: tuple[str, ...] = ()
    """further arguments of a student by timm name, as NAME=NUMBER: patch_size=2 depth=4"""
    inherit: bool = False
    """the student begins as the teacher's strongest channels; it must be the teacher made narrower"""

    def load(self) -> tuple[Classifier, Classifier]:
        """Teacher and student; the student sees pixels as the teacher does.

        Raises:
            InputError: If either cannot be made.
        """
        teacher = self.load_teacher()
        arguments = arguments_in(self.student_args)
        student = student_of(teacher, self.student, arguments) if self.student else deepcopy(teacher)
        if self.inherit:
            inherit(student, teacher)
        return teacher, student


@serializable
@dataclass(frozen=True, kw_only=True)
class ExtensionTask(SingleTeacherTask):
    """Who teaches, which classes are to be learned as well, and which real images of all classes judge it, if any."""

    new_data: str
    """real images of the new classes: digits, mnist, cifar10, each with a choice as in mnist:5-9, or folder:PATH"""

    def load(self) -> tuple[Classifier, Classifier]:
        """Teacher and student, which begins as the teacher and is widened when the new classes are known.

        Raises:
            InputError: If the teacher cannot be made.
        """
        teacher = self.load_teacher()
        if teacher.multi_label:
            raise InputError(
                "the teacher gives an answer for each label; only one that gives one answer can be extended"
            )
        return teacher, deepcopy(teacher)


@serializable
@dataclass(frozen=True, kw_only=True)
class AmalgamationTask:
    """Which teachers become one student, over which of their labels."""

    teacher: tuple[str, ...]
    """two or more: timm names, or local-dir:FOLDER; say --teacher once for each"""
    labels: tuple[str, ...] = ()
    """the student's labels, in this order; all that any teacher knows, if not given"""
    student: str = ""
    """a timm name, the papers' networks included; empty: the first teacher's"""
    gate: Literal["centred", "energy", "entropy", "even", "origin"] = "centred"
    """which teacher is believed: see `Ensemble`; origin: the one an image was made from, which needs --per-teacher"""
    per_teacher: bool = False
    """make images from one teacher after another instead of from all together"""
    shared_labels: Literal["", "same", "distinct"] = ""
    """what a label means that several teachers have: the same; or, called 1/NAME and 2/NAME then, distinct things"""
    data: str = ""
    """real images for the evaluation at the end: digits, mnist, cifar10 or folder:PATH; empty: none"""
    data_root: str = ""
    """where data sets lie; empty: $DATAFREE_DATA, or ./data"""

    def __post_init__(self) -> None:
        words_known(self)
        if len(self.teacher) < 2:
            raise InputError("one teacher alone cannot be amalgamated; name two or more, or use `datafree distill`")
        if self.gate == "origin" and not self.per_teacher:
            raise InputError("gate origin is known only of images that were made apart; say --per-teacher as well")

    def load(self) -> tuple[Ensemble, Classifier]:
        """The ensemble of the teachers, and the student.

        Raises:
            InputError: If a teacher or the student cannot be made, or the teachers do not go together.
        """
        members = [teachers.load(name) for name in self.teacher]
        if self.shared_labels == "distinct":
            for number, member in enumerate(members, 1):
                member.classes = tuple(f"{number}/{name}" for name in member.classes)
        elif not self.shared_labels:
            require_words(members)
        for number, member in enumerate(members, 1):
            if self.labels and not set(self.labels) & set(member.classes):
                raise InputError(f"teacher {number} knows none of the labels that are wanted; leave it out")
        ensemble = Ensemble(members, self.labels, "centred" if self.gate == "origin" else self.gate).eval()
        return ensemble, student_of(ensemble, self.student or architecture(members[0].model))


def require_words(members: Sequence[Classifier]) -> None:
    """Refuses labels that two teachers share and that are bare numbers: they may mean different things.

    Raises:
        InputError: Naming the first.
    """
    for number, member in enumerate(members, 1):
        for earlier, other in enumerate(members[: number - 1], 1):
            shared = [name for name in member.classes if name in other.classes and name.isdecimal()]
            if shared:
                raise InputError(
                    f"teachers {earlier} and {number} both have a label {shared[0]!r}, a bare number that may mean two "
                    "things; say --shared-labels same or --shared-labels distinct"
                )


def arguments_in(words: tuple[str, ...]) -> dict[str, Any]:
    """Arguments of a network, from words such as `patch_size=2`.

    Raises:
        InputError: If one of them is something else.
    """
    found: dict[str, Any] = {}
    for word in words:
        name, _, value = word.partition("=")
        try:
            found[name] = json.loads(value)
        except ValueError as fault:
            raise InputError(f"student-args has {word!r}; write NAME=NUMBER, such as patch_size=2") from fault
    return found


def student_of(teacher: Classifier, name: str, arguments: Mapping[str, Any] | None = None) -> Classifier:
    """A new network that takes and answers what the teacher does.

    Args:
        teacher: Whose shape, classes, mean, std and view it gets.
        name: A timm name, of any family; or `local-dir:FOLDER` for one that has weights already.
        arguments: Of a network by timm name; see `create`.

    Raises:
        InputError: If a folder is named whose network takes or answers something else, or the network cannot take
            images of the teacher's size.
    """
    kind, _, folder = name.partition("local-dir:")
    if kind:
        mean, std = teacher.mean.flatten().tolist(), teacher.std.flatten().tolist()
        student = teachers.create(
            name,
            classes=teacher.classes,
            shape=teacher.shape,
            mean=mean,
            std=std,
            view=teacher.view,
            arguments=arguments,
        )
        require_answer(student, name)
        student.multi_label = teacher.multi_label
        return student
    if arguments:
        raise InputError(f"{name} says itself what it is; leave student-args out")
    student = teachers.load_folder(Path(folder))
    for what, theirs, ours in (
        ("classes", len(teacher.classes), len(student.classes)),
        ("channels", teacher.shape[0], student.shape[0]),
    ):
        if theirs != ours:
            raise InputError(f"the teacher has {theirs} {what} and the student {ours}; they must be equal")
    if student.multi_label != teacher.multi_label:
        raise InputError(
            "one of teacher and student gives one answer, the other one for each label; they must be alike"
        )
    return student
