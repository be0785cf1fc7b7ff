"""Image files of any size, read when they are wanted: a folder of photographs does not fit into memory."""

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

GREY = ("1", "L", "LA")
"""modes of files that have no colour"""
FRAME = (0.5, 0.5, 0.5)
"""of the mode `border`: the mean of all of timm's networks that have it"""


class ImageFiles:
    """What a tensor of bytes `(n, c, h, w)` is to who asks it for images by their places.

    A file of the size wanted is shown as it is; one of another size is scaled and cropped by timm, as the view says.

    Args:
        paths: One file for each image.
        wanted: Channels, height and width. Three channels are wanted, and the size that all files have, if not given.
            Where one channel is wanted and a file has colours, there are three all the same.
        view: What of a file of another size is shown.

    Raises:
        InputError: If a file is no image; or if no size is given and files differ in theirs. A file that is damaged
            behind its head is found when it is read.
    """

    def __init__(
        self, paths: Sequence[Path], wanted: tuple[int, int, int] | None = None, view: Preprocessing | None = None
    ) -> None:
        from timm.data.transforms_factory import transforms_imagenet_eval

        self.paths = paths
        heads = [_head(path) for path in paths]
        size = wanted[1:] if wanted else heads[0][0]
        if not wanted and (odd := next((place for place, head in enumerate(heads) if head[0] != size), None)):
            raise InputError(f"{paths[odd]} has another size than {paths[0]}; give the shape that all shall take")
        grey = wanted is not None and wanted[0] == 1
        grey = grey and all(mode in GREY or _without_colour(path) for path, (_, mode) in zip(paths, heads, strict=True))
        self.shape = (len(paths), 1 if grey else 3, *size)
        self.fit = transforms_imagenet_eval(size, **asdict(view or Preprocessing()), mean=FRAME, normalize=False)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, places: Tensor) -> UInt8[Tensor, "n c h w"]:
        """These images; read on as many threads as torch may use.

        Raises:
            InputError: If a file cannot be read.
        """
        chosen = [self.paths[place] for place in places.tolist()]
        with ThreadPoolExecutor(torch.get_num_threads()) as readers:
            return torch.stack(list(readers.map(self._read, chosen)))

    def _read(self, path: Path) -> UInt8[Tensor, "c h w"]:
        from torchvision.transforms.v2.functional import pil_to_tensor

        _, channels, height, width = self.shape
        image = _decoded(path, "L" if channels == 1 else "RGB")
        return pil_to_tensor(image) if image.size == (width, height) else cast(Tensor, self.fit(image))


def _head(path: Path) -> tuple[tuple[int, int], str]:
    """Height and width, and the mode, without decoding."""
    try:
        with Image.open(path) as image:
            return (image.height, image.width), image.mode
    except FAULTS as fault:
        raise _broken(path) from fault


def _decoded(path: Path, mode: str) -> Image.Image:
    try:
        with Image.open(path) as image:
            return image.convert(mode)
    except FAULTS as fault:
        raise _broken(path) from fault


FAULTS = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""what reading a file that is no image, damaged or made to fill the memory raises"""


def _broken(path: Path) -> InputError:
    return InputError(f"{path} cannot be read as an image; mend it or take it away")


def _without_colour(path: Path) -> bool:
    red, green, blue = _decoded(path, "RGB").split()
    return red.tobytes() == green.tobytes() == blue.tobytes()
