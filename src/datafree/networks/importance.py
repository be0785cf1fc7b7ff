"""Channel selection for pruning: importance of a channel, operations saved without it, and the channels to remove."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from datafree.classifier import Classifier, frozen
from datafree.networks.pruning_order import cuts_for, cuts_in_order, selected
from datafree.networks.pruning_surgery import Group, layers_of
from datafree.types import Scalar


def gate_gradients(loss: Scalar, groups: Sequence[Group]) -> list[Float[Tensor, " _"]]:
    r"""Return the gradient of a loss in a gate on each channel, :math:`\sum_{w \in g} w \, \partial L / \partial w`.

    Args:
        loss: A function of the network's weights.
        groups: Channel groups of the network. A gate multiplies a channel where the group's readers take it in.

    Returns:
        One tensor per group with one value per channel; zeros for groups that cannot be pruned.
    """
    layers = list({reader.layer: None for group in groups if group.removable for reader in group.readers})
    gradients = dict(zip(layers, torch.autograd.grad(loss, [layer.weight for layer in layers]), strict=True))
    per_group = []
    for group in groups:
        gate_gradient = torch.zeros(len(group), device=loss.device, dtype=loss.dtype)
        for layer, columns, channels in group.readers if group.removable else ():
            product = (layer.weight.detach() * gradients[layer]).transpose(0, 1).flatten(1).sum(1)
            gate_gradient.index_add_(0, channels, product[columns])
        per_group.append(gate_gradient)
    return per_group


def macs_saved(network: Classifier, groups: Sequence[Group]) -> list[float]:
    """Return, for each group, the multiply-accumulate operations per image that removing one channel saves."""
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


def hardware_aware_scores(importance: Sequence[Tensor], saved: Sequence[float], weight: float) -> list[Tensor]:
    r"""Return importance minus savings, :math:`I_c / \bar I - \eta \, S_c / \bar S`, with means over all channels.

    Args:
        importance: One tensor per group with one value per channel.
        saved: For each group, the operations that removing one channel saves; see `macs_saved`.
        weight: :math:`\eta`, the weight of the savings.
    """
    mean = torch.cat(list(importance)).mean().clamp_min(1e-30)
    mean_saved = sum(s * len(i) for s, i in zip(saved, importance, strict=True)) / sum(map(len, importance))
    return [i / mean - weight * s / mean_saved for i, s in zip(importance, saved, strict=True)]


def lowest_scoring(
    groups: Sequence[Group], scores: Sequence[Tensor], min_kept: Sequence[int], filters: int, multiple: int = 1
) -> list[list[int]]:
    """Select the channels with the lowest scores over all groups, until enough filters are removed.

    Args:
        groups: Channel groups. Removing one channel removes one filter of each of the group's writers.
        scores: One tensor per group with one score per channel.
        min_kept: Number of channels that each group keeps at least.
        filters: Number of filters to remove. The last cut may exceed it by its own filters.
        multiple: A group that loses channels keeps a multiple of this number.

    Returns:
        For each group, the indices of the channels to remove.
    """
    cuts = cuts_in_order(groups, scores, min_kept, multiple)
    return selected(cuts[: cuts_for(cuts, groups, filters)], len(groups))
