r"""Sine networks: the colour of a pixel is a random network of its coordinates, a compositional pattern-producing network.

.. math:: z_0 = s (x, y, \sqrt{x^2 + y^2}), \quad z_{i+1} = \sin(W_i z_i + b_i)

with three layers of eight units. Shaders that artists write are of this kind (Baradad et al., 2022).

References:
    | Procedural Image Programs for Representation Learning (Baradad et al., 2022)
    | https://arxiv.org/abs/2211.16412
"""

import torch

from datafree.synthesis.drawings.canvas import Canvas
from datafree.types import Images

UNITS = 8
"""units of a layer"""


def sines(canvas: Canvas) -> Images:
    """Return pictures of random sine networks with three layers."""
    size = (len(canvas), canvas.height, canvas.width)
    x, y = canvas.x.expand(size), canvas.y.expand(size)
    inputs = torch.stack([x, y, (x.square() + y.square()).sqrt_()], 1).flatten(2)
    weights = canvas.log_uniform(0.7, 4) * canvas.normal(UNITS, 3)
    units = torch.baddbmm(canvas.uniform(-3, 3, UNITS, 1), weights, inputs).sin_()
    for _ in range(2):
        weights = canvas.uniform(0.4, 1.1) * canvas.normal(UNITS, UNITS)
        units = torch.baddbmm(canvas.uniform(-2, 2, UNITS, 1), weights, units).sin_()
    weights = canvas.normal(canvas.channels, UNITS) * 0.5
    grey, saturation = weights.mean(1, keepdim=True), canvas.uniform(0.1, 1)
    weights = canvas.uniform(0.12, 0.45) * torch.lerp(grey, weights, saturation)
    return torch.baddbmm(canvas.uniform(0.3, 0.7), weights, units).unflatten(2, size[1:])
