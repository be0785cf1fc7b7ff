"""The ledger: how many real images a run used, and for what."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Split = Literal["train", "test"]
Purpose = Literal[
    "teacher training", "evaluation", "student training (ceiling)", "student training (new classes)", "statistics"
]


@dataclass
class Entry:
    """Real images that were opened for one purpose."""

    source: str
    """name of the data set"""
    split: Split
    purpose: Purpose
    """what the images were opened for"""
    images: int = 0
    """number of distinct images read so far"""


@dataclass
class Ledger:
    """All real images that a run used, saved in the run folder."""

    entries: list[Entry] = field(default_factory=list)

    def count(self, purpose: Purpose) -> int:
        """Return the number of real images used for a purpose."""
        return sum(entry.images for entry in self.entries if entry.purpose == purpose)

    def images_seen_by_student(self) -> int:
        """Return the number of real images of the teacher's classes on which the student was trained."""
        return self.count("student training (ceiling)")

    def images_measured(self) -> int:
        """Return the number of real images on which feature statistics were measured; the student did not see them."""
        return self.count("statistics")

    def add_measured(self, images: Mapping[str, int]) -> None:
        """Add real images measured before this run, whose statistics the run uses.

        Args:
            images: The number of images of each source.
        """
        self.entries += [Entry(source, "train", "statistics", count) for source, count in images.items()]

    def to_json(self) -> list[dict[str, Any]]:
        """Return the entries as JSON."""
        return [asdict(entry) for entry in self.entries]
