"""Which channels of a network belong together, and how it loses some of them and still fits.

A filter that is removed takes its batch norm, its place in every shortcut it is added to, and the weights of all that
read it along. What hangs together is found by Torch-Pruning's dependency graph, which follows one image through the
network. The widths of its layers are all that is needed to build a narrowed network again: see `recipe`.

References:
    | DepGraph: Towards Any Structural Pruning (Fang et al., 2023), section 3.2
    | https://arxiv.org/abs/2301.12900
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from datafree.classifier import frozen
from datafree.types import InputError, nearest

LAYERS = (nn.Conv2d, nn.Linear)
Layer = nn.Conv2d | nn.Linear


def layers_of(model: nn.Module) -> dict[str, Layer]:
    """Its convolutions and fully connected layers, by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, LAYERS)}


def widths_of(model: nn.Module) -> dict[str, int]:
    """How many channels each of these layers makes."""
    return {name: layer.weight.shape[0] for name, layer in layers_of(model).items()}


class Reader(NamedTuple):
    """A layer that takes channels of a group in."""

    layer: Layer
    columns: Tensor
    """of its weight's second axis, those that read the group; several for one channel after a flattening"""
    channels: Tensor
    """which channel of the group each column reads"""


@dataclass(frozen=True, eq=False)
class Group:
    """Channels of one layer, or of all layers that shortcuts add up: the same channel of each goes or stays."""

    writers: tuple[Layer, ...]
    """layers whose filters make the channels; removing a channel removes a filter of each"""
    readers: tuple[Reader, ...]
    """layers that take the channels in; none if they are the network's answer"""
    graph: Any
    """the same group as Torch-Pruning knows it"""

    def __len__(self) -> int:
        return self.writers[0].weight.shape[0]

    @property
    def removable(self) -> bool:
        """Not the answer, and in no convolution whose channels are split into groups that would become unequal."""
        convolutions = [
            layer for layer in (*self.writers, *(r.layer for r in self.readers)) if hasattr(layer, "groups")
        ]
        return bool(self.readers) and all(c.groups in (1, c.out_channels) for c in cast(list[nn.Conv2d], convolutions))


class Channels:
    """The groups of a network's channels, as it is now.

    Args:
        model: Takes normalised images. It is run once, and changed by `remove` only.
        shape: Channels, height and width of an image.

    Raises:
        InputError: If what the network does cannot be followed.
    """

    def __init__(self, model: nn.Module, shape: Sequence[int]) -> None:
        import torch_pruning as tp

        self.model = model
        image = torch.zeros(1, *shape, device=next(model.parameters()).device)
        try:
            with frozen(model), torch.enable_grad():
                for parameter in model.parameters():
                    parameter.requires_grad_(True)  # the graph is traced through autograd
                self.graph = tp.DependencyGraph().build_dependency(model, (image,), verbose=False)
            found = list(self.graph.get_all_groups(root_module_types=list(LAYERS)))
            if not found:
                raise ValueError("no layer is behind its answer")
        except Exception as fault:  # whatever the network or the tracer raises
            why = str(fault).splitlines()[0] if str(fault) else type(fault).__name__
            raise InputError(
                f"the channels of this network cannot be followed ({why}); use a convolutional one"
            ) from fault
        self.groups = [self._group(group) for group in found]

    @property
    def filters(self) -> int:
        """Filters (and units of fully connected layers) of all layers but those that make the answer."""
        return sum(len(group) * len(group.writers) for group in self.groups if group.readers)

    def remove(self, group: Group, places: Sequence[int]) -> None:
        """Takes these channels of a group away, in place."""
        root = group.graph[0].dep
        self.graph.get_pruning_group(root.target.module, root.handler, sorted(places)).prune()
        lay_out(self.model)

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
                places = (torch.tensor(places, device=device) for places in (item.idxs, item.root_idxs))
                readers.append(Reader(layer, *places))
        return Group(tuple(writers), tuple(readers), group)


def lay_out(model: nn.Module) -> None:
    """Channels last in memory, as a classifier has them, wherever that is safe."""
    # oneDNN (torch 2.15) crashes in the gradient of a strided 1 x 1 convolution of two to five channels that lie last.
    fragile = any(
        isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1) != layer.stride and layer.in_channels < 8
        for layer in layers_of(model).values()
    )
    model.to(memory_format=torch.contiguous_format if fragile else torch.channels_last)  # pyright: ignore[reportCallIssue]


def narrow(model: nn.Module, shape: Sequence[int], widths: Mapping[str, Any]) -> None:
    """Takes the last channels away, in place, until the layers have these widths; then weights can be loaded.

    Raises:
        InputError: If the network has no such layer, or it cannot be narrowed to this width.
    """
    mine = widths_of(model)
    for name, width in widths.items():
        if name not in mine:
            raise InputError(f"the network has no layer {name!r} to narrow{nearest(name, mine)}")
        if type(width) is not int or not 1 <= width <= mine[name]:
            raise InputError(f"layer {name!r} cannot be {width!r} wide; it has {mine[name]} channels to choose from")
    channels = Channels(model, shape)
    names = {layer: name for name, layer in layers_of(model).items()}
    for group in channels.groups:
        wanted = {widths.get(names[layer], len(group)) for layer in group.writers}
        if len(wanted) > 1 or (wanted != {len(group)} and not group.removable):
            joined = ", ".join(names[layer] for layer in group.writers[:3])
            raise InputError(f"the layers {joined} cannot be {' and '.join(map(str, sorted(wanted)))} channels wide")
        if wanted != {len(group)}:
            channels.remove(group, range(wanted.pop(), len(group)))


def require_removable(model: nn.Module, shape: Sequence[int]) -> None:
    """Tries on a copy whether the network still runs when every group has lost a channel.

    Raises:
        InputError: If it does not.
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
    except Exception as fault:  # whatever the network or the tracer raises
        why = str(fault).splitlines()[0] if str(fault) else type(fault).__name__
        raise InputError(f"this network does not run with fewer channels ({why}); use a convolutional one") from fault
    if after != before:
        raise InputError("this network answers in another shape with fewer channels; use a convolutional one")


def recipe(model: nn.Module, original: nn.Module) -> dict[str, Any]:
    """What `config.json` says of a network that was pruned, so that it can be built again without its history.

    Args:
        model: The network as it is.
        original: As its architecture's name makes it.

    Returns:
        `model_args` with `widths` where the architecture has such an argument, else `widths` by the names of the
        layers that are narrower; nothing where none is.
    """
    whole = widths_of(original)
    narrower = {name: width for name, width in widths_of(model).items() if width != whole.get(name)}
    if not narrower:
        return {}
    widths = getattr(model, "widths", None)
    return {"model_args": {"widths": list(widths)}} if isinstance(widths, tuple) else {"widths": narrower}


def recorded(config: Mapping[str, Any], model: nn.Module) -> Mapping[str, Any]:
    """The widths by layer that a `config.json` asks for, not to be believed: the inverse of `recipe`.

    Raises:
        ValueError: If there are more or fewer widths than layers.
    """
    listed = config.get("model_args", {}).get("widths")
    if listed is not None and isinstance(getattr(model, "widths", None), tuple):
        return dict(zip(list(layers_of(model))[:-1], listed, strict=True))
    return dict(config.get("widths", {}))
