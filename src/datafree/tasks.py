"""Who teaches and who learns: what an experiment is about, as a value that loads its networks."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datafree import teachers
from datafree.classifier import Classifier
from datafree.description import describable
from datafree.fitting import require_answer
from datafree.inheritance import inherit
from datafree.types import InputError


@describable
@dataclass(frozen=True, kw_only=True)
class Task:
    """Who teaches, who learns, and which real images judge them afterwards, if any."""

    teacher: str
    """a timm name, or local-dir:FOLDER with config.json and model.safetensors"""
    student: str
    """a timm name, the papers' networks included"""
    student_args: tuple[str, ...] = ()
    """further arguments of a student by timm name, as NAME=NUMBER: patch_size=2 depth=4"""
    inherit: bool = False
    """the student begins as the teacher's strongest channels; it must be the teacher made narrower"""
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

    def load(self) -> tuple[Classifier, Classifier]:
        """Teacher and student; the student sees pixels as the teacher does.

        Raises:
            InputError: If either cannot be made.
        """
        if self.input and (len(self.input) != 3 or not all(1 <= size <= 4096 for size in self.input)):
            raise InputError(f"input is {self.input}; give channels, height and width, each from 1 to 4096")
        given: dict[str, Any] = {"shape": self.input, "mean": self.mean, "std": self.std, "classes": self.classes}
        teacher = teachers.load(
            self.teacher, weights=self.weights, **{name: value for name, value in given.items() if value}
        )
        student = student_of(teacher, self.student, arguments_in(self.student_args))
        if self.inherit:
            inherit(student, teacher)
        return teacher, student


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
        teacher: Whose shape, classes, mean and std it gets.
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
            name, classes=teacher.classes, shape=teacher.shape, mean=mean, std=std, arguments=arguments
        )
        require_answer(student, name)
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
    return student
