"""Whether a network can be built again from what is saved about it, and computes the same function then."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from datafree.classifier import Classifier, frozen, record
from datafree.networks.building import FORBIDDEN, is_plain
from datafree.types import InputError

TOLERANCE = 1e-3
"""largest difference of two outputs relative to the largest output, if no module differs; kernels may add in another order"""
ONLY_IN_TRAINING = ("p", "inplace", "momentum", "drop_prob", "track_running_stats")
"""settings of modules that have no effect in evaluation mode"""


def recorded_arguments(model: nn.Module) -> dict[str, Any]:
    """Return the arguments that timm recorded when it created a network; classes become the names that timm has for them."""
    recorded = dict(getattr(model, "_model_args", {}))
    named = {name: _layer_name(value) if isinstance(value, type) else value for name, value in recorded.items()}
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in named.items()
        if value is not None and is_plain(value) and not FORBIDDEN.search(name)
    }


def _layer_name(kind: type) -> Any:
    """Return the name for which timm creates an activation or a normalisation of this class, or else the class."""
    from timm.layers import get_act_layer, get_norm_layer

    word = kind.__name__.lower()
    for name in (word, f"{word}2d", word.removesuffix("2d")):
        for lookup in (get_act_layer, get_norm_layer):
            try:
                if lookup(name) is kind:
                    return name
            except (KeyError, AssertionError, ValueError, AttributeError):
                continue
    return kind


def require_same_function(saved: Classifier, rebuilt: Classifier) -> None:
    """Check that two networks with the same weights return the same outputs, on one batch of images.

    Args:
        saved: The network that is being saved.
        rebuilt: The network that its configuration creates; it is moved to the same device.

    Raises:
        InputError: If they differ. The message names the first module with another setting, or with another output.
    """
    rebuilt.to(saved.device)
    images = saved.normalize(saved.probe_images(2))
    with frozen(saved, rebuilt), torch.no_grad():
        ours, theirs = saved.model(images), rebuilt.model(images)
    if _equal(ours, theirs, 0.0):
        return
    difference = next(_differing_settings(saved.model, rebuilt.model), "")
    if not difference and _equal(ours, theirs, TOLERANCE):
        return
    difference = difference or _differing_output(saved, rebuilt, images)
    raise InputError(
        f"the network would be loaded as another function: {difference}; create it with datafree.teachers.create and "
        "these settings as arguments, or register it in timm under a name of its own"
    )


def _equal(a: Any, b: Any, tolerance: float) -> bool:
    if not isinstance(a, Tensor) or not isinstance(b, Tensor) or a.shape != b.shape:
        return False
    scale = float(b.abs().max()) if b.numel() else 0.0
    return torch.equal(a, b) or bool(((a - b).abs() <= tolerance * scale).all())


def _differing_settings(saved: nn.Module, rebuilt: nn.Module) -> Iterator[str]:
    """Yield each module whose type or settings differ, as part of a sentence."""
    others = dict(rebuilt.named_modules())
    for name, module in saved.named_modules():
        other = others.get(name)
        if other is None:
            yield f"{name} ({type(module).__name__}) is missing"
        elif type(module) is not type(other):
            yield f"{name} is {type(module).__name__}, and would be {type(other).__name__}"
        else:
            for setting, value in _settings(module).items():
                theirs = _settings(other).get(setting)
                if value != theirs:
                    yield f"{setting} of {name or 'the network'} is {value}, and would be {theirs}"


def _settings(module: nn.Module) -> dict[str, Any]:
    """Return the attributes of a module that are numbers, words or lists of them, and have an effect in evaluation mode."""
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and name not in (*ONLY_IN_TRAINING, "training") and is_plain(value)
    }


def _differing_output(saved: Classifier, rebuilt: Classifier, images: Tensor) -> str:
    """Return the first layer whose output differs, as part of a sentence."""
    names = {module: name for name, module in saved.model.named_modules() if not list(module.children())}
    others = [module for module in rebuilt.model.modules() if not list(module.children())]
    with frozen(saved, rebuilt), torch.no_grad(), record(*names) as ours, record(*others) as theirs:
        saved.model(images)
        rebuilt.model(images)
    for a, b in zip(ours, theirs, strict=False):
        if not _equal(a.output, b.output, TOLERANCE):
            return f"the output of {names[a.module]} ({type(a.module).__name__}) differs"
    return "the output differs after its last layer"
