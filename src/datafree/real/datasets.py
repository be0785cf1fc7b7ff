"""Read the known data sets: `digits`, `mnist`, `mosaic`, `cifar10` and image folders. Only `datafree.real.data` calls it."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from torch import Tensor

from datafree.files import open_regular
from datafree.randomness import RandomNumbers
from datafree.real.decoding import Unreadable, decode
from datafree.real.image_files import ImageFiles
from datafree.real.image_folders import find_images, find_unlabelled
from datafree.real.ledger import Split
from datafree.types import Images, InputError, Labels, Preprocessing, Targets

Stored = Images | UInt8[Tensor, "n c h w"] | ImageFiles
"""images as they are stored: floats in [0, 1], bytes or files"""
LabelledImages = tuple[Stored, Targets, tuple[str, ...]]
"""images, targets and class names"""

DIGITS = tuple("0123456789")
PARQUET_LIMIT = 2**30
"""maximum size of a parquet file in bytes, also after decompression as the file states it"""
MNIST_LIMIT = 2**27
"""maximum size of a file of MNIST in bytes"""
CIFAR10_CLASSES = tuple("airplane automobile bird cat deer dog frog horse ship truck".split())

DOWNLOADED = {
    "mnist": ("MNIST",),
    "mosaic": ("MNIST",),
    "cifar10": ("cifar10/{split}.parquet", "cifar-10-batches-py"),
}
"""data set that is downloaded if it is missing: the files or folders that show that it is there"""


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

    for path in sorted((root / "MNIST" / "raw").glob("*-ubyte")):
        open_regular(path, MNIST_LIMIT, follow_links=True).close()  # torchvision would wait for a pipe
    try:
        mnist = MNIST(str(root), train=split == "train", download=not (root / "MNIST").is_dir())
    except (RuntimeError, OSError, ValueError, TypeError, KeyError, IndexError, AssertionError) as error:
        missing = not (root / "MNIST").is_dir() or "not found" in str(error)
        raise (_not_found("MNIST", root) if missing else _damaged_mnist(root)) from error
    images, labels = mnist.data, mnist.targets
    if images.dtype != torch.uint8 or images.shape[1:] != (28, 28) or labels.shape != images.shape[:1]:
        raise _damaged_mnist(root)
    if not len(labels) or labels.min() < 0 or labels.max() > 9:
        raise _damaged_mnist(root)
    return images[:, None], labels, DIGITS


def _damaged_mnist(root: Path) -> InputError:
    return InputError(f"{root / 'MNIST'} is damaged; remove it to download it again")


def read_mosaic(root: Path, split: Split) -> LabelledImages:
    """Return scenes of up to four MNIST digits, `(1, 32, 32)`, one per quadrant, with a 0/1 label for each digit."""
    digits, labels, classes = read_mnist(root, split)
    assert isinstance(digits, Tensor)
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
    """Return the images and labels of a parquet file with the columns `img` and `label`.

    Raises:
        InputError: If pyarrow is not installed, or the file does not contain 32 x 32 images and labels from 0 to 9.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise InputError(f"{path} needs pyarrow; install datafree[hub]") from error
    try:
        with open_regular(path, PARQUET_LIMIT, follow_links=True) as file:
            contents = parquet.ParquetFile(file)
            groups = [contents.metadata.row_group(group) for group in range(contents.metadata.num_row_groups)]
            if sum(group.total_byte_size for group in groups) > PARQUET_LIMIT:
                raise ValueError("it is too large")
            table = contents.read(columns=["img", "label"]).to_pydict()
        pictures = [np.asarray(decode(row["bytes"], "RGB")) for row in table["img"]]
        labels = [int(label) for label in table["label"]]
        if {picture.shape for picture in pictures} != {(32, 32, 3)} or not set(labels) <= set(range(10)):
            raise ValueError("its images are not of 32 x 32 pixels, or its labels are not from 0 to 9")
    except InputError:
        raise
    except (pyarrow.ArrowException, Unreadable, OSError, ValueError, TypeError, KeyError, OverflowError) as fault:
        why = (str(fault).splitlines() or [type(fault).__name__])[0]
        raise InputError(f"{path} is not a parquet file of CIFAR-10 ({why}); download it again") from fault
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous(), torch.tensor(labels)


def read_folder(root: Path, shape: tuple[int, int, int] | None, preprocessing: Preprocessing | None) -> LabelledImages:
    """Return a folder of image files with one subfolder per class; see `find_images` and `ImageFiles`.

    Raises:
        InputError: If it is not such a folder, or a class has no image that can be read.
    """
    from torchvision.datasets.folder import IMG_EXTENSIONS

    if not root.is_dir():
        raise InputError(f"{root} is not a folder; it must contain one subfolder of images per class")
    try:
        paths, labels, classes, skipped = find_images(root, IMG_EXTENSIONS)
    except OSError as fault:
        raise InputError(f"{root} cannot be read ({fault.strerror}); give a folder that you may read") from fault
    images = ImageFiles(paths, shape, preprocessing, skipped)
    targets = torch.tensor(labels)[images.kept]
    for label, name in enumerate(classes):
        if not (targets == label).any():
            raise InputError(
                f"{root / name} contains no readable image ({skipped.note}); remove this folder or add images"
            )
    return images, targets, classes


def read_unlabelled(
    root: Path, shape: tuple[int, int, int] | None, preprocessing: Preprocessing | None
) -> LabelledImages:
    """Return a folder of image files without labels: all labels are 0, and there are no class names.

    Raises:
        InputError: If it is not a folder, or contains no readable image.
    """
    from torchvision.datasets.folder import IMG_EXTENSIONS

    if not root.is_dir():
        raise InputError(f"{root} is not a folder; give a folder of images")
    try:
        paths, skipped = find_unlabelled(root, IMG_EXTENSIONS)
    except OSError as fault:
        raise InputError(f"{root} cannot be read ({fault.strerror}); give a folder that you may read") from fault
    if not paths:
        raise InputError(f"{root} contains no image file; give a folder of images")
    images = ImageFiles(paths, shape, preprocessing, skipped)
    return images, torch.zeros(len(images), dtype=torch.long), ()


def _not_found(name: str, root: Path) -> InputError:
    return InputError(
        f"{name} is not in {root.resolve()} and cannot be downloaded; set DATAFREE_DATA or --data-root to its folder"
    )
