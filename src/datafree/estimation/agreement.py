r"""Stability-weighted agreement: how often a student decides as its teacher, weighted as real images would weigh it.

The images of the pools are divided into cells, by bin of stability :math:`b` and the teacher's class :math:`c`. A cell has
:math:`n_{bc}` images, and student and teacher agree on :math:`a_{bc}` of them. Few images say little: a cell is shrunk
towards its bin, and a bin towards the one below.

.. math::
    p_b = \frac{a_b + 10 \, p_{b-1}}{n_b + 10}, \quad
    p_{bc} = \frac{a_{bc} + 5 \, p_b}{n_{bc} + 5}, \quad
    S = \sum_b h(b) \, \frac{1}{k} \sum_c p_{bc}

:math:`h` is the share of real images in each bin; below the lowest bin, :math:`p_{-1}` is the agreement on all images.

The standard error has two parts: few images, and few families of images, of which the estimate may depend on one. The
second is the jackknife over the :math:`F` families; :math:`S_{-f}` is :math:`S` without the images of family :math:`f`.

.. math::
    \operatorname{se}(S)^2 = \sum_b h(b)^2 \, \frac{1}{k^2} \sum_c \frac{p_{bc} (1 - p_{bc})}{n_{bc} + 5}
    + \frac{F - 1}{F} \sum_f \Bigl( S_{-f} - \frac1F \sum_g S_{-g} \Bigr)^2

References:
    | The Jackknife, the Bootstrap and Other Resampling Plans (Efron, 1982), section 3.1
    | https://doi.org/10.1137/1.9781611970319
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from datafree.estimation.stability import EDGES, REAL_SHARES, bin_of
from datafree.types import Labels

BELOW, OWN_BIN = 10.0, 5.0
"""pseudo-images that a bin gets from the one below, and a cell from its bin"""


@dataclass(frozen=True)
class Agreement:
    """Stability-weighted agreement."""

    total: float
    """S, from 0 to 1"""
    per_class: tuple[float, ...]
    """S of each class of the teacher; their mean is S"""
    error: float
    """standard error of S, from the number of images and from the differences between families"""
    images: int
    """number of images behind it"""


def weighted_agreement(
    agrees: Bool[Tensor, " n"],
    decisions: Labels,
    kept: Int[Tensor, " n"],
    classes: int,
    shares: Sequence[float] = REAL_SHARES,
    edges: Sequence[int] = EDGES,
    families: Int[Tensor, " n"] | None = None,
) -> Agreement:
    """Compute the stability-weighted agreement.

    Args:
        agrees: Whether the student decides as the teacher on each image.
        decisions: The teacher's decisions.
        kept: How many of ten perturbations keep them, from 0 to 10.
        classes: Number of classes of the teacher.
        shares: h, the share of real images in each bin.
        edges: The largest value of `kept` in each bin.
        families: The number of the family of each image; None: all are of one.
    """
    cells, counts = shrunk_cells(agrees, decisions, kept, classes, edges)
    weights = torch.tensor(shares, dtype=torch.float64)
    per_class = weights @ cells
    variances = (cells * (1 - cells)).clamp_min(0) / (counts + OWN_BIN)
    error = (weights.square() @ variances).sum() / classes**2
    if families is not None:
        error += jackknife(agrees, decisions, kept, classes, weights, edges, families)
    return Agreement(per_class.mean().item(), tuple(per_class.tolist()), error.sqrt().item(), len(agrees))


def jackknife(
    agrees: Bool[Tensor, " n"],
    decisions: Labels,
    kept: Int[Tensor, " n"],
    classes: int,
    weights: Float[Tensor, " bins"],
    edges: Sequence[int],
    families: Int[Tensor, " n"],
) -> Float[Tensor, ""]:
    """Return the variance of S from the differences between families; 0 if there is only one."""
    without = []
    for family in families.unique():
        rest = families != family
        cells, _ = shrunk_cells(agrees[rest], decisions[rest], kept[rest], classes, edges)
        without.append((weights @ cells).mean())
    return torch.stack(without).var(correction=0) * (len(without) - 1)


def shrunk_cells(
    agrees: Bool[Tensor, " n"], decisions: Labels, kept: Int[Tensor, " n"], classes: int, edges: Sequence[int] = EDGES
) -> tuple[Float[Tensor, "bins k"], Float[Tensor, "bins k"]]:
    """Return the agreement of each cell, shrunk towards its bin; and its number of images."""
    cell = bin_of(kept, edges) * classes + decisions
    size = len(edges) * classes
    counts = torch.bincount(cell, minlength=size).double().view(-1, classes)
    agreed = torch.bincount(cell, agrees.double(), minlength=size).view(-1, classes)
    whole = (agreed.sum() / counts.sum().clamp_min(1)).reshape(1)
    rows: list[Tensor] = []
    for n, a in zip(counts, agreed, strict=True):
        whole = (a.sum() + BELOW * whole) / (n.sum() + BELOW)
        rows.append((a + OWN_BIN * whole) / (n + OWN_BIN))
    return torch.stack(rows), counts
