"""What a weights file contains: the tensors, and what its container says about the network."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Description:
    """What a container says about its network. Everything is a plain value from an untrusted file."""

    architecture: str = ""
    """name of the network, as timm or torchvision know it; empty if the container does not say it"""
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


@dataclass(frozen=True)
class Checkpoint:
    """An untrusted weights file that was read."""

    tensors: Mapping[str, Tensor]
    """by name, on the CPU, in the order of the file"""
    notes: tuple[str, ...] = ()
    """sentences about what was chosen and left out"""
    description: Description = Description()
    """what the container says about the network"""
    keys: tuple[str, ...] = ()
    """entries of the container at its top; empty for a state dict on its own"""
    ordered: bool = True
    """whether the tensors have the order in which the network registers them: safetensors files are sorted by name"""
