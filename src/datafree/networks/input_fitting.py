"""Fitting a timm network to the size of the images: the arguments it needs, and whether it accepts the images."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from datafree.classifier import Classifier, frozen
from datafree.networks.building import blueprint
from datafree.types import InputError

MIN_PATCHES = 8
"""minimum number of patches along the shorter side of an image; transformers and mixers need several to mix"""
SMALLEST = 2
"""height and width in pixels of the smallest images that can be optimized: the total variation needs neighbours"""


def arguments_for_size(name: str, size: tuple[int, int], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments with which timm creates a network for images of the given size.

    Networks that accept any size need none. Transformers and mixers are built for one size: they get `img_size`, and
    a smaller `patch_size` if their own leaves fewer than `MIN_PATCHES` patches along the shorter side and timm allows
    another one.

    Args:
        name: A timm name.
        size: Height and width of the images.
        arguments: Arguments chosen by the user. They take precedence.
    """
    import timm

    cfg = timm.get_pretrained_cfg(name)
    if cfg is None or not cfg.fixed_input_size or cfg.input_size[1:] == size:
        return dict(arguments)
    fitted = {"img_size": list(size), **arguments}
    if "patch_size" in arguments:
        return fitted
    native = native_patch_size(blueprint(name))
    patch = choose_patch_size(size, native) if native else None
    if patch != native and accepts_arguments(name, **fitted, patch_size=patch):
        fitted["patch_size"] = patch
    return fitted


def own_size_arguments(name: str, size: tuple[int, int], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments with which timm creates a network for images of the given size, with its own patch size.

    This is for networks that get weights: only networks that are built for one size of images need to know it.

    Args:
        name: A timm name.
        size: Height and width of the images.
        arguments: Arguments chosen by the user or by a file. They take precedence.
    """
    import timm

    cfg = timm.get_pretrained_cfg(name)
    flexible = arguments.get("dynamic_img_size") or arguments.get("strict_img_size") is False
    if cfg is None or not cfg.fixed_input_size or flexible or cfg.input_size[1:] == tuple(size):
        return dict(arguments)
    return {"img_size": list(size), **arguments}


def accepts_arguments(name: str, **arguments: Any) -> bool:
    """Return whether timm can create a network with these arguments; some mixers have a fixed patch size."""
    try:
        blueprint(name, **arguments)
    except Exception:  # a network may raise anything for arguments that it does not accept
        return False
    return True


def native_patch_size(model: nn.Module) -> int | None:
    """Return the side length of a network's patches, or None if they are not square or the network has none."""
    sizes = [module.patch_size for module in model.modules() if hasattr(module, "patch_size")]
    size = sizes[0] if sizes else None
    sides = set(size) if isinstance(size, (tuple, list)) else {size}
    return sides.pop() if len(sides) == 1 else None  # type: ignore[return-value]


def choose_patch_size(size: tuple[int, int], native: int) -> int:
    """Return the largest patch size, at most `native`, that divides both sides and leaves `MIN_PATCHES` patches."""
    largest = max(1, min(native, min(size) // MIN_PATCHES))
    return max(side for side in range(1, largest + 1) if size[0] % side == 0 and size[1] % side == 0)


def require_resolutions(shape: tuple[int, int, int], count: int, *networks: nn.Module | None) -> None:
    """Check that images can be halved, and that networks accept all of these sizes.

    Args:
        shape: Channels, height and width of the full images.
        count: Number of resolutions; each has half the height and width of the next one.
        networks: Networks that see the images. None is ignored.

    Raises:
        InputError: If an image would be smaller than two pixels, or a network does not accept a size.
    """
    channels, height, width = shape
    if min(height, width) < SMALLEST:
        raise InputError(f"images of shape {shape} are too small to be optimized; use --method procedural")
    if min(height, width) < 2**count:
        raise InputError(f"{count} resolutions are too many for images of shape {shape}; give fewer steps")
    for halvings in range(1, count):
        small = (channels, height >> halvings, width >> halvings)
        for network in filter(None, networks):
            if why := refused_because(network, small):
                raise InputError(f"a network does not accept images of shape {small} ({why}); give fewer steps")


def refused_because(network: nn.Module, shape: tuple[int, int, int]) -> str:
    """Return why a network does not accept images of a shape; an empty string if it does."""
    device = next((parameter.device for parameter in network.parameters()), None)
    try:
        with frozen(network), torch.no_grad():
            network(torch.zeros(2, *shape, device=device))
    except Exception as fault:  # a layer may raise anything for a size it was not built for
        return str(fault).splitlines()[0] if str(fault) else type(fault).__name__
    return ""


def require_accepts_images(classifier: Classifier, name: str, fix: str = "choose another student") -> None:
    """Check that a network accepts images of its shape and returns one logit per class.

    Args:
        classifier: The network.
        name: What the message calls it.
        fix: The end of the message.

    Raises:
        InputError: If it does not. The message says why.
    """
    images = torch.zeros(2, *classifier.shape, device=classifier.device)
    try:
        with frozen(classifier), torch.no_grad():
            logits = classifier(images)
        matches = logits.shape == (2, len(classifier.classes))
        why = "" if matches else f"its output has shape {tuple(logits.shape)}"
    except Exception as fault:  # a layer may raise anything for a size it was not built for
        why = str(fault).splitlines()[0] if str(fault) else type(fault).__name__
    if why:
        raise InputError(f"network {name!r} does not accept images of shape {classifier.shape} ({why}); {fix}")
