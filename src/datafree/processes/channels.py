"""Mean and variance of each channel of features, by the kernels of batch norm, which read the features once."""

import torch
from torch import Tensor

CHUNK = 4096
"""rows that a CPU adds up one after the other; the rounding errors of more would show in the variance"""


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
