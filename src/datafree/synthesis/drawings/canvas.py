"""The canvas of a batch of pictures: the coordinates of their pixels, and the random numbers of their parameters.

A picture is a function of coordinates, so a random crop is a change of coordinates and costs nothing.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Canvas:
    """The pixels of `n` pictures of `height` x `width`, as points of a scene of about [-1, 1] x [-1, 1].

    Parameters of a picture have shape `(n, 1, 1)`, so that they broadcast over its pixels.
    """

    x: Tensor
    """coordinate of each column, of shape `(n, 1, width)`; it falls from left to right if the picture is mirrored"""
    y: Tensor
    """coordinate of each row, of shape `(n, height, 1)`"""
    pixel: Tensor
    """size of a pixel in coordinates, of shape `(n, 1, 1)`"""
    extent: tuple[float, float]
    """largest x and y of the scene; their product is 1"""
    channels: int
    """channels of the pictures"""

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: slice | Tensor) -> "Canvas":
        """Return the canvas of some of the pictures."""
        return Canvas(self.x[index], self.y[index], self.pixel[index], self.extent, self.channels)

    @property
    def height(self) -> int:
        """Rows of a picture."""
        return self.y.shape[1]

    @property
    def width(self) -> int:
        """Columns of a picture."""
        return self.x.shape[2]

    @property
    def device(self) -> torch.device:
        """The device of the pictures."""
        return self.x.device

    def uniform(self, low: float, high: float, *size: int) -> Tensor:
        """Return a uniform parameter for each picture, of shape `(n, 1, 1)` or `(n, *size)`."""
        return torch.rand(len(self), *(size or (1, 1)), device=self.device) * (high - low) + low

    def log_uniform(self, low: float, high: float) -> Tensor:
        """Return a parameter whose logarithm is uniform, of shape `(n, 1, 1)`."""
        bounds = torch.tensor((low, high)).log().tolist()
        return self.uniform(bounds[0], bounds[1]).exp()

    def normal(self, *size: int) -> Tensor:
        """Return normally distributed parameters of shape `(n, *size)`."""
        return torch.randn(len(self), *size, device=self.device)

    def chance(self, probability: float) -> Tensor:
        """Return whether something applies to each picture, of shape `(n, 1, 1)`."""
        return torch.rand(len(self), 1, 1, device=self.device) < probability

    def direction(self) -> tuple[Tensor, Tensor]:
        """Return the cosine and sine of a random angle for each picture."""
        angle = self.uniform(0, 2 * torch.pi)
        return angle.cos(), angle.sin()


def random_canvas(
    count: int, shape: tuple[int, int, int], crop: tuple[float, float], device: torch.device | str = "cpu"
) -> Canvas:
    """Return the canvas of random crops of scenes, each mirrored with probability 0.5.

    Args:
        count: Number of pictures.
        shape: Channels, height and width of a picture. The scene has the same aspect.
        crop: Range of the side of the crop, as a fraction of the side of the scene.
        device: Device of the pictures.
    """
    channels, height, width = shape
    across, down = (width / height) ** 0.5, (height / width) ** 0.5
    side = torch.rand(count, 1, 1, device=device) * (crop[1] - crop[0]) + crop[0]
    corner = (1 - side) * (2 * torch.rand(2, count, 1, 1, device=device) - 1)
    mirrored = torch.where(torch.rand(count, 1, 1, device=device) < 0.5, -side, side)
    columns, rows = ((2 * torch.arange(size, device=device) + 1) / size - 1 for size in (width, height))
    x = across * (mirrored * columns + corner[0])
    y = down * (side * rows[:, None] + corner[1])
    return Canvas(x, y, 2 * side * across / width, (across, down), channels)
