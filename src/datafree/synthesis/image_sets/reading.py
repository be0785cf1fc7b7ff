"""Image sets in memory: a whole set that is small enough, or a batch whose classes are in another order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from datafree.synthesis.image_sets.index import read_index
from datafree.synthesis.image_sets.stored import StoredSet
from datafree.synthesis.storage import memory
from datafree.types import Batch, InputError, Targets


@dataclass(frozen=True, kw_only=True)
class About:
    """The metadata of synthesized images."""

    classes: tuple[str, ...]
    """class names, in the order of the teacher's logits"""
    teacher_sha256: str
    """SHA-256 of the teacher's weights"""
    made_by: str
    """method settings and seed"""
    measured_images: Mapping[str, int] = field(default_factory=dict)
    """number of real images, by source, on which the feature statistics used were measured"""
    seconds: float = 0.0
    """synthesis time; 0 if unknown"""
    parts: tuple[str, ...] = ()
    """names of the parts of the mixture that synthesized the images; empty for other methods"""
    part_of: Tensor | None = None
    """for each image the index of its part; None for other methods"""

    @property
    def part_names(self) -> list[str]:
        """The name of the part of each image; empty if the method was no mixture."""
        return [self.parts[index] for index in self.part_of.tolist()] if self.part_of is not None else []


@dataclass(frozen=True, kw_only=True)
class ImageSet(About):
    """Synthesized images in memory, and their metadata."""

    batch: Batch
    """the images, targets and, if the method kept them, the teacher's logits"""


def read(folder: str | Path) -> ImageSet:
    """Read a whole image set into memory; `StoredSet` leaves it on disk. No link in the folder is followed.

    Args:
        folder: A folder written by `write`.

    Raises:
        InputError: If the folder is no image set, a file is missing, damaged, a link, or belongs to another set, or all
            shards together are larger than half of the memory of this machine.
    """
    folder = Path(folder)
    if 2 * sum(map(size_of, (folder / name for name in read_index(folder).shards))) > memory():
        raise InputError(f"{folder} is too large for the memory of this machine; use a smaller set")
    stored = StoredSet(folder)
    everything, index = torch.arange(len(stored)), stored.index
    return ImageSet(
        batch=stored.read(everything),
        classes=index.classes,
        teacher_sha256=index.teacher_sha256,
        made_by=index.made_by,
        measured_images=index.measured_images,
        seconds=index.seconds,
        parts=index.parts,
        part_of=stored.tensors(everything, ("parts",))["parts"] if index.parts else None,
    )


def size_of(path: Path) -> int:
    """Return the size of a file in bytes; 0 if there is none, which is said when it is opened."""
    try:
        return path.lstat().st_size
    except OSError:
        return 0


def reordered(batch: Batch, order: Sequence[int]) -> Batch:
    """Return a batch whose classes are in another order.

    Args:
        batch: Images with targets and, possibly, the teacher's logits.
        order: For each class of the result, its index in the batch.
    """
    logits = None if batch.teacher_logits is None else batch.teacher_logits[:, list(order)]
    return replace(batch, targets=reordered_targets(batch.targets, order), teacher_logits=logits)


def reordered_targets(targets: Targets, order: Sequence[int]) -> Targets:
    """Return targets whose classes are in another order; see `reordered`."""
    columns = torch.tensor(order)
    return columns.argsort()[targets] if targets.ndim == 1 else targets[:, columns]
