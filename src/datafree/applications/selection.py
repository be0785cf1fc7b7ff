r"""Selection of hard images: from several candidates per image, those on which the student differs from the teacher.

.. math:: P(i) \propto d_i = \text{KL}\bigl(p_T^\tau(x_i) \Vert p_S^\tau(x_i)\bigr)

The images are drawn one after another without replacement, each with a probability in proportion to its divergence among those
that are left. The largest divergences are not taken as such: many of them belong to images that no student can learn.

References:
    | Not All Samples Are Created Equal: Deep Learning with Importance Sampling (Katharopoulos and Fleuret, 2018)
    | https://arxiv.org/abs/1803.00942
    | Weighted random sampling with a reservoir (Efraimidis and Spirakis, 2006): the largest keys are such a sample
    | https://doi.org/10.1016/j.ipl.2005.11.003
"""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from datafree import processes
from datafree.classifier import Classifier
from datafree.types import Batch, Logits

LEAST = 1e-12
"""divergence of candidates that have none; they are drawn last"""


def joined(batches: Sequence[Batch]) -> Batch:
    """Return one batch with the images of several, in order. Terms are dropped, logits only if some batch has none."""
    if len(batches) == 1:
        return batches[0]
    logits = [batch.teacher_logits for batch in batches]
    complete = all(part is not None for part in logits)
    return Batch(
        torch.cat([batch.images for batch in batches]),
        torch.cat([batch.targets for batch in batches]),
        {},
        torch.cat(cast(list[Tensor], logits)) if complete else None,
        tuple(torch.cat(parts) for parts in zip(*(batch.block_inputs for batch in batches), strict=True)),
    )


def divergence_per_image(
    teacher: Classifier, teacher_logits: Logits, student_logits: Logits, temperature: float
) -> Float[Tensor, " n"]:
    """Return the divergence of the student from the teacher on each image, in nats; multi-label: summed over the labels.

    Args:
        teacher: Defines the decisions.
        teacher_logits: Of shape `(n, k)`.
        student_logits: Of shape `(n, k)`.
        temperature: Divides both.
    """
    log_p, log_q = (
        F.log_softmax(teacher.decisions(logits) / temperature, 1) for logits in (teacher_logits, student_logits)
    )
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1).view(len(teacher_logits), -1).sum(1)


def draw_in_proportion(weights: Float[Tensor, " n"], count: int) -> Int[Tensor, " m"]:
    """Return the indices of a sample without replacement, drawn in proportion to weights, without waiting for the device.

    Args:
        weights: Not negative. With several processes, those of the images of this one.
        count: Number of indices, at most `n`; with several processes, for each of them. The indices are those of the whole
            batch then, see `processes.fetch`.
    """
    weights = processes.gather(weights)
    exponential = torch.empty_like(weights).exponential_()
    return (weights.clamp_min(LEAST) / exponential).topk(count * processes.count()).indices
