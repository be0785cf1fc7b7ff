"""Random affine augmentation, drawn for each image, and combinations of image pairs.

References:
    | Blending: Knowledge distillation: A good teacher is patient and consistent (Beyer et al., 2022)
    | https://arxiv.org/abs/2106.05237
    | Cutting: CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features (Yun et al., 2019)
    | https://arxiv.org/abs/1905.04899
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from datafree import processes
from datafree.classifier import Classifier, frozen
from datafree.losses import js_divergence
from datafree.types import Images, InputError, require_at_least, require_at_most

FLIP_LIMIT = 0.2
"""a teacher is flip-invariant below this `flip_divergence`: on procedural pictures, a teacher of CIFAR-10 has 0.11 to 0.13, of
scikit-learn's digits 0.29 to 0.33, of MNIST 0.60 to 0.68; on real images 0.07, 0.60 and 0.64"""


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Random augmentation of the images that a student sees. With the defaults images are unchanged."""

    shift: float = 0.0
    """maximum shift in pixels, fractions included, along both axes; the border is replicated"""
    relative_shift: float = 0.0
    """maximum shift as a fraction of height and width, added to shift: the same for images of every size"""
    rotate: float = 0.0
    """maximum rotation in degrees, in both directions"""
    scale: float = 0.0
    """maximum relative change in size; 0.1 is 10 %"""
    flip: bool = False
    """mirror each image left to right with probability 0.5; leave it off where the orientation carries the class"""
    mix: float = 0.0
    """fraction of images that are blended with another image of the batch; only where the teacher labels the images"""
    cutmix: float = 0.0
    """fraction of images with a rectangle from another image of the batch; only where the teacher labels the images"""

    def __post_init__(self) -> None:
        require_at_least(0, shift=self.shift, relative_shift=self.relative_shift, rotate=self.rotate, scale=self.scale)
        require_at_most(1, relative_shift=self.relative_shift)
        for name, fraction in (("mix", self.mix), ("cutmix", self.cutmix)):
            if not 0 <= fraction <= 1:
                raise InputError(f"{name} is {fraction}, but it must be between 0 and 1")

    def __bool__(self) -> bool:
        """Whether images are changed at all."""
        return bool(self.moves or self.flip or self.combines)

    @property
    def moves(self) -> bool:
        """Whether images are shifted, rotated or scaled."""
        return bool(self.shift or self.relative_shift or self.rotate or self.scale)

    @property
    def combines(self) -> bool:
        """Whether some images become a combination of two, which no stored label or logits fit."""
        return bool(self.mix or self.cutmix)

    def require_no_mix(self) -> None:
        """Check that images keep their labels.

        Raises:
            InputError: If images are combined. A combination of two images has no label.
        """
        for name, what in (("mix", "a blended image"), ("cutmix", "an image with a part of another one")):
            if getattr(self, name):
                raise InputError(f"{what} has no label, but this training needs labels; set {name} to 0")

    def __call__(self, images: Images) -> Images:
        """Return augmented images of the same shape `(n, c, h, w)`.

        A blend is :math:`w x_i + (1 - w) x_j` with :math:`w` uniform in [0, 1] and :math:`j` a random permutation. For the
        rectangle, see `cut`; an image may be blended first and then get one.
        """
        images = self.transform(images)
        if self.mix:
            images = self.blend(images)
        return self.cut(images) if self.cutmix else images

    def blend(self, images: Images) -> Images:
        """Blend a fraction of the images with another image of the batch."""
        n, device = len(images), images.device
        blended = uniform((n, 1, 1, 1), device) < self.mix
        weight = torch.where(blended, uniform((n, 1, 1, 1), device), 1.0)
        return torch.lerp(processes.permuted(images), images, weight)

    def cut(self, images: Images) -> Images:
        r"""Replace a rectangle in a fraction of the images by the same rectangle of another image of the batch.

        .. math:: x = M \odot x_i + (1 - M) \odot x_j, \quad
            r_w = W \sqrt{1 - \lambda}, \quad r_h = H \sqrt{1 - \lambda}, \quad \lambda \sim U(0, 1)

        The centre of the rectangle is uniform over the image, and what lies outside of the image is cut off, as in the
        paper (Yun et al. 2019, section 3.1). Its area is uniform before that.
        """
        n, _, height, width = images.shape
        device = images.device
        is_cut = uniform((n, 1, 1, 1), device) < self.cutmix
        side, row, column = uniform((3, n, 1), device, dim=1)
        half = side.sqrt() / 2
        rows = (torch.arange(height, device=device) + 0.5) / height
        columns = (torch.arange(width, device=device) + 0.5) / width
        inside = ((rows - row).abs() < half)[:, None, :, None] & ((columns - column).abs() < half)[:, None, None, :]
        return torch.where(inside & is_cut, processes.permuted(images), images)

    def transform(self, images: Images) -> Images:
        """Flip, rotate, scale and shift each image, without combining images."""
        n, _, height, width = images.shape
        if self.flip:
            mirrored = uniform((n, 1, 1, 1), images.device) < 0.5
            images = torch.where(mirrored, images.flip(-1), images)
        if not self.moves:
            return images
        drawn = uniform((4, n), images.device, dim=1) * 2 - 1
        angle = drawn[0] * self.rotate * torch.pi / 180
        cos, sin = angle.cos() * (1 + drawn[1] * self.scale), angle.sin() * (1 + drawn[1] * self.scale)
        right = drawn[2] * 2 * (self.shift / width + self.relative_shift)
        down = drawn[3] * 2 * (self.shift / height + self.relative_shift)
        # The grid counts height and width as 2 each; in pixels a rotation must not shear images that are not square.
        affine = torch.stack([cos, -sin * (height / width), right, sin * (width / height), cos, down], 1).view(n, 2, 3)
        grid = F.affine_grid(affine, list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def uniform(size: Sequence[int], device: torch.device, dim: int = 0) -> Tensor:
    """Return uniform random numbers for the images of this process."""
    return processes.draw_rows(torch.rand, size, dim, device=device)


def flip_divergence(teacher: Classifier, images: Images) -> float:
    r"""Measure how much a mirrored image changes the prediction, relative to how much another image does.

    .. math:: \frac{\sum_i \text{JS}(p(x_i), p(\bar x_i))}{\sum_i \text{JS}(p(x_i), p(x_{i+1}))}

    :math:`\bar x` is :math:`x` mirrored left to right, :math:`x_{i+1}` the next image of the batch. No label is needed.

    Args:
        teacher: The teacher. Not changed.
        images: Pixels in [0, 1] of shape `(n, c, h, w)` with n >= 2, of several classes by the teacher's predictions.

    Returns:
        0 if mirroring changes nothing; about 1 if a mirrored image is as good as another one, and if the teacher predicts
        the same for all images.

    Raises:
        InputError: If there are fewer than two images.
    """
    if len(images) < 2:
        raise InputError(f"{len(images)} image cannot show what mirroring changes; give two or more")
    with frozen(teacher), torch.no_grad():
        logits, mirrored = (torch.cat([teacher(x) for x in pixels.split(256)]) for pixels in (images, images.flip(-1)))
    decisions = teacher.decisions
    change = js_divergence(decisions(logits), decisions(mirrored))
    difference = js_divergence(decisions(logits), decisions(logits.roll(1, 0)))
    return float(change / difference) if difference > 1e-6 else 1.0


def is_flip_invariant(teacher: Classifier, images: Images) -> bool:
    """Return whether images may be mirrored left to right in training: whether the teacher predicts the same for them.

    Args:
        teacher: The teacher. Not changed.
        images: Pixels in [0, 1] of shape `(n, c, h, w)`, 256 or more; procedural or synthesized ones will do.

    Raises:
        InputError: If there are fewer than two images.
    """
    return flip_divergence(teacher, images) < FLIP_LIMIT


def jitter(images: Images, max_shift: int, flip: bool) -> Images:
    """Shift each image cyclically by a random whole number of pixels, so that optimization favours no pixel grid.

    Args:
        images: Of shape `(n, c, h, w)`.
        max_shift: Maximum shift along both axes, in pixels.
        flip: Mirror each image left to right with probability 0.5.
    """
    n, _, height, width = images.shape
    shifts = partial(torch.randint, -max_shift, max_shift + 1)
    down, right = processes.draw_rows(shifts, (2, n, 1), dim=1, device=images.device)
    rows = (torch.arange(height, device=images.device) + down) % height
    columns = (torch.arange(width, device=images.device) + right) % width
    if flip:
        mirrored = uniform((n, 1), images.device) < 0.5
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
    n, channels, height, width = images.shape
    first = torch.arange(n, device=images.device)[:, None] * height
    places = (first + rows)[:, :, None] * width + columns[:, None, :]
    pixels = images.permute(0, 2, 3, 1).reshape(-1, channels)  # one index of pixels is faster than one of each axis
    return pixels.index_select(0, places.flatten()).view(n, height, width, channels).permute(0, 3, 1, 2)
