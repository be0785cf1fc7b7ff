"""Image sets that stay on disk: each shard is checked once when the set is opened, and images are read by their positions."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from datafree.synthesis.image_sets.index import Index, read_index
from datafree.synthesis.image_sets.shards import Rows, Shards
from datafree.types import Batch, InputError

SHARD_LIMIT = 2**30
"""maximum size of a shard that is read"""
PIECE_BYTES = 2**24
"""bytes of images that are checked at once, unless a single image is larger"""
AT_ONCE = 512
"""images of a piece that is read in order"""


class StoredSet:
    """An image set on disk. No link in its folder is followed.

    Opening reads every shard once: its SHA-256 and the types, shapes and values of its tensors are checked, piece by piece.

    Args:
        folder: A folder with an image set.

    Attributes:
        index: The metadata.
        soft: Whether the targets are a matrix instead of class indices.
        multi_hot: Whether all entries of this matrix are 0 or 1.

    Raises:
        InputError: If the folder is no image set, or a file is missing, damaged, a link, or belongs to another set.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.index = read_index(self.folder)
        self.files = Shards(self.folder)
        self.shards = list(self.index.shards)
        headers = [self._checked_header(name, digest) for name, digest in self.index.shards.items()]
        self.like = {name: require_alike([header.get(name) for header in headers], self.folder) for name in self.names}
        sizes = [require_rows(header, self.names, self.folder) for header in headers]
        self.ends = torch.tensor(sizes).cumsum(0)
        require_types(self.like, len(self), self.index, self.folder)
        self.soft = self.like["targets"].dtype.is_floating_point
        self.multi_hot = self.soft
        self._check_values()

    def _checked_header(self, name: str, digest: str) -> dict[str, Rows]:
        if self.files.digest(name, SHARD_LIMIT) != digest:
            raise InputError(f"{self.folder / name} is damaged or belongs to another set; synthesize the set again")
        return self.files.header(name)

    def _check_values(self) -> None:
        """Check all values, piece by piece.

        Raises:
            InputError: If some are not finite, or no target, class or part.
        """
        piece = max(1, PIECE_BYTES // self.image_bytes)
        for start in range(0, len(self), piece):
            tensors = self.tensors(torch.arange(start, min(start + piece, len(self))))
            require_values(tensors, self.index, self.folder)
            targets = tensors["targets"]
            self.multi_hot = self.multi_hot and bool(((targets == 0) | (targets == 1)).all())

    def __len__(self) -> int:
        """Return the number of images."""
        return int(self.ends[-1])

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the tensors in each shard."""
        return names_in(self.index)

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, height and width of an image."""
        return self.like["images"].shape[1:]

    @property
    def image_bytes(self) -> int:
        """Bytes of an image with its target and whatever else is stored of it."""
        return sum(rows.row_bytes for rows in self.like.values())

    def tensors(self, positions: Tensor, names: Sequence[str] = ()) -> dict[str, Tensor]:
        """Return rows of the tensors of the set.

        Args:
            positions: Indices of images, on the CPU.
            names: Names of the tensors; all if empty.

        Raises:
            InputError: If a file has changed since the set was opened.
        """
        outputs = {name: self.like[name].empty(len(positions)) for name in names or self.names}
        owners = torch.bucketize(positions, self.ends, right=True)
        rows = positions - torch.cat([torch.zeros(1, dtype=torch.long), self.ends])[owners]
        self.files.gather(lambda owner: self.shards[owner], owners, rows, outputs, torch.arange(len(positions)))
        return outputs

    def read(self, positions: Tensor) -> Batch:
        """Return images with their targets and, if the method kept them, the teacher's logits; see `tensors`."""
        logits = ("logits",) if self.index.logits_kept else ()
        tensors = self.tensors(positions, ("images", "targets", *logits))
        return Batch(tensors["images"], tensors["targets"], {}, tensors.get("logits"))

    def batches(self, size: int = AT_ONCE) -> Iterator[Batch]:
        """Yield all images in order, a number of them at a time."""
        for start in range(0, len(self), size):
            yield self.read(torch.arange(start, min(start + size, len(self))))


def names_in(index: Index) -> tuple[str, ...]:
    """Return the names of the tensors in each shard of a set; the set of a run may lack logits, only a mixture has parts."""
    logits, parts = (("logits",) if index.logits_stored else ()), (("parts",) if index.parts else ())
    return ("images", "targets", *logits, *parts)


def require_alike(stored: Sequence[Rows | None], folder: Path) -> Rows:
    """Return what a tensor is like, after checking that it is alike in all shards.

    Raises:
        InputError: If a shard lacks it, or has it in another type or shape.
    """
    found = [rows for rows in stored if rows is not None]
    kinds = {(rows.dtype, rows.shape[1:]) for rows in found}
    if len(found) < len(stored) or len(kinds) != 1:
        raise InputError(f"the shards of {folder} do not fit together; synthesize the set again")
    return found[0]


def require_rows(header: Mapping[str, Rows], names: Sequence[str], folder: Path) -> int:
    """Return the number of images of a shard, after checking that all its tensors have as many rows.

    Raises:
        InputError: If they have not.
    """
    counts = {name: header[name].shape[0] for name in names}
    other = next((name for name in names if counts[name] != counts["images"]), None)
    if other:
        raise InputError(f"the {other} of {folder} have a wrong type or shape; synthesize the set again")
    return counts["images"]


def require_types(like: Mapping[str, Rows], count: int, index: Index, folder: Path) -> None:
    """Check the types and shapes of an image set.

    Raises:
        InputError: Names the first tensor that is not as it should be.
    """
    classes = len(index.classes)

    def of_classes(rows: Rows) -> bool:
        return rows.dtype.is_floating_point and rows.shape[1:] == (classes,)

    def indices(rows: Rows) -> bool:
        return rows.dtype == torch.int64 and not rows.shape[1:]

    images, targets = like["images"], like["targets"]
    pixels = len(images.shape) == 4 and images.dtype.is_floating_point and math.prod(images.shape[1:]) > 0
    valid = {
        "images": pixels and count == index.images,
        "targets": of_classes(targets) or indices(targets),
        "logits": "logits" not in like or of_classes(like["logits"]),
        "parts": "parts" not in like or indices(like["parts"]),
    }
    for name, fits in valid.items():
        if not fits:
            raise InputError(f"the {name} of {folder} have a wrong type or shape; synthesize the set again")


def require_values(tensors: Mapping[str, Tensor], index: Index, folder: Path) -> None:
    """Check the values of some images.

    Raises:
        InputError: Names the first tensor with a value that is not finite, or is no target or part.
    """
    soft = tensors["targets"].is_floating_point()
    bounds = {"targets": 1 if soft else len(index.classes) - 1, "parts": len(index.parts) - 1}
    for name, tensor in tensors.items():
        valid = bool(tensor.isfinite().all())
        if name in bounds:
            valid = valid and bool((tensor >= 0).all() and (tensor <= bounds[name]).all())
        if not valid:
            raise InputError(f"the {name} of {folder} have values out of range; synthesize the set again")
