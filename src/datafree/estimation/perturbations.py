r"""Small changes of an image that leave its class alone: what a robust decision of the teacher survives.

Five kinds, with :math:`h` an eighth of the shorter side of the image:

1. a shift by up to :math:`h`;
2. a rotation by up to 15 degrees, with a change in size by up to 15 %;
3. Gaussian noise with a standard deviation of 0.2;
4. a binomial blur of 3 x 3 pixels, with a contrast of 0.6 to 1;
5. a shift by up to :math:`0.7 h`, with noise of 0.1.

The numbers were chosen on grey images of digits, see `docs/estimate.md`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from datafree.synthesis.augmentation import Augmentation
from datafree.synthesis.generators.networks import binomial
from datafree.types import Images

REPETITIONS = 2
"""how often each kind is drawn for an image"""
ROTATION, SCALE = 15.0, 0.15
NOISE, LITTLE_NOISE = 0.2, 0.1
SHORTER = 0.7
CONTRAST = (0.6, 1.0)


def shift(images: Images) -> Images:
    """Shift each image by up to an eighth of its shorter side."""
    return Augmentation(shift=_eighth(images))(images)


def turn(images: Images) -> Images:
    """Rotate each image by up to 15 degrees, and change its size by up to 15 %."""
    return Augmentation(rotate=ROTATION, scale=SCALE)(images)


def add_noise(images: Images, deviation: float = NOISE) -> Images:
    """Add Gaussian noise, and cut pixels off at 0 and 1."""
    return (images + deviation * torch.randn_like(images)).clamp(0, 1)


def blur(images: Images) -> Images:
    """Blur each image with a binomial filter of 3 x 3 pixels, and lower its contrast around its mean."""
    channels = images.shape[1]
    blurred = F.conv2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), binomial(channels).to(images), groups=channels)
    low, high = CONTRAST
    contrast = low + (high - low) * torch.rand(len(images), 1, 1, 1, device=images.device)
    mean = blurred.mean((1, 2, 3), keepdim=True)
    return (mean + contrast * (blurred - mean)).clamp(0, 1)


def shift_with_noise(images: Images) -> Images:
    """Shift each image a little less than `shift`, and add half the noise of `add_noise`."""
    return add_noise(Augmentation(shift=SHORTER * _eighth(images))(images), LITTLE_NOISE)


def paste(images: Images) -> Images:
    """Replace a rectangle of each image, a quarter to a half of each side, by the same rectangle of another image."""
    n, _, height, width = images.shape
    inside = torch.ones(n, 1, 1, 1, dtype=torch.bool, device=images.device)
    for side, shape in ((height, (n, 1, -1, 1)), (width, (n, 1, 1, -1))):
        length = torch.randint(max(1, side // 4), side // 2 + 1 if side > 1 else 2, (n, 1), device=images.device)
        start = (torch.rand(n, 1, device=images.device) * (side - length + 1)).floor()
        place = torch.arange(side, device=images.device)
        inside = inside & ((place >= start) & (place < start + length)).view(shape)
    return torch.where(inside, images[torch.randperm(n, device=images.device)], images)


KINDS: tuple[Callable[[Images], Images], ...] = (shift, turn, add_noise, blur, shift_with_noise)
PERTURBATIONS = KINDS * REPETITIONS
"""the perturbations of each image"""


def _eighth(images: Images) -> float:
    return min(images.shape[2:]) / 8


@dataclass(frozen=True, kw_only=True)
class Perturbation(Augmentation):
    """A random kind of perturbation for each batch, instead of an augmentation, for images that should survive it."""

    def __bool__(self) -> bool:
        return True

    def __call__(self, images: Images) -> Images:
        """Return perturbed images of the same shape `(n, c, h, w)`."""
        return KINDS[int(torch.randint(len(KINDS), ()))](images)
