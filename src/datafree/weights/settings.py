"""What the tensors of a file say about the settings of a network: its classes, and the shape of its images."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class Settings:
    """The settings of a network that fit the tensors of a file. What the tensors do not say is None."""

    classes: int | None = None
    """number of classes"""
    channels: int | None = None
    """channels of an image"""
    size: tuple[int, int] | None = None
    """height and width of an image"""
    arguments: dict[str, Any] = field(default_factory=dict)
    """further arguments of the network, e.g. `patch_size`"""


def infer_settings(tensors: Mapping[str, Tensor], network: nn.Module) -> Settings:
    """Return the settings with which a network has the shapes of the tensors of a file.

    Args:
        tensors: `Checkpoint.tensors`, with the names of the file.
        network: The network with its default settings; it may be a blueprint on the meta device.
    """
    return Settings()
