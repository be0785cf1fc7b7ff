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

from datafree.classifier import Classifier, frozen
from datafree.types import InputError

LAYERS = (nn.Conv2d, nn.Linear)


def inherit(student: Classifier, teacher: Classifier) -> None:
    """Fills the student, in place, with the teacher's strongest channels.

    Raises:
        InputError: If the student is not the teacher made narrower.
    """
    from datafree.teachers import fit

    narrow = deepcopy(teacher.model).cpu()
    widths = {name: layer.weight.shape[0] for name, layer in _layers(student.model).items()}
    if list(widths) != list(_layers(narrow)):
        raise InputError(
            "the student has other layers than the teacher and cannot inherit from it; leave --inherit out"
        )
    norms = {name: _row_norms(layer) for name, layer in _layers(narrow).items()}
    kept = _narrow(narrow, widths, torch.zeros(1, *teacher.shape))
    with torch.no_grad():
        for name, layer in _layers(narrow).items():
            lost = norms[name][kept[name]] / _row_norms(layer).clamp_min(1e-12)
            layer.weight.mul_(lost.view(-1, *[1] * (layer.weight.ndim - 1)))
    try:
        fit(
            student.model,
            {name: tensor.to(student.device) for name, tensor in narrow.state_dict().items()},
            "the teacher",
        )
    except InputError as fault:
        raise InputError(f"the student is not the teacher made narrower ({fault}); leave --inherit out") from fault


def _layers(model: nn.Module) -> dict[str, nn.Conv2d | nn.Linear]:
    return {name: module for name, module in model.named_modules() if isinstance(module, LAYERS)}


def _row_norms(layer: nn.Conv2d | nn.Linear) -> torch.Tensor:
    return layer.weight.detach().flatten(1).abs().sum(1)


def _narrow(model: nn.Module, widths: dict[str, int], example: torch.Tensor) -> dict[str, torch.Tensor]:
    """Takes channels away until every layer has its width; returns which of the first ones each layer has kept."""
    import torch_pruning as tp

    names = {layer: name for name, layer in _layers(model).items()}
    kept = {name: torch.arange(layer.weight.shape[0]) for name, layer in _layers(model).items()}
    with frozen(model):
        for parameter in model.parameters():
            parameter.requires_grad_(True)  # the graph is traced through autograd
        graph = tp.DependencyGraph().build_dependency(model, example_inputs=example)
    strength = tp.importance.GroupMagnitudeImportance(p=1)
    for group in list(graph.get_all_groups(root_module_types=list(LAYERS))):
        root = group[0].dep.target.module
        excess = root.weight.shape[0] - widths[names[root]]
        if excess <= 0:
            continue
        weakest = cast(torch.Tensor, strength(group)).argsort()[:excess].tolist()
        whole = graph.get_pruning_group(root, group[0].dep.handler, sorted(weakest))
        for dependency, places in whole:
            layer = dependency.target.module
            if layer in names and graph.is_out_channel_pruning_fn(dependency.handler):
                remains = torch.ones(len(kept[names[layer]]), dtype=torch.bool)
                remains[list(places)] = False
                kept[names[layer]] = kept[names[layer]][remains]
        whole.prune()
    return kept
