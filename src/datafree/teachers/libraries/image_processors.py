"""Image processors of transformers: mean, standard deviation and size of the images of a network, read and written."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from datafree.classifier import Classifier
from datafree.files import read_json
from datafree.files.validation import from_plain
from datafree.types import Preprocessing

PROCESSOR = "preprocessor_config.json"
FILTERS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
"""resampling filters by their number in Pillow"""
SETTINGS = (
    *("size", "crop_size", "crop_pct", "image_mean", "image_std", "resample", "rescale_factor", "do_normalize"),
    *("do_rescale", "do_center_crop", "do_flip_channel_order", "rescale_offset", "include_top"),
)
"""what is used of the defaults of an image processor"""


def read_processor(folder: Path, kind: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the settings of the image processor, and a note if they are not in the folder but transformers' defaults."""
    path = folder / PROCESSOR
    if path.exists():
        return from_plain(dict[str, Any], read_json(path, follow_links=True), str(path)), ()
    import transformers
    from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES as CLASSES

    named: Any = cast(Any, CLASSES).get(kind.config_class.model_type) or ""
    name = next((n for n in (named.values() if isinstance(named, dict) else [named]) if isinstance(n, str) and n), "")
    processor = getattr(transformers, name, None)
    settings = {word: getattr(processor, word, None) for word in SETTINGS}
    settings = {word: value for word, value in settings.items() if isinstance(value, (int, float, list, tuple, dict))}
    note = (
        f"mean and std of the teacher are transformers' defaults for {kind.config_class.model_type}, because {folder} has no "
        f"{PROCESSOR}; give --mean and --std if it was trained with others"
    )
    return {**settings, "image_processor_type": name}, (note,)


def normalisation(processor: Mapping[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    r"""Return mean and standard deviation for pixels in [0, 1].

    The image processor computes :math:`(255 s x - o - \mu) / \sigma` for pixels :math:`x` in [0, 1], with the scale
    :math:`s = 1/255` and the offset :math:`o = 0` in most networks.
    """
    mean, std = _numbers(processor.get("image_mean"), 0.0), _numbers(processor.get("image_std"), 1.0)
    if not processor.get("do_normalize", True):
        mean, std = (0.0,), (1.0,)
    if processor.get("include_top"):  # EfficientNet divides by the standard deviation twice
        std = (
            tuple(value**2 for value in std)
            if processor.get("do_normalize", True)
            else _numbers(processor.get("image_std"), 1.0)
        )
    scale = 255.0 * float(processor.get("rescale_factor", 1 / 255)) if processor.get("do_rescale", True) else 255.0
    offset = 1.0 if processor.get("rescale_offset") else 0.0
    if not math.isfinite(scale) or scale <= 0:
        raise ValueError(f"rescale_factor is {processor.get('rescale_factor')}")
    mean, std = tuple((value + offset) / scale for value in mean), tuple(value / scale for value in std)
    return (mean * len(std), std) if len(mean) == 1 < len(std) else (mean, std * len(mean) if len(std) == 1 else std)


def _numbers(values: Any, default: float) -> tuple[float, ...]:
    values = [default] if values is None else values if isinstance(values, (list, tuple)) else [values]
    if not values or not all(isinstance(value, (int, float)) for value in values):
        raise ValueError(f"{values} are no numbers")
    return tuple(map(float, values))


def resizing(processor: Mapping[str, Any], own: tuple[int, int] | None) -> tuple[tuple[int, int], Preprocessing]:
    """Return the size of the images, and how files of another size are resized.

    Args:
        processor: The settings of the image processor.
        own: The size that the network is built for; None if it takes any.
    """
    resample = processor.get("resample", 2)
    interpolation: Any = FILTERS[resample] if type(resample) is int and 0 <= resample < len(FILTERS) else "bilinear"
    resized, shortest = processor.get("size"), None
    if isinstance(resized, Mapping):
        shortest = resized.get("shortest_edge")
        resized = [resized.get("height", shortest), resized.get("width", shortest)]
    resized, cropped = pair_of(resized), processor.get("crop_size")
    if isinstance(cropped, Mapping):
        cropped = [cropped.get("height"), cropped.get("width")]
    crops = bool(processor.get("do_center_crop", False)) and cropped is not None
    size = (pair_of(cropped) if crops else None) or own or resized or (224, 224)
    size = own or size
    if processor.get("crop_pct") and shortest and shortest < 384:  # ConvNeXt
        return size, Preprocessing(crop_pct=float(processor["crop_pct"]), interpolation=interpolation)
    if crops and resized:
        return size, Preprocessing(crop_pct=min(size) / min(resized), interpolation=interpolation)
    return size, Preprocessing(crop_mode="center" if shortest else "squash", interpolation=interpolation)


def pair_of(value: Any) -> tuple[int, int] | None:
    """Return height and width; None if they are not given."""
    pair = (value, value) if type(value) is int else tuple(value) if isinstance(value, (list, tuple)) else ()
    return cast(tuple[int, int], pair) if len(pair) == 2 and all(type(side) is int for side in pair) else None


def processor_of(classifier: Classifier, flip_channels: bool) -> dict[str, Any]:
    """Return the settings of an image processor with the preprocessing of a classifier."""
    channels, height, width = classifier.shape
    preprocessing = classifier.preprocessing
    squashed = preprocessing.crop_mode == "squash"
    resized = {
        "height": round(height / preprocessing.crop_pct),
        "width": round(width / preprocessing.crop_pct),
    }
    return {
        "image_processor_type": "ViTImageProcessor" if squashed else "BitImageProcessor",
        "do_resize": True,
        "size": resized if squashed else {"shortest_edge": min(resized.values())},
        "do_center_crop": not squashed,
        **({} if squashed else {"crop_size": {"height": height, "width": width}}),
        "resample": FILTERS.index(preprocessing.interpolation),
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "do_flip_channel_order": flip_channels,
        "image_mean": classifier.mean.flatten().expand(channels).tolist(),
        "image_std": classifier.std.flatten().expand(channels).tolist(),
    }
