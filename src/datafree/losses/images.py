"""Losses of images alone, without a network: the priors."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from datafree import processes
from datafree.types import Images, Scalar

POWER_FLOOR = 1e-6
"""added to the power of each frequency, so that its logarithm is finite; pixels have a variance of about 1"""


def total_variation(images: Images) -> Scalar:
    r"""Compute the total variation of images: how much neighbouring pixels differ, in four directions.

    .. math:: R_\text{TV}(x) = \frac1n \sum_i \sum_{\delta \in \{(0,1), (1,0), (1,1), (1,-1)\}}
        \lVert x_i - \operatorname{shift}_\delta x_i \rVert_2

    References:
        | Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion (Yin et al., 2020), section 3.1
        | https://arxiv.org/abs/1912.08795

    Args:
        images: Of shape `(n, c, h, w)`, in any range.

    Returns:
        A non-negative scalar; zero only for images of one colour. It is the mean of one norm per image, so that its weight
        does not depend on the batch size. The authors' code takes one norm over the batch of 256, which is 16 times larger
        for images of equal norm.
    """
    return _TotalVariation.apply(images)


NEIGHBOURS = (
    ((slice(None), slice(1, None)), (slice(None), slice(None, -1))),
    ((slice(1, None), slice(None)), (slice(None, -1), slice(None))),
    ((slice(1, None), slice(1, None)), (slice(None, -1), slice(None, -1))),
    ((slice(1, None), slice(None, -1)), (slice(None, -1), slice(1, None))),
)
"""rows and columns of the pixels and of their neighbours, in each direction"""


class _TotalVariation(torch.autograd.Function):
    """The gradient of each difference is added in place; autograd takes a new image for each of its eight slices."""

    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:
        differences = [images[..., *pixels] - images[..., *neighbours] for pixels, neighbours in NEIGHBOURS]
        norms = torch.stack([torch.linalg.vector_norm(each, dim=(1, 2, 3)) for each in differences])
        ctx.save_for_backward(images, norms, *differences)
        return norms.mean(1).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        images, norms, *differences = ctx.saved_tensors
        scales = (gradients[0] / norms.shape[1] / norms).masked_fill(norms == 0, 0)
        gradient = torch.zeros_like(images)
        for (pixels, neighbours), difference, scale in zip(NEIGHBOURS, differences, scales, strict=True):
            of_images = scale.view(-1, 1, 1, 1)
            gradient[..., *pixels].addcmul_(difference, of_images)
            gradient[..., *neighbours].addcmul_(difference, of_images, value=-1)
        return gradient


def image_norm(images: Images) -> Scalar:
    r"""Compute the mean Euclidean norm of images.

    .. math:: R_{\ell_2}(x) = \frac1n \sum_i \lVert x_i \rVert_2

    References:
        | Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion (Yin et al., 2020), section 3.1
        | https://arxiv.org/abs/1912.08795

    Args:
        images: Of shape `(n, c, h, w)`, normalised by the teacher's mean and standard deviation.

    Returns:
        A non-negative scalar.
    """
    return _norm(images)


def _norm(images: Tensor) -> Scalar:
    return torch.linalg.vector_norm(images, dim=tuple(range(1, images.ndim))).mean()  # flattening may copy


def spectrum_distance(images: Images, exponent: float = 2.0) -> Scalar:
    r"""Compute how far the power spectrum of a batch is from a power law, the average spectrum of photographs.

    .. math:: R_\text{spectrum}(x) = \frac{1}{|\Omega|} \sum_{\omega \in \Omega}
        \Bigl( \ln P(\omega) + a \ln \lvert \omega \rvert - c \Bigr)^2, \quad
        P(\omega) = \frac{1}{n C} \sum_{i, k} \lvert \mathcal{F}(x_{ik})(\omega) \rvert^2

    :math:`\Omega` are all frequencies but 0, and :math:`c` is the mean of the first two summands: the brightness and the
    contrast of the images do not matter. Each image has a spectrum of its own, so the spectrum is that of the batch.

    References:
        | Relations between the Statistics of Natural Images and the Response Properties of Cortical Cells (Field, 1987)
        | https://doi.org/10.1364/JOSAA.4.002379
        | Statistics of natural image categories (Torralba and Oliva, 2003), section 2
        | https://doi.org/10.1088/0954-898X/14/3/302

    Args:
        images: Of shape `(n, c, h, w)`, normalised by the teacher's mean and standard deviation.
        exponent: :math:`a`; 2 for photographs, 0 for white noise.

    Returns:
        A non-negative scalar; zero only for an exact power law, and for images of one pixel.
    """
    height, width = images.shape[-2:]
    if height * width == 1:
        return images.sum() * 0
    down, across = torch.fft.fftfreq(height, device=images.device), torch.fft.rfftfreq(width, device=images.device)
    frequency = torch.hypot(down[:, None], across).flatten()[1:]
    pixels = images.to(torch.promote_types(images.dtype, torch.float32))
    power = processes.mean(torch.fft.rfft2(pixels, norm="ortho").abs().square().mean((0, 1))).flatten()[1:]
    deviation = (power + POWER_FLOOR).log() + exponent * frequency.log()
    return (deviation - deviation.mean()).square().mean()
