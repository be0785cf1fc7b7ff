r"""The colours of a picture: a common tint, and for each colour its own lightness and a weak chroma.

.. math:: c_k = t + \ell \epsilon_k + \chi \epsilon'_k, \quad t_j = \mathcal{U}(.15, .85) + .12 \epsilon_j, \quad
    \ell \sim \mathcal{U}(.12, .4), \quad \chi = .35\, \mathcal{U}(0, 1)^2

Colours of one picture are thus related, as under one light. The ranges are our choice.
"""

from torch import Tensor

from datafree.synthesis.drawings.canvas import Canvas


def palette(canvas: Canvas, colours: int) -> Tensor:
    """Return the colours of each picture, in [0, 1], of shape `(colours, n, channels, 1, 1)`."""
    channels = canvas.channels
    tint = canvas.uniform(0.15, 0.85) + 0.12 * canvas.normal(1, channels)
    lightness = canvas.uniform(0.12, 0.4) * canvas.normal(colours, 1)
    chroma = 0.35 * canvas.uniform(0, 1).square() * canvas.normal(colours, channels)
    return (tint + lightness + chroma).clamp_(0, 1).transpose(0, 1)[..., None, None]


def shade(canvas: Canvas, low: float, high: float) -> Tensor:
    """Return a small change of colour for each picture, mostly of its lightness, of shape `(n, channels, 1, 1)`.

    Args:
        canvas: The canvas.
        low: Smallest strength.
        high: Largest strength.
    """
    chroma = canvas.uniform(0, 0.7) * canvas.normal(1, canvas.channels)
    return (canvas.uniform(low, high) * (1 + chroma)).transpose(1, 2)[..., None]
