r"""Stability: the share of perturbations that keep the teacher's decision on an image.

.. math:: r(x) = \frac{1}{10} \sum_{i=1}^{10} \mathbb{1} \bigl[ \arg\max f_T(p_i(x)) = \arg\max f_T(x) \bigr]

The decisions count, not the probabilities, which differ between teachers.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from datafree.classifier import Classifier, frozen
from datafree.estimation.perturbations import PERTURBATIONS
from datafree.types import Images, Labels

BATCH = 256
"""images at a time"""
EDGES = (3, 5, 6, 7, 8, 9, 10)
"""for each bin of stability its largest value of 10 r: up to 3, 4 and 5, 6, 7, 8, 9, 10"""
REAL_SHARES = (0.006, 0.014, 0.015, 0.038, 0.098, 0.197, 0.632)
"""h, share of real images in each bin: measured on test images of digits and MNIST, nearly the same for every teacher"""


def decide(teacher: Classifier, images: Images) -> Labels:
    """Return the teacher's decision on each image, on the CPU."""
    with frozen(teacher), torch.no_grad():
        batches = [teacher(batch.to(teacher.device)).argmax(1).cpu() for batch in images.split(BATCH)]
    return torch.cat(batches)


def kept_decisions(teacher: Classifier, images: Images) -> Int[Tensor, " n"]:
    """Return 10 r for each image: how many of ten perturbations keep the teacher's decision.

    The perturbations are drawn from torch's global generator.

    Args:
        teacher: A classifier with single labels. Not changed.
        images: Pixels in [0, 1] of shape `(n, c, h, w)`.

    Returns:
        Whole numbers from 0 to 10, of shape `(n,)`, on the CPU.
    """
    kept = torch.zeros(len(images), dtype=torch.int64)
    with frozen(teacher), torch.no_grad():
        for start in range(0, len(images), BATCH):
            batch = images[start : start + BATCH].to(teacher.device)
            decisions = teacher(batch).argmax(1)
            for perturb in PERTURBATIONS:
                kept[start : start + len(batch)] += (teacher(perturb(batch)).argmax(1) == decisions).cpu()
    return kept


def bin_of(kept: Int[Tensor, " n"], edges: Sequence[int] = EDGES) -> Int[Tensor, " n"]:
    """Return the bin of each image, counted from 0: the first whose largest value is not below `kept`."""
    return torch.bucketize(kept, torch.tensor(edges))


def histogram(kept: Int[Tensor, " n"], edges: Sequence[int] = EDGES) -> list[float]:
    """Return the share of images in each bin of stability."""
    counts = torch.bincount(bin_of(kept, edges), minlength=len(edges))
    return (counts / counts.sum().clamp_min(1)).tolist()
