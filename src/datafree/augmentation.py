"""Small movements of images, a different one for each, in one pass."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from datafree.types import Images, at_least


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

    def __post_init__(self) -> None:
        at_least(0, shift=self.shift, rotate=self.rotate, scale=self.scale)

    def __bool__(self) -> bool:
        """Whether anything moves."""
        return bool(self.shift or self.rotate or self.scale or self.flip)

    def __call__(self, images: Images) -> Images:
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
