"""Networks that turn a latent vector into an image in the teacher's normalised space.

All end in a batch norm without scale and shift: what they make has mean 0 and variance 1 in each channel over the
batch, as normalised training data has.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datafree.types import InputError


class PaperGenerator(nn.Module):
    """The generator of DAFL: a linear layer to a quarter of the size, two doublings, three convolutions.

    References:
        | Data-Free Learning of Student Networks (Chen et al., 2019), section 4; layers as in the authors' code, whose
        | batch norms have eps 0.8
        | https://arxiv.org/abs/1904.01186
    """

    def __init__(self, latent: int, shape: tuple[int, int, int]) -> None:
        super().__init__()
        channels, self.height, self.width = _divisible(shape, 4)
        self.first = nn.Linear(latent, 128 * self.height * self.width)
        self.trunk = nn.Sequential(
            nn.BatchNorm2d(128),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(128, 128, 3, padding=1),
            nn.BatchNorm2d(128, eps=0.8),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(128, 64, 3, padding=1),
            nn.BatchNorm2d(64, eps=0.8),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(64, channels, 3, padding=1),
            nn.Tanh(),
            nn.BatchNorm2d(channels, affine=False),
        )

    def forward(self, z: Tensor) -> Tensor:
        return self.trunk(self.first(z).view(len(z), 128, self.height, self.width))


class SubpixelGenerator(nn.Module):
    """A small generator: all its convolutions run at a quarter and half of the size, sub-pixels and a blur do the rest.

    It costs less than the paper's generator. The blur ties the four sub-pixels of a place together.
    """

    blur: Tensor

    def __init__(self, latent: int, shape: tuple[int, int, int], width: int = 16) -> None:
        super().__init__()
        self.shape = _divisible(shape, 4)
        self.channels, self.features = shape[0], width
        self.first = nn.Linear(latent, width * self.shape[1] * self.shape[2])
        self.norm1 = nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, 4 * self.channels, 3, padding=1)
        self.last = nn.BatchNorm2d(self.channels, affine=False)
        self.register_buffer("blur", binomial(self.channels), persistent=False)

    def forward(self, z: Tensor) -> Tensor:
        x = self.first(z).view(len(z), self.features, *self.shape[1:])
        x = F.leaky_relu(self.norm1(x), 0.2)
        x = F.leaky_relu(self.norm2(self.conv1(F.interpolate(x, scale_factor=2))), 0.2)
        x = F.pixel_shuffle(self.conv2(x), 2)
        return self.last(torch.tanh(F.conv2d(x, self.blur, padding=1, groups=self.channels)))


class GroupStackGenerator(nn.Module):
    """Groups that grow an image from a latent; what leaves each group is what a block of a teacher takes.

    References:
        | Data-Free Knowledge Amalgamation via Group-Stack Dual-GAN (Ye et al., 2020), section 3.2, Eq 2
        | https://arxiv.org/abs/2003.09088

    Args:
        latent: Numbers in a latent.
        shapes: What the teachers' blocks take, first block first: the image, then features.
    """

    def __init__(self, latent: int, shapes: Sequence[tuple[int, ...]]) -> None:
        super().__init__()
        deep = list(reversed(shapes))
        self.shape = deep[0]
        self.first = nn.Linear(latent, math.prod(deep[0]), bias=False)
        self.start = nn.Sequential(nn.BatchNorm2d(deep[0][0]), nn.ReLU())
        self.groups = nn.ModuleList(
            _group(before, after, image=place == len(deep) - 2)
            for place, (before, after) in enumerate(zip(deep, deep[1:], strict=False))
        )

    def forward(self, z: Tensor) -> list[Tensor]:
        r""":math:`F_g^1, \dots, F_g^B`, the last one the image, with mean 0 and variance 1 in each channel over the batch."""
        made = [self.start(self.first(z).view(len(z), *self.shape))]
        for group in self.groups:
            made.append(group(made[-1]))
        return made


def _group(before: tuple[int, ...], after: tuple[int, ...], *, image: bool) -> nn.Sequential:
    """From the features of one depth to those of the one before: enlarged, then two convolutions.

    A single place is enlarged by weights of its own for each place it becomes: copies of it would all be alike, and no
    convolution could tell them apart. Features of a teacher follow a ReLU, so a group ends in one; the image ends as it
    does in the other generators.
    """
    channels = max(before[0] // 2, 16) if image else after[0]
    height, width = after[1:]
    enlarged: tuple[nn.Module, ...] = (nn.ConvTranspose2d(before[0], channels, (height, width)),)
    if before[1:] != (1, 1):
        enlarged = nn.Upsample(size=(height, width)), nn.Conv2d(before[0], channels, 3, padding=1)
    end = (nn.Tanh(), nn.BatchNorm2d(after[0], affine=False)) if image else (nn.BatchNorm2d(after[0]), nn.ReLU())
    return nn.Sequential(
        *enlarged,
        nn.BatchNorm2d(channels),
        nn.LeakyReLU(0.2),
        nn.Conv2d(channels, after[0], 3, padding=1),
        *end,
    )


def binomial(channels: int) -> Tensor:
    """The 3 x 3 binomial blur, one kernel a channel."""
    row = torch.tensor([1.0, 2.0, 1.0]) / 4
    return (row[:, None] * row).expand(channels, 1, 3, 3).clone()


def _divisible(shape: tuple[int, int, int], by: int) -> tuple[int, int, int]:
    channels, height, width = shape
    if height % by or width % by:
        raise InputError(
            f"a generator doubles twice, but {height} x {width} is not divisible by {by}; use another method"
        )
    return channels, height // by, width // by
