r"""Dead leaves: shapes that cover each other. Objects: a compound of few shapes in front of a background.

A shape is an ellipse, a diamond or a rectangle with radii :math:`r a` and :math:`r / a`, whose outline may be wavy:

.. math:: \lVert (u, v) \rVert_p < 1 + w \sin(f u + \theta) \sin(f v + 2 \theta), \quad p(r) \propto r^{-2.2}

where :math:`u, v` are coordinates along the axes of the shape, in radii. Small shapes are frequent and large ones rare, so
that the pictures have no preferred scale (Lee et al., 2001).

References:
    | Occlusion Models for Natural Images (Lee, Mumford and Huang, 2001)
    | https://doi.org/10.1023/A:1011109015675
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from datafree.synthesis.drawings.canvas import Canvas
from datafree.synthesis.drawings.fields import backgrounds, scalar_fields
from datafree.synthesis.drawings.palette import palette
from datafree.types import Images

RADIUS_EXPONENT = 2.2
"""exponent of the density of radii"""


@dataclass(frozen=True)
class Scatter:
    """How many shapes a picture has, how large they are, and where."""

    most: int
    """largest number of shapes in a picture; the number is uniform from 1"""
    smallest: float
    """smallest radius"""
    largest: float
    """largest radius"""
    spread: float
    """largest distance of a centre from the middle, along an axis, as a fraction of the scene"""


DEAD_LEAVES = Scatter(most=12, smallest=0.08, largest=0.9, spread=1.1)
COMPOUND = Scatter(most=6, smallest=0.15, largest=0.75, spread=0.6)


def leaves(canvas: Canvas) -> Images:
    """Return dead leaves on a background."""
    return scatter(canvas, DEAD_LEAVES, backgrounds(canvas))


def objects(canvas: Canvas) -> Images:
    """Return compounds of few shapes near the middle; three of ten are symmetric from left to right."""
    return scatter(canvas, COMPOUND, backgrounds(canvas), symmetric=canvas.chance(0.3))


def scatter(canvas: Canvas, settings: Scatter, pictures: Images, symmetric: Tensor | None = None) -> Images:
    """Draw shapes on pictures, in place, one layer after the other.

    Args:
        canvas: The canvas of the pictures.
        settings: Number, size and place of the shapes.
        pictures: What the shapes are drawn on.
        symmetric: Whether the shapes of a picture are repeated left of its middle axis, of shape `(n, 1, 1)`.
    """
    if symmetric is not None:
        canvas = Canvas(torch.where(symmetric, canvas.x.abs(), canvas.x), *_rest(canvas))
    counts = torch.randint(1, settings.most + 1, (len(canvas),)).sort(descending=True)[0]
    colours = palette(canvas, settings.most)
    light = canvas.uniform(-1, 1), canvas.uniform(-1, 0.2)
    texture = torch.empty(0)
    for layer in range(settings.most):
        drawn = int((counts > layer).sum())
        if not drawn:
            break
        part = canvas[:drawn]
        if layer % 3 == 0:
            texture = scalar_fields(part).mul_(part.uniform(0, 0.35) * part.chance(0.6))
        cover, relief = shape(part, settings, (light[0][:drawn], light[1][:drawn]))
        colour = colours[layer, :drawn] + relief.add_(texture[:drawn])[:, None]
        pictures[:drawn].lerp_(colour, cover[:, None])
    return pictures


def _rest(canvas: Canvas) -> tuple[Tensor, Tensor, tuple[float, float], int]:
    return canvas.y, canvas.pixel, canvas.extent, canvas.channels


def shape(canvas: Canvas, settings: Scatter, light: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Return how far a random shape covers each pixel, in [0, 1], and its shading, both of shape `(n, h, w)`.

    Args:
        canvas: The canvas of the pictures.
        settings: Size and place of the shapes.
        light: Where the light of each picture comes from.
    """
    radius, stretch = radii(canvas, settings), canvas.uniform(-0.77, 0.77).exp()
    x = canvas.x - settings.spread * canvas.extent[0] * canvas.uniform(-1, 1)
    y = canvas.y - settings.spread * canvas.extent[1] * canvas.uniform(-1, 1)
    cos, sin = turns(canvas)
    along, across = 1 / (radius * stretch), stretch / radius
    u, v = x * (cos * along) + y * (sin * along), y * (cos * across) - x * (sin * across)
    squared = torch.addcmul(u.square(), v, v)
    inside = 1 - distance(u, v, squared)
    offset = _offset(2)
    waviness, frequency = canvas.uniform(0, 0.4)[offset::2], canvas.uniform(1.5, 5)[offset::2]
    angle = canvas.uniform(0, 2 * torch.pi)[offset::2]
    wave = (u[offset::2] * frequency + angle).sin_() * (v[offset::2] * frequency + 2 * angle).sin_()
    inside[offset::2] += wave.mul_(waviness)
    # An edge is at least a pixel wide, so that nothing has to be drawn larger and averaged.
    sharpness = torch.minimum(canvas.uniform(1.5, 10), radius / canvas.pixel)
    cover = inside.mul_(sharpness).add_(0.5).clamp_(0, 1)
    relief = (light[0] * u).addcmul_(v, light[1]).add_(squared, alpha=-0.4).add_(0.2).clamp_(-1, 1)
    return cover, relief.mul_(canvas.uniform(0, 0.45) * canvas.chance(0.6))


def radii(canvas: Canvas, settings: Scatter) -> Tensor:
    """Return radii with the density of dead leaves, by the inverse of their distribution."""
    power = 1 - RADIUS_EXPONENT
    low, high = settings.smallest**power, settings.largest**power
    return canvas.uniform(low, high).pow(1 / power)


def turns(canvas: Canvas) -> tuple[Tensor, Tensor]:
    """Return cosine and sine of the angle of each shape; four of ten are upright."""
    angle = canvas.uniform(0, 2 * torch.pi)
    right = torch.pi / 2
    angle = torch.where(canvas.chance(0.4), (angle / right).round() * right, angle)
    return angle.cos(), angle.sin()


def distance(u: Tensor, v: Tensor, squared: Tensor) -> Tensor:
    """Return the norm of each point: half of the pictures by the norm of an ellipse, a quarter each diamonds and boxes.

    Args:
        u: First coordinate, of shape `(n, h, w)`.
        v: Second coordinate.
        squared: Sum of their squares.
    """
    norm = squared.sqrt()
    offset = _offset(4)
    diamonds, boxes = slice(offset, None, 4), slice((offset + 2) % 4, None, 4)
    torch.add(u[diamonds].abs(), v[diamonds].abs(), out=norm[diamonds])
    torch.maximum(u[boxes].abs(), v[boxes].abs(), out=norm[boxes])
    return norm


def _offset(period: int) -> int:
    """Where a subset of the pictures begins; slices are faster than a mask."""
    return int(torch.randint(period, ()))
