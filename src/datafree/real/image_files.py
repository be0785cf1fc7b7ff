"""Image files of any size, read on demand, because a folder of photographs may not fit into memory."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import cast

import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from datafree.types import InputError, Preprocessing

GREY_MODES = ("1", "L", "LA")
"""PIL modes without colour"""
FRAME = (0.5, 0.5, 0.5)
"""frame colour of the crop mode `border`: the mean of all timm networks that use it"""
READ_ERRORS = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""exceptions PIL raises for a file that is no image, is damaged, or would decode to an excessive size"""


class ImageFiles:
    """Image files that are indexed like a uint8 tensor of shape `(n, c, h, w)`.

    A file of the requested size is returned unchanged. Other files are resized and cropped by timm's evaluation transform.

    Args:
        paths: One file per image.
        shape: Channels, height and width to return. Default: three channels and the common size of all files. If one
            channel is requested but a file has colours, three channels are returned.
        preprocessing: How files of another size are resized and cropped.

    Raises:
        InputError: If a file is not an image, or no shape is given and the files differ in size. Damage behind a file's
            header is only detected when the file is read.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        shape: tuple[int, int, int] | None = None,
        preprocessing: Preprocessing | None = None,
    ) -> None:
        from timm.data.transforms_factory import transforms_imagenet_eval

        self.paths = paths
        headers = [_read_header(path) for path in paths]
        size = shape[1:] if shape else headers[0][0]
        if not shape and (other := next((i for i, header in enumerate(headers) if header[0] != size), None)):
            raise InputError(f"{paths[other]} and {paths[0]} differ in size; give a shape, to which all are resized")
        grey = shape is not None and shape[0] == 1
        grey = grey and all(
            mode in GREY_MODES or _is_grey(path) for path, (_, mode) in zip(paths, headers, strict=True)
        )
        self.shape = (len(paths), 1 if grey else 3, *size)
        settings = asdict(preprocessing or Preprocessing())
        self.transform = transforms_imagenet_eval(size, **settings, mean=FRAME, normalize=False)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, indices: Tensor) -> UInt8[Tensor, "n c h w"]:
        """Return the images with these indices, read in as many threads as torch uses.

        Raises:
            InputError: If a file cannot be read.
        """
        paths = [self.paths[index] for index in indices.tolist()]
        with ThreadPoolExecutor(torch.get_num_threads()) as threads:
            return torch.stack(list(threads.map(self._read, paths)))

    def _read(self, path: Path) -> UInt8[Tensor, "c h w"]:
        from torchvision.transforms.v2.functional import pil_to_tensor

        _, channels, height, width = self.shape
        image = _decode(path, "L" if channels == 1 else "RGB")
        return pil_to_tensor(image) if image.size == (width, height) else cast(Tensor, self.transform(image))


def _read_header(path: Path) -> tuple[tuple[int, int], str]:
    """Return height and width, and the PIL mode, without decoding the image."""
    try:
        with Image.open(path) as image:
            return (image.height, image.width), image.mode
    except READ_ERRORS as error:
        raise _unreadable(path) from error


def _decode(path: Path, mode: str) -> Image.Image:
    try:
        with Image.open(path) as image:
            return image.convert(mode)
    except READ_ERRORS as error:
        raise _unreadable(path) from error


def _unreadable(path: Path) -> InputError:
    return InputError(f"{path} cannot be read as an image; fix or remove the file")


def _is_grey(path: Path) -> bool:
    red, green, blue = _decode(path, "RGB").split()
    return red.tobytes() == green.tobytes() == blue.tobytes()
