"""The head of a report: the verdict in a word, the figure behind it, and where it lies between chance and the teacher."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from datafree.runs.reading.summary import held_out
from datafree.runs.reporting.sentences import percent

GOOD, DOUBTFUL = 0.90, 0.75
"""retention from which a student is good, and from which it is doubtful"""
WORDS = {"good": "Good", "doubtful": "Doubtful", "collapsed": "Collapsed", "not estimated": "Not estimated"}


@dataclass(frozen=True)
class Mark:
    """A value on the scale from 0 to 100 %."""

    name: str
    kind: str
    """class of its style: student, teacher, floor, ceiling, chance"""
    value: float
    low: float | None = None
    high: float | None = None
    estimated: bool = False

    @property
    def text(self) -> str:
        """The value as it is shown; an estimate without decimals."""
        return f"{100 * self.value:.0f} %" if self.estimated else percent(self.value)


@dataclass(frozen=True)
class Headline:
    """What is read first."""

    word: str
    """good, doubtful, collapsed, not estimated; or empty"""
    shown: str
    """the word as it is shown"""
    figure: str
    """the most important number"""
    meaning: str
    """what the number is"""
    sentence: str
    marks: Sequence[Mark]
    findings: Sequence[Mapping[str, Any]]
    """warnings and faults, the worst first"""


def headline(summary: Mapping[str, Any], controls: Mapping[str, float]) -> Headline:
    """Return the head of a report.

    Args:
        summary: The summary of the run.
        controls: Accuracy of the floor and of the ceiling, where they are known.
    """
    figure, meaning = main_figure(summary)
    word, sentence = verdict_of(summary)
    findings = (summary.get("verdict") or {}).get("findings", ())
    order = {"fault": 0, "warning": 1}
    urgent = sorted((f for f in findings if f["level"] in order), key=lambda f: order[f["level"]])
    shown = WORDS.get(word, word.capitalize())
    return Headline(word, shown, figure, meaning, ended(sentence), list(marks(summary, controls)), urgent)


def verdict_of(summary: Mapping[str, Any]) -> tuple[str, str]:
    """Return the word and the sentence of the verdict: of the run, else of its estimate, else of the measured accuracy."""
    for source in (summary.get("verdict"), summary.get("estimate")):
        if source:
            return source["word"], source.get("sentence", "")
    own, other = held_out(summary["student"]), held_out(summary["teacher"])
    if own is None or not other:
        return "", ""
    kept = own / other
    word = "good" if kept >= GOOD else "doubtful" if kept >= DOUBTFUL else "collapsed"
    return word, f"The student keeps {percent(kept)} of the teacher's accuracy"


def main_figure(summary: Mapping[str, Any]) -> tuple[str, str]:
    """Return the most important number of a run, and what it is."""
    student, teacher, estimate = summary["student"], summary["teacher"], summary.get("estimate") or {}
    if (own := held_out(student)) is not None:
        measure = "mean average precision" if student.get("average_precision") else "accuracy"
        other = held_out(teacher)
        compared = "" if other is None else f"; the teacher reaches {percent(other)}"
        return percent(own), f"{measure} of the student on {student['images']:,} held-out real images{compared}"
    if estimate.get("retention") is not None:
        between = ""
        if estimate.get("low") is not None and estimate.get("high") is not None:
            between = f", between {100 * estimate['low']:.0f} and {100 * estimate['high']:.0f} %"
        return (
            f"About {100 * estimate['retention']:.0f} %",
            f"of the teacher's accuracy{between}; an estimate without real images",
        )
    if student.get("agreement") is not None:
        return percent(
            student["agreement"]
        ), f"agreement with the teacher on {student['images']:,} real images without labels"
    reason = str(estimate.get("sentence") or "").rstrip(".")
    return "", reason or "The accuracy of the student is not known: no real images were given"


def marks(summary: Mapping[str, Any], controls: Mapping[str, float]) -> Iterator[Mark]:
    """Yield what is marked on the scale; nothing if neither accuracy nor retention is known."""
    student, teacher, estimate = summary["student"], summary["teacher"], summary.get("estimate") or {}
    own, other = held_out(student), held_out(teacher)
    if own is not None:
        if not student.get("average_precision"):
            yield Mark("chance", "chance", 1 / max(1, len(summary["classes"])))
        for name in ("floor", "ceiling"):
            if name in controls:
                source = {"floor": "floor (noise)", "ceiling": "ceiling (real images)"}[name]
                yield Mark(source, name, controls[name])
        if other is not None:
            yield Mark("teacher", "teacher", other)
        yield Mark("student", "student", own)
    elif estimate.get("retention") is not None:
        yield Mark("teacher", "teacher", 1.0, estimated=True)
        yield Mark(
            "student, estimated",
            "student",
            clamp(estimate["retention"]),
            clamp(estimate.get("low")),
            clamp(estimate.get("high")),
            estimated=True,
        )


def clamp(value: Any) -> Any:
    """Return a share within [0, 1]; None stays None."""
    return None if value is None else min(1.0, max(0.0, value))


def ended(sentence: str) -> str:
    """Return a sentence with a capital letter and a full stop."""
    sentence = sentence.strip()
    if not sentence:
        return ""
    return sentence[0].upper() + sentence[1:] + ("" if sentence.endswith((".", "!", "?")) else ".")


def date_of(summary: Mapping[str, Any]) -> str:
    """Return when a run ended, in words; empty if it is not known."""
    try:
        moment = datetime.fromisoformat(summary.get("finished") or "")
    except ValueError:
        return ""
    return f"{moment.day} {moment:%B %Y}, {moment:%H:%M} UTC"


def names(summary: Mapping[str, Any]) -> tuple[str, str]:
    """Return short names of teacher and student."""
    known = summary.get("networks") or {}
    task = (summary.get("experiment") or {}).get("task") or {}
    given = task.get("teacher") or "teacher"
    teacher = " + ".join(map(str, given)) if isinstance(given, list) else str(given)
    return str(known.get("teacher") or teacher), str(known.get("student") or task.get("student") or "student")


def verb_of(summary: Mapping[str, Any]) -> str:
    """Return what was done to the teacher, in one word."""
    task = ((summary.get("experiment") or {}).get("task") or {}).get("config", "")
    if summary.get("pruned"):
        return "pruned"
    return {"ExtensionTask": "extended", "AmalgamationTask": "amalgamated"}.get(str(task), "distilled")
