"""Initialisation of a student with the strongest channels of its teacher.

The student must be a narrower version of the teacher, with the same layers. No image is needed. Torch-Pruning's
dependency graph finds the channels that belong together, across shortcuts too; those with the largest L1 norm are
kept. Where a unit loses inputs, its remaining weights are scaled up to the L1 norm that the unit had before.

References:
    | Pruning Filters for Efficient ConvNets (Li et al., 2017), section 3.1: channels ranked by their L1 norm
    | https://arxiv.org/abs/1608.08710
"""

from copy import deepcopy
from typing import cast

import torch
from torch import nn

from datafree.classifier import Classifier
from datafree.networks.pruning_surgery import Channels, Layer, layers_of, widths_of
from datafree.types import InputError
from datafree.weights.matching import load_weights


def inherit(student: Classifier, teacher: Classifier) -> None:
    r"""Initialise a student, in place, with the strongest channels of its teacher.

    The weights of a unit are scaled by :math:`\lVert w^\text{before} \rVert_1 / \lVert w^\text{after} \rVert_1`, the L1
    norms before and after its inputs are pruned.

    Raises:
        InputError: If the student is not a narrower version of the teacher.
    """
    narrowed = deepcopy(teacher.model).cpu()
    widths = widths_of(student.model)
    if list(widths) != list(layers_of(narrowed)):
        raise InputError("the student does not have the same layers as the teacher; remove --inherit")
    norms = {name: _row_norms(layer) for name, layer in layers_of(narrowed).items()}
    kept = _prune_to_widths(narrowed, teacher.shape, widths)
    with torch.no_grad():
        for name, layer in layers_of(narrowed).items():
            scale = norms[name][kept[name]] / _row_norms(layer).clamp_min(1e-12)
            layer.weight.mul_(scale.view(-1, *[1] * (layer.weight.ndim - 1)))
    weights = {name: tensor.to(student.device) for name, tensor in narrowed.state_dict().items()}
    try:
        load_weights(student.model, weights, "the teacher")
    except InputError as fault:
        raise InputError(f"the student is not a narrower version of the teacher ({fault}); remove --inherit") from fault


def _row_norms(layer: Layer) -> torch.Tensor:
    return layer.weight.detach().flatten(1).abs().sum(1)


def _prune_to_widths(model: nn.Module, shape: tuple[int, ...], widths: dict[str, int]) -> dict[str, torch.Tensor]:
    """Remove the weakest channels until every layer has its width; return the original indices of those kept, by layer."""
    from torch_pruning.pruner.importance import GroupMagnitudeImportance

    names = {layer: name for name, layer in layers_of(model).items()}
    kept = {name: torch.arange(width) for name, width in widths_of(model).items()}
    strength = GroupMagnitudeImportance(p=1)
    channels = Channels(model, shape)
    for group in channels.groups:
        excess = len(group) - widths[names[group.writers[0]]]
        if excess > 0:
            weakest = cast(torch.Tensor, strength(group.graph)).argsort()[:excess]
            remaining = torch.ones(len(group), dtype=torch.bool).index_fill(0, weakest, False)
            for layer in group.writers:
                kept[names[layer]] = kept[names[layer]][remaining]
            channels.remove(group, weakest.tolist())
    return kept
