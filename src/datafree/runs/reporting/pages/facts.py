"""The facts of a report: teacher and student side by side, classes, confusion, time, and controls from sibling runs."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datafree.errors import InputError
from datafree.files import read_json
from datafree.runs.reading.answers import Comparison
from datafree.runs.reading.layout import SUMMARY
from datafree.runs.reading.summary import held_out, read_summary
from datafree.runs.reporting.sentences import percent

MATRIX_CLASSES = 20
"""classes up to which the whole confusion is shown"""
PAIRS = 15
"""confused pairs of classes that are listed"""
OPEN_CLASSES = 25
"""classes up to which their table is not folded"""
SIBLINGS, SIBLING_BYTES = 64, 2**22
"""runs beside a run that are read to find floor and ceiling, and bytes of the summary of each, at most"""


@dataclass(frozen=True)
class Row:
    """A measure of both networks."""

    name: str
    teacher: str
    student: str
    change: str = ""
    note: str = ""


def side_by_side(summary: Mapping[str, Any], controls: Mapping[str, float]) -> list[Row]:
    """Return accuracy, size and speed of teacher and student, as texts."""
    teacher, student = summary["teacher"], summary["student"]
    rows = quality(summary, controls)
    if pruned := summary.get("pruned"):
        before, after = pruned["filters_before"], pruned["filters_after"]
        rows.append(Row("filters", f"{before:,}", f"{after:,}", ratio(before, after)))
    for name, key in (("parameters", "parameters"), ("multiply-accumulates per image", "macs")):
        rows.append(Row(name, quantity(teacher[key]), quantity(student[key]), ratio(teacher[key], student[key])))
    before, after = teacher["bytes"], student["bytes"]
    rows.append(Row("size of the weights", size(before), size(after), ratio(before, after, ("smaller", "larger"))))
    before, after = teacher["milliseconds"], student["milliseconds"]
    rows.append(
        Row(
            "time per image",
            f"{before:.2f} ms",
            f"{after:.2f} ms",
            ratio(before, after, ("faster", "slower")),
            "one image at a time, on the machine of the run",
        )
    )
    return rows


def quality(summary: Mapping[str, Any], controls: Mapping[str, float]) -> list[Row]:
    """Return what is known about the accuracy of both networks."""
    teacher, student, rows = summary["teacher"], summary["student"], []
    own, other = held_out(student), held_out(teacher)
    if own is not None:
        measure = "mean average precision" if student.get("average_precision") else "accuracy"
        rows.append(
            Row(
                measure, percent(other), percent(own), points(other, own), f"{student['images']:,} held-out real images"
            )
        )
        for name, note in (
            ("floor", "student of the same kind, trained on noise"),
            ("ceiling", "student of the same kind, trained on real images"),
        ):
            if name in controls:
                rows.append(Row(name, "", percent(controls[name]), points(other, controls[name]), note))
        old, new = student.get("old_classes_accuracy"), student.get("new_classes_accuracy")
        if old is not None and new is not None:
            rows.append(Row("accuracy on old classes", percent(teacher.get("old_classes_accuracy")), percent(old)))
            rows.append(Row("accuracy on new classes", "-", percent(new)))
    estimate = summary.get("estimate") or {}
    if estimate.get("retention") is not None:
        rows.append(
            Row(
                "estimated retention",
                "100 %",
                f"{100 * estimate['retention']:.0f} %",
                "",
                "share of the teacher's accuracy",
            )
        )
    if estimate.get("accuracy") is not None:
        rows.append(
            Row(
                "estimated accuracy",
                "",
                f"{100 * estimate['accuracy']:.0f} %",
                "",
                "with the teacher's accuracy from its card",
            )
        )
    if student.get("agreement") is not None:
        rows.append(
            Row(
                "agreement with the teacher",
                "",
                percent(student["agreement"]),
                "",
                f"{student['images']:,} real images",
            )
        )
    if own is not None and student.get("calibration_error") is not None:
        before, after = teacher.get("calibration_error"), student["calibration_error"]
        note = "mean gap of confidence and accuracy"
        rows.append(Row("calibration error", percent(before), percent(after), points(before, after), note))
    return rows


def ratio(before: float | None, after: float | None, words: tuple[str, str] = ("fewer", "more")) -> str:
    """Return how many times smaller or larger a number of the student is; empty if one of the two is not known.

    Args:
        before: The number of the teacher.
        after: The number of the student.
        words: What a smaller and a larger number is called.
    """
    if not before or not after or before <= 0 or after <= 0:
        return ""
    if abs(before / after - 1) < 0.005:
        return "same"
    times = before / after if before > after else after / before
    return f"{times:.3g} \u00d7 {words[0] if before > after else words[1]}"


def points(before: float | None, after: float | None) -> str:
    """Return the difference of two shares in percentage points."""
    return "" if before is None or after is None else f"{100 * (after - before):+.2f} points".replace("-", "\u2212")


def quantity(number: float | None) -> str:
    """Return a large number with a unit prefix; "not counted" for None."""
    if number is None:
        return "not counted"
    for power, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if number >= power:
            return f"{number / power:,.2f} {prefix}"
    return f"{number:,.0f}"


def size(count: float) -> str:
    """Return a number of bytes in words."""
    for power, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if count >= power:
            return f"{count / power:,.1f} {unit}"
    return f"{count:,.0f} bytes"


def duration(seconds: float) -> str:
    """Return a duration in words."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def controls_of(path: Path, summary: Mapping[str, Any]) -> dict[str, float]:
    """Return the accuracy of the floor and of the ceiling, if runs beside this one measured them.

    They have the same teacher, student and evaluation images, and the method `noise` or real images.

    Args:
        path: The run folder.
        summary: Its summary.
    """
    found: dict[str, float] = {}
    wanted = {"noise": "floor", "real images": "ceiling"}
    if held_out(summary["student"]) is None:
        return found
    with suppress(OSError):
        for folder in sorted(path.absolute().parent.iterdir())[:SIBLINGS]:
            if folder.name == path.absolute().name or not (folder / SUMMARY).is_file():
                continue
            with suppress(InputError, OSError, LookupError, TypeError):
                if read_json(folder / SUMMARY, SIBLING_BYTES, root=folder)["method"] not in wanted:
                    continue
                other = read_summary(folder)
                if is_comparable(summary, other):
                    found[wanted[other["method"]]] = held_out(other["student"]) or 0.0
    return found


def is_comparable(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two runs have the same teacher, kind of student and evaluation images."""
    tasks = [summary["experiment"].get("task") or {} for summary in (one, other)]
    same = all(tasks[0].get(key) == tasks[1].get(key) for key in ("student", "data", "labels", "config"))
    return (
        same
        and one["teacher_sha256"] == other["teacher_sha256"]
        and one["student"]["parameters"] == other["student"]["parameters"]
        and one["student"].get("images") == other["student"].get("images")
        and held_out(other["student"]) is not None
    )


@dataclass(frozen=True)
class ClassRow:
    """A class with the results of both networks."""

    name: str
    teacher: float | None
    student: float | None
    agreement: float | None
    images: int


def class_rows(summary: Mapping[str, Any], comparison: Comparison | None) -> list[ClassRow]:
    """Return the classes with the accuracy of both networks and their agreement, the worst first."""
    measure = "average_precision" if summary["student"].get("average_precision") else "per_class"
    own, other = summary["student"].get(measure) or (), summary["teacher"].get(measure) or ()
    agreements = comparison.classes if comparison else ()
    if not own and not agreements:
        return []
    rows = []
    for index, name in enumerate(summary["classes"]):
        same = agreements[index] if index < len(agreements) else None
        rows.append(
            ClassRow(
                name,
                other[index] if index < len(other) else None,
                own[index] if index < len(own) else None,
                same.agreement if same else None,
                same.images if same else 0,
            )
        )
    return sorted(rows, key=badness)


def badness(row: ClassRow) -> tuple[bool, float]:
    """Return the order of a class: by accuracy, or by agreement if there is none; classes without results come last."""
    value = row.student if row.student is not None else row.agreement
    return value is None, value if value is not None else 0.0


@dataclass(frozen=True)
class Cell:
    """A cell of a confusion: its images, and their share of the row."""

    images: int
    share: float
    same: bool


def confusion_matrix(comparison: Comparison, classes: int) -> list[list[Cell]]:
    """Return one row per class of the teacher; empty if there are too many classes or no counts."""
    if classes > MATRIX_CLASSES or not comparison.confusion:
        return []
    counts = [[0] * classes for _ in range(classes)]
    for teacher, student, images in comparison.confusion:
        counts[teacher][student] += images
    return [[Cell(n, n / max(1, sum(row)), i == j) for j, n in enumerate(row)] for i, row in enumerate(counts)]


def confused_pairs(comparison: Comparison, classes: Sequence[str]) -> list[tuple[str, str, int]]:
    """Return the pairs of classes that are confused most often, with their counts."""
    pairs = [(classes[t], classes[s], n) for t, s, n in comparison.confusion if t != s]
    return pairs[:PAIRS]
