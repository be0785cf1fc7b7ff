"""Read image sets: safetensors shards whose SHA-256 are in the index of the set. No link is followed."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors
from torch import Tensor

from datafree.files import open_regular
from datafree.synthesis.image_sets.index import Index, read_index
from datafree.types import Batch, InputError

SHARD_LIMIT = 2**30
"""maximum size of a shard that is read"""


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """Synthesized images and their metadata."""

    batch: Batch
    """the images, targets and, if the method kept them, the teacher's logits"""
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


def read(folder: str | Path) -> ImageSet:
    """Read an image set. No link in the folder is followed.

    Args:
        folder: A folder written by `write`.

    Raises:
        InputError: If the folder is no image set, or a file is missing, damaged, a link, or belongs to another set.
    """
    folder = Path(folder)
    index = read_index(folder)
    tensors = read_shards(folder, index.shards, names_in(index))
    _require_valid(tensors, index, folder)
    return ImageSet(
        batch=Batch(tensors["images"], tensors["targets"], {}, tensors["logits"] if index.logits_kept else None),
        classes=index.classes,
        teacher_sha256=index.teacher_sha256,
        made_by=index.made_by,
        measured_images=index.measured_images,
        seconds=index.seconds,
        parts=index.parts,
        part_of=tensors.get("parts"),
    )


TENSORS = ("images", "targets", "logits")
"""the tensors of a set; only the set of a mixture has `parts` too, and the set of a run may lack logits"""


def names_in(index: Index) -> tuple[str, ...]:
    """Return the names of the tensors in each shard of a set."""
    logits, parts = (("logits",) if index.logits_stored else ()), (("parts",) if index.parts else ())
    return ("images", "targets", *logits, *parts)


def read_shards(folder: Path, hashes: Mapping[str, str], names: Sequence[str] = TENSORS) -> dict[str, Tensor]:
    """Read all shards and concatenate their tensors.

    Raises:
        InputError: If a shard is missing, damaged, a link, larger than `SHARD_LIMIT` or belongs to another set, or all
            shards together are larger than the memory of this machine.
    """
    shards, size = [], 0
    for name, digest in hashes.items():
        path = folder / name
        with open_regular(path, SHARD_LIMIT, root=folder) as file:
            size += os.fstat(file.fileno()).st_size
            if 2 * size > memory():
                raise InputError(f"{folder} is too large for the memory of this machine; use a smaller set")
            content = file.read(SHARD_LIMIT)
        if hashlib.sha256(content).hexdigest() != digest:
            raise InputError(f"{path} is damaged or belongs to another set; synthesize the set again")
        try:
            shards.append(parse_tensors(content))
        except (SafetensorError, ValueError, KeyError) as fault:
            raise InputError(f"{path} is not a safetensors file; synthesize the set again") from fault
    try:
        return {name: torch.cat([shard[name] for shard in shards]) for name in names}
    except (KeyError, RuntimeError) as fault:
        raise InputError(f"the shards of {folder} do not fit together; synthesize the set again") from fault


def memory() -> int:
    """Return the size of this machine's memory in bytes; if it is unknown, no limit."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 2**63


def _require_valid(tensors: Mapping[str, Tensor], index: Index, folder: Path) -> None:
    """Check the types, shapes and values of an image set.

    Raises:
        InputError: Names the first tensor that is not as it should be.
    """
    images, targets, logits = tensors["images"], tensors["targets"], tensors.get("logits")
    count, classes = index.images, len(index.classes)
    soft = targets.is_floating_point()
    valid = {
        "images": images.ndim == 4 and images.is_floating_point() and len(images) == count and images.numel() > 0,
        "targets": targets.shape == ((count, classes) if soft else (count,)) and (soft or targets.dtype == torch.int64),
    }
    if logits is not None:
        valid["logits"] = logits.shape == (count, classes) and logits.is_floating_point()
    if index.parts:
        parts = tensors["parts"]
        typed = parts.shape == (count,) and parts.dtype == torch.int64
        valid["parts"] = typed and bool(((parts >= 0) & (parts < len(index.parts))).all())
    for name, fits in valid.items():
        finite = fits and bool(torch.isfinite(tensors[name]).all())
        if not finite or (
            name == "targets" and not 0 <= targets.min() <= targets.max() <= (1 if soft else classes - 1)
        ):
            why = "have a wrong type or shape" if not fits else "have values out of range"
            raise InputError(f"the {name} of {folder} {why}; synthesize the set again")


def reordered(batch: Batch, order: Sequence[int]) -> Batch:
    """Return a batch whose classes are in another order.

    Args:
        batch: Images with targets and, possibly, the teacher's logits.
        order: For each class of the result, its index in the batch.
    """
    columns = torch.tensor(order)
    targets = columns.argsort()[batch.targets] if batch.targets.ndim == 1 else batch.targets[:, columns]
    logits = None if batch.teacher_logits is None else batch.teacher_logits[:, columns]
    return replace(batch, targets=targets, teacher_logits=logits)
