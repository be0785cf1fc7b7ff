"""Small movements of images, a different one for each, in one pass; and blends of two.

References:
    | Blends: Knowledge distillation: A good teacher is patient and consistent (Beyer et al., 2022)
    | https://arxiv.org/abs/2106.05237
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from datafree.types import Images, InputError, at_least


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """By how much an image may move before a student sees it. All zero: it is shown as it is."""

    shift: float = 0.0
    """up to so many pixels in either direction, not only whole ones; the border is repeated"""
    rotate: float = 0.0
    """up to so many degrees in either direction"""
    scale: float = 0.0
    """larger or smaller by up to this part"""
    flip: bool = False
    """mirror half of them left to right; leave it off where left and right mean something"""
    mix: float = 0.0
    """part of them that is blended with another of the batch, each in a share from 0 to 1; for images without labels"""

    def __post_init__(self) -> None:
        at_least(0, shift=self.shift, rotate=self.rotate, scale=self.scale)
        if not 0 <= self.mix <= 1:
            raise InputError(f"mix is {self.mix}, but a part is from 0 to 1")

    def __bool__(self) -> bool:
        """Whether anything is changed."""
        return bool(self.shift or self.rotate or self.scale or self.flip or self.mix)

    def must_keep_labels(self) -> None:
        """For images that are shown with their labels.

        Raises:
            InputError: If it blends images: a blend has no label, it can only be shown to a teacher.
        """
        if self.mix:
            raise InputError("a blend of two images has no label of its own; leave mix out where labels are learned")

    def __call__(self, images: Images) -> Images:
        moved = self.move(images)
        if not self.mix:
            return moved
        n, device = len(moved), moved.device
        blended = torch.rand(n, 1, 1, 1, device=device) < self.mix
        share = torch.where(blended, torch.rand(n, 1, 1, 1, device=device), 1.0)
        return torch.lerp(moved[torch.randperm(n, device=device)], moved, share)

    def move(self, images: Images) -> Images:
        """All but the blending."""
        n, _, height, width = images.shape
        if self.flip:
            mirrored = torch.rand(n, 1, 1, 1, device=images.device) < 0.5
            images = torch.where(mirrored, images.flip(-1), images)
        if not (self.shift or self.rotate or self.scale):
            return images
        draws = torch.rand(4, n, device=images.device) * 2 - 1
        angle = draws[0] * self.rotate * torch.pi / 180
        cos, sin = angle.cos() * (1 + draws[1] * self.scale), angle.sin() * (1 + draws[1] * self.scale)
        right, down = draws[2] * 2 * self.shift / width, draws[3] * 2 * self.shift / height
        motion = torch.stack([cos, -sin, right, sin, cos, down], 1).view(n, 2, 3)
        grid = F.affine_grid(motion, list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def jitter(images: Images, reach: int, flip: bool) -> Images:
    """Shifts each image cyclically by up to `reach` pixels, so that no pixel grid is special; flips half of them if asked."""
    n, _, height, width = images.shape
    down, right = torch.randint(-reach, reach + 1, (2, n, 1), device=images.device)
    rows = (torch.arange(height, device=images.device) + down) % height
    columns = (torch.arange(width, device=images.device) + right) % width
    if flip:
        mirrored = torch.rand(n, 1, device=images.device) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    one = torch.arange(n, device=images.device)[:, None, None]
    return images[one, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
