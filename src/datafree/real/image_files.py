"""Image files of any size, read on demand, because a folder of photographs may not fit into memory."""

import copy
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import cast

import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from datafree.real.decoding import Unreadable, decode, highest_value, open_image, require_resizable
from datafree.real.image_folders import Skipped
from datafree.types import InputError, Preprocessing

GREY_MODES = ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "I;16N")
"""PIL modes without colour"""
FRAME = (0.5, 0.5, 0.5)
"""frame colour of the crop mode `border`: the mean of all timm networks that use it"""


class ImageFiles:
    """Image files that are read like the rows of a uint8 tensor of shape `(n, c, h, w)`.

    A file of the requested size is returned unchanged. Other files are resized and cropped by timm's evaluation transform.
    Files that cannot be read are left out and counted.

    Args:
        paths: One file per image.
        shape: Channels, height and width to return. Default: three channels and the common size of all files. If one
            channel is requested but a file has colours, three channels are returned.
        preprocessing: How files of another size are resized and cropped.
        skipped: Where files that cannot be read are counted.

    Raises:
        InputError: If no file is an image, a file has pixels of an unknown range, or no shape is given and the files differ
            in size. Damage behind a file's header is only detected when the file is read.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        shape: tuple[int, int, int] | None = None,
        preprocessing: Preprocessing | None = None,
        skipped: Skipped | None = None,
    ) -> None:
        self.skipped = skipped or Skipped(Path())
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            headers = {i: header for i, path in enumerate(paths) if (header := self._header(path)) is not None}
        self.kept = torch.tensor(list(headers), dtype=torch.long)
        """indices of the paths that are images"""
        self.paths = [paths[index] for index in headers]
        if not self.paths:
            why = f" ({note})" if (note := self.skipped.note) else ""
            raise InputError(f"there is no readable image{why}; give a folder of images")
        sizes = [size for size, _ in headers.values()]
        size = shape[1:] if shape else sizes[0]
        if not shape and (other := next((i for i, own in enumerate(sizes) if own != size), None)):
            raise InputError(
                f"{self.paths[other]} and {self.paths[0]} differ in size; give a shape, to which all are resized"
            )
        grey = shape is not None and shape[0] == 1
        grey = grey and all(
            mode in GREY_MODES or self._is_grey(path)
            for path, (_, mode) in zip(self.paths, headers.values(), strict=True)
        )
        self._set_size(size, 1 if grey else 3, preprocessing or Preprocessing())

    def _set_size(self, size: tuple[int, int], channels: int, preprocessing: Preprocessing) -> None:
        from timm.data.transforms_factory import transforms_imagenet_eval

        self.shape, self.preprocessing = (len(self.paths), channels, *size), preprocessing
        self.transform = transforms_imagenet_eval(size, **asdict(preprocessing), mean=FRAME, normalize=False)

    def with_size(self, size: tuple[int, int], preprocessing: Preprocessing) -> "ImageFiles":
        """Return the same files, resized and cropped for another network."""
        files = copy.copy(self)
        files._set_size(size, self.shape[1], preprocessing)
        return files

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, indices: Tensor) -> tuple[UInt8[Tensor, "n c h w"], Tensor]:
        """Return the images with these indices, read in as many threads as torch uses, and which of them could be read."""
        paths = [self.paths[index] for index in indices.tolist()]
        with ThreadPoolExecutor(torch.get_num_threads()) as threads:
            images = list(threads.map(self._read, paths))
        found = [image for image in images if image is not None]
        readable = torch.tensor([image is not None for image in images], dtype=torch.bool)
        return torch.stack(found) if found else torch.empty((0, *self.shape[1:]), dtype=torch.uint8), readable

    def _read(self, path: Path) -> UInt8[Tensor, "c h w"] | None:
        from torchvision.transforms.v2.functional import pil_to_tensor

        _, channels, height, width = self.shape
        try:
            image = decode(path, "L" if channels == 1 else "RGB")
            if image.size == (width, height):
                return pil_to_tensor(image)
            require_resizable(image.size, (height, width), self.preprocessing)
            return cast(Tensor, self.transform(image))
        except Unreadable as fault:
            self.skipped.add(path, str(fault))
            return None

    def _header(self, path: Path) -> tuple[tuple[int, int], str] | None:
        """Return height and width, and the PIL mode, without decoding the image; None if the file is no image."""
        try:
            with open_image(path) as image:
                size, mode, known = (image.height, image.width), image.mode, highest_value(image) > 0
        except Unreadable as fault:
            self.skipped.add(path, str(fault))
            return None
        if not known:
            raise InputError(
                f"{path} has pixels without a known range (mode {mode}); convert it to 8 or 16 bits per channel"
            )
        return size, mode

    def _is_grey(self, path: Path) -> bool:
        try:
            red, green, blue = decode(path, "RGB").split()
        except Unreadable:  # it is left out when it is read
            return True
        return red.tobytes() == green.tobytes() == blue.tobytes()
