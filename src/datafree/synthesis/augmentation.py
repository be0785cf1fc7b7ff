"""Random affine augmentation, drawn for each image, and blending of image pairs.

References:
    | Blending: Knowledge distillation: A good teacher is patient and consistent (Beyer et al., 2022)
    | https://arxiv.org/abs/2106.05237
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from datafree.types import Images, InputError, require_at_least


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Random augmentation of the images that a student sees. With the defaults images are unchanged."""

    shift: float = 0.0
    """maximum shift in pixels, fractions included, along both axes; the border is replicated"""
    rotate: float = 0.0
    """maximum rotation in degrees, in both directions"""
    scale: float = 0.0
    """maximum relative change in size; 0.1 is 10 %"""
    flip: bool = False
    """mirror each image left to right with probability 0.5; leave it off where the orientation carries the class"""
    mix: float = 0.0
    """fraction of images that are blended with another image of the batch; only where the teacher labels the images"""

    def __post_init__(self) -> None:
        require_at_least(0, shift=self.shift, rotate=self.rotate, scale=self.scale)
        if not 0 <= self.mix <= 1:
            raise InputError(f"mix is {self.mix}, but it must be between 0 and 1")

    def __bool__(self) -> bool:
        """Whether images are changed at all."""
        return bool(self.shift or self.rotate or self.scale or self.flip or self.mix)

    def require_no_mix(self) -> None:
        """Check that images keep their labels.

        Raises:
            InputError: If images are blended. A blended image has no label.
        """
        if self.mix:
            raise InputError("a blended image has no label, but this training needs labels; set mix to 0")

    def __call__(self, images: Images) -> Images:
        """Return augmented images of the same shape `(n, c, h, w)`.

        A blend is :math:`w x_i + (1 - w) x_j` with :math:`w` uniform in [0, 1] and :math:`j` a random permutation.
        """
        images = self.transform(images)
        if not self.mix:
            return images
        n, device = len(images), images.device
        blended = torch.rand(n, 1, 1, 1, device=device) < self.mix
        weight = torch.where(blended, torch.rand(n, 1, 1, 1, device=device), 1.0)
        return torch.lerp(images[torch.randperm(n, device=device)], images, weight)

    def transform(self, images: Images) -> Images:
        """Flip, rotate, scale and shift each image, without blending."""
        n, _, height, width = images.shape
        if self.flip:
            mirrored = torch.rand(n, 1, 1, 1, device=images.device) < 0.5
            images = torch.where(mirrored, images.flip(-1), images)
        if not (self.shift or self.rotate or self.scale):
            return images
        uniform = torch.rand(4, n, device=images.device) * 2 - 1
        angle = uniform[0] * self.rotate * torch.pi / 180
        cos, sin = angle.cos() * (1 + uniform[1] * self.scale), angle.sin() * (1 + uniform[1] * self.scale)
        right, down = uniform[2] * 2 * self.shift / width, uniform[3] * 2 * self.shift / height
        # The grid counts height and width as 2 each; in pixels a rotation must not shear images that are not square.
        affine = torch.stack([cos, -sin * (height / width), right, sin * (width / height), cos, down], 1).view(n, 2, 3)
        grid = F.affine_grid(affine, list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def jitter(images: Images, max_shift: int, flip: bool) -> Images:
    """Shift each image cyclically by a random whole number of pixels, so that optimization favours no pixel grid.

    Args:
        images: Of shape `(n, c, h, w)`.
        max_shift: Maximum shift along both axes, in pixels.
        flip: Mirror each image left to right with probability 0.5.
    """
    n, _, height, width = images.shape
    down, right = torch.randint(-max_shift, max_shift + 1, (2, n, 1), device=images.device)
    rows = (torch.arange(height, device=images.device) + down) % height
    columns = (torch.arange(width, device=images.device) + right) % width
    if flip:
        mirrored = torch.rand(n, 1, device=images.device) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    return _Permute.apply(images, rows, columns)


class _Permute(torch.autograd.Function):
    """Reorders the rows and columns of each image. The backward pass of an index would add up at each index."""

    @staticmethod
    def forward(ctx: Any, images: Images, rows: Tensor, columns: Tensor) -> Images:
        ctx.save_for_backward(rows, columns)
        return _permuted(images, rows, columns)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        rows, columns = ctx.saved_tensors
        return _permuted(gradients[0], rows.argsort(1), columns.argsort(1)), None, None


def _permuted(images: Images, rows: Tensor, columns: Tensor) -> Images:
    index = torch.arange(len(images), device=images.device)[:, None, None]
    return images[index, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
