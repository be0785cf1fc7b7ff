"""What the metadata of an ONNX file that datafree wrote say about the images it takes. Files are untrusted."""

import json
import math
from dataclasses import dataclass
from typing import Any

from datafree.types import InputError, Preprocessing

PIXELS, NORMALISED = "pixels in [0, 1]", "normalised images"
"""values of the entry `input`"""
SHORT = 1000
"""characters of an entry, at most"""


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a file takes; empty if it does not say so."""

    pixels: bool = False
    """whether it takes pixels in [0, 1] and normalises them itself"""
    mean: tuple[float, ...] = ()
    """mean of the pixels, per channel or for all"""
    std: tuple[float, ...] = ()
    """standard deviation of the pixels, per channel or for all"""
    multi_label: bool = False
    """whether an image can have several labels"""
    crop_pct: float = 1.0
    crop_mode: str = "center"
    interpolation: str = "bilinear"

    @property
    def preprocessing(self) -> Preprocessing | None:
        """How image files are resized and cropped; None if the file does not say so."""
        if not self.mean:
            return None
        settings: Any = {"crop_mode": self.crop_mode, "interpolation": self.interpolation}
        try:
            return Preprocessing(crop_pct=self.crop_pct, **settings)
        except InputError:
            return None


def description_of(model: Any, channels: int) -> Description:
    """Return what the metadata of a model say, if they are complete and possible.

    Args:
        model: The `ModelProto`.
        channels: Number of channels of an image.
    """
    texts = {entry.key: entry.value for entry in model.metadata_props if len(entry.value) <= SHORT}
    taken = texts.get("input")
    mean, std = (numbers_in(texts.get(name, ""), channels) for name in ("mean", "std"))
    if taken not in (PIXELS, NORMALISED) or not mean or not std or min(std) <= 0:
        return Description()
    crop = numbers_in(f"[{texts.get('crop_pct', '')}]", 1)
    return Description(
        pixels=taken == PIXELS,
        mean=mean,
        std=std,
        multi_label=texts.get("multi_label") == "true",
        crop_pct=crop[0] if crop else 1.0,
        crop_mode=texts.get("crop_mode", "center"),
        interpolation=texts.get("interpolation", "bilinear"),
    )


def numbers_in(text: str, channels: int) -> tuple[float, ...]:
    """Return the numbers of a list in JSON, one for each channel or one for all; empty if it is something else."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return ()
    if not isinstance(values, list) or len(values) not in (1, channels):
        return ()
    possible = all(type(value) in (int, float) and math.isfinite(value) and abs(value) < 1e6 for value in values)
    return tuple(map(float, values)) if possible else ()
