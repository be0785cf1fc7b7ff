r"""Scalar fields, from which textures and backgrounds are made: gradients, waves and power-law noise.

A wave is :math:`\sin(\pi f (s + w \eta) + \varphi)` along a direction, along the distance from a centre, or the product of
two waves. The noise :math:`\eta` bends half of the fields; some fields have sharp transitions, :math:`\tanh(k s)`.
"""

import torch
from torch import Tensor

from datafree.synthesis.drawings.canvas import Canvas
from datafree.synthesis.drawings.palette import palette, shade
from datafree.synthesis.spectrum import power_law
from datafree.types import Images


def plane_noise(canvas: Canvas, planes: int = 1) -> Tensor:
    """Return power-law noise with exponents uniform in [0.6, 2], of shape `(n, planes, h, w)`."""
    return power_law(canvas.uniform(0.6, 2).flatten(), planes, canvas.height, canvas.width)


def scalar_fields(canvas: Canvas) -> Tensor:
    """Return one field per picture, about in [-1, 1], of shape `(n, h, w)`; a third each: gradients, waves, and noise."""
    order = torch.randperm(len(canvas), device=canvas.device)
    third = len(canvas) // 3
    parts = [canvas[order[:third]], canvas[order[third : 2 * third]], canvas[order[2 * third :]]]
    drawn = [kind(part) for kind, part in zip((gradients, noises, waves), parts, strict=True) if len(part)]
    fields = torch.empty(len(canvas), canvas.height, canvas.width, device=canvas.device)
    fields[order] = torch.cat(drawn)
    return fields


def gradients(canvas: Canvas) -> Tensor:
    """Return linear gradients in random directions."""
    return sharpened(canvas, bent(canvas, _ramp(canvas), 0.3).clamp_(-1.2, 1.2))


def noises(canvas: Canvas) -> Tensor:
    """Return power-law noise."""
    return sharpened(canvas, 0.7 * plane_noise(canvas)[:, 0])


def waves(canvas: Canvas) -> Tensor:
    """Return gratings, rings and checks, a third each."""
    frequency = torch.minimum(canvas.log_uniform(0.8, 9), 0.8 / canvas.pixel) * torch.pi
    third = len(canvas) // 3
    rings, checks = slice(0, third), slice(third, 2 * third)
    argument = _ramp(canvas)
    x, y = canvas.x[rings] - canvas.uniform(-0.7, 0.7)[rings], canvas.y[rings] - canvas.uniform(-0.7, 0.7)[rings]
    argument[rings] = (x.square() + y.square()).sqrt_()
    field = bent(canvas, argument, 0.25).mul_(frequency).add_(canvas.uniform(0, 2 * torch.pi)).sin_()
    field[checks] *= (_ramp(canvas[checks]) * frequency[checks]).sin_()
    return sharpened(canvas, field)


def _ramp(canvas: Canvas) -> Tensor:
    """The coordinate along a random direction."""
    cos, sin = canvas.direction()
    return canvas.x * cos + canvas.y * sin


def bent(canvas: Canvas, field: Tensor, strength: float) -> Tensor:
    """Add power-law noise to every second field, in place."""
    half = canvas[::2]
    field[::2] += plane_noise(half)[:, 0].mul_(half.uniform(0, 1.2 * strength))
    return field


def sharpened(canvas: Canvas, field: Tensor) -> Tensor:
    """Give some of the fields sharp transitions, in place."""
    some = canvas[: (2 * len(canvas) + 4) // 5]
    part = field[: len(some)]
    part.mul_(some.uniform(2, 12)).tanh_()
    return field


def fills(canvas: Canvas) -> Images:
    """Return pictures of two colours that vary along a scalar field."""
    colours = palette(canvas, 2)
    return torch.lerp(colours[0], colours[1], (scalar_fields(canvas)[:, None] + 1) / 2)


def backgrounds(canvas: Canvas) -> Images:
    """Return noise on a gradient; half of the pictures have a horizon, with another colour and noise below it."""
    colours = palette(canvas, 2)
    cos, sin = canvas.direction()
    tilt = canvas.uniform(0, 0.2) * (cos * canvas.x) + canvas.uniform(0, 0.25) * (sin * canvas.y)
    pictures = tilt[:, None] + colours[0] + shade(canvas, 0.02, 0.25) * plane_noise(canvas)
    half = canvas[::2]
    ground = colours[1][::2] + shade(half, 0.02, 0.25) * plane_noise(half)
    horizon = half.uniform(-0.5, 0.8) * canvas.extent[1]
    below = half.y - horizon + 0.1 * half.uniform(0, 1) * plane_noise(half)[:, 0]
    steepness = torch.minimum(half.log_uniform(3, 40), 1 / half.pixel)
    pictures[::2] = torch.lerp(pictures[::2], ground, below.mul_(steepness).sigmoid_()[:, None])
    return pictures


def noise_pictures(canvas: Canvas) -> Images:
    """Return power-law noise around a colour; the channels share half to all of their variance."""
    shared = canvas.uniform(0.5, 1)[..., None]
    noise = plane_noise(canvas, canvas.channels + 1)
    noise = noise[:, :1] * shared.sqrt() + noise[:, 1:] * (1 - shared).sqrt()
    tint = canvas.uniform(0.25, 0.75) + 0.1 * canvas.normal(canvas.channels, 1)
    return tint[..., None] + canvas.uniform(0.08, 0.35)[..., None] * noise
