"""Generators: networks that map latent vectors to images in the normalised space of the teacher.

All end in a batch norm without scale and shift. Their images have mean 0 and variance 1 in each channel over the batch,
like normalised training data.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datafree.types import InputError


class PaperGenerator(nn.Module):
    """The generator of DAFL: a linear layer to a quarter of the size, two upsamplings, three convolutions.

    References:
        | Data-Free Learning of Student Networks (Chen et al., 2019), section 4; layers as in the authors' code, whose
        | batch norms have eps 0.8
        | https://arxiv.org/abs/1904.01186

    Args:
        latent_size: Size of a latent vector.
        shape: Channels, height and width of an image.

    Raises:
        InputError: If height or width is not divisible by 4.
    """

    def __init__(self, latent_size: int, shape: tuple[int, int, int]) -> None:
        super().__init__()
        channels, self.height, self.width = _quarter(shape)
        self.first = nn.Linear(latent_size, 128 * self.height * self.width)
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
    """A small generator: convolutions at a quarter and half of the size, then a pixel shuffle and a blur.

    It is cheaper than the paper's generator. The blur smooths over the four sub-pixels that the shuffle places side by
    side.

    Args:
        latent_size: Size of a latent vector.
        shape: Channels, height and width of an image.
        width: Channels of the hidden layers.

    Raises:
        InputError: If height or width is not divisible by 4.
    """

    blur: Tensor

    def __init__(self, latent_size: int, shape: tuple[int, int, int], width: int = 16) -> None:
        super().__init__()
        self.shape = _quarter(shape)
        self.channels, self.features = shape[0], width
        self.first = nn.Linear(latent_size, width * self.shape[1] * self.shape[2])
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
    """A stack of generator groups. The output of each group has the shape that a block of a teacher takes.

    References:
        | Data-Free Knowledge Amalgamation via Group-Stack Dual-GAN (Ye et al., 2020), section 3.2, Eq 2
        | https://arxiv.org/abs/2003.09088

    Args:
        latent_size: Size of a latent vector.
        shapes: Input shapes `(c, h, w)` of the teachers' blocks, first block first: the image, then features.
        signed: For each shape after the first, whether these features can be negative. If not, they end in a ReLU.
    """

    def __init__(self, latent_size: int, shapes: Sequence[tuple[int, ...]], signed: Sequence[bool] = ()) -> None:
        super().__init__()
        signs = signed or [False] * (len(shapes) - 1)
        ends = [_feature_end(shape[0], sign) for shape, sign in zip(shapes[1:], signs, strict=True)]
        image_end = (nn.Tanh(), nn.BatchNorm2d(shapes[0][0], affine=False))
        self.shape = shapes[-1]
        self.first = nn.Linear(latent_size, math.prod(self.shape), bias=False)
        self.start = nn.Sequential(*ends.pop())
        self.groups = nn.ModuleList(
            _group(before, after, end, image=end is image_end)
            for before, after, end in zip(shapes[:0:-1], shapes[-2::-1], [*reversed(ends), image_end], strict=True)
        )

    def forward(self, z: Tensor) -> list[Tensor]:
        r"""Return :math:`F_g^1, \dots, F_g^B`: features of decreasing depth, the last entry the image."""
        outputs = [self.start(self.first(z).view(len(z), *self.shape))]
        for group in self.groups:
            outputs.append(group(outputs[-1]))
        return outputs


def _feature_end(channels: int, signed: bool) -> tuple[nn.Module, ...]:
    """The end of a group that generates features: as in most teachers, features that cannot be negative follow a ReLU."""
    return (nn.BatchNorm2d(channels),) if signed else (nn.BatchNorm2d(channels), nn.ReLU())


def _group(before: tuple[int, ...], after: tuple[int, ...], end: Sequence[nn.Module], *, image: bool) -> nn.Sequential:
    """Map features of one depth to those of the depth before: an upsampling, two convolutions and the end of the group.

    A 1 x 1 map is enlarged by a transposed convolution with separate weights for each position. Copies would all be
    equal, and no convolution could tell them apart.
    """
    channels = max(before[0] // 2, 16) if image else after[0]
    height, width = after[1:]
    upsampled: tuple[nn.Module, ...] = (nn.ConvTranspose2d(before[0], channels, (height, width)),)
    if before[1:] != (1, 1):
        upsampled = nn.Upsample(size=(height, width)), nn.Conv2d(before[0], channels, 3, padding=1)
    return nn.Sequential(
        *upsampled,
        nn.BatchNorm2d(channels),
        nn.LeakyReLU(0.2),
        nn.Conv2d(channels, after[0], 3, padding=1),
        *end,
    )


def binomial(channels: int) -> Tensor:
    """Return the kernels of a depthwise 3 x 3 binomial blur, of shape `(channels, 1, 3, 3)`."""
    row = torch.tensor([1.0, 2.0, 1.0]) / 4
    return (row[:, None] * row).expand(channels, 1, 3, 3).clone()


def _quarter(shape: tuple[int, int, int]) -> tuple[int, int, int]:
    channels, height, width = shape
    if height % 4 or width % 4:
        raise InputError(
            f"the generator needs a height and width divisible by 4, but images are {height} x {width}; "
            "use a method without a generator"
        )
    return channels, height // 4, width // 4
