"""Read the known data sets: `digits`, `mnist`, `mosaic`, `cifar10` and image folders. Only `datafree.real.data` calls it."""

import io
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from torch import Tensor

from datafree.randomness import RandomNumbers
from datafree.real.image_files import ImageFiles
from datafree.real.ledger import Split
from datafree.types import Images, InputError, Labels, Preprocessing, Targets

Stored = Images | UInt8[Tensor, "n c h w"] | ImageFiles
"""images as they are stored: floats in [0, 1], bytes or files"""
LabelledImages = tuple[Stored, Targets, tuple[str, ...]]
"""images, targets and class names"""

DIGITS = tuple("0123456789")
CIFAR10_CLASSES = tuple("airplane automobile bird cat deer dog frog horse ship truck".split())


def read_digits(_: Path, split: Split) -> LabelledImages:
    """Return scikit-learn's digits, `(1, 8, 8)`, with a fixed stratified split: 450 of 1797 images are the test set."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits: Any = load_digits()
    train, test = train_test_split(range(len(digits.target)), test_size=450, stratify=digits.target, random_state=0)
    indices = train if split == "train" else test
    images = torch.tensor(digits.images[indices], dtype=torch.float32)[:, None] / 16
    return images, torch.tensor(digits.target[indices]), DIGITS


def read_mnist(root: Path, split: Split) -> LabelledImages:
    """Return MNIST, `(1, 28, 28)`; it is downloaded if missing."""
    from torchvision.datasets import MNIST

    try:
        mnist = MNIST(str(root), train=split == "train", download=not (root / "MNIST").is_dir())
    except (RuntimeError, OSError) as error:
        raise _not_found("MNIST", root) from error
    return mnist.data[:, None], mnist.targets, DIGITS


def read_mosaic(root: Path, split: Split) -> LabelledImages:
    """Return scenes of up to four MNIST digits, `(1, 32, 32)`, one per quadrant, with a 0/1 label for each digit."""
    digits, labels, classes = read_mnist(root, split)
    count = 20_000 if split == "train" else 2_000
    with RandomNumbers(0):  # the scenes are fixed
        choice = torch.randint(len(digits), (count, 4))
        present = torch.rand(count, 4) < 0.6
    present[:, 0] |= ~present.any(1)
    used, cell = choice.unique(return_inverse=True)
    small = F.interpolate(digits[used].float(), (16, 16), mode="bilinear", antialias=True).round().byte()
    cells = small[cell] * present[:, :, None, None, None]
    rows = [torch.cat([cells[:, left], cells[:, left + 1]], 3) for left in (0, 2)]
    one_hot = F.one_hot(labels[choice], len(classes)) * present[:, :, None]
    return torch.cat(rows, 2), one_hot.amax(1).float(), classes


def read_cifar10(root: Path, split: Split) -> LabelledImages:
    """Return CIFAR-10, `(3, 32, 32)`, from `cifar10/SPLIT.parquet` if it exists, else from torchvision."""
    parquet = root / "cifar10" / f"{split}.parquet"
    if parquet.is_file():
        return *_read_parquet(parquet), CIFAR10_CLASSES
    from torchvision.datasets import CIFAR10

    try:
        cifar = CIFAR10(str(root), train=split == "train", download=not (root / "cifar-10-batches-py").is_dir())
    except (RuntimeError, OSError) as error:
        raise _not_found("CIFAR-10", root) from error
    return torch.from_numpy(cifar.data).permute(0, 3, 1, 2), torch.tensor(cifar.targets), CIFAR10_CLASSES


def _read_parquet(path: Path) -> tuple[Stored, Labels]:
    import numpy as np
    from PIL import Image

    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise InputError(f"{path} needs pyarrow; install datafree[hub]") from error
    table = parquet.read_table(path, columns=["img", "label"]).to_pydict()
    decoded = np.stack([np.asarray(Image.open(io.BytesIO(row["bytes"])).convert("RGB")) for row in table["img"]])
    return torch.from_numpy(decoded).permute(0, 3, 1, 2).contiguous(), torch.tensor(table["label"])


def read_folder(root: Path, shape: tuple[int, int, int] | None, preprocessing: Preprocessing | None) -> LabelledImages:
    """Return a folder of image files with one subfolder per class; see `ImageFiles`."""
    from torchvision.datasets import ImageFolder

    if not root.is_dir():
        raise InputError(f"{root} is not a folder; it must contain one subfolder of images per class")
    try:
        folder = ImageFolder(str(root))
    except OSError as error:
        raise InputError(
            f"{root} is not a valid image folder ({error}); give one subfolder of images per class"
        ) from error
    paths = [Path(path) for path, _ in folder.samples]
    return ImageFiles(paths, shape, preprocessing), torch.tensor(folder.targets), tuple(folder.classes)


def _not_found(name: str, root: Path) -> InputError:
    return InputError(
        f"{name} is not in {root.resolve()} and cannot be downloaded; set DATAFREE_DATA or --data-root to its folder"
    )
