r"""Pairs of weights whose products are added in 16 bits, and the finest scale at which no such sum is too large.

A processor with AVX2 or AVX-512 but without VNNI multiplies unsigned activations by signed weights with the instruction
`vpmaddubsw`, which adds two neighbouring products in 16 bits:

.. math:: p_k = \operatorname{clip}\bigl(a_{2k} w_{2k} + a_{2k+1} w_{2k+1}, -2^{15}, 2^{15} - 1\bigr), \quad a \in [0, 255]

No sum is too large if :math:`w^+_{2k} + w^+_{2k+1} \le 128` and :math:`w^-_{2k} + w^-_{2k+1} \le 128`, with the positive and
the negative parts of the integers. Weights with 7 bits keep this bound whatever their neighbours are. Few large weights are
neighbours with the same sign, so most channels can be stored more finely:

.. math:: s = \tfrac1{127} \max_k \max\bigl(W^+_{2k} + W^+_{2k+1},\; W^-_{2k} + W^-_{2k+1}\bigr)

for a channel with the weights :math:`W`. Rounding adds at most one half to each of two weights, so their sum is at most 128.
Neighbours are those of ONNX Runtime: rows, columns, then channels of a kernel. Depthwise convolutions have no pairs.
"""

import torch.nn.functional as F
from torch import Tensor

LOWEST, HIGHEST = -(2**15), 2**15 - 1
"""smallest and largest sum of two products"""
LARGEST = 255
"""largest activation"""
LEVELS = 127
"""largest sum of two real weights of a channel, in units of its scale; also the largest integer"""


def paired(weight: Tensor) -> Tensor:
    """Return the weights of each output channel in pairs of neighbours, of shape `(channels, pairs, 2)`."""
    rows = weight.movedim(1, -1).flatten(1)  # rows and columns of a kernel first, then channels
    return F.pad(rows, (0, rows.shape[1] % 2)).unflatten(1, (-1, 2))


def too_large(pairs: Tensor) -> Tensor:
    """Return which pairs of integers, of shape `(..., 2)`, can have a sum that is too large."""
    above = LARGEST * pairs.clamp_min(0).sum(-1) > HIGHEST
    return above | (LARGEST * pairs.clamp_max(0).sum(-1) < LOWEST)


def is_depthwise(weight: Tensor, inputs: int) -> bool:
    """Return whether each output channel sees one of several input channels.

    Args:
        weight: Of shape `(output channels, input channels of a group, ...)`.
        inputs: Input channels of all groups.
    """
    return weight.ndim > 2 and weight.shape[1] == 1 and inputs > 1


def finest_scales(weight: Tensor, *, depthwise: bool = False) -> Tensor:
    """Return the finest scale of each output channel at which no sum of two products is too large.

    Args:
        weight: Real weights, output channels first.
        depthwise: Whether the layer is computed without pairs.
    """
    if depthwise:
        return weight.flatten(1).abs().amax(1) / LEVELS
    pairs = paired(weight)
    return pairs.clamp_min(0).sum(-1).amax(1).maximum((-pairs).clamp_min(0).sum(-1).amax(1)) / LEVELS
