"""Open real images for teacher training, evaluation, the ceiling and feature statistics, and count them in the ledger.

Methods and applications never import this module; a test checks their imports.
"""

import copy
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from datafree.classifier import Classifier, frozen
from datafree.matching import is_numbered, match_classes
from datafree.real.datasets import (
    DOWNLOADED,
    Stored,
    read_cifar10,
    read_digits,
    read_folder,
    read_mnist,
    read_mosaic,
    read_unlabelled,
)
from datafree.real.image_files import ImageFiles
from datafree.real.ledger import Entry, Ledger, Purpose, Split
from datafree.types import Batch, InputError, Preprocessing, Targets, suggestion

MAX_PIXELS = 2**22
"""maximum number of pixels per channel in a batch of `RealImages.batches`: 83 images of 224 x 224"""


class RealImages(Dataset[tuple[Tensor, int]]):
    """Real images with their labels. Each image that is read is counted in the ledger; use `open_real` to create one.

    Args:
        images: The images as they are stored.
        labels: Class indices `(m,)` or 0/1 labels `(m, k)`.
        classes: Class names; none if the images have no labels.
        entry: The ledger entry in which distinct images are counted.
        size: Height and width to which images are resized; default: their own.
        indices: The stored image of each label; default: all images in order.
        channels: Channels of the images that are returned: 3 for grey ones repeats them, 1 for colour ones makes them grey;
            default: their own.
    """

    def __init__(
        self,
        images: Stored,
        labels: Targets,
        classes: tuple[str, ...],
        entry: Entry,
        size: tuple[int, int] | None = None,
        indices: Tensor | None = None,
        channels: int | None = None,
    ) -> None:
        self._images, self._labels, self.classes, self.entry = images, labels, classes, entry
        self._indices = torch.arange(len(images)) if indices is None else indices
        self._size = size or (images.shape[2], images.shape[3])
        self._seen = torch.zeros(len(labels), dtype=torch.bool)
        self._channels = channels or images.shape[1]
        self.match_note = ""

    def __len__(self) -> int:
        return len(self._labels)

    @property
    def labelled(self) -> bool:
        """Whether the images have labels. If not, two networks can be compared on them, but no accuracy is known."""
        return bool(self.classes)

    @property
    def files(self) -> list[str]:
        """The path and the size of each image file; empty for a data set in memory."""
        paths = self._images.paths if isinstance(self._images, ImageFiles) else []
        return [f"{path} {path.stat().st_size}" for path in paths]

    @property
    def multi_label(self) -> bool:
        """Whether an image may have several labels."""
        return self._labels.ndim == 2

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        return self._channels, *self._size

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know: which files were skipped so far, and how classes were matched."""
        skipped = self._images.skipped.note if isinstance(self._images, ImageFiles) else ""
        return tuple(filter(None, (self._channels_note, self.match_note, skipped)))

    @property
    def _channels_note(self) -> str:
        if self._channels == self._images.shape[1]:
            return ""
        kind, what = (
            ("grey", f"repeated in {self._channels} channels") if self._channels > 1 else ("colour", "made grey")
        )
        return f"the {kind} images of {self.entry.source} are {what}"

    def select_classes(self, classes: Sequence[str]) -> "RealImages":
        """Return the images of these classes, relabelled in this order; multi-label images are all kept.

        Both data sets count in the same ledger entry, so use only one of them.
        """
        return self._with_classes([self.classes.index(name) for name in classes])

    def matched_with(self, classes: Sequence[str], name: str = "the network") -> "RealImages":
        """Return the same images, labelled in the order of the classes of a network; see `match_classes`.

        Raises:
            InputError: If the classes of the data set are different ones.
        """
        match = match_classes(classes, self.classes, name, self.entry.source)
        matched = self._with_classes(match.order) if match.changes_order else copy.copy(self)
        matched.match_note = match.note
        if (
            isinstance(self._images, ImageFiles)
            and len(classes) > 10
            and is_numbered(self.classes)
            and is_numbered(classes)
        ):
            matched.match_note = match.note or NUMBERED_FOLDERS.format(source=self.entry.source, name=name)
        return matched

    def _with_classes(self, columns: Sequence[int]) -> "RealImages":
        selected = copy.copy(self)
        selected.classes = tuple(self.classes[column] for column in columns)
        if self.multi_label:
            selected._labels = self._labels[:, list(columns)]
            selected._seen = torch.zeros(len(selected), dtype=torch.bool)
            return selected
        new_label = torch.full((len(self.classes),), -1)
        new_label[list(columns)] = torch.arange(len(columns))
        labels = new_label[self._labels]
        kept = labels >= 0
        selected._labels, selected._indices = labels[kept], self._indices[kept]
        selected._seen = torch.zeros(len(selected), dtype=torch.bool)
        return selected

    def for_network(self, network: Classifier) -> "RealImages":
        """Return the same images in the size of a network. Images that are read are counted once for all networks.

        Raises:
            InputError: If the network takes another number of channels.
        """
        if network.shape[0] != self.shape[0]:
            raise _other_channels(self.entry.source, self.shape[0], network.shape[0])
        view = copy.copy(self)
        view._size = network.shape[1:]
        if isinstance(self._images, ImageFiles):
            view._images = self._images.with_size(view._size, network.preprocessing)
        return view

    def select(self, indices: Tensor) -> Batch:
        """Return the images with these indices, as pixels in [0, 1], and their labels. Unreadable files are left out."""
        return self._select(indices)[0]

    def _select(self, indices: Tensor) -> tuple[Batch, Tensor]:
        """Return the images and labels of those indices whose images can be read, and these indices."""
        if isinstance(self._images, ImageFiles):
            images, readable = self._images.read(self._indices[indices])
            indices = indices[readable]
        else:
            images = self._images[self._indices[indices]]
        self._seen[indices] = True
        self.entry.images = int(self._seen.sum())
        images = images.float() / 255 if images.dtype == torch.uint8 else images
        images = in_channels(images, self._channels)
        if images.shape[2:] != self._size:
            images = F.interpolate(images, self._size, mode="bilinear", antialias=True).clamp(0, 1)
        return Batch(images, self._labels[indices], {}), indices

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        batch = self._require_some(self.select(torch.tensor([index])))
        return batch.images[0], int(batch.targets[0])

    def batches(self, batch_size: int = 512, indices: Tensor | None = None) -> Iterator[Batch]:
        """Yield each image once, in order.

        Args:
            batch_size: Maximum number of images per batch; large images come in smaller batches to limit memory.
            indices: The images to yield; default: all.

        Raises:
            InputError: If no image can be read.
        """
        read = 0
        for batch, _ in self._chunks(batch_size, indices, self._size):
            read += len(batch)
            if len(batch):
                yield batch
        if not read:
            self._require_some(None)

    def batches_for(self, network: Classifier, teacher: Classifier) -> Iterator[Batch]:
        """Yield each image once, in the size of a network, for its evaluation beside a teacher.

        If the teacher takes another size or preprocessing, each batch has its logits on the same images in its own size.

        Raises:
            InputError: If a network takes another number of channels, or no image can be read.
        """
        view, teachers_view = self.for_network(network), self.for_network(teacher)
        if view._same_size(teachers_view):
            yield from view.batches()
            return
        largest = max(network.shape[1:], teacher.shape[1:], key=math.prod)
        for batch, indices in view._chunks(512, None, largest):
            if len(batch):
                with frozen(teacher), torch.no_grad():
                    logits = teacher(self._require_all(teachers_view.select(indices), batch).images.to(teacher.device))
                yield Batch(batch.images, batch.targets, {}, logits)

    def _same_size(self, other: "RealImages") -> bool:
        """Whether another view of the same images has the same pixels."""
        if not isinstance(self._images, ImageFiles) or not isinstance(other._images, ImageFiles):
            return self._size == other._size
        return (self._size, self._images.preprocessing) == (other._size, other._images.preprocessing)

    def _chunks(self, batch_size: int, indices: Tensor | None, size: tuple[int, int]) -> Iterator[tuple[Batch, Tensor]]:
        order = torch.arange(len(self)) if indices is None else indices
        for chunk in order.split(max(1, min(batch_size, MAX_PIXELS // math.prod(size)))):
            yield self._select(chunk)

    def _require_some(self, batch: Batch | None) -> Batch:
        if batch is None or not len(batch):
            why = f" ({self.notes[-1]})" if self.notes else ""
            raise InputError(f"no image of {self.entry.source} can be read{why}; give other images")
        return batch

    def _require_all(self, batch: Batch, other: Batch) -> Batch:
        if len(batch) != len(other):
            raise InputError(f"a file of {self.entry.source} has changed while it was read; evaluate again")
        return batch

    def random_batches(self, batch_size: int = 128) -> Iterator[Batch]:
        """Yield random images forever, drawn with replacement, so that only the random state must be resumed."""
        while True:
            yield self._require_some(self.select(torch.randint(len(self), (batch_size,))))

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self._seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._seen = state["seen"]
        self.entry.images = int(self._seen.sum())


LUMA = (0.299, 0.587, 0.114)
"""weights of red, green and blue in a grey image (ITU-R BT.601), as in Pillow"""


def in_channels(images: Tensor, channels: int) -> Tensor:
    """Return images in one or three channels: grey ones are repeated, colour ones become grey."""
    if images.shape[1] == channels:
        return images
    if images.shape[1] == 1:
        return images.expand(-1, channels, -1, -1)
    return (images * torch.tensor(LUMA).view(3, 1, 1)).sum(1, keepdim=True).clamp(0, 1)


NUMBERED_FOLDERS = (
    "the folders of {source} are numbers: folder 10 was matched with output 10 of {name}; if it was trained by torchvision's "
    "ImageFolder, which sorts 0, 1, 10, 11, 2, give the order of its outputs with --class-names"
)
"""what is said if folders and classes have only numbers, of which torchvision sorts those above 9 in another way"""
WITHOUT_LABELS: tuple[Purpose, ...] = ("evaluation", "statistics", "calibration", "student training (pictures)")
"""what images without labels can be used for"""
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
    make_grey: bool = False,
) -> RealImages:
    """Open a data set of real images and add it to the ledger.

    Args:
        name: `digits` (bundled with scikit-learn), `mnist`, `cifar10`, `mosaic` (multi-label scenes of up to four MNIST
            digits), `folder:PATH` with one subfolder per class in `PATH/train` and `PATH/test`, or `unlabelled:PATH`, a
            folder of images without labels, to compare networks, to measure statistics or to distil on. The others
            accept a selection of classes by index, in the given order, e.g. `mnist:0-4` or `mnist:7,2`.
            Image files may have any size and are read on demand; see `ImageFiles`.
        split: `train` or `test`.
        purpose: What the images are used for; recorded in the ledger.
        ledger: The ledger of the run.
        shape: Input shape `(c, h, w)` of the classifier; images are resized to it, and grey images are repeated in three
            channels. Default: the images' own.
        preprocessing: How image files of another size are resized and cropped.
        root: Folder of the data sets; default: `$DATAFREE_DATA`, else `./data`.
        make_grey: Make colour images grey for a `shape` of one channel, instead of refusing them.

    Raises:
        InputError: If the name is unknown, the images are not found, or their channels do not match `shape`.
    """
    folder = _folder(root)
    kind, _, rest = name.partition(":")
    if kind not in (known := [*READERS, "folder", "unlabelled"]):
        raise InputError(f"unknown data set {name!r}; choose one of {', '.join(known)}{suggestion(kind, known)}")
    if kind == "unlabelled" and purpose not in WITHOUT_LABELS:
        raise InputError(f"{name} has no labels, which {purpose} needs; give images with labels, such as folder:PATH")
    selected: list[str] = []
    if kind == "folder":
        images, labels, classes = read_folder(Path(rest) / split, shape, preprocessing)
    elif kind == "unlabelled":
        images, labels, classes = read_unlabelled(Path(rest), shape, preprocessing)
    else:
        images, labels, classes = READERS[kind](folder, split)
        selected = [classes[index] for index in _class_indices(classes, rest, name)] if rest else []
    converted = ((1, 3), (3, 1)) if make_grey else ((1, 3),)
    if shape and images.shape[1] != shape[0] and (images.shape[1], shape[0]) not in converted:
        raise _other_channels(name, images.shape[1], shape[0])
    entry = Entry(source=name, split=split, purpose=purpose)
    ledger.entries.append(entry)
    real = RealImages(images, labels, classes, entry, size=shape and shape[1:], channels=shape and shape[0])
    return real.select_classes(selected) if selected else real


def require_downloaded(name: str, split: Split, root: str = "") -> None:
    """Check that a data set is on this machine, so that opening it makes no request.

    Raises:
        InputError: If it is not.
    """
    folder, kind = _folder(root), name.partition(":")[0]
    if kind in DOWNLOADED and not any((folder / path.format(split=split)).exists() for path in DOWNLOADED[kind]):
        raise InputError(f"{kind} is not in {folder.resolve()}, and a resumed run downloads nothing; copy it there")


def _folder(root: str) -> Path:
    return Path(root or os.environ.get("DATAFREE_DATA", "data"))


def _other_channels(name: str, given: int, taken: int) -> InputError:
    return InputError(f"{name} has {given} channels, but the classifier takes {taken}; use data with {taken}")


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
