"""What a table is: a teacher, a student, real images to judge them, and rows; a row is an experiment, or several in a row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from datafree.applications.base import Application
from datafree.runs.training import TrainingConfig
from datafree.synthesis import Method, Schedule

COLUMNS = (
    "published",
    "parameters",
    "seconds to 95",
    "seconds to 97",
    "seconds to 98",
    "seconds",
    "images synthesized",
    "real images seen",
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a table."""

    method: Method | None
    """None: real images, the ceiling"""
    schedule: Schedule
    application: Application
    task: Mapping[str, Any] = field(default_factory=dict)
    """what this row's task has of its own"""
    teacher: str = ""
    """another teacher than the table's; empty: the table's"""
    known: str = ""
    """no run: `oracle`, the student's network trained with data and labels; `teacher 1`, one of several, alone; or
    `ensemble GATE`, the teachers together"""
    measured: int = 0
    """real images on which the teacher's features are measured for its method, others for each seed; 0: none"""
    published: str = ""
    """the figure in print for this pair of networks, and whose"""

    @property
    def drawn(self) -> bool:
        """Whether a seed makes a difference: teachers that are only judged are what they are."""
        return self.known in ("", "oracle")


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A teacher, a student, real images to judge them, and rows."""

    title: str
    data: str
    teacher: str
    student: str
    """empty: a copy of the teacher"""
    training: TrainingConfig
    rows: Mapping[str, Row]
    extensions: Sequence[tuple[str, str]] = ()
    """new classes and the data of all classes from then on, one after the other; each student is the next one's teacher"""
    members: Sequence[str] = ()
    """the data of each teacher, where there are several"""
    labels: Sequence[str] = ()
    """the student's labels then; all that any teacher knows, if not given"""
    columns: tuple[str, ...] = COLUMNS
    """what is shown of each row besides its accuracy"""
    evaluation_interval: float = 5.0
    """seconds from one point of the plot to the next; 0: bars at the end instead"""
