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
