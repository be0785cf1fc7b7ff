"""Small data sets on disk."""

import struct
from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture
def picture_folder(tmp_path: Path) -> Path:
    """A folder of 3 cats and 2 dogs per split; every picture has a single colour."""
    for split in ("train", "test"):
        for label, count in (("cat", 3), ("dog", 2)):
            folder = tmp_path / split / label
            folder.mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (6, 4), (255, 51 * number, 0 if label == "cat" else 255)).save(
                    folder / f"{number}.png"
                )
    return tmp_path


@pytest.fixture
def tiny_mnist(tmp_path: Path) -> Path:
    """Three images in the file format of MNIST."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for prefix in ("train", "t10k"):
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(
            struct.pack(">IIII", 2051, 3, 28, 28) + bytes([255]) * 3 * 784
        )
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, 3) + bytes([7, 0, 9]))
    return tmp_path
