"""What the container of weights says about its network: the options that training programs save beside the weights.

Everything is untrusted. Values are taken only if they are of the expected type and size, and ignored otherwise.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import Tensor

from datafree.types import printable
from datafree.weights.stand_ins import Attributes

T = TypeVar("T")
Values = Mapping[Any, Any]

OPTIONS = ("args", "hyper_parameters", "hparams", "config", "cfg", "model_args", "opt", "pretrained_cfg", "meta")
"""entries that hold the options of a training program"""
ARCHITECTURE = ("model", "arch", "architecture", "model_name", "network", "net", "backbone")
CLASSES = ("num_classes", "nb_classes", "n_classes", "num_labels")
CLASS_NAMES = ("class_names", "classes", "label_names", "labels", "CLASSES", "categories")
CLASS_INDICES = ("class_to_idx", "label2id")
CLASSES_BY_INDEX = ("idx_to_class", "id2label")
CHANNELS = ("in_chans", "in_channels", "num_channels")
SIZES = ("input_size", "img_size", "image_size", "val_crop_size", "train_crop_size")
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.+-]{0,99}")
"""name of an architecture, or of an argument"""
MAX_CLASSES, MAX_NAME, MAX_SIDE, MAX_CHANNELS, MAX_ARGUMENTS = 100_000, 200, 2048, 1024, 50


@dataclass(frozen=True)
class Description:
    """What a container says about its network. Everything is a plain value from an untrusted file."""

    architecture: str = ""
    """name of the network, perhaps one of timm's or of torchvision's; empty if the container does not say it"""
    arguments: dict[str, Any] = field(default_factory=dict)
    """further arguments of the network, unchecked: see `networks.building.require_plain_arguments`"""
    classes: int | None = None
    """number of classes"""
    class_names: tuple[str, ...] = ()
    channels: int | None = None
    """channels of an image"""
    size: tuple[int, int] | None = None
    """height and width of an image"""
    mean: tuple[float, ...] = ()
    """mean of the pixels, in [0, 1], per channel; empty if the container does not say it"""
    std: tuple[float, ...] = ()
    """standard deviation of the pixels, per channel"""
    crop_pct: float | None = None
    interpolation: str | None = None


def describe(content: Values) -> Description:
    """Return what a container says about its network.

    The options of timm's and of torchvision's training programs are known, those of DeiT, and the entries that tutorials
    save. Options take precedence over entries of the container, because in `arch` timm may save the name of a class.
    """
    options = list(_options(content))
    both = (*options, content)
    size = _first(both, SIZES, _shape)
    names = _class_names(both)
    mean, std = _first(both, ("mean",), _per_channel) or (), _first(both, ("std",), _per_channel) or ()
    matching = len(mean) == len(std) and min(std, default=1.0) > 0
    return Description(
        architecture=_first(both, ARCHITECTURE, _architecture) or "",
        arguments=_first(both, ("model_kwargs",), _arguments) or {},
        classes=_first(both, CLASSES, _count) or len(names) or None,
        class_names=names,
        channels=_first(both, CHANNELS, _channels) or (size[0] if size else None),
        size=size[1:] if size else None,
        mean=mean if matching else (),
        std=std if matching else (),
        crop_pct=_first(both, ("crop_pct",), _fraction),
        interpolation=_first(both, ("interpolation",), _word),
    )


def _options(content: Values) -> Iterator[Values]:
    for name in OPTIONS:
        value = content.get(name)
        value = vars(value) if isinstance(value, Attributes) else value
        if isinstance(value, Mapping):
            yield value


def _first(sources: tuple[Values, ...], names: tuple[str, ...], read: Callable[[Any], T | None]) -> T | None:
    """Return the first value under one of the names that can be read."""
    found = (read(source[name]) for source in sources for name in names if source.get(name) is not None)
    return next((value for value in found if value is not None), None)


def _integer(value: Any, most: int) -> int | None:
    return value if type(value) is int and 0 < value <= most else None


def _count(value: Any) -> int | None:
    return _integer(value, MAX_CLASSES)


def _channels(value: Any) -> int | None:
    return _integer(value, MAX_CHANNELS)


def _shape(value: Any) -> tuple[int | None, int, int] | None:
    """Return channels (or None), height and width from a side, a height and width, or a shape."""
    sides = [value] if isinstance(value, int) else list(value) if isinstance(value, (list, tuple)) else []
    if not 1 <= len(sides) <= 3 or any(_integer(side, MAX_SIDE) is None for side in sides):
        return None
    return sides[0] if len(sides) == 3 else None, sides[-2] if len(sides) > 1 else sides[0], sides[-1]


def _architecture(value: Any) -> str | None:
    return value if isinstance(value, str) and NAME.fullmatch(value) else None


def _word(value: Any) -> str | None:
    return value if isinstance(value, str) and re.fullmatch(r"[a-z]{1,20}", value) else None


def _fraction(value: Any) -> float | None:
    return float(value) if type(value) in (int, float) and 0.01 <= value <= 4 else None


def _per_channel(value: Any) -> tuple[float, ...] | None:
    value = value.tolist() if isinstance(value, Tensor) and value.numel() <= MAX_CHANNELS else value
    if not isinstance(value, (list, tuple)) or not 1 <= len(value) <= MAX_CHANNELS:
        return None
    plain = all(type(item) in (int, float) and math.isfinite(item) and abs(item) <= 1e3 for item in value)
    return tuple(float(item) for item in value) if plain else None


def _arguments(value: Any) -> dict[str, Any] | None:
    """Return arguments whose values are numbers, words and lists of them."""
    if not isinstance(value, Mapping) or len(value) > MAX_ARGUMENTS:
        return None
    named = {name: item for name, item in value.items() if isinstance(name, str) and NAME.fullmatch(name)}
    return {name: item for name, item in named.items() if _is_plain(item)}


def _is_plain(value: Any, depth: int = 0) -> bool:
    if isinstance(value, (list, tuple)):
        return depth < 3 and len(value) <= MAX_NAME and all(_is_plain(item, depth + 1) for item in value)
    if type(value) is float:
        return math.isfinite(value)
    if type(value) is int:
        return abs(value) < 2**31
    return value is None or isinstance(value, bool) or (isinstance(value, str) and len(value) <= MAX_NAME)


def _class_names(sources: tuple[Values, ...]) -> tuple[str, ...]:
    """Return the names of the classes in the order of the logits."""
    return (
        _first(sources, CLASS_NAMES, _names)
        or _first(sources, CLASS_INDICES, _names_with_index)
        or _first(sources, CLASSES_BY_INDEX, _names_by_index)
        or ()
    )


def _names(value: Any) -> tuple[str, ...] | None:
    if not isinstance(value, (list, tuple)) or not 1 < len(value) <= MAX_CLASSES:
        return None
    if not all(isinstance(name, str) and 0 < len(name) <= MAX_NAME for name in value) or len(set(value)) < len(value):
        return None
    return tuple(printable(name) for name in value)


def _names_with_index(value: Any) -> tuple[str, ...] | None:
    if not isinstance(value, Mapping) or not all(type(index) is int for index in value.values()):
        return None
    ordered = sorted(value, key=lambda name: value[name])
    return _names(ordered) if sorted(value.values()) == list(range(len(value))) else None


def _names_by_index(value: Any) -> tuple[str, ...] | None:
    if not isinstance(value, Mapping) or len(value) > MAX_CLASSES:
        return None
    by_index = {str(index): name for index, name in value.items()}
    return _names([by_index.get(str(index)) for index in range(len(by_index))])
