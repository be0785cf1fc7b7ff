r"""Strokes of a pen: lines, arcs and splines of varied width on plain ground, as in handwriting and line drawings.

The darkness of a pixel depends on its distance from the nearest segment of a polyline :math:`p_0, p_1, \dots`:

.. math:: d^2 = \lVert q - p_j \rVert^2 - \lVert s \rVert^2 h (2 t - h), \quad
    t = \frac{(q - p_j) \cdot s}{\lVert s \rVert^2}, \quad h = \operatorname{clip}_{[0, 1]} t, \quad s = p_{j+1} - p_j
"""

import torch
from torch import Tensor

from datafree.synthesis.drawings.canvas import Canvas
from datafree.types import Images

MOST = 4
"""largest number of strokes in a picture"""
SEGMENTS = 8
"""segments of a curve"""


def strokes(canvas: Canvas, width: float = 1.0) -> Images:
    """Return light strokes on black; the channels differ a little.

    Args:
        canvas: The canvas.
        width: Factor of the width of the pen, which is then 5 to 16 % of the side of a scene.
    """
    counts = torch.randint(1, MOST + 1, (len(canvas),)).sort(descending=True)[0]
    nearest = torch.full((len(canvas), canvas.height, canvas.width), 9.0, device=canvas.device)
    ends = _points(canvas, 1)[:, 0]
    for stroke in range(MOST):
        drawn = int((counts > stroke).sum())
        if not drawn:
            break
        part = canvas[:drawn]
        points = curves(part, ends[:drawn])
        ends = points[:, -1]
        for segment in range(SEGMENTS):
            approach(nearest[:drawn], part, points[:, segment], points[:, segment + 1])
    pen, softness = width * canvas.uniform(0.05, 0.16), canvas.uniform(0.7, 1.8)
    ink = nearest.clamp_min_(0).sqrt_().neg_().add_(pen).div_(canvas.pixel * softness).add_(0.5).clamp_(0, 1)
    tone = canvas.uniform(0.7, 1) * (1 - 0.3 * canvas.uniform(0, 1, 1, canvas.channels).square())
    return ink[:, None] * tone.transpose(1, 2)[..., None]


def curves(canvas: Canvas, ends: Tensor) -> Tensor:
    """Return a line, an arc or a cubic spline for each picture, as points of shape `(n, SEGMENTS + 1, 2)`.

    Args:
        canvas: The canvas.
        ends: Where the previous stroke of each picture ended, of shape `(n, 2)`; half of the strokes begin there.
    """
    controls = _points(canvas, 4)
    controls[:, 0] = torch.where(canvas.chance(0.5)[..., 0], ends, controls[:, 0])
    t = torch.linspace(0, 1, SEGMENTS + 1, device=canvas.device)[:, None]
    bernstein = torch.cat([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3], 1)
    lines = torch.lerp(controls[:, :1], controls[:, 3:], t)
    angle = canvas.uniform(0, 2 * torch.pi) + t * canvas.uniform(2, 7)
    arcs = 0.6 * controls[:, :1] + canvas.uniform(0.2, 0.6) * torch.cat([angle.cos(), angle.sin()], 2)
    kind = canvas.uniform(0, 1)
    return torch.where(kind < 0.3, lines, torch.where(kind < 0.6, arcs, bernstein @ controls))


def _points(canvas: Canvas, count: int) -> Tensor:
    extent = torch.tensor(canvas.extent, device=canvas.device)
    return extent * canvas.uniform(-0.75, 0.75, count, 2)


def approach(nearest: Tensor, canvas: Canvas, start: Tensor, end: Tensor) -> None:
    """Lower the squared distances of pixels to those from one segment per picture, in place.

    Args:
        nearest: The squared distances, of shape `(n, h, w)`.
        canvas: The canvas.
        start: First point of each segment, of shape `(n, 2)`.
        end: Last point.
    """
    step = (end - start)[..., None, None]
    length = step.square().sum(1).clamp_min(1e-6)
    x, y = canvas.x - start[:, 0, None, None], canvas.y - start[:, 1, None, None]
    along = x * (step[:, 0] / length) + y * (step[:, 1] / length)
    within = along.clamp(0, 1)
    gain = along.mul_(2).sub_(within).mul_(within).mul_(length)
    torch.minimum(nearest, (x.square() + y.square()).sub_(gain), out=nearest)
