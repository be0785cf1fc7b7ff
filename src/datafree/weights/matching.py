"""Matching the tensors of a file with those of a network, by their names or by their order."""

import inspect
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from datafree.types import InputError, printable
from datafree.weights.names import COUNTER, by_names, common_prefix, unwrapped
from datafree.weights.order import by_order, not_in_tensors, require_same_order
from datafree.weights.settings import settings_of

Matching = Literal["names", "order"]
"""by names, with prefixes and known renamings; or by the order and the shapes of the tensors"""
EXAMPLES = 5
"""names of each side that a message lists"""


@dataclass(frozen=True)
class Match:
    """The weights of a network."""

    weights: dict[str, Tensor]
    """by the names of the network, ready for `load_state_dict`"""
    notes: tuple[str, ...] = ()
    """sentences about entries that were dropped, added or renamed"""


def match(
    network: nn.Module,
    tensors: Mapping[str, Tensor],
    source: str,
    *,
    by: Matching = "names",
    keys: Sequence[str] = (),
    ordered: bool = True,
) -> Match:
    """Match the tensors of a file with those of a network, without using their values.

    By names: the prefix of a wrapper or of a training program is removed, entries that belong to no layer are left out, names
    of public repositories are translated to those of the network, see `weights.names`. By order: the n-th tensor of the file
    is the n-th of the network, if all shapes agree, see `weights.order`.

    Args:
        network: The network; it may be a blueprint on the meta device.
        tensors: `Checkpoint.tensors`.
        source: The file or network that they come from, for messages.
        by: Match the tensors by names or by order.
        keys: `Checkpoint.keys`, for the error message.
        ordered: `Checkpoint.ordered`.

    Raises:
        InputError: If the tensors do not match the network. The message lists the first differences and the likely fix.
    """
    expected, title = network.state_dict(), _name(network)
    if by == "order":
        weights = require_same_order(network, tensors, source, title, ordered)
        notes = (
            f"the tensors of {source} were mapped to {title} by their order and shapes, {len(weights)} of {len(expected)}; "
            f"not in the file, and taken from {title}: {not_in_tensors(network)}; check the accuracy",
        )
    else:
        renamed = by_names(expected, tensors, source)
        weights, notes = renamed.weights, renamed.notes
    faults = _differences(expected, weights)
    if faults and by == "names" and (converted := _converted_by_timm(network, tensors)) is not None:
        note = f"{source} has other names than {title}; they were translated by timm's own conversion for this family"
        return Match(converted, (note,))
    if faults:
        named = 2 * sum(name in weights for name in expected) >= len(expected)
        parts = [_shortened(faults) if named else _both_names(expected, tensors)]
        parts += [f"the file contains {_listed(keys)}"] if keys and not named else []
        fix = _fix(network, weights, tensors, ordered)
        raise InputError(f"{source} does not match the network {title} ({'; '.join(parts)}); {fix}")
    return Match(weights, notes)


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Load weights into a network, in place. All names and shapes must match, see `match`.

    Args:
        model: The network.
        weights: Tensors by name.
        source: The file or network the weights come from, for the error message.

    Raises:
        InputError: If the weights do not match. The message lists the first three differences.
    """
    model.load_state_dict(matching_weights(model, weights, source))


def matching_weights(model: nn.Module, weights: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Return weights by the names of a network, without using their values; arguments and errors as for `match`, by names."""
    return match(model, weights, source).weights


def _converted_by_timm(network: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Return the weights of a paper's own program by timm's names, where timm has a conversion and all of them match."""
    module = sys.modules.get(type(network).__module__)
    convert = getattr(module, "checkpoint_filter_fn", None) or getattr(module, "_filter_fn", None)
    if convert is None or not type(network).__module__.startswith("timm.models."):
        return None
    prefix, expected = common_prefix(tensors), network.state_dict()
    given = {name.removeprefix(prefix): tensor for name, tensor in unwrapped(tensors).items()}
    sizes = {tensor.numel() for tensor in given.values()}
    arguments = (given, network)[: len(inspect.signature(convert).parameters)]
    try:
        converted = by_names(expected, convert(*arguments), "").weights
    except Exception:  # written for the files of one program, it may raise anything for others
        return None
    # A conversion may resample positions for another size of images, which is not for a check of names to do.
    resampled = any("pos" in name and tensor.numel() not in sizes for name, tensor in converted.items())
    return None if resampled or _differences(expected, converted) else converted


def _differences(expected: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> list[str]:
    faults = [f"{name} is missing" for name in expected if name not in weights]
    faults += [f"{printable(name[:80])} is not in the network" for name in weights if name not in expected]
    for name, tensor in expected.items():
        given = weights.get(name, tensor)
        if given.shape != tensor.shape:
            faults.append(f"{name} has shape {tuple(given.shape)} instead of {tuple(tensor.shape)}")
        elif given.is_floating_point() != tensor.is_floating_point() and not name.endswith(COUNTER):
            faults.append(f"{name} has values of type {given.dtype} instead of {tensor.dtype}")
    return faults


def _shortened(faults: Sequence[str]) -> str:
    return "; ".join(faults[:3]) + (f" and {len(faults) - 3} more" if len(faults) > 3 else "")


def _both_names(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> str:
    """Return the first names of the file that the network lacks, beside the first of the network that the file lacks."""
    theirs = [name for name in tensors if name not in expected and not name.endswith(COUNTER)]
    ours = [name for name in expected if name not in tensors and not name.endswith(COUNTER)]
    return f"its names are {_listed(theirs)}; those of the network are {_listed(ours)}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(printable(name[:60]) for name in names[:EXAMPLES]) + (", ..." if len(names) > EXAMPLES else "")


def _fix(network: nn.Module, weights: Mapping[str, Tensor], tensors: Mapping[str, Tensor], ordered: bool) -> str:
    """Return what the user can do, as far as the tensors tell it."""
    expected = network.state_dict()
    different = {name for name in expected if name not in weights or weights[name].shape != expected[name].shape}
    settings = settings_of(weights, network)
    if different and different <= settings.explained and weights.keys() <= expected.keys():
        return f"give {settings.options(network)}"
    if ordered and by_order(expected, tensors) is not None:
        return "all shapes agree in this order: give --match order if the file is of this architecture"
    return "choose the network these weights were saved from"


def _name(model: nn.Module) -> str:
    return (getattr(model, "pretrained_cfg", None) or {}).get("architecture") or type(model).__name__


def require_finite(model: nn.Module, source: str) -> None:
    """Check that all weights and statistics of a network are finite, and that no running variance is negative.

    Raises:
        InputError: If not. The message names the first such tensor and their number.
    """
    for name, layer in model.named_modules():
        variance = getattr(layer, "running_var", None)
        if isinstance(variance, Tensor) and (variance < 0).any():
            raise InputError(f"{source} has a negative variance in {name}.running_var; use other weights")
    bad = [name for name, tensor in model.state_dict().items() if not torch.isfinite(tensor).all()]
    if bad:
        others = f" and {len(bad) - 1} other tensors" if len(bad) > 1 else ""
        raise InputError(f"{source} has NaN or infinite values in {bad[0]}{others}; use other weights")
