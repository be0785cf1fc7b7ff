"""Matching tensors by their order and shapes, where the names differ.

Programs that describe the same architecture create its layers in the same order, under other names. If the sequence of the
shapes is identical, the n-th tensor of the file belongs to the n-th tensor of the network. What is no tensor, such as the
epsilon of batch norm, the padding and the activation, is not in the file, and has to be that of the network.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from datafree.types import InputError, printable
from datafree.weights.names import COUNTER

KINDS = ("weight", "bias", "running_mean", "running_var")
"""last parts of names; where both names have one of these, they must be the same"""
ACTIVATIONS = (
    "ReLU ReLU6 LeakyReLU PReLU ELU CELU SELU GELU SiLU Mish Hardswish Hardsigmoid Sigmoid Tanh Softplus".split()
)


def by_order(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Return tensors by the names of a network, if their sequence of shapes is the same but for classes and channels.

    Args:
        expected: The state dict of the network; it may be on the meta device.
        tensors: The tensors of the file, in the order in which their network registers them.

    Returns:
        The weights, completed with counters of batch norm; None if the sequences differ.
    """
    wanted = {name: tensor for name, tensor in expected.items() if not name.endswith(COUNTER)}
    given = {name: tensor for name, tensor in tensors.items() if not name.endswith(COUNTER)}
    if len(wanted) != len(given) or first_difference(wanted, given) is not None:
        return None
    counters = {
        name: torch.zeros(tensor.shape, dtype=tensor.dtype)
        for name, tensor in expected.items()
        if name.endswith(COUNTER)
    }
    found = {**counters, **dict(zip(wanted, given.values(), strict=True))}
    return {name: found[name] for name in expected}


def first_difference(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> tuple[str, str] | None:
    """Return the first pair of names whose tensors have other shapes or other kinds."""
    convolution = next((name for name, tensor in wanted.items() if tensor.ndim == 4), None)
    classes = list(wanted)[-2:]
    for name, other in zip(wanted, given, strict=False):
        shape, found = list(wanted[name].shape), list(given[other].shape)
        if name == convolution and len(found) == 4:
            shape[1] = found[1] = 0
        if name in classes and shape and found and shape[0] == wanted[classes[-1]].shape[:1].numel():
            shape[0] = found[0] = 0
        kinds = {part for part in (name.rpartition(".")[2], other.rpartition(".")[2]) if part in KINDS}
        if shape != found or (len(kinds) > 1 and other.rpartition(".")[2] in KINDS):
            return name, other
    return None


def require_same_order(
    network: nn.Module, tensors: Mapping[str, Tensor], source: str, title: str, ordered: bool
) -> dict[str, Tensor]:
    """Return tensors by the names of a network, by their order.

    Raises:
        InputError: If the sequences of shapes differ, or the file has no order. The message names the first difference.
    """
    expected = network.state_dict()
    weights = by_order(expected, tensors)
    if weights is not None and ordered:
        return weights
    if not ordered:
        raise InputError(
            f"{source} is a safetensors file, whose tensors are sorted by name and not in the order of the network; give the "
            "file that torch.save wrote"
        )
    wanted = {name: tensor for name, tensor in expected.items() if not name.endswith(COUNTER)}
    given = {name: tensor for name, tensor in tensors.items() if not name.endswith(COUNTER)}
    difference = first_difference(wanted, given)
    why = f"it has {len(given)} tensors instead of {len(wanted)}" if len(given) != len(wanted) else ""
    if difference:
        name, other = difference
        shape, own = tuple(given[other].shape), tuple(wanted[name].shape)
        first = f"{printable(other[:80])} {shape} stands where {name} {own} is expected"
        why = f"{why}; {first}" if why else first
    raise InputError(
        f"the tensors of {source} are not in the order of the network {title} ({why}); choose the architecture these weights "
        "were saved from"
    )


def not_in_tensors(network: nn.Module) -> str:
    """Return what a network computes that is not in its tensors: epsilon, padding, activation."""
    return ", ".join(filter(None, (_epsilon(network), _padding(network), _activation(network)))) or "the activation"


def _epsilon(network: nn.Module) -> str:
    found = (getattr(module, "eps", None) for module in network.modules())
    values = sorted({value for value in found if isinstance(value, float)})
    return f"epsilon {' and '.join(f'{value:g}' for value in values)} of the normalisation" if values else ""


def _padding(network: nn.Module) -> str:
    spatial = [module for module in network.modules() if isinstance(module, nn.Conv2d) and max(module.kernel_size) > 1]
    if not spatial:
        return ""
    same = any("same" in type(module).__name__.lower() or module.padding == "same" for module in spatial)
    return "asymmetric ('same') padding" if same else "symmetric padding"


def _activation(network: nn.Module) -> str:
    names = sorted(set(_activations(network)))
    return f"activation {' and '.join(names)}" if names else ""


def _activations(network: nn.Module) -> Iterator[str]:
    for module in network.modules():
        found = type(module).__name__
        if found in ACTIVATIONS or found.removesuffix("Me") in ACTIVATIONS:
            yield found
        activation = getattr(module, "act", None)
        if isinstance(activation, nn.Module) and not isinstance(activation, nn.Identity):
            yield type(activation).__name__
