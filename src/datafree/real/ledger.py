"""The ledger: how many real images a run used, and for what."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

LEDGER = "ledger.json"
"""file of the ledger in a run folder, and in the folder of an example teacher"""

Split = Literal["train", "test"]
Purpose = Literal[
    "teacher training",
    "evaluation",
    "student training (ceiling)",
    "student training (new classes)",
    "student training (pictures)",
    "student start",
    "calibration",
    "statistics",
]


@dataclass
class Entry:
    """Real images that were opened for one purpose."""

    source: str
    """name of the data set"""
    split: Split
    purpose: Purpose
    """what the images were opened for"""
    images: int | None = 0
    """number of distinct images read so far; None if it is not known, for weights that a student starts from"""


@dataclass
class Ledger:
    """All real images that a run used, saved in the run folder."""

    entries: list[Entry] = field(default_factory=list)

    def count(self, purpose: Purpose) -> int:
        """Return the number of real images used for a purpose."""
        return sum(entry.images or 0 for entry in self.entries if entry.purpose == purpose)

    def images_seen_by_student(self) -> int:
        """Return the number of real images on which the student was trained, besides those of new classes."""
        return self.count("student training (ceiling)") + self.count("student training (pictures)")

    def images_measured(self) -> int:
        """Return the number of real images on which feature statistics were measured; the student did not see them."""
        return self.count("statistics")

    def add_measured(self, images: Mapping[str, int]) -> None:
        """Add real images measured before this run, whose statistics the run uses.

        Args:
            images: The number of images of each source.
        """
        self.entries += [Entry(source, "train", "statistics", count) for source, count in images.items()]

    def add_start(self, source: str, images: int | None) -> None:
        """Add the real images seen by the weights that the student starts from.

        Args:
            source: The folder of the weights.
            images: The number of images; None if it is not known.
        """
        self.entries.append(Entry(source, "train", "student start", images))

    def images_seen_in_training(self) -> int | None:
        """Return the number of real images on which the network of this ledger was trained; None if it is not known."""
        counts = [
            entry.images
            for entry in self.entries
            if entry.purpose == "teacher training" or entry.purpose.startswith("student")
        ]
        return None if any(count is None or count < 0 for count in counts) else sum(filter(None, counts))

    def to_json(self) -> list[dict[str, Any]]:
        """Return the entries as JSON."""
        return [asdict(entry) for entry in self.entries]
