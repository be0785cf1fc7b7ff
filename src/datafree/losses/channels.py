r"""Mean and variance of each channel of a batch of features, in one pass over it forward and one backward.

.. math:: \mu_c = \frac1m \sum_i x_{ic}, \quad \sigma_c^2 = \frac1m \sum_i (x_{ic} - \mu_c)^2, \quad
    \frac{\partial L}{\partial x_{ic}} = \frac1m \frac{\partial L}{\partial \mu_c}
        + \frac2m \frac{\partial L}{\partial \sigma_c^2} (x_{ic} - \mu_c)

over the :math:`m` images and positions. The gradient is a straight line in :math:`x` for each channel, which is what batch
norm in evaluation mode computes. So both passes are those of batch norm, which every backend has in one kernel for every
memory format, and for half precision with sums in float32.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 4096
"""rows that a CPU adds up one after the other; the rounding errors of more would show in the variance"""


def channel_statistics(features: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the mean and the biased variance of each channel. Their gradients can be differentiated again.

    Args:
        features: Of shape `(n, c, *)`, of any floating-point type.

    Returns:
        Mean and variance, each of shape `(c,)`, in float32 or better.
    """
    return _ChannelStatistics.apply(features)


class _ChannelStatistics(torch.autograd.Function):
    """Faster than autograd, which takes ten passes; see `benchmarks/step.py`."""

    @staticmethod
    def forward(ctx: Any, features: Tensor) -> tuple[Tensor, Tensor]:
        mean, var = _moments(_as_images(features.detach()))
        ctx.save_for_backward(features, mean)
        return mean, var

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        features, mean = ctx.saved_tensors
        rows = features.numel() // len(mean)
        offset, slope = gradients[0] / rows, gradients[1] * (2 / rows)
        if torch.is_grad_enabled():  # the gradient is differentiated: batch norm has no derivative by its statistics
            line = offset + slope * (features.movedim(1, -1) - mean)
            return line.movedim(-1, 1).to(features.dtype)
        line = F.batch_norm(_as_images(features), mean, torch.ones_like(mean), slope, offset, eps=0.0)
        return _like(line, features)


def _moments(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and the biased variance of each channel of features of shape `(n, c, h, w)`."""
    dtype = torch.promote_types(images.dtype, torch.float32)
    compiled = torch.compiler.is_compiling()
    if images.device.type == "cuda" and not compiled:
        return torch.batch_norm_update_stats(images, None, None, 0.0)  # of half precision in float32
    if images.device.type == "cpu" and not compiled:
        chunks = [images] if images.is_contiguous() else images.split(CHUNK, 2)
        return _joined([_moments_on_cpu(chunk, dtype) for chunk in chunks], [chunk.shape[2] for chunk in chunks])
    var, mean = torch.var_mean(images.to(dtype), (0, 2, 3), correction=0)  # a compiler fuses the conversion
    return mean, var


def _moments_on_cpu(images: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return the moments in the type of the running statistics, which are not used."""
    unused = torch.zeros(images.shape[1], dtype=dtype)
    return torch.batch_norm_update_stats(images, unused, unused, 0.0)


def _joined(parts: list[tuple[Tensor, Tensor]], rows: list[int]) -> tuple[Tensor, Tensor]:
    """Return the moments of all rows from those of parts of them."""
    if len(parts) == 1:
        return parts[0]
    means, variances = (torch.stack(moments) for moments in zip(*parts, strict=True))
    weights = torch.tensor(rows, dtype=means.dtype)[:, None] / sum(rows)
    mean = (weights * means).sum(0)
    return mean, (weights * (variances + (means - mean).square())).sum(0)


def _is_channels_last(features: Tensor) -> bool:
    return features.movedim(1, -1).is_contiguous()


def _as_images(features: Tensor) -> Tensor:
    """Return features as a view of shape `(n, c, h, w)` that is contiguous or channels last."""
    if _is_channels_last(features):
        return features.movedim(1, -1).reshape(1, -1, 1, features.shape[1]).permute(0, 3, 1, 2)
    return features.reshape(*features.shape[:2], -1, 1)


def _like(images: Tensor, features: Tensor) -> Tensor:
    """Return what `_as_images` made of features in their shape again."""
    if _is_channels_last(features):
        return images.permute(0, 2, 3, 1).reshape(features.movedim(1, -1).shape).movedim(-1, 1)
    return images.reshape(features.shape)
