"""Mean and variance of each channel of features, by the kernels of batch norm, which read the features once."""

from math import gcd

import torch
from torch import Tensor

CHUNK = 4096
"""rows that a CPU adds up one after the other; the rounding errors of more would show in the variance"""
WIDE = 256
"""channels with which that is as fast as reading; with fewer, neighbouring positions are taken for further channels"""


def channel_moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and the biased variance of each channel over the rows of this process, without gradient.

    Args:
        features: Of shape `(n, c, *)`, of any floating-point type.

    Returns:
        Mean and variance, each of shape `(c,)`, in float32 or better.
    """
    images = as_images(features.detach())
    dtype = torch.promote_types(images.dtype, torch.float32)
    compiled = torch.compiler.is_compiling()
    if images.device.type == "cuda" and not compiled:
        return torch.batch_norm_update_stats(images, None, None, 0.0)  # of half precision in float32
    if images.device.type == "cpu" and not compiled:
        return _moments_on_cpu(images, dtype)
    var, mean = torch.var_mean(images.to(dtype), (0, 2, 3), correction=0)  # a compiler fuses the conversion
    return mean, var


def _moments_on_cpu(images: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return the moments of what `as_images` returned, joined from those of parts of the rows."""
    if images.is_contiguous() and images.dtype == dtype:
        return _joined(*_moments_of_planes(images), torch.ones(len(images), dtype=dtype))
    channels, rows = images.shape[1], images.numel() // images.shape[1]
    wide = channels * gcd(rows, max(1, WIDE // channels))
    positions = images.permute(0, 2, 3, 1).reshape(1, -1, 1, wide).permute(0, 3, 1, 2)
    unused = torch.zeros(wide, dtype=dtype)  # running statistics: the moments have their type
    chunks = [torch.batch_norm_update_stats(chunk, unused, unused, 0.0) for chunk in positions.split(CHUNK, 2)]
    counts = torch.tensor([chunk.shape[2] for chunk in positions.split(CHUNK, 2)], dtype=dtype)
    means, variances = (torch.stack(moments).view(-1, channels) for moments in zip(*chunks, strict=True))
    return _joined(means, variances, counts.repeat_interleave(wide // channels))


def _moments_of_planes(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the moments of each channel of each image, of shape `(n, c)`; group norm is the fastest that computes them."""
    n, channels, height, width = images.shape
    _, means, scales = torch.native_group_norm(images, None, None, n, channels, height * width, channels, 0.0)
    return means, scales.square().reciprocal()


def _joined(means: Tensor, variances: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Return the moments of all rows from those of parts of them, of shape `(parts, c)`, with the rows of each part."""
    if len(means) == 1:
        return means[0], variances[0]
    weights = (counts / counts.sum())[:, None]
    mean = (weights * means).sum(0)
    return mean, (weights * (variances + (means - mean).square())).sum(0)


def _is_channels_last(features: Tensor) -> bool:
    return features.movedim(1, -1).is_contiguous()


def as_images(features: Tensor) -> Tensor:
    """Return features as a view of shape `(n, c, h, w)` that is contiguous or channels last."""
    if _is_channels_last(features):
        return features.movedim(1, -1).reshape(1, -1, 1, features.shape[1]).permute(0, 3, 1, 2)
    return features.reshape(*features.shape[:2], -1, 1)


def like(images: Tensor, features: Tensor) -> Tensor:
    """Return what `as_images` made of features in their shape again."""
    if _is_channels_last(features):
        return images.permute(0, 2, 3, 1).reshape(features.movedim(1, -1).shape).movedim(-1, 1)
    return images.reshape(features.shape)


def by_channel(values: Tensor, features: Tensor) -> Tensor:
    """Return one value per channel in a shape that goes with features of shape `(n, c, *)`."""
    return values.view(-1, *[1] * (features.ndim - 2))
