"""The summary of a finished run: its entries, checked when they are read."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datafree.errors import InputError
from datafree.files import read_json
from datafree.files.naming import require_name
from datafree.files.validation import from_plain
from datafree.real.ledger import Entry
from datafree.runs.reading.answers import Comparison
from datafree.runs.reading.layout import SUMMARY, read_experiment


@dataclass(frozen=True)
class AssessedNetwork:
    """A network in a summary: the fields of `Cost` and, if there were real images, of `Evaluation`."""

    parameters: int
    macs: int | None
    """multiply-accumulate operations for one image; None if they were not counted"""
    bytes: int
    milliseconds: float
    accuracy: float = 0.0
    agreement: float | None = None
    calibration_error: float = 0.0
    per_class: tuple[float | None, ...] = ()
    images: int = 0
    average_precision: tuple[float | None, ...] = ()
    routing_accuracy: float | None = None
    old_classes_accuracy: float | None = None
    new_classes_accuracy: float | None = None


@dataclass(frozen=True)
class Pruned:
    """What pruning adds to a summary."""

    filters_before: int
    filters_after: int
    rounds: int
    multiple: int = 1
    target: str = ""
    """what the network was to cost, such as macs:0.5; empty if a ratio was given"""
    reached: str = ""
    """what it costs, in the same form"""


@dataclass(frozen=True)
class StudentStart:
    """The weights that a student starts from."""

    source: str
    """the folder"""
    images: int | None
    """real images that they were trained on, according to the folder's ledger; None if there is none"""

    @property
    def sentence(self) -> str:
        """What the user should know."""
        known = f"their ledger lists {self.images or 0:,} real images that they saw"
        return f"{self.source}, and {'what they saw is not known' if self.images is None else known}"


@dataclass(frozen=True)
class PartResult:
    """What a summary says about a part of a mixture."""

    name: str
    share: float
    """share of the images that the student saw"""
    images: int
    """number of images synthesized"""
    health: Mapping[str, float] = field(default_factory=dict)
    """the health of the part's first batch at the end of the run, with the agreement of the student; see `health`"""

    def __post_init__(self) -> None:
        require_name(self.name)


@dataclass(frozen=True)
class Finding:
    """What one rule of the verdict found."""

    rule: str
    level: str
    """note, warning or fault"""
    sentence: str
    advice: str = ""
    value: float | str | None = None
    range: Any = None


@dataclass(frozen=True)
class Verdict:
    """The verdict on a run: one word, one sentence, and what each rule found."""

    word: str
    sentence: str = ""
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class EstimateResult:
    """The estimate of a run without labelled images."""

    word: str
    sentence: str = ""
    retention: float | None = None
    """estimated accuracy of the student divided by that of the teacher"""
    low: float | None = None
    high: float | None = None
    accuracy: float | None = None
    """retention times the teacher's accuracy, where its card has one"""
    images: int = 0
    per_class: tuple[float | None, ...] = ()
    lost_classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Summary:
    """The entries of `summary.json` that a report reads; applications may add others."""

    experiment: dict[str, Any]
    method: str
    classes: tuple[str, ...]
    teacher: AssessedNetwork
    student: AssessedNetwork
    teacher_sha256: str
    student_sha256: str
    images_synthesized: int
    real_images_seen: int
    health: dict[str, float]
    notes: tuple[str, ...]
    ledger: tuple[Entry, ...]
    seconds: float
    environment: dict[str, Any]
    student_start: StudentStart | None = None
    new_class_images_seen: int | None = None
    real_images_measured: int = 0
    pruned: Pruned | None = None
    parts: tuple[PartResult, ...] = ()
    command: str = ""
    """the command that repeats the run; empty if there is none"""
    finished: str = ""
    """date and time of the end, in UTC"""
    networks: dict[str, str] = field(default_factory=dict)
    """short names of teacher and student"""
    times: dict[str, float] = field(default_factory=dict)
    """seconds by phase"""
    comparison: Comparison | None = None
    """student and teacher on the same real images"""
    estimate: EstimateResult | None = None
    verdict: Verdict | None = None
    peak_memory_mb: float | None = None

    def __post_init__(self) -> None:
        measured = self.student.average_precision or self.student.per_class
        if measured and len(measured) != len(self.classes):
            raise InputError(f"it has results of {len(measured)} classes, but {len(self.classes)} classes")
        if self.comparison:
            self.comparison.require_classes(len(self.classes))


def read_summary(path: str | Path) -> dict[str, Any]:
    """Read the summary of a finished run.

    Raises:
        InputError: If the folder has no finished run, or was written by a version of datafree with another layout.
    """
    path = Path(path)
    read_experiment(path)
    if not (path / SUMMARY).exists():
        raise InputError(f"{path} has no finished run; continue it with `datafree resume {shlex.quote(str(path))}`")
    summary = read_json(path / SUMMARY, root=path)
    from_plain(Summary, summary, str(path / SUMMARY), ignore_unknown=True)
    return summary


def held_out(row: Mapping[str, Any]) -> float | None:
    """Return the held-out score of a network: the mean average precision if images have several labels, else the accuracy.

    Args:
        row: A network of a summary; None is returned if it was not evaluated.
    """
    if row.get("accuracy") is None:
        return None
    precisions = [precision for precision in row.get("average_precision") or () if precision is not None]
    return sum(precisions) / len(precisions) if precisions else row["accuracy"]
