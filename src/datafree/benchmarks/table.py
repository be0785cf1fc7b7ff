"""What a table is: teachers, a student, held-out real images, and rows. A row is one experiment, or a sequence of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from datafree.applications.base import Application
from datafree.runs.training import TrainingConfig
from datafree.synthesis import Method, Schedule

COLUMNS = (
    "published",
    "parameters",
    "seconds_to_95",
    "seconds_to_97",
    "seconds_to_98",
    "seconds",
    "images_synthesized",
    "real_images_seen",
)
"""keys of a row in the JSON file of a table"""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a table."""

    method: Method | None
    """None: train on real images, the ceiling"""
    schedule: Schedule
    application: Application
    task: Mapping[str, Any] = field(default_factory=dict)
    """fields of the task that differ from the table's"""
    teacher: str = ""
    """network of the teacher; default: the table's"""
    teacher_args: tuple[str, ...] = ()
    """arguments of that network, as NAME=VALUE; it gets images of the size of the table's teacher"""
    reference: str = ""
    """a row without a run: `oracle`, the student's network trained on real images with labels; `teacher N`, one of several
    teachers; or `ensemble GATE`, all teachers under this gate"""
    measured_images: int = 0
    """number of real images that the feature statistics of the method are measured on; each seed draws its own"""
    published: str = ""
    """the published result for these networks, and the paper"""

    @property
    def depends_on_seed(self) -> bool:
        """Whether the result depends on the seed; trained teachers that are only evaluated do not."""
        return self.reference in ("", "oracle")


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A table: the networks, the real images they are trained and evaluated on, and the rows."""

    title: str
    data: str
    """real images for the teacher, the ceiling and the evaluation"""
    teacher: str
    """network of the teacher"""
    student: str
    """network of the student; empty: a copy of the teacher"""
    training: TrainingConfig
    """how teachers and oracles are trained"""
    rows: Mapping[str, Row]
    input: tuple[int, ...] = ()
    """channels, height and width to which the real images are converted; default: those of the teacher's network"""
    stored_teacher: str = ""
    """folder of the trained teacher under `benchmarks/teachers`; it is trained again where this folder is missing"""
    stored_sha256: str = ""
    """SHA-256 of the weights file in that folder"""
    extensions: Sequence[tuple[str, str]] = ()
    """for each task of continual learning, the data of the new classes and the data of all classes so far"""
    teacher_data: Sequence[str] = ()
    """the data of each teacher, if there are several"""
    labels: Sequence[str] = ()
    """the labels of the student of several teachers; default: all labels of the teachers"""
    columns: tuple[str, ...] = COLUMNS
    """keys of the columns after the accuracy"""
    evaluation_interval: float = 5.0
    """seconds between two evaluations for the plot; 0: a bar chart of the results instead of curves"""
