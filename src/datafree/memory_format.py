"""The memory format of networks: channels last, in which convolutions are faster, where that is proven to be harmless."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.parameter import is_lazy
from torch.utils._pytree import tree_leaves

from datafree.randomness import RandomNumbers

MIN_CHANNELS = 16
"""input channels from which the gradient of a strided 1 x 1 convolution is safe in channels-last format"""
TOLERANCE = 1e-3
"""largest difference between the outputs of a network in both formats, relative to the largest output"""


def use_channels_last(model: nn.Module, images: Tensor | None = None) -> None:
    """Store a network in channels-last format, in place, where that is harmless.

    A network that `crashes_in_channels_last` becomes contiguous. Any other network is only changed if it runs in
    channels-last format and gives the same outputs; a network that flattens its features by `view` does not run.

    Args:
        model: A network of normalised images.
        images: A batch that the network is run on; None: the network is known to run in both formats.
    """
    if crashes_in_channels_last(model):
        model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    elif not is_channels_last(model) and (images is None or runs_in_channels_last(model, images)):
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def crashes_in_channels_last(model: nn.Module) -> bool:
    """Return whether a network has a strided 1 x 1 convolution with few input channels.

    In channels-last format, oneDNN computes the gradient of its weights wrongly and writes outside of its memory: with
    fewer than 8 channels on CPUs with AVX2, with fewer than 16 on CPUs with AVX-512.
    """
    return any(
        layer.kernel_size == (1, 1) != layer.stride and layer.in_channels // layer.groups < MIN_CHANNELS
        for layer in model.modules()
        if isinstance(layer, nn.Conv2d)
    )


def is_channels_last(model: nn.Module) -> bool:
    """Return whether all weights of convolutions are stored in channels-last format; True if there are none."""
    return all(
        tensor.stride() == torch.empty(tensor.shape, device="meta").to(memory_format=torch.channels_last).stride()
        for tensor in _tensors(model).values()
        if tensor.ndim == 4
    )


def runs_in_channels_last(model: nn.Module, images: Tensor) -> bool:
    """Return whether a network gives the same outputs in channels-last format.

    It is run in evaluation mode, once as it is and once with copies of its weights. It is not changed, and no random
    number is drawn.
    """
    tensors = _tensors(model)
    if any(is_lazy(tensor) or tensor.is_meta or tensor.ndim == 5 for tensor in tensors.values()):
        return False
    converted = {
        name: tensor.to(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
        for name, tensor in tensors.items()
    }
    images = images.to(next(iter(tensors.values())).device)
    try:
        before = _outputs(model, tensors, images)
        after = _outputs(model, converted, images.to(memory_format=torch.channels_last))
    except Exception:  # the network may raise anything, also for images of a shape that it does not accept
        return False
    return len(before) == len(after) > 0 and all(map(_agree, before, after))


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return dict([*model.named_parameters(), *model.named_buffers()])


def _outputs(model: nn.Module, tensors: Mapping[str, Tensor], images: Tensor) -> list[Tensor]:
    modes = {module: module.training for module in model.modules()}
    try:
        for module in modes:
            module.training = False
        with torch.no_grad(), RandomNumbers(0):
            outputs = functional_call(model, dict(tensors), (images,))
    finally:
        for module, mode in modes.items():
            module.training = mode
    return [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor)]


def _agree(a: Tensor, b: Tensor) -> bool:
    if a.shape != b.shape or not (a.is_floating_point() and b.is_floating_point()):
        return False
    a, b = a.float(), b.float()
    return bool(((a - b).abs() <= TOLERANCE * a.abs().amax()).all())
