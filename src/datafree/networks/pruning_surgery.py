"""Structural pruning: which channels of a network belong together, and how they are removed.

Removing a filter also removes its batch-norm channel, its index in every shortcut it is added to, and the weights of
all layers that read it. Torch-Pruning's dependency graph finds these by tracing one image through the network. A pruned
network can be rebuilt from its architecture and the widths of its layers; see `widths_to_config`.

References:
    | DepGraph: Towards Any Structural Pruning (Fang et al., 2023), section 3.2
    | https://arxiv.org/abs/2301.12900
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from datafree.classifier import frozen
from datafree.memory_format import is_channels_last, use_channels_last
from datafree.randomness import RandomNumbers
from datafree.types import InputError, suggestion

LAYERS = (nn.Conv2d, nn.Linear)
Layer = nn.Conv2d | nn.Linear


def layers_of(model: nn.Module) -> dict[str, Layer]:
    """Return the convolutions and fully connected layers of a network, by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, LAYERS)}


def widths_of(model: nn.Module) -> dict[str, int]:
    """Return the number of output channels of each of these layers, by name."""
    return {name: layer.weight.shape[0] for name, layer in layers_of(model).items()}


class Reader(NamedTuple):
    """A layer whose input includes the channels of a group."""

    layer: Layer
    columns: Tensor
    """indices along the second axis of its weight that read the group; several per channel after a flattening"""
    channels: Tensor
    """the channel of the group that each of these columns reads"""


@dataclass(frozen=True, eq=False)
class Group:
    """Channels that can only be removed together: those of one layer, or of all layers that shortcuts add up."""

    writers: tuple[Layer, ...]
    """layers whose filters compute the channels; removing a channel removes one filter of each"""
    readers: tuple[Reader, ...]
    """layers that take the channels as input; none if the channels are the network's output"""
    graph: Any
    """the same group in Torch-Pruning's dependency graph"""

    def __len__(self) -> int:
        return self.writers[0].weight.shape[0]

    @property
    def filters(self) -> int:
        """Number of filters of all writers."""
        return sum(layer.weight.shape[0] for layer in self.writers)

    @property
    def removable(self) -> bool:
        """Whether channels can be removed.

        Not from the output, nor where a convolution has groups but is not depthwise, nor where a channel of one layer is
        multiplied with or added to all channels of another one.
        """
        layers = (*self.writers, *(reader.layer for reader in self.readers))
        broadcast = self.filters != len(self) * len(self.writers)
        return bool(self.readers) and not broadcast and all(map(_has_removable_channels, layers))


def _has_removable_channels(layer: Layer) -> bool:
    if not isinstance(layer, nn.Conv2d):
        return True
    return layer.groups == 1 or layer.groups == layer.in_channels == layer.out_channels


class Channels:
    """The channel groups of a network in its current state.

    Args:
        model: A network of normalised images. It is run once, and changed only by `remove`.
        shape: Channels, height and width of an image.

    Raises:
        InputError: If the network cannot be traced.
    """

    def __init__(self, model: nn.Module, shape: Sequence[int]) -> None:
        import torch_pruning as tp

        self.model = model
        self.channels_last = is_channels_last(model)
        image = torch.zeros(1, *shape, device=next(model.parameters()).device)
        try:
            with frozen(model), torch.enable_grad():
                for parameter in model.parameters():
                    parameter.requires_grad_(True)  # the graph is traced through autograd
                self.graph = tp.DependencyGraph().build_dependency(model, (image,), verbose=False)
            groups = list(self.graph.get_all_groups(root_module_types=list(LAYERS)))
            if not groups:
                raise ValueError("its output does not depend on any layer")
        except Exception as fault:  # the network and the tracer may raise anything
            raise InputError(
                f"the channels of this network cannot be removed ({_reason(fault)}); distil a smaller network instead"
            ) from fault
        self.groups = [self._group(group) for group in groups]

    @property
    def filters(self) -> int:
        """Number of filters (and units of fully connected layers) in all layers except the output layer."""
        return sum(group.filters for group in self.groups if group.readers)

    def remove(self, group: Group, channels: Sequence[int]) -> None:
        """Remove channels of a group from the network, in place.

        Args:
            group: One of `groups`.
            channels: Indices of the channels within the group.
        """
        root = group.graph[0].dep
        self.graph.get_pruning_group(root.target.module, root.handler, sorted(channels)).prune()
        if self.channels_last:  # the new weights are contiguous
            use_channels_last(self.model)

    def _group(self, group: Any) -> Group:
        writers, readers = [], []
        for item in group:
            layer, handler = item.dep.target.module, item.dep.handler
            if not isinstance(layer, LAYERS):
                continue
            if self.graph.is_out_channel_pruning_fn(handler):
                writers.append(layer)
            else:
                device = layer.weight.device
                indices = (torch.tensor(indices, device=device) for indices in (item.idxs, item.root_idxs))
                readers.append(Reader(layer, *indices))
        return Group(tuple(writers), tuple(readers), group)


def _reason(fault: Exception) -> str:
    if isinstance(fault, ZeroDivisionError):
        return "it shuffles them, as ShuffleNet does"
    return str(fault).splitlines()[0] if str(fault) else type(fault).__name__


def narrow(model: nn.Module, shape: Sequence[int], widths: Mapping[str, Any]) -> None:
    """Remove the last channels of layers, in place, until they have the given widths, so that weights can be loaded.

    Args:
        model: A network of normalised images.
        shape: Channels, height and width of an image.
        widths: Number of output channels by layer name; other layers keep theirs. The values are untrusted.

    Raises:
        InputError: If there is no such layer, or it cannot have this width.
    """
    current = widths_of(model)
    for name, width in widths.items():
        if name not in current:
            raise InputError(f"the network has no layer {name!r} to narrow{suggestion(name, current)}")
        if type(width) is not int or not 1 <= width <= current[name]:
            raise InputError(
                f"layer {name!r} cannot be narrowed to {width!r} channels; give a number from 1 to {current[name]}"
            )
    channels = Channels(model, shape)
    names = {layer: name for name, layer in layers_of(model).items()}
    for group in channels.groups:
        targets = {widths.get(names[layer], len(group)) for layer in group.writers}
        if len(targets) > 1 or (targets != {len(group)} and not group.removable):
            layers = ", ".join(names[layer] for layer in group.writers[:3])
            numbers = " and ".join(map(str, sorted(targets)))
            raise InputError(f"the channels of {layers} cannot be narrowed to {numbers}; correct the widths")
        if targets != {len(group)}:
            channels.remove(group, range(targets.pop(), len(group)))


def require_removable(model: nn.Module, shape: Sequence[int]) -> None:
    """Check on a copy that the network still runs after every removable group has lost one channel, in training too.

    Raises:
        InputError: If it does not run, or the shape of its output changes.
    """
    image = torch.zeros(1, *shape, device=next(model.parameters()).device)
    with frozen(model), torch.no_grad():
        before = model(image).shape
    copy = deepcopy(model)
    channels = Channels(copy, shape)
    try:
        for group in channels.groups:
            if group.removable and len(group) > 1:
                channels.remove(group, [0])
        with frozen(copy), torch.no_grad():
            after = copy(image).shape
    except Exception as fault:  # the network and the tracer may raise anything
        raise InputError(
            f"this network does not run with fewer channels ({_reason(fault)}); use a convolutional network"
        ) from fault
    if after != before:
        raise InputError("the output of this network changes shape with fewer channels; use a convolutional network")
    try:
        with torch.no_grad(), RandomNumbers(0):
            copy.train()(image.repeat(2, 1, 1, 1))
    except Exception as fault:  # an auxiliary head that only exists in training is not in the graph of channels
        raise InputError(
            f"this network does not run in training with fewer channels ({_reason(fault)}); remove its auxiliary heads"
        ) from fault


def widths_to_config(model: nn.Module, original: nn.Module) -> dict[str, Any]:
    """Return the entries of `config.json` from which a pruned network can be rebuilt.

    Args:
        model: The network, pruned or not.
        original: The network that its architecture name creates.

    Returns:
        `model_args` with `widths` if the architecture takes such an argument, else `widths` by the name of each layer
        that is narrower than in `original`; empty if no layer is.
    """
    original_widths = widths_of(original)
    narrower = {name: width for name, width in widths_of(model).items() if width != original_widths.get(name)}
    if not narrower:
        return {}
    widths = getattr(model, "widths", None)
    return {"model_args": {"widths": list(widths)}} if isinstance(widths, tuple) else {"widths": narrower}


def widths_from_config(config: Mapping[str, Any], model: nn.Module) -> Mapping[str, Any]:
    """Return the widths by layer name in a `config.json`, unchecked; the inverse of `widths_to_config`.

    Raises:
        ValueError: If the number of widths is not the number of layers.
    """
    widths = config.get("model_args", {}).get("widths")
    if widths is not None and isinstance(getattr(model, "widths", None), tuple):
        return dict(zip(list(layers_of(model))[:-1], widths, strict=True))
    return dict(config.get("widths", {}))
