r"""Layers that depend on the whole batch: batch norm, whose statistics are those of all processes, and dropout.

Networks are not changed: inside a `with` block, calls of `torch.nn.functional.batch_norm` in training mode are replaced. That
covers layers that are fused with an activation, and functional calls. `torch.nn.SyncBatchNorm` computes the same, but only on
GPUs.

.. math:: \frac{\partial L}{\partial x} = \frac{\gamma}{\sigma} \Bigl( g - \frac1N \sum g
    - \frac{\hat x}{N} \sum g \hat x \Bigr), \quad g = \frac{\partial L}{\partial y}

with sums over the images of all processes.

References:
    | Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift (Ioffe and Szegedy, 2015)
    | https://arxiv.org/abs/1502.03167
"""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from inspect import signature
from typing import Any

import torch
import torch.distributed as distributed
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

from datafree.processes.channels import by_channel, channel_moments
from datafree.processes.division import count, draw_rows
from datafree.processes.reduction import total

MOST_GATHERED = 16
"""processes whose statistics are exchanged at once; of more, sums are exchanged, in two steps"""
_BATCH_NORM = {name: parameter.default for name, parameter in signature(F.batch_norm).parameters.items()}
_DROPOUT = signature(F.dropout)


def batch_norm_arguments(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call of `torch.nn.functional.batch_norm` by name, with the defaults of those not given."""
    return _BATCH_NORM | dict(zip(_BATCH_NORM, args, strict=False)) | dict(kwargs)


def whole_batch_layers() -> Any:
    """Let batch norm and dropout of any network work on the whole batch inside a `with` block."""
    return _WholeBatchLayers() if count() > 1 else nullcontext()


class _WholeBatchLayers(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.batch_norm:
            given = batch_norm_arguments(args, kwargs)
            if given["training"]:
                return batch_norm(**given)
        if func is F.dropout:
            given = _DROPOUT.bind(*args, **kwargs)
            given.apply_defaults()
            if given.arguments["training"] and given.arguments["p"] > 0:
                return dropout(given.arguments["input"], given.arguments["p"])
        if func is torch.Tensor.bernoulli_ and args[0].ndim:  # stochastic depth, one number per image
            return args[0].copy_(draw_rows(_bernoulli(args[0], *args[1:], **kwargs), args[0].shape))
        return func(*args, **kwargs)


def _bernoulli(like: Tensor, probability: float = 0.5) -> Callable[[tuple[int, ...]], Tensor]:
    return lambda size: torch.empty(size, dtype=like.dtype, device=like.device).bernoulli_(probability)


def dropout(inputs: Tensor, p: float) -> Tensor:
    """Return the inputs with elements set to 0 with probability `p`, and the others divided by `1 - p`.

    Args:
        inputs: Features, one row or several rows per image.
        p: The probability.
    """
    kept = draw_rows(_bernoulli(inputs, 1 - p), inputs.shape)
    return inputs * kept / (1 - p) if p < 1 else inputs * kept


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> Tensor:
    """Normalise features by their statistics over the whole batch, and update the running statistics.

    Args:
        input: Features of the images of this process, of shape `(n, c, *)`.
        running_mean: Updated in place; None: there is none.
        running_var: Updated in place; None: there is none.
        weight: Scale of each channel; None: 1.
        bias: Shift of each channel; None: 0.
        training: Not used; the statistics are always those of the batch.
        momentum: Weight of the batch in the running statistics.
        eps: Added to the variance.
    """
    output, mean, var = _BatchNorm.apply(input, weight, bias, eps)
    if running_mean is not None and running_var is not None:
        images = input.numel() // input.shape[1] * count()
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_((var * (images / max(1, images - 1))).to(running_var.dtype), momentum)
    return output


class _BatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        mean, var = statistics(features)
        ctx.save_for_backward(features, weight, mean, var)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, var)
        return F.batch_norm(features, mean, var, weight, bias, False, 0.0, eps), mean, var

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        features, weight, mean, var = ctx.saved_tensors
        unit = torch.ones_like(mean) if weight is None else weight
        # Evaluation mode has the sums, but not in the gradient of the features: there they are those of all processes.
        _, by_weight, by_bias = torch.ops.aten.native_batch_norm_backward(
            gradients[0], features, unit, mean, var, None, None, False, ctx.eps, [False, True, True]
        )
        along, plain = total(torch.stack([by_weight, by_bias])) / (features.numel() // len(mean) * count())
        scale = unit * (var + ctx.eps).rsqrt()
        slope = -along * scale * (var + ctx.eps).rsqrt()
        offset = -plain * scale - mean * slope
        slope, offset, scale = (by_channel(values, features) for values in (slope, offset, scale))
        gradient = torch.addcmul(offset, features.to(slope.dtype), slope).addcmul_(gradients[0].to(scale.dtype), scale)
        gradient = gradient.to(features.dtype)
        needed = ctx.needs_input_grad
        return gradient, by_weight if needed[1] else None, by_bias if needed[2] else None, None


def statistics(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and the biased variance of each channel over the whole batch, in float32 or better."""
    mean, var = channel_moments(features)
    if count() > MOST_GATHERED:
        own_mean, mean = mean, total(mean) / count()
        return mean, total(var + (own_mean - mean).square()) / count()
    own = torch.stack([mean, var])
    parts = [torch.empty_like(own) for _ in range(count())]
    distributed.all_gather(parts, own)
    means, variances = torch.stack(parts, 1)
    mean = means.mean(0)
    return mean, variances.mean(0) + (means - mean).square().mean(0)
