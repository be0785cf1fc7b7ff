"""What teacher and student answer on the same images, as a run folder stores it: counts, calibration, and small pictures."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from datafree.errors import InputError
from datafree.files import read_json
from datafree.files.naming import require_name
from datafree.files.validation import from_plain

ANSWERS = "synthetic/answers.json"
"""file of a run folder with small pictures and the answers of both networks"""
ANSWERS_LIMIT = 2**25
"""bytes of this file"""
BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")


@dataclass(frozen=True)
class Bin:
    """The predictions of a network with similar confidence."""

    confidence: float
    """their mean confidence, in [0, 1]"""
    correct: float
    """fraction that is correct or, without labels, equal to the teacher's prediction"""
    images: int
    """number of predictions"""


@dataclass(frozen=True)
class ClassAgreement:
    """The images that the teacher assigns to one class."""

    images: int
    agreement: float | None
    """fraction that the student assigns to it too; None without images"""


@dataclass(frozen=True)
class Comparison:
    """Teacher and student on the same images."""

    images: int
    agreement: float
    """fraction of equal predictions"""
    labelled: bool = False
    """whether calibration compares with true labels; else with the predictions of the teacher"""
    classes: tuple[ClassAgreement, ...] = ()
    """by class of the student; empty if images have several labels"""
    confusion: tuple[tuple[int, int, int], ...] = ()
    """teacher's class, student's class, and number of images, the most frequent first; at most `PAIRS` entries"""
    student: tuple[Bin, ...] = ()
    """calibration of the student"""
    teacher: tuple[Bin, ...] = ()
    """calibration of the teacher; empty without labels"""

    def require_classes(self, count: int) -> None:
        """Check that all classes exist.

        Raises:
            InputError: If there are others than `count` classes.
        """
        if self.classes and len(self.classes) != count:
            raise InputError(f"it compares {len(self.classes)} classes, but has {count} classes")
        if any(not 0 <= index < count for pair in self.confusion for index in pair[:2]):
            raise InputError(f"it confuses a class that is not among its {count} classes")


@dataclass(frozen=True)
class Answer:
    """The answer of a network on one image."""

    classes: tuple[int, ...]
    """the predicted class; of a network with several labels per image, all predicted classes"""
    confidence: float
    """probability of the first of them, in [0, 1]"""


@dataclass(frozen=True)
class Picture:
    """A synthesized image with the answers of both networks."""

    data: str
    """the file in base64"""
    kind: Literal["png", "jpeg"]
    target: int
    """class that it was synthesized for"""
    teacher: Answer
    student: Answer

    def __post_init__(self) -> None:
        if not BASE64.fullmatch(self.data):
            raise InputError("a picture is not in base64")

    @property
    def agrees(self) -> bool:
        """Whether both networks answer the same."""
        return set(self.teacher.classes) == set(self.student.classes)

    @property
    def url(self) -> str:
        """The picture as a URL."""
        return f"data:image/{self.kind};base64,{self.data}"


@dataclass(frozen=True)
class PartAnswers:
    """The images of one part of a mixture, or all images of another method."""

    name: str
    """name of the part; empty if there are no parts"""
    comparison: Comparison
    """on all images that were compared"""
    pictures: tuple[Picture, ...]
    """some of them"""

    def __post_init__(self) -> None:
        if self.name:
            require_name(self.name)


@dataclass(frozen=True)
class Answers:
    """The content of `answers.json`."""

    width: int
    """of the pictures, in pixels of the file"""
    height: int
    parts: tuple[PartAnswers, ...] = ()

    def __post_init__(self) -> None:
        if not (1 <= self.width <= 4096 and 1 <= self.height <= 4096):
            raise InputError(f"its pictures have {self.width} x {self.height} pixels")


def read_answers(path: Path, classes: int) -> Answers | None:
    """Read the answers in a run folder; None if it has none.

    Args:
        path: The run folder.
        classes: Number of classes of the student.

    Raises:
        InputError: If the file is not valid.
    """
    if not (path / ANSWERS).exists():
        return None
    plain: Any = read_json(path / ANSWERS, ANSWERS_LIMIT, root=path)
    answers: Answers = from_plain(Answers, plain, str(path / ANSWERS), ignore_unknown=True)
    for part in answers.parts:
        part.comparison.require_classes(classes)
        for picture in part.pictures:
            indices = (picture.target, *picture.teacher.classes, *picture.student.classes)
            if any(not 0 <= index < classes for index in indices):
                raise InputError(f"{path / ANSWERS} names a class that does not exist; delete it")
    return answers
