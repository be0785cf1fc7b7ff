r"""Naive estimates of a student's retention, for comparison.

They take the images that are at hand: the student's own kind of synthesized images, and those of the other pools.

- *own pool*: how often student and teacher agree on new images of the student's own kind.
- *other pools*: the same on the pools that the estimate uses, without weights.
- *confidence*: the student's mean confidence on the other pools, divided by the teacher's (Hendrycks and Gimpel, 2017).
- *ATC*: the threshold of confidence below which lie as many images of the own pool as the student gets wrong there; the
  share of images of the other pools above it.
- *GDE*: how often two students of different seeds agree on their own pool.

References:
    | Leveraging Unlabeled Data to Predict Out-of-Distribution Performance (Garg et al., 2022), equations 1 and 2: ATC
    | https://arxiv.org/abs/2201.04234
    | Assessing Generalization of SGD via Disagreement (Jiang et al., 2022): GDE
    | https://arxiv.org/abs/2106.13799
"""

from jaxtyping import Bool, Float
from torch import Tensor

from datafree.types import Labels, Logits


def average_threshold(
    own_confidence: Float[Tensor, " n"], agrees: Bool[Tensor, " n"], confidence: Float[Tensor, " m"]
) -> float:
    r"""Return the estimate of ATC.

    .. math:: t: \frac1n \sum_i \mathbb{1}[c_i < t] = 1 - \frac1n \sum_i a_i, \quad
        \widehat{\text{acc}} = \frac1m \sum_j \mathbb{1}[c'_j \geq t]

    Args:
        own_confidence: :math:`c`, the confidence on images whose labels are known.
        agrees: :math:`a`, whether the prediction on them is right.
        confidence: :math:`c'`, the confidence on the images in question.
    """
    wrong = int((~agrees).sum())
    ordered = own_confidence.sort().values
    threshold = ordered[wrong] if wrong < len(ordered) else ordered[-1] + 1
    return (confidence >= threshold).float().mean().item()


def mean_confidence(student: Logits, teacher: Logits) -> float:
    """Return the mean confidence of a student, divided by that of its teacher; at most 1."""
    ratio = student.softmax(1).amax(1).mean() / teacher.softmax(1).amax(1).mean()
    return min(1.0, ratio.item())


def naive_estimates(
    own: Logits, own_decisions: Labels, other: Logits, other_decisions: Labels, teacher: Logits
) -> dict[str, float]:
    """Return the naive estimates of a student.

    Args:
        own: The student's logits on its own pool.
        own_decisions: The teacher's decisions there.
        other: The student's logits on the other pools.
        other_decisions: The teacher's decisions there.
        teacher: The teacher's logits on the other pools.
    """
    agrees = own.argmax(1) == own_decisions
    return {
        "own pool": agrees.float().mean().item(),
        "other pools": (other.argmax(1) == other_decisions).float().mean().item(),
        "confidence": mean_confidence(other, teacher),
        "ATC": average_threshold(own.softmax(1).amax(1), agrees, other.softmax(1).amax(1)),
    }


def disagreement(first: Logits, second: Logits) -> float:
    """Return the estimate of GDE: how often two students agree."""
    return (first.argmax(1) == second.argmax(1)).float().mean().item()
