"""Real images: for training example teachers, for evaluation, for the ceiling. The one gate, and it counts.

Methods and applications never import this file; a test reads their imports. Whoever opens real images here says what
for, and the ledger of the run holds how many of them were handed out.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from torch import Tensor
from torch.utils.data import Dataset

from datafree.randomness import RandomNumbers
from datafree.real.image_files import ImageFiles
from datafree.types import Batch, Images, InputError, Labels, Preprocessing, Targets, nearest

Split = Literal["train", "test"]
Purpose = Literal[
    "teacher training", "evaluation", "student training (ceiling)", "student training (new classes)", "statistics"
]
Stored = Images | UInt8[Tensor, "n c h w"] | ImageFiles
"""images as they lie on the disk: pixels in [0, 1], bytes, or files"""


MOST_PIXELS = 2**22
"""in a batch that is only looked at: 83 images of 224 x 224"""


@dataclass
class Entry:
    """Real images that something touched."""

    source: str
    split: str
    purpose: Purpose
    images: int = 0
    """different images handed out so far"""


@dataclass
class Ledger:
    """Every real image a run touched, and why. Written into the run; the student's line is counted from it."""

    entries: list[Entry] = field(default_factory=list)

    def students(self) -> int:
        """Real images of the teacher's classes that any student was trained on."""
        return self.count("student training (ceiling)")

    def count(self, purpose: Purpose) -> int:
        """Real images that were handed out for this."""
        return sum(entry.images for entry in self.entries if entry.purpose == purpose)

    def statistics(self) -> int:
        """Real images from which statistics of the teacher's features were measured; no student saw them."""
        return sum(entry.images for entry in self.entries if entry.purpose == "statistics")

    def measured(self, images: Mapping[str, int]) -> None:
        """Enters real images that were measured before this run, by their source, in what the run uses now."""
        self.entries += [Entry(source, "train", "statistics", count) for source, count in images.items()]

    def as_json(self) -> list[dict[str, Any]]:
        return [asdict(entry) for entry in self.entries]


class RealImages(Dataset[tuple[Tensor, int]]):
    """Real images behind the gate: nothing comes out that the ledger has not counted."""

    def __init__(
        self,
        images: Stored,
        labels: Targets,
        classes: tuple[str, ...],
        entry: Entry,
        size: tuple[int, int] | None = None,
        places: Tensor | None = None,
    ) -> None:
        self._images, self._labels, self.classes, self.entry = images, labels, classes, entry
        self._places = torch.arange(len(images)) if places is None else places
        self._size = size or (images.shape[2], images.shape[3])
        self._seen = torch.zeros(len(labels), dtype=torch.bool)

    def __len__(self) -> int:
        return len(self._labels)

    @property
    def multi_label(self) -> bool:
        """Whether an image has several labels, a one for each."""
        return self._labels.ndim == 2

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return self._images.shape[1], *self._size

    def only(self, classes: Sequence[str]) -> "RealImages":
        """The images of these classes, numbered in this order; counted where all of them are counted."""
        places = [self.classes.index(name) for name in classes]
        if self.multi_label:
            return self._with(self._labels[:, places], classes, self._places)
        number = torch.full((len(self.classes),), -1)
        number[places] = torch.arange(len(classes))
        labels = number[self._labels]
        kept = labels >= 0
        return self._with(labels[kept], classes, self._places[kept])

    def _with(self, labels: Targets, classes: Sequence[str], places: Tensor) -> "RealImages":
        return RealImages(self._images, labels, tuple(classes), self.entry, self._size, places)

    def take(self, places: Tensor) -> Batch:
        """These images as pixels in [0, 1], and their labels."""
        self._seen[places] = True
        self.entry.images = int(self._seen.sum())
        images = self._images[self._places[places]]
        images = images.float() / 255 if images.dtype == torch.uint8 else images
        if images.shape[2:] != self._size:
            images = F.interpolate(images, self._size, mode="bilinear", antialias=True).clamp(0, 1)
        return Batch(images, self._labels[places], {})

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        batch = self.take(torch.tensor([place]))
        return batch.images[0], int(batch.targets[0])

    def once(self, size: int = 512, places: Tensor | None = None) -> Iterator[Batch]:
        """All of them in order, or these; so many at a time, and fewer photographs, whose features would fill the memory."""
        height, width = self._size
        chosen = torch.arange(len(self)) if places is None else places
        for some in chosen.split(max(1, min(size, MOST_PIXELS // (height * width)))):
            yield self.take(some)

    def forever(self, size: int = 128) -> Iterator[Batch]:
        """Random images without end. Each step draws anew, so that nothing but the random state must be resumed."""
        while True:
            yield self.take(torch.randint(len(self), (size,)))

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self._seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._seen = state["seen"]
        self.entry.images = int(self._seen.sum())


def open_real(
    name: str,
    split: Split,
    purpose: Purpose,
    ledger: Ledger,
    *,
    shape: tuple[int, int, int] | None = None,
    view: Preprocessing | None = None,
    root: str = "",
) -> RealImages:
    """Opens real images and enters them in the ledger.

    Args:
        name: `digits` (scikit-learn's, always there), `mnist`, `cifar10`, `mosaic` (scenes of up to four digits of
            MNIST, several labels each), or `folder:PATH` with one folder a class under `PATH/train` and `PATH/test`. All
            but the last take a choice of classes, by their places and in their order: `mnist:0-4`, `mnist:7,2`.
            Image files may have any size and are read when they are wanted; see `ImageFiles`.
        split: Which part.
        purpose: What for; it is written into the run.
        ledger: Where it is counted.
        shape: What the classifier takes; images of another size are resized to it.
        view: What it is shown of image files of another size.
        root: Where data sets lie; `$DATAFREE_DATA` or `./data` if not given.

    Raises:
        InputError: If the name is unknown, the images are not there, or their channels do not fit.
    """
    place = Path(root or os.environ.get("DATAFREE_DATA", "data"))
    kind, _, rest = name.partition(":")
    openers = {"digits": _digits, "mnist": _mnist, "mosaic": _mosaic, "cifar10": _cifar10}
    if kind not in (known := [*openers, "folder"]):
        raise InputError(f"data set {name!r} is unknown, choose one of {', '.join(known)}{nearest(kind, known)}")
    images, labels, classes = (
        _folder(Path(rest) / split, shape, view) if kind == "folder" else openers[kind](place, split)
    )
    chosen = [classes[place] for place in _chosen(classes, rest, name)] if rest and kind != "folder" else []
    if shape and shape[0] != images.shape[1]:
        raise InputError(
            f"{name} has {images.shape[1]} channels, but the classifier takes {shape[0]}; give data that fits it"
        )
    entry = Entry(source=name, split=split, purpose=purpose)
    ledger.entries.append(entry)
    real = RealImages(images, labels, classes, entry, size=shape and shape[1:])
    return real.only(chosen) if chosen else real


Opened = tuple[Stored, Targets, tuple[str, ...]]


def _chosen(classes: tuple[str, ...], choice: str, name: str) -> list[int]:
    """The places of the classes that a name's end chooses."""
    places: list[int] = []
    wrong = f"{name} has a class twice, none, or one over {len(classes) - 1}; give each place once"
    for part in choice.split(","):
        first, _, last = part.partition("-")
        if not first.isdecimal() or not (last or first).isdecimal():
            raise InputError(f"{name} names no classes; give places such as 0-4 or 7,2 after the colon")
        begin, end = int(first), int(last or first)
        if not begin <= end < len(classes):
            raise InputError(wrong)
        places += range(begin, end + 1)
    if len(set(places)) < len(places):
        raise InputError(wrong)
    return places


def _digits(_: Path, split: str) -> Opened:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits: Any = load_digits()
    # One fixed split for everyone: a quarter held out, every class in proportion.
    train, test = train_test_split(range(len(digits.target)), test_size=450, stratify=digits.target, random_state=0)
    chosen = train if split == "train" else test
    images = torch.tensor(digits.images[chosen], dtype=torch.float32)[:, None] / 16
    return images, torch.tensor(digits.target[chosen]), tuple("0123456789")


def _mnist(root: Path, split: str) -> Opened:
    from torchvision.datasets import MNIST

    try:
        mnist = MNIST(str(root), train=split == "train", download=not (root / "MNIST").is_dir())
    except (RuntimeError, OSError) as fault:
        raise InputError(_missing("MNIST", root)) from fault
    return mnist.data[:, None], mnist.targets, tuple("0123456789")


def _mosaic(root: Path, split: str) -> Opened:
    """Scenes of up to four digits of MNIST, each in a quarter of the image; a label says whether a digit is there."""
    digits, labels, classes = _mnist(root, split)
    count = 20_000 if split == "train" else 2_000
    with RandomNumbers(0):  # the same scenes for everyone
        chosen = torch.randint(len(digits), (count, 4))
        there = torch.rand(count, 4) < 0.6
    there[:, 0] |= ~there.any(1)
    used, cell = chosen.unique(return_inverse=True)
    small = F.interpolate(digits[used].float(), (16, 16), mode="bilinear", antialias=True).round().byte()
    cells = small[cell] * there[:, :, None, None, None]
    rows = [torch.cat([cells[:, left], cells[:, left + 1]], 3) for left in (0, 2)]
    present = F.one_hot(labels[chosen], len(classes)) * there[:, :, None]
    return torch.cat(rows, 2), present.amax(1).float(), classes


def _cifar10(root: Path, split: str) -> Opened:
    classes = tuple("airplane automobile bird cat deer dog frog horse ship truck".split())
    parquet = root / "cifar10" / f"{split}.parquet"
    if parquet.is_file():
        images, labels = _parquet(parquet)
        return images, labels, classes
    from torchvision.datasets import CIFAR10

    try:
        cifar = CIFAR10(str(root), train=split == "train", download=not (root / "cifar-10-batches-py").is_dir())
    except (RuntimeError, OSError) as fault:
        raise InputError(_missing("CIFAR-10", root)) from fault
    return torch.from_numpy(cifar.data).permute(0, 3, 1, 2), torch.tensor(cifar.targets), classes


def _parquet(path: Path) -> tuple[Stored, Labels]:
    import io

    import numpy as np
    from PIL import Image

    try:
        import pyarrow.parquet as parquet
    except ImportError as fault:
        raise InputError(f"{path} needs pyarrow; install datafree[hub]") from fault
    table = parquet.read_table(path, columns=["img", "label"]).to_pydict()
    decoded = np.stack([np.asarray(Image.open(io.BytesIO(row["bytes"])).convert("RGB")) for row in table["img"]])
    return torch.from_numpy(decoded).permute(0, 3, 1, 2).contiguous(), torch.tensor(table["label"])


def _folder(root: Path, shape: tuple[int, int, int] | None, view: Preprocessing | None) -> Opened:
    from torchvision.datasets import ImageFolder

    if not root.is_dir():
        raise InputError(f"{root} is no folder; put one folder of images per class into it")
    try:
        folder = ImageFolder(str(root))
    except OSError as fault:
        raise InputError(f"{root} cannot be used ({fault}); put one folder of images per class into it") from fault
    paths = [Path(path) for path, _ in folder.samples]
    return ImageFiles(paths, shape, view), torch.tensor(folder.targets), tuple(folder.classes)


def _missing(name: str, root: Path) -> str:
    return f"{name} is not under {root.resolve()} and cannot be downloaded; set DATAFREE_DATA or --data-root to where it lies"
