"""Mean and variance of each channel of features, by the kernels of batch norm, which read the features once."""

from functools import cache
from itertools import chain
from math import isqrt

import torch
from torch import Tensor

CHUNK = 4096
"""rows that a CPU adds up one after the other, at most; the rounding errors of more would show in the variance"""
WIDE = 256
"""channels with which that is as fast as reading; with fewer, neighbouring positions are taken for further channels"""


def channel_moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and the biased variance of each channel over the rows of this process, without gradient.

    Args:
        features: Of shape `(n, c, *)`, of any floating-point type.

    Returns:
        Mean and variance, each of shape `(c,)`, in float32 or better.
    """
    features = features.detach()
    dtype = torch.promote_types(features.dtype, torch.float32)
    compiled = torch.compiler.is_compiling()
    if features.device.type == "cuda" and not compiled:
        return torch.batch_norm_update_stats(as_images(features), None, None, 0.0)  # of half precision in float32
    if features.device.type == "cpu" and not compiled:
        return _moments_on_cpu(features, dtype)
    # A compiler fuses the conversion with the sums.
    var, mean = torch.var_mean(as_images(features).to(dtype), (0, 2, 3), correction=0)
    return mean, var


def _moments_on_cpu(features: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return the moments of features, joined from those of parts of equal size."""
    channels = features.shape[1]
    if _is_channels_last(features) or features.dtype != dtype:
        count = features.numel() // channels
        parts = _parts(count, channels)
        rows = features.movedim(1, -1).reshape(1, count // parts, 1, parts * channels).permute(0, 3, 1, 2)
        # The moments have the type of the running statistics.
        unused = None if features.dtype == dtype else torch.zeros(parts * channels, dtype=dtype)
        moments = torch.batch_norm_update_stats(rows, unused, unused, 0.0)
        means, variances = (values.view(parts, channels) for values in moments)
    else:
        means, variances = _moments_of_planes(features)
    if len(means) == 1:
        return means[0], variances[0]
    var, mean = torch.var_mean(means, 0, correction=0)
    return mean, var + variances.mean(0)


@cache
def _parts(rows: int, channels: int) -> int:
    """Return the number of neighbouring rows that are taken for one: few rows remain, with many channels."""
    small = [divisor for divisor in range(1, isqrt(rows) + 1) if rows % divisor == 0]
    divisors = chain(small, (rows // divisor for divisor in reversed(small)))
    fitting = [divisor for divisor in divisors if rows // divisor <= CHUNK]
    return next((parts for parts in fitting if parts * channels >= WIDE), fitting[0])


def _moments_of_planes(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return the moments of each channel of each image, of shape `(n, c)`; group norm is the fastest that computes them."""
    n, channels = features.shape[:2]
    planes = features.reshape(n, channels, -1).contiguous()
    _, means, scales = torch.native_group_norm(planes, None, None, n, channels, planes.shape[2], channels, 0.0)
    return means, scales.square().reciprocal()


def _is_channels_last(features: Tensor) -> bool:
    return features.movedim(1, -1).is_contiguous()


def as_images(features: Tensor) -> Tensor:
    """Return features in the shape `(n, c, h, w)`; those of other shapes are contiguous or channels last."""
    if features.ndim == 4:
        return features
    if _is_channels_last(features):
        return features.movedim(1, -1).reshape(1, -1, 1, features.shape[1]).permute(0, 3, 1, 2)
    return features.reshape(*features.shape[:2], -1, 1)


def like(images: Tensor, features: Tensor) -> Tensor:
    """Return what `as_images` made of features in their shape again."""
    if features.ndim == 4:
        return images
    if _is_channels_last(features):
        return images.permute(0, 2, 3, 1).reshape(features.movedim(1, -1).shape).movedim(-1, 1)
    return images.reshape(features.shape)


def by_channel(values: Tensor, features: Tensor) -> Tensor:
    """Return one value per channel in a shape that goes with features of shape `(n, c, *)`."""
    return values.view(-1, *[1] * (features.ndim - 2))
