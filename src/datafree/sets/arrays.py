"""Export synthesized images as arrays for tools that calibrate or run a network: an NPZ file by input name, or raw bytes.

`--format npz` is the layout of ModelOpt (`--calibration_data FILE`) and of others that read a dict of arrays;
`--format bin` that of trtexec (`--loadInputs=NAME:FILE`).
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
from numpy.lib.format import write_array_header_1_0
from torch import Tensor

from datafree.classifier import Classifier
from datafree.types import Images, InputError

NAME = re.compile(r"[A-Za-z0-9_][\w.-]{0,99}")
"""a name of an input that is a name of a file too"""


@dataclass(frozen=True, kw_only=True)
class ArrayLayout:
    """How the input of a network is called, and what it takes."""

    input_name: str = "images"
    """name of the input in the files of npz and bin, as the exported network calls it"""
    normalise: bool = False
    """whether the arrays of npz and bin are normalised with the teacher's mean and std, for a network that does not do it"""

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.input_name) or ".." in self.input_name:
            raise InputError(
                f"input-name is {self.input_name[:100]!r}, but it must be letters, digits, dots, dashes and underscores; "
                "rename the input of the network"
            )

    def array(self, images: Images, teacher: Classifier) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
        """Return images as an array in float32 of shape `(n, c, h, w)`."""
        taken: Tensor = teacher.normalize(images.to(teacher.device)) if self.normalise else images
        return np.ascontiguousarray(taken.float().cpu().numpy())


@contextmanager
def npz_file(
    shape: tuple[int, ...], teacher: Classifier, layout: ArrayLayout, folder: Path
) -> Iterator[Callable[[Images], None]]:
    """Write `calibration.npz`, one array by the name of the input, in a `with` block.

    Args:
        shape: Of all images.
        teacher: Defines mean and std.
        layout: The name of the input, and what it takes.
        folder: The output folder.

    Yields:
        A function that writes the next images, with pixels in [0, 1].
    """
    folder.mkdir(exist_ok=True)
    with (
        ZipFile(folder / "calibration.npz", "w") as archive,
        archive.open(f"{layout.input_name}.npy", "w", force_zip64=True) as file,
    ):
        write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        yield lambda images: _write(file, layout.array(images, teacher))


@contextmanager
def bin_file(
    shape: tuple[int, ...], teacher: Classifier, layout: ArrayLayout, folder: Path
) -> Iterator[Callable[[Images], None]]:
    """Write `NAME-NxCxHxW.bin`, the values in float32, little-endian, without a header; see `npz_file`."""
    folder.mkdir(exist_ok=True)
    sizes = "x".join(map(str, shape))
    with (folder / f"{layout.input_name}-{sizes}.bin").open("wb") as file:
        yield lambda images: _write(file, layout.array(images, teacher))


def _write(file: Any, array: "np.ndarray[tuple[int, ...], np.dtype[np.float32]]") -> None:
    file.write(array.astype("<f4", copy=False).data.cast("B"))
