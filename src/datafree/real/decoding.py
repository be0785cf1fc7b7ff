"""Decode image files, which are untrusted.

Only regular files of a bounded size are opened, and only as one of `FORMATS`, whatever their name says: Pillow chooses the
format by the content, and starts an external program for some.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import Image, UnidentifiedImageError

from datafree.files import open_regular
from datafree.types import InputError, Preprocessing

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM", "GIF")
"""formats that are read, by their names in Pillow"""
FILE_LIMIT = 2**29
"""maximum size of an image file in bytes"""
MAX_PIXELS = 89_478_485
"""maximum number of pixels of an image, also after it was resized; above it, Pillow warns of decompression bombs"""


class Unreadable(Exception):
    """A file cannot be read as an image. The message is the reason, see `Skipped.add`."""


@contextmanager
def open_image(source: Path | bytes) -> Iterator[Image.Image]:
    """Open an image of one of `FORMATS`, without decoding it.

    Args:
        source: A path, which may be a link to a regular file, or the content of a file.

    Raises:
        Unreadable: If it cannot be read as an image or has more than `MAX_PIXELS` pixels; also in the `with` block.
        OSError: If the disk fails.
    """
    too_many = f"of more than {MAX_PIXELS:,} pixels"
    try:
        file = BytesIO(source) if isinstance(source, bytes) else open_regular(source, FILE_LIMIT, follow_links=True)
    except InputError as fault:
        raise Unreadable("not a readable regular file") from fault
    try:
        with file, Image.open(cast(Any, file), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Unreadable(too_many)
            yield image
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as fault:
        raise Unreadable(too_many) from fault
    except Unreadable:
        raise
    except Exception as fault:  # Pillow may raise anything for a damaged file
        if isinstance(fault, OSError) and fault.errno and not isinstance(fault, UnidentifiedImageError):
            raise  # a fault of the disk; Pillow's own have no number
        raise Unreadable("damaged or no image") from fault


def decode(source: Path | bytes, mode: str) -> Image.Image:
    """Return a decoded image in the mode `L` or `RGB`. Values of 16 bits are scaled to 8 bits.

    Raises:
        Unreadable: If it cannot be read as an image.
        OSError: If the disk fails.
    """
    with open_image(source) as image:
        highest = highest_value(image)
        if highest == 0:
            raise ValueError(f"the range of mode {image.mode} is unknown")
        if highest == 255:
            return image.convert(mode)
        values = np.asarray(image).astype(np.float32) * (255 / highest)
        return Image.fromarray(values.round().clip(0, 255).astype(np.uint8)).convert(mode)


def highest_value(image: Image.Image) -> int:
    """Return the value of a white pixel; 0 if the range is unknown, as it is of floats and of integers of 32 bits.

    Pillow itself clips values of 16 bits to 255 when it converts them.
    """
    if image.mode.startswith("I;16"):
        bits = getattr(image, "tag_v2", {}).get(258, 16)  # TIFF: 12 bits are read as 16
        return 2 ** int(bits[0] if isinstance(bits, tuple) else bits) - 1
    if image.mode == "I":
        return 65535 if image.format in ("PPM", "PNG") else 0
    return 0 if image.mode == "F" else 255


def require_resizable(size: tuple[int, int], wanted: tuple[int, int], preprocessing: Preprocessing) -> None:
    """Check that an image does not become larger than `MAX_PIXELS` on its way to the size that a network takes.

    Raises:
        Unreadable: If it does, because it is extremely wide or high, or a tiny `crop_pct` enlarges it.
    """
    ratio = 1.0 if preprocessing.crop_mode == "squash" else max(size) / max(1, min(size))
    if ratio * max(wanted) ** 2 / preprocessing.crop_pct**2 > MAX_PIXELS:
        raise Unreadable(f"of more than {MAX_PIXELS:,} pixels after resizing")
