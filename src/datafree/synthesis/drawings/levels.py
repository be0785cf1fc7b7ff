r"""The levels of a teacher's images: what mean, standard deviation and ground the pictures for it have.

The teacher's normalisation tells the mean :math:`\mu` and the standard deviation :math:`\sigma` of its training data, by
channel. Pictures are drawn with levels of their own and then mapped to these:

.. math:: x' = \operatorname{clip}_{[0, 1]}(g x + o)
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from datafree.classifier import Classifier
from datafree.types import Images

USUAL_MEAN, USUAL_STD = 0.45, 0.25
"""levels of photographs, where the normalisation tells nothing"""
DARK = 0.25
"""largest mean of images whose ground is dark"""
CONTRAST = 0.5
"""variance, as a fraction of that of black and white pixels of the same mean, from which the ground is plain; photographs
have about a quarter"""
PEN_WIDTHS, PEN_STEPS = (0.5, 3.0), 6
"""range of the factor of the width of strokes, and steps of its bisection"""
LARGEST_VARIANCE = 0.9
"""largest such fraction of images; a larger one is a convention, such as mean 0.5 and standard deviation 0.5"""


@dataclass(frozen=True)
class Levels:
    """The levels of pictures: by channel, of shape `(c, 1, 1)`."""

    gain: Tensor
    """g"""
    offset: Tensor
    """o"""
    light_ground: float = 0.0
    """probability that strokes are dark on white ground instead of light on black ground"""
    pen: float = 1.0
    """factor of the width of strokes"""

    def __call__(self, pictures: Images) -> Images:
        """Return pictures with these levels, in [0, 1]."""
        return torch.addcmul(self.offset, pictures, self.gain).clamp_(0, 1)

    def on_ground(self, strokes: Images) -> Images:
        """Return light strokes on black as strokes on the ground of these levels."""
        inverted = torch.rand(len(strokes), 1, 1, 1, device=strokes.device) < self.light_ground
        return torch.where(inverted, 1 - strokes, strokes)

    def state_dict(self) -> dict[str, Any]:
        """Return the levels, for a checkpoint."""
        return {"gain": self.gain, "offset": self.offset, "light_ground": self.light_ground, "pen": self.pen}

    @classmethod
    def restored(cls, state: Mapping[str, Any], device: torch.device) -> "Levels":
        """Return the levels with this state."""
        return cls(state["gain"].to(device), state["offset"].to(device), state["light_ground"], state["pen"])


def known_levels(teacher: Classifier) -> tuple[Tensor, Tensor] | None:
    """Return the mean and standard deviation of a teacher's images, of shape `(c, 1, 1)`, from its normalisation.

    Returns:
        None if no images in [0, 1] have such values, as with the mean 0.5 and standard deviation 0.5 that many networks use.
    """
    channels = teacher.shape[0]
    mean, std = teacher.mean.expand(channels, 1, 1), teacher.std.expand(channels, 1, 1)
    plausible = (mean > 0) & (mean < 1) & (std.square() < LARGEST_VARIANCE * mean * (1 - mean))
    return (mean, std) if bool(plausible.all()) else None


def light_ground(teacher: Classifier) -> float:
    """Return the probability that the ground of a teacher's images is light: 0, 1, or 0.5 if it is not known.

    Images have plain ground if their mean is dark or light in all channels, or if most pixels are nearly black or white.
    """
    known = known_levels(teacher)
    if known is None:
        return 0.5
    mean, std = known
    contrast = std.square() / (mean * (1 - mean))
    is_plain = bool((mean < DARK).all() or (mean > 1 - DARK).all() or (contrast > CONTRAST).all())
    return float(mean.mean() > 0.5) if is_plain else 0.5


def has_plain_ground(teacher: Classifier) -> bool:
    """Return whether a teacher may classify symbols on plain ground: it takes grey images, or its levels say so."""
    return teacher.shape[0] == 1 or light_ground(teacher) != 0.5


def match_levels(pictures: Images, teacher: Classifier) -> Levels:
    """Return the levels that give pictures the mean and the standard deviation of a teacher's images, before clipping.

    Args:
        pictures: Some hundreds of pictures, as they are drawn.
        teacher: The teacher. If its normalisation tells nothing, its images are taken for photographs.
    """
    usual = pictures.new_full((teacher.shape[0], 1, 1), USUAL_MEAN), pictures.new_full((1, 1, 1), USUAL_STD)
    mean, std = known_levels(teacher) or usual
    own_mean, own_std = (statistic[:, None, None] for statistic in moments(pictures))
    gain = std / own_std.clamp_min(1e-6)
    return Levels(gain, mean - gain * own_mean, light_ground(teacher))


def own_levels(teacher: Classifier) -> Levels:
    """Return the levels that leave textured pictures as they are drawn, with the ground of a teacher's images."""
    shape, device = (teacher.shape[0], 1, 1), teacher.device
    return Levels(torch.ones(shape, device=device), torch.zeros(shape, device=device), light_ground(teacher))


def pen_width(teacher: Classifier, ink: Callable[[float], float]) -> float:
    """Return the width of the pen with which strokes cover as much of the ground as symbols in the teacher's images do.

    Args:
        teacher: The teacher. If the ground of its images is not known, the result is 1.
        ink: The mean of light strokes on black that are drawn with a pen of this width; it rises with the width.
    """
    known, light = known_levels(teacher), light_ground(teacher)
    if known is None or light == 0.5:
        return 1.0
    mean = float(known[0].mean())
    wanted, (low, high) = (1 - mean if light else mean), PEN_WIDTHS
    for _ in range(PEN_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if ink(middle) < wanted else (low, middle)
    return (low + high) / 2


def moments(pictures: Images) -> tuple[Tensor, Tensor]:
    """Return the mean and the standard deviation of each channel."""
    return pictures.mean((0, 2, 3)), pictures.std((0, 2, 3), unbiased=False)
