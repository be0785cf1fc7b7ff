"""Open real images for teacher training, evaluation, the ceiling and feature statistics, and count them in the ledger.

Methods and applications never import this module; a test checks their imports.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from datafree.real.datasets import Stored, read_cifar10, read_digits, read_folder, read_mnist, read_mosaic
from datafree.real.ledger import Entry, Ledger, Purpose, Split
from datafree.types import Batch, InputError, Preprocessing, Targets, suggestion

MAX_PIXELS = 2**22
"""maximum number of pixels per channel in a batch of `RealImages.batches`: 83 images of 224 x 224"""


class RealImages(Dataset[tuple[Tensor, int]]):
    """Labelled real images. Each image that is read is counted in the ledger; use `open_real` to create one.

    Args:
        images: The images as they are stored.
        labels: Class indices `(m,)` or 0/1 labels `(m, k)`.
        classes: Class names.
        entry: The ledger entry in which distinct images are counted.
        size: Height and width to which images are resized; default: their own.
        indices: The stored image of each label; default: all images in order.
    """

    def __init__(
        self,
        images: Stored,
        labels: Targets,
        classes: tuple[str, ...],
        entry: Entry,
        size: tuple[int, int] | None = None,
        indices: Tensor | None = None,
    ) -> None:
        self._images, self._labels, self.classes, self.entry = images, labels, classes, entry
        self._indices = torch.arange(len(images)) if indices is None else indices
        self._size = size or (images.shape[2], images.shape[3])
        self._seen = torch.zeros(len(labels), dtype=torch.bool)

    def __len__(self) -> int:
        return len(self._labels)

    @property
    def multi_label(self) -> bool:
        """Whether an image may have several labels."""
        return self._labels.ndim == 2

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        return self._images.shape[1], *self._size

    def select_classes(self, classes: Sequence[str]) -> "RealImages":
        """Return the images of these classes, relabelled in this order; multi-label images are all kept.

        Both data sets count in the same ledger entry, so use only one of them.
        """
        columns = [self.classes.index(name) for name in classes]
        if self.multi_label:
            return self._subset(self._labels[:, columns], classes, self._indices)
        new_label = torch.full((len(self.classes),), -1)
        new_label[columns] = torch.arange(len(classes))
        labels = new_label[self._labels]
        selected = labels >= 0
        return self._subset(labels[selected], classes, self._indices[selected])

    def _subset(self, labels: Targets, classes: Sequence[str], indices: Tensor) -> "RealImages":
        return RealImages(self._images, labels, tuple(classes), self.entry, self._size, indices)

    def select(self, indices: Tensor) -> Batch:
        """Return the images with these indices, as pixels in [0, 1], and their labels."""
        self._seen[indices] = True
        self.entry.images = int(self._seen.sum())
        images = self._images[self._indices[indices]]
        images = images.float() / 255 if images.dtype == torch.uint8 else images
        if images.shape[2:] != self._size:
            images = F.interpolate(images, self._size, mode="bilinear", antialias=True).clamp(0, 1)
        return Batch(images, self._labels[indices], {})

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        batch = self.select(torch.tensor([index]))
        return batch.images[0], int(batch.targets[0])

    def batches(self, batch_size: int = 512, indices: Tensor | None = None) -> Iterator[Batch]:
        """Yield each image once, in order.

        Args:
            batch_size: Maximum number of images per batch; large images come in smaller batches to limit memory.
            indices: The images to yield; default: all.
        """
        height, width = self._size
        order = torch.arange(len(self)) if indices is None else indices
        for chunk in order.split(max(1, min(batch_size, MAX_PIXELS // (height * width)))):
            yield self.select(chunk)

    def random_batches(self, batch_size: int = 128) -> Iterator[Batch]:
        """Yield random images forever, drawn with replacement, so that only the random state must be resumed."""
        while True:
            yield self.select(torch.randint(len(self), (batch_size,)))

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self._seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._seen = state["seen"]
        self.entry.images = int(self._seen.sum())


READERS = {"digits": read_digits, "mnist": read_mnist, "mosaic": read_mosaic, "cifar10": read_cifar10}


def open_real(
    name: str,
    split: Split,
    purpose: Purpose,
    ledger: Ledger,
    *,
    shape: tuple[int, int, int] | None = None,
    preprocessing: Preprocessing | None = None,
    root: str = "",
) -> RealImages:
    """Open a data set of real images and add it to the ledger.

    Args:
        name: `digits` (bundled with scikit-learn), `mnist`, `cifar10`, `mosaic` (multi-label scenes of up to four MNIST
            digits), or `folder:PATH` with one subfolder per class in `PATH/train` and `PATH/test`. All but `folder:`
            accept a selection of classes by index, in the given order, e.g. `mnist:0-4` or `mnist:7,2`.
            Image files may have any size and are read on demand; see `ImageFiles`.
        split: `train` or `test`.
        purpose: What the images are used for; recorded in the ledger.
        ledger: The ledger of the run.
        shape: Input shape `(c, h, w)` of the classifier; images are resized to it. Default: the images' own.
        preprocessing: How image files of another size are resized and cropped.
        root: Folder of the data sets; default: `$DATAFREE_DATA`, else `./data`.

    Raises:
        InputError: If the name is unknown, the images are not found, or their channels do not match `shape`.
    """
    folder = Path(root or os.environ.get("DATAFREE_DATA", "data"))
    kind, _, rest = name.partition(":")
    if kind not in (known := [*READERS, "folder"]):
        raise InputError(f"unknown data set {name!r}; choose one of {', '.join(known)}{suggestion(kind, known)}")
    images, labels, classes = (
        read_folder(Path(rest) / split, shape, preprocessing) if kind == "folder" else READERS[kind](folder, split)
    )
    selected = [classes[index] for index in _class_indices(classes, rest, name)] if rest and kind != "folder" else []
    if shape and shape[0] != images.shape[1]:
        raise InputError(
            f"{name} has {images.shape[1]} channels, but the classifier takes {shape[0]}; use data with {shape[0]}"
        )
    entry = Entry(source=name, split=split, purpose=purpose)
    ledger.entries.append(entry)
    real = RealImages(images, labels, classes, entry, size=shape and shape[1:])
    return real.select_classes(selected) if selected else real


def _class_indices(classes: tuple[str, ...], selection: str, name: str) -> list[int]:
    """Parse the selection of classes at the end of a name, such as `0-4` or `7,2`."""
    indices: list[int] = []
    for item in selection.split(","):
        first, _, last = item.partition("-")
        if not first.isdecimal() or not (last or first).isdecimal():
            raise InputError(
                f"invalid class selection in {name!r}; give class indices after the colon, e.g. 0-4 or 7,2"
            )
        begin, end = int(first), int(last or first)
        if not begin <= end < len(classes):
            raise InputError(f"invalid class range {item!r} in {name!r}; class indices go from 0 to {len(classes) - 1}")
        indices += range(begin, end + 1)
    if len(set(indices)) < len(indices):
        raise InputError(f"{name!r} selects a class twice; give each class index once")
    return indices
