"""A student that begins as the strongest channels of its teacher, where it is a narrower network of the same layers.

No image is needed for it. Which channels belong together, across shortcuts too, is found by Torch-Pruning's dependency
graph; the strongest by the L1 norm of their weights stay. Where a unit loses inputs, the weights of those that stay
grow until their L1 norm is what it was.

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
from datafree.networks.weights import fit
from datafree.types import InputError


def inherit(student: Classifier, teacher: Classifier) -> None:
    """Fills the student, in place, with the teacher's strongest channels.

    Raises:
        InputError: If the student is not the teacher made narrower.
    """
    heir = deepcopy(teacher.model).cpu()
    widths = widths_of(student.model)
    if list(widths) != list(layers_of(heir)):
        raise InputError(
            "the student has other layers than the teacher and cannot inherit from it; leave --inherit out"
        )
    norms = {name: _row_norms(layer) for name, layer in layers_of(heir).items()}
    kept = _keep_strongest(heir, teacher.shape, widths)
    with torch.no_grad():
        for name, layer in layers_of(heir).items():
            lost = norms[name][kept[name]] / _row_norms(layer).clamp_min(1e-12)
            layer.weight.mul_(lost.view(-1, *[1] * (layer.weight.ndim - 1)))
    try:
        fit(
            student.model,
            {name: tensor.to(student.device) for name, tensor in heir.state_dict().items()},
            "the teacher",
        )
    except InputError as fault:
        raise InputError(f"the student is not the teacher made narrower ({fault}); leave --inherit out") from fault


def _row_norms(layer: Layer) -> torch.Tensor:
    return layer.weight.detach().flatten(1).abs().sum(1)


def _keep_strongest(model: nn.Module, shape: tuple[int, ...], widths: dict[str, int]) -> dict[str, torch.Tensor]:
    """Takes channels away until every layer has its width; returns which of the first ones each layer has kept."""
    from torch_pruning.pruner.importance import GroupMagnitudeImportance

    names = {layer: name for name, layer in layers_of(model).items()}
    kept = {name: torch.arange(width) for name, width in widths_of(model).items()}
    strength = GroupMagnitudeImportance(p=1)
    channels = Channels(model, shape)
    for group in channels.groups:
        excess = len(group) - widths[names[group.writers[0]]]
        if excess > 0:
            weakest = cast(torch.Tensor, strength(group.graph)).argsort()[:excess]
            remains = torch.ones(len(group), dtype=torch.bool).index_fill(0, weakest, False)
            for layer in group.writers:
                kept[names[layer]] = kept[names[layer]][remains]
            channels.remove(group, weakest.tolist())
    return kept
