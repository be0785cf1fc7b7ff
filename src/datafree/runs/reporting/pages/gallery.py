"""The contact sheet of a report: pictures by class with the answers of teacher and student, the worst classes first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datafree.runs.reading.answers import Answer, Answers, ClassAgreement, PartAnswers, Picture

ROWS = 10
"""classes in the report; the others are on pages beside it"""
FEWEST_ROWS = 4
"""classes of each part of a mixture in the report"""
BYTES = 1_100_000
"""of all pictures in the report, in base64"""
CLASSES_PER_PAGE = 50
NONE = "no label"
"""the answer on an image without any label"""


@dataclass(frozen=True)
class Caption:
    """An answer under a picture."""

    name: str
    confidence: float


@dataclass(frozen=True)
class Figure:
    """A picture with both answers."""

    url: str
    teacher: Caption
    student: Caption
    agrees: bool
    target: str
    """class that it was synthesized for, if the teacher sees another one"""


@dataclass(frozen=True)
class Strip:
    """The pictures that the teacher assigns to one class."""

    name: str
    images: int
    """images of the class that were compared"""
    agreement: float | None
    figures: Sequence[Figure]


@dataclass(frozen=True)
class Sheet:
    """The pictures of one part of a mixture, or of any other method."""

    name: str
    """of the part"""
    agreement: float
    images: int
    strips: Sequence[Strip]
    others: int
    """classes that are on the pages beside the report"""
    result: Mapping[str, Any]
    """the part in the summary; empty without parts"""


def sheets(answers: Answers, summary: Mapping[str, Any]) -> list[Sheet]:
    """Return the sheets of a report: of each part the classes on which the student differs most."""
    results = {part["name"]: part for part in summary.get("parts", ())}
    count = max(FEWEST_ROWS, ROWS // max(1, len(answers.parts)))
    each = BYTES // max(1, len(answers.parts))
    found = []
    for part in answers.parts:
        strips = strips_of(part, summary["classes"])
        shown = within(strips[:count], each)
        compared = part.comparison
        found.append(
            Sheet(
                part.name,
                compared.agreement,
                compared.images,
                shown,
                len(strips) - len(shown),
                results.get(part.name, {}),
            )
        )
    return found


def strips_of(part: PartAnswers, classes: Sequence[str]) -> list[Strip]:
    """Return the pictures by class of the teacher, the class with the lowest agreement first."""
    by_class: dict[int, list[Picture]] = {}
    for picture in part.pictures:
        by_class.setdefault(picture.teacher.classes[0] if picture.teacher.classes else -1, []).append(picture)
    compared = part.comparison.classes
    strips = []
    for index, pictures in by_class.items():
        known = compared[index] if 0 <= index < len(compared) else measured(pictures)
        name = classes[index] if index >= 0 else NONE
        figures = [figure_of(picture, classes) for picture in pictures]
        strips.append(Strip(name, known.images, known.agreement, figures))
    return sorted(strips, key=lambda strip: 1.0 if strip.agreement is None else strip.agreement)


def measured(pictures: Sequence[Picture]) -> ClassAgreement:
    """Return the agreement on pictures with several labels, for which no counts by class are stored."""
    return ClassAgreement(len(pictures), sum(picture.agrees for picture in pictures) / len(pictures))


def figure_of(picture: Picture, classes: Sequence[str]) -> Figure:
    """Return a picture with its captions."""
    target = "" if picture.target in picture.teacher.classes or not picture.teacher.classes else classes[picture.target]
    return Figure(
        picture.url, caption(picture.teacher, classes), caption(picture.student, classes), picture.agrees, target
    )


def caption(answer: Answer, classes: Sequence[str]) -> Caption:
    """Return an answer in words."""
    return Caption(", ".join(classes[index] for index in answer.classes) or NONE, answer.confidence)


def within(strips: Sequence[Strip], limit: int) -> list[Strip]:
    """Return strips with as many pictures each as fit into a number of bytes, but at least one."""
    most = max((len(strip.figures) for strip in strips), default=0)
    for count in range(most, 1, -1):
        cut = [Strip(s.name, s.images, s.agreement, s.figures[:count]) for s in strips]
        if sum(len(figure.url) for strip in cut for figure in strip.figures) <= limit:
            return cut
    return [Strip(s.name, s.images, s.agreement, s.figures[:1]) for s in strips]


def pages(answers: Answers, classes: Sequence[str]) -> list[list[tuple[str, Strip]]]:
    """Return all classes of all parts, in the pages beside the report, each with the name of its part."""
    strips = [(part.name, strip) for part in answers.parts for strip in strips_of(part, classes)]
    return [strips[start : start + CLASSES_PER_PAGE] for start in range(0, len(strips), CLASSES_PER_PAGE)]
