"""How much a channel matters to a loss, what removing it saves, and which channels go first."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from datafree.classifier import Classifier, frozen
from datafree.networks.pruning_surgery import Group, layers_of
from datafree.types import Scalar


def gate_slopes(loss: Scalar, groups: Sequence[Group]) -> list[Float[Tensor, " _"]]:
    r"""The slope of a loss in a gate on each channel, :math:`\sum_{w \in g} w \, \partial L / \partial w`.

    Args:
        loss: A function of the network's weights.
        groups: Of its channels. The gate is at their readers: at 0 the channel is read as zero.

    Returns:
        For each group one number per channel; zeros for groups of which none can be removed.
    """
    layers = list({reader.layer: None for group in groups if group.removable for reader in group.readers})
    gradients = dict(zip(layers, torch.autograd.grad(loss, [layer.weight for layer in layers]), strict=True))
    slopes = []
    for group in groups:
        slope = torch.zeros(len(group), device=loss.device, dtype=loss.dtype)
        for layer, columns, channels in group.readers if group.removable else ():
            product = (layer.weight.detach() * gradients[layer]).transpose(0, 1).flatten(1).sum(1)
            slope.index_add_(0, channels, product[columns])
        slopes.append(slope)
    return slopes


def savings(network: Classifier, groups: Sequence[Group]) -> list[float]:
    """Multiplications that removing one channel of each group saves, for one image."""
    image = torch.zeros(1, *network.shape, device=network.device)
    with frozen(network), torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(image)
    counts, layers = counter.get_flop_counts(), layers_of(network)
    macs = {
        layer: sum(counts.get(f"{type(network).__name__}.{name}", {}).values()) / 2 for name, layer in layers.items()
    }
    return [
        sum(macs[layer] / layer.weight.shape[0] for layer in group.writers)
        + sum(macs[r.layer] * len(r.columns) / r.layer.weight.shape[1] / len(group) for r in group.readers)
        for group in groups
    ]


def hardware_aware(importance: Sequence[Tensor], saving: Sequence[float], eta: float) -> list[Tensor]:
    """Importance less what is saved, each as a part of its mean over all channels."""
    mean = torch.cat(list(importance)).mean().clamp_min(1e-30)
    mean_saving = sum(s * len(i) for s, i in zip(saving, importance, strict=True)) / sum(map(len, importance))
    return [i / mean - eta * s / mean_saving for i, s in zip(importance, saving, strict=True)]


def weakest(groups: Sequence[Group], scores: Sequence[Tensor], floors: Sequence[int], filters: int) -> list[list[int]]:
    """The channels of least score, over all groups, until so many filters are gone or a little more.

    Args:
        groups: Removing a channel of a group removes a filter of each of its writers.
        scores: One number per channel of each group.
        floors: Channels that each group keeps.
        filters: How many to remove; by less than one channel it may be more.

    Returns:
        For each group the places to remove.
    """
    places: list[list[int]] = [[] for _ in groups]
    owners = [(number, place) for number, group in enumerate(groups) for place in range(len(group))]
    for index in torch.cat(list(scores)).argsort(stable=True).tolist():
        number, place = owners[index]
        group = groups[number]
        if filters > 0 and group.removable and len(group) - len(places[number]) > floors[number]:
            places[number].append(place)
            filters -= len(group.writers)
    return places
