"""A function of images as a network: anything that maps images to logits, also what torch cannot differentiate."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from datafree.errors import InputError

Function = Callable[[Tensor], Any]


class FunctionNetwork(nn.Module):
    """A function of normalised images as a network.

    Gradients flow to the images if the function is differentiable. They never reach weights that the function uses. Otherwise
    the network is forward-only. The buffer `signature` holds the outputs for the images below, so that the fingerprints of
    different functions differ.

    Args:
        function: Takes images of shape `(n, c, h, w)`, and returns logits of shape `(n, k)` as a tensor, an array or lists.
        images: A batch that the function is called with, to find out whether it is differentiable.

    Raises:
        InputError: If the function fails on this batch, or returns no numbers.
    """

    signature: Tensor

    def __init__(self, function: Function, images: Tensor) -> None:
        super().__init__()
        self.function = function
        self.differentiable = is_differentiable(function, images)
        """whether gradients flow to the images"""
        try:
            outputs = self(images).detach()
        except InputError:
            raise
        except Exception as fault:  # the function may raise anything
            raise InputError(
                f"the network fails on images of shape {tuple(images.shape[1:])} ({first_line(fault)}); correct it or its "
                "shape"
            ) from fault
        self.register_buffer("signature", outputs)

    def forward(self, images: Tensor) -> Tensor:
        """Return the outputs of the function as a tensor on the device of the images.

        Raises:
            TypeError: If the images are no tensor but what stands for one, as when a network is traced.
        """
        if not isinstance(images, Tensor):
            raise TypeError("it is a function, and no module")
        if self.differentiable:
            return _Call.apply(images, self.function)  # type: ignore[no-any-return]
        with torch.no_grad():
            return as_tensor(self.function(images.detach()), images)

    def __deepcopy__(self, memo: dict[int, Any]) -> "FunctionNetwork":
        """Return a copy that calls the same function."""
        copy = FunctionNetwork.__new__(FunctionNetwork)
        nn.Module.__init__(copy)
        copy.function, copy.differentiable, copy.training = self.function, self.differentiable, self.training
        copy.register_buffer("signature", self.signature.clone())
        memo[id(self)] = copy
        return copy


class _Call(torch.autograd.Function):
    """Calls a function, with a gradient for its input only: weights that it uses get none."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, function: Function) -> Tensor:
        with torch.enable_grad():
            inputs = images.detach().requires_grad_()
            outputs = as_tensor(function(inputs), inputs)
        ctx.graph = (inputs, outputs)
        return outputs.detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        inputs, outputs = ctx.graph
        return torch.autograd.grad(outputs, inputs, gradient)[0], None


def is_differentiable(function: Function, images: Tensor) -> bool:
    """Return whether gradients flow from the outputs of a function to images. It may raise anything; then they do not."""
    inputs = images.detach().clone().requires_grad_()
    try:
        with torch.enable_grad():
            outputs = function(inputs)
            if not isinstance(outputs, Tensor) or not outputs.requires_grad:
                return False
            gradient = torch.autograd.grad(outputs.float().sum(), inputs, allow_unused=True)[0]
    except Exception:
        return False
    return gradient is not None and bool(gradient.isfinite().all())


def as_tensor(outputs: Any, images: Tensor) -> Tensor:
    """Return the outputs of a function as a tensor of floating-point numbers on the device of the images.

    Raises:
        InputError: If they are no tensor, array or lists of numbers.
    """
    try:
        tensor = outputs if isinstance(outputs, Tensor) else torch.as_tensor(outputs)
    except (TypeError, ValueError, RuntimeError) as fault:
        raise InputError(f"the network returns a {type(outputs).__name__}; return one tensor of logits") from fault
    return tensor.to(images.device, tensor.dtype if tensor.is_floating_point() else torch.float32)


def first_line(fault: BaseException) -> str:
    """Return the first line of the message of an exception; its type if it has none."""
    text = str(fault).strip()
    return text.splitlines()[0] if text else type(fault).__name__


def probe_images(shape: tuple[int, int, int], count: int) -> Tensor:
    """Return images with pixels spread evenly over [0, 1], the same ones each time. No random number is drawn."""
    index = torch.arange(count * math.prod(shape), dtype=torch.float64)
    return (index * 0.6180339887498949 % 1).float().view(count, *shape)  # by the golden ratio


def count_parameters(model: nn.Module) -> int:
    """Return the number of parameters, with those of forward-only networks that are no tensors of torch, if known."""
    hidden = sum(getattr(module, "parameter_count", 0) for module in model.modules())
    return hidden + sum(parameter.numel() for parameter in model.parameters())
