"""Gaussian noise, white or with the spectrum of natural images.

References:
    | Relations between the Statistics of Natural Images and the Response Properties of Cortical Cells (Field, 1987)
    | https://doi.org/10.1364/JOSAA.4.002379
"""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from datafree.classifier import Classifier

Spectrum = Literal["white", "natural"]


def noise(count: int, teacher: Classifier, spectrum: Spectrum = "white") -> Float[Tensor, "n c h w"]:
    r"""Return Gaussian noise with mean 0 and variance 1 in the normalised space of a teacher.

    White noise has no large light and dark regions: at 32 x 32 the means of 8 x 8 patches have a standard deviation of
    1/8. With the natural spectrum, amplitudes fall with the spatial frequency as in photographs (Field 1987), and
    colour channels share most of their variance; 0.7 is our choice.

    .. math:: x = \mathcal{F}^{-1} \Bigl( \frac{\mathcal{F}(\epsilon)}{\lvert \omega \rvert} \Bigr), \quad
        \epsilon_c = \sqrt{0.3}\, \epsilon'_c + \sqrt{0.7}\, \epsilon''

    At :math:`\omega = 0` the lowest nonzero frequency is used. No image is needed.

    Args:
        count: Number of images.
        teacher: Defines shape and device of the images.
        spectrum: White or natural.
    """
    channels, height, width = teacher.shape
    pixels = torch.randn(count, channels, height, width, device=teacher.device)
    if spectrum == "white":
        return pixels
    shared = torch.randn(count, 1, height, width, device=teacher.device)
    pixels = math.sqrt(0.3) * pixels + math.sqrt(0.7) * shared
    down, across = torch.fft.fftfreq(height, device=teacher.device), torch.fft.rfftfreq(width, device=teacher.device)
    frequency = torch.hypot(down[:, None], across).clamp_min(1 / max(height, width))
    pixels = torch.fft.irfft2(torch.fft.rfft2(pixels) / frequency, s=(height, width))
    return pixels / pixels.std()


def power_law(exponents: Tensor, planes: int, height: int, width: int) -> Float[Tensor, "n p h w"]:
    r"""Return Gaussian noise whose amplitudes fall with a power of the spatial frequency, :math:`\lvert\omega\rvert^{-a}`.

    It is drawn in the frequency domain. Each plane has mean 0 and expected variance 1; a plane of one pixel is 0.

    Args:
        exponents: :math:`a` of each image, of shape `(n,)`; 1 for photographs, 0 for white noise.
        planes: Number of planes per image.
        height: Rows of a plane.
        width: Columns of a plane.
    """
    device = exponents.device
    down, across = torch.fft.fftfreq(height, device=device), torch.fft.rfftfreq(width, device=device)
    frequency = torch.hypot(down[:, None], across)
    amplitude = frequency.clamp_min(1 / (2 * max(height, width))).pow(-exponents[:, None, None])
    amplitude[:, 0, 0] = 0
    # Columns without a mirror image count once, all others twice.
    single = torch.zeros_like(across, dtype=torch.bool)
    single[:: max(1, width // 2) if width % 2 == 0 else max(1, width)] = True
    energy = (amplitude.square() * torch.where(single, 1.0, 2.0)).sum((1, 2), keepdim=True)
    amplitude = amplitude * torch.where(single, math.sqrt(2), 1.0) * energy.clamp_min(1e-12).rsqrt() * height * width
    spectrum = torch.randn(len(exponents), planes, height, len(across), dtype=torch.complex64, device=device)
    return torch.fft.irfft2(spectrum * amplitude[:, None], s=(height, width))
