"""What the tensors of a file say about the settings of a network: its classes, and the shape of its images."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from torch import Tensor, nn

from datafree.types import InputError
from datafree.weights.names import by_names
from datafree.weights.order import by_order

TOKEN_MIXERS = (".mlp_tokens.fc1.weight", ".linear_tokens.weight")
"""layers whose inputs are the patches of an image"""
TOKEN_OUTPUTS = (".mlp_tokens.fc2.weight", ".mlp_tokens.fc2.bias", ".linear_tokens.bias")
"""layers whose outputs are the patches of an image"""


@dataclass(frozen=True)
class Settings:
    """The settings of a network that fit the tensors of a file. What the tensors do not say is None."""

    classes: int | None = None
    """number of classes"""
    channels: int | None = None
    """channels of an image"""
    size: tuple[int, int] | None = None
    """height and width of an image, if the network is built for one size; it is assumed to be square"""
    arguments: dict[str, Any] = field(default_factory=dict)
    """further arguments of the network: `patch_size`"""
    explained: frozenset[str] = frozenset()
    """names of the network's tensors whose shapes depend on these settings"""

    def options(self, network: nn.Module) -> str:
        """Return the settings that differ from those of a network, as options of the command line.

        Where the tensors do not say the size of the images, it is left to the user.
        """
        shape = _own_shape(network)
        size = self.size or (shape[1:] if self.channels == shape[0] else None)
        words = [f"--classes {self.classes}"] if self.classes else []
        if self.channels and (self.channels, *(size or ())) != shape:
            words.append(f"--input {self.channels} {' '.join(map(str, size or ('HEIGHT', 'WIDTH')))}")
        words += [f"--teacher-args {name}={value}" for name, value in self.arguments.items()]
        return " ".join(words)


def infer_settings(tensors: Mapping[str, Tensor], network: nn.Module) -> Settings:
    """Return the settings with which a network has the shapes of the tensors of a file.

    Args:
        tensors: `Checkpoint.tensors`, with the names of the file.
        network: The network with its default settings; it may be a blueprint on the meta device.

    Returns:
        The settings; each is None where the file does not say it, as the size for a network that accepts images of any size.
    """
    expected = network.state_dict()
    try:
        weights = by_names(expected, tensors, "").weights
    except InputError:
        return Settings()
    if 2 * sum(name in weights for name in expected) < len(expected):
        weights = by_order(expected, tensors) or weights
    return settings_of(weights, network)


def settings_of(weights: Mapping[str, Tensor], network: nn.Module) -> Settings:
    """Return the settings with which a network has the shapes of weights, which have the names of the network."""
    expected = network.state_dict()
    classes, head = _classes(weights, network, expected)
    channels, patch, stem = _images(weights, network, expected)
    size, tokens = _size(weights, network, expected, patch)
    arguments = {"patch_size": patch} if patch is not None and patch != _own_patch(network) else {}
    return Settings(classes, channels, size, arguments, frozenset({*head, *stem, *tokens}))


def _classes(
    weights: Mapping[str, Tensor], network: nn.Module, expected: Mapping[str, Tensor]
) -> tuple[int | None, list[str]]:
    """Return the number of classes, and the names of the tensors that depend on it."""
    names = [name for name in _head(network, expected) if name in weights]
    matrices = [name for name in names if expected[name].ndim > 1]
    counts = {len(weights[name]) for name in names if weights[name].ndim}
    same = all(weights[name].shape[1:] == expected[name].shape[1:] for name in matrices)
    return (counts.pop(), names) if matrices and same and len(counts) == 1 else (None, [])


def _head(network: nn.Module, expected: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the weights and biases of the last layer, or of the last layers of a network with several heads."""
    modules: list[Any] = []
    get_classifier = getattr(network, "get_classifier", None)
    if callable(get_classifier):
        found = cast(Any, get_classifier())
        modules = list(found) if isinstance(found, (tuple, list, nn.ModuleList)) else [found]
    modules = [module for module in modules if getattr(module, "weight", None) is not None]
    layers = {name: module for name, module in network.named_modules() if isinstance(module, (nn.Linear, nn.Conv2d))}
    names = [name for name, module in layers.items() if any(module is other for other in modules)]
    names = names or list(layers)[-1:]
    return [key for name in names for key in (f"{name}.weight", f"{name}.bias") if key in expected]


def _images(
    weights: Mapping[str, Tensor], network: nn.Module, expected: Mapping[str, Tensor]
) -> tuple[int | None, int | None, list[str]]:
    """Return the channels of an image, the side of its patches (None without), and the names that depend on them."""
    name = next((name for name, tensor in expected.items() if tensor.ndim == 4), "")
    if not name or name not in weights or weights[name].ndim != 4:
        return None, None, []
    own, given = expected[name].shape, weights[name].shape
    patches = _own_patch(network)
    is_patch = patches is not None and own[2:] == (patches, patches)
    same_kernel = given[2:] == own[2:] or (is_patch and given[2] == given[3])
    default = _own_shape(network)[0]
    if given[0] != own[0] or not same_kernel or not default or given[1] * default % own[1]:
        return None, None, []
    return given[1] * default // own[1], given[2] if is_patch else None, [name]


def _own_shape(network: nn.Module) -> tuple[int, ...]:
    """Return the shape of an image in a network's configuration; (3,) without one, or the inputs of its first convolution."""
    first = next((module for module in network.modules() if isinstance(module, nn.Conv2d)), None)
    own = getattr(network, "pretrained_cfg", None) or {}
    size = tuple(own.get("input_size") or ())
    if first is None or not size or first.in_channels % size[0]:
        return (first.in_channels if first is not None else 3,)
    return size


def _own_patch(network: nn.Module) -> int | None:
    """Return the side of the patches of a network that cuts its images into square ones with one convolution."""
    size = getattr(getattr(network, "patch_embed", None) or getattr(network, "stem", None), "patch_size", None)
    size = size if size is not None else getattr(network, "patch_size", None)
    sides = set(size) if isinstance(size, (tuple, list)) else {size}
    side = sides.pop() if len(sides) == 1 else None
    return side if isinstance(side, int) else None


def _size(
    weights: Mapping[str, Tensor], network: nn.Module, expected: Mapping[str, Tensor], patch: int | None
) -> tuple[tuple[int, int] | None, list[str]]:
    """Return the height and width for which a network with positions for its patches was built."""
    names = list(_token_tensors(expected))
    grid = getattr(getattr(network, "patch_embed", None) or getattr(network, "stem", None), "grid_size", None)
    grid = grid if grid is not None else _square(network)
    if not grid or patch is None or not names or any(name not in weights for name, _ in names):
        return None, []
    name, axis = names[0]
    # Tokens beside the patches, such as that of the class, are as many as in the network.
    tokens = weights[name].shape[axis] - (expected[name].shape[axis] - grid[0] * grid[1])
    side = math.isqrt(max(0, tokens))
    return ((side * patch, side * patch), [name for name, _ in names]) if side and side * side == tokens else (None, [])


def _square(network: nn.Module) -> tuple[int, int] | None:
    """Return the patches of torchvision's transformers, along the height and the width."""
    side, patch = getattr(network, "image_size", None), getattr(network, "patch_size", None)
    if not isinstance(side, int) or not isinstance(patch, int) or not patch:
        return None
    return side // patch, side // patch


def _token_tensors(expected: Mapping[str, Tensor]) -> Iterator[tuple[str, int]]:
    """Yield the names of the tensors with one row for each patch, and the axis of the rows."""
    for name, tensor in expected.items():
        if name.rpartition(".")[2] in ("pos_embed", "pos_embedding") and tensor.ndim == 3:
            yield name, 1
        elif name.endswith(TOKEN_MIXERS):
            yield name, tensor.ndim - 1
        elif name.endswith(TOKEN_OUTPUTS):
            yield name, 0
