"""The word and the sentence of a verdict: from labelled images if the run has any, else from the estimate."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from datafree.estimation.result import REFUSED
from datafree.evaluation import score
from datafree.runs.reporting.sentences import verdict_lines as verdict_lines
from datafree.runs.verdict.rules import Finding

Word = Literal["good", "doubtful", "collapsed", "not estimated"]
GOOD, DOUBTFUL = 0.9, 0.75
"""retention, the student's score divided by the teacher's, from which a student is good, or doubtful and not collapsed"""


def verdict(summary: Mapping[str, Any], found: Sequence[Finding]) -> dict[str, Any]:
    """Return the entry `verdict` of a summary.

    Args:
        summary: The other entries of the summary: the evaluations of `teacher` and `student`, `classes`, and `estimate` if
            there is one.
        found: What was unusual about the run.
    """
    word, sentence = judge(summary)
    return {"word": word, "sentence": sentence, "findings": [finding.as_dict() for finding in found]}


def judge(summary: Mapping[str, Any]) -> tuple[Word, str]:
    """Return the word for a student, and a sentence that says why, without a full stop."""
    student, teacher = summary["student"], summary["teacher"]
    if student.get("accuracy") is not None:
        return judge_measured(student, teacher, len(summary["classes"]))
    estimate = summary.get("estimate")
    reason = str(estimate.get("sentence") or "").rstrip(".") if isinstance(estimate, Mapping) else ""
    if isinstance(estimate, Mapping) and estimate.get("word") in ("good", "doubtful", "collapsed"):
        return estimate["word"], reason or "this is an estimate without real images"
    if student.get("agreement") is not None:
        same = f"{100 * student['agreement']:.1f} % of {student['images']:,} real images without labels"
        return (
            "not estimated",
            f"the student answers as the teacher on {same}, but how often both are right is not known",
        )
    return "not estimated", reason.removeprefix(
        REFUSED
    ) or "no real images were given, so it is not known how good the student is"


def judge_measured(student: Mapping[str, Any], teacher: Mapping[str, Any], classes: int) -> tuple[Word, str]:
    """Return the word for a student from its held-out results and those of its teacher.

    A student of old and new classes is compared with its teacher on the old ones, since the teacher knows no others. One that
    is right about new classes no more often than a guess has not learned them.
    """
    if student.get("new_classes_accuracy") is not None and student.get("old_classes_accuracy") is not None:
        own, other = student["old_classes_accuracy"], teacher.get("old_classes_accuracy") or teacher.get("accuracy")
        where = " on the old classes"
    else:
        own, other, where = score(student), score(teacher) if teacher.get("accuracy") is not None else None, ""
    if is_chance(student, classes):
        return "collapsed", f"the student is at chance level: {100 * own:.1f} % held-out{where}, with {classes} classes"
    if not other:
        return "not estimated", f"the student has {100 * own:.1f} % held-out{where}, but the teacher was not evaluated"
    new = student.get("new_classes_accuracy")
    if where and new is not None and new <= 1 / classes:
        return (
            "collapsed",
            f"the student did not learn the new classes: {100 * new:.1f} % held-out on them, {100 * own:.1f} %{where}",
        )
    retention = own / other
    word: Word = "good" if retention >= GOOD else "doubtful" if retention >= DOUBTFUL else "collapsed"
    return (
        word,
        f"the student keeps {100 * retention:.1f} % of the teacher's held-out score{where} "
        f"({100 * own:.1f} % of {100 * other:.1f} %)"
        + (f", and has {100 * new:.1f} % on the new ones" if where and new is not None else ""),
    )


def is_chance(student: Mapping[str, Any], classes: int) -> bool:
    """Return whether an accuracy is no better than guessing, by two standard errors; for images with one label."""
    if student.get("average_precision") or classes < 2:
        return False
    chance, images = 1 / classes, max(1, student.get("images") or 0)
    return student["accuracy"] <= chance + 2 * math.sqrt(chance * (1 - chance) / images)
