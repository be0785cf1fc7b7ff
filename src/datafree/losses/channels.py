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

from datafree.processes.channels import as_images, by_channel, channel_moments, like


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
        mean, var = channel_moments(features)
        ctx.save_for_backward(features, mean)
        return mean, var

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        features, mean = ctx.saved_tensors
        return line_of_moments(features, mean, *gradients)


def line_of_moments(features: Tensor, mean: Tensor, mean_gradient: Tensor, var_gradient: Tensor) -> Tensor:
    """Return the gradient of features from those of their mean and variance, in a tensor of its own.

    Args:
        features: Of shape `(n, c, *)`.
        mean: Their mean, of shape `(c,)`.
        mean_gradient: Of shape `(c,)`.
        var_gradient: Of shape `(c,)`.
    """
    rows = features.numel() // len(mean)
    offset, slope = mean_gradient / rows, var_gradient * (2 / rows)
    if torch.is_grad_enabled():  # the gradient is differentiated: batch norm has no derivative by its statistics
        offset, slope, mean = (by_channel(values, features) for values in (offset, slope, mean))
        return (offset + slope * (features - mean)).to(features.dtype)
    line = F.batch_norm(as_images(features), mean, torch.ones_like(mean), slope, offset, eps=0.0)
    return like(line, features)
