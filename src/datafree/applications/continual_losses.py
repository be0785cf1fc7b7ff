"""Loss terms of continual learning. Logits of the old classes come first.

References:
    | Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion (Yin et al., 2020), section 4.5
    | https://arxiv.org/abs/1912.08795
    | Always Be Dreaming: A New Approach for Data-Free Class-Incremental Learning (Smith et al., 2021), section 5
    | https://arxiv.org/abs/2106.09701
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from datafree import processes
from datafree.losses import distillation_loss
from datafree.types import Labels, Logits, Scalar


def old_image_loss(
    student: Float[Tensor, "n k"], teacher: Float[Tensor, "n o"], temperature: float = 1.0
) -> Float[Tensor, ""]:
    r"""Divergence of the student from the teacher over all classes; the teacher gives probability 0 to new ones.

    .. math:: \tau^2 \, \frac1n \sum_i \text{KL}\bigl([\text{softmax}(t_i/\tau), 0] \Vert \text{softmax}(s_i/\tau)\bigr)

    The first term of Yin et al. (2020), section 4.5.

    Args:
        student: Logits of shape `(n, k)`, the old classes first.
        teacher: Logits of shape `(n, o)` with o <= k.
        temperature: :math:`\tau`.

    Returns:
        A scalar in nats, not negative. Probability that the student gives to new classes increases it.
    """
    log_q = F.log_softmax(student / temperature, 1)[:, : teacher.shape[1]]
    log_p = F.log_softmax(teacher / temperature, 1)
    return F.kl_div(log_q, log_p, reduction="batchmean", log_target=True) * temperature**2


def old_class_loss(
    student: Float[Tensor, "n k"], teacher: Float[Tensor, "n o"], temperature: float = 1.0
) -> Float[Tensor, ""]:
    r"""Divergence of the student from the teacher over the old classes, after Learning without Forgetting.

    .. math:: \tau^2 \, \frac1n \sum_i
        \text{KL}\bigl(\text{softmax}(t_i/\tau) \Vert \text{softmax}((s_{i1}, \dots, s_{io})/\tau)\bigr)

    The third term of Yin et al. (2020), section 4.5.

    Args:
        student: Logits of shape `(n, k)`, the old classes first.
        teacher: Logits of shape `(n, o)` with o <= k.
        temperature: :math:`\tau`.

    Returns:
        A scalar in nats, not negative; 0 if both agree on the old classes, whatever the student gives to new ones.
    """
    return distillation_loss(student[:, : teacher.shape[1]], teacher, temperature)


def local_cross_entropy(logits: Logits, labels: Labels, old_classes: int) -> Scalar:
    """Cross-entropy over the new classes only. It has no gradient on the logits of old classes.

    Smith et al. (2021), section 5, Eq 11.

    Args:
        logits: Logits of shape `(n, k)`, the old classes first.
        labels: Labels of shape `(n,)` in [old_classes, k).
        old_classes: Number of old classes.

    Returns:
        A scalar in nats.
    """
    return F.cross_entropy(logits[:, old_classes:], labels - old_classes)


def balanced_cross_entropy(logits: Logits, labels: Labels, old_classes: int) -> Scalar:
    r"""Cross-entropy over all classes. Old and new ones are weighted by their number of classes, not of images.

    .. math:: \frac{o}{k} \underset{y_i < o}{\text{mean}} \, \text{CE}(y_i, p_i)
        + \frac{k - o}{k} \underset{y_i \ge o}{\text{mean}} \, \text{CE}(y_i, p_i)

    Smith et al. (2021), section 5, Eq 14.

    Args:
        logits: Logits of shape `(n, k)`, the old classes first.
        labels: Labels of shape `(n,)` in [0, k).
        old_classes: Number of old classes, o.

    Returns:
        A scalar in nats.
    """
    is_new = labels >= old_classes
    weights = logits.new_tensor([old_classes, logits.shape[1] - old_classes]) / logits.shape[1]
    counts = processes.total(torch.stack([(~is_new).sum(), is_new.sum()])).clamp_min(1)
    losses = (weights / counts)[is_new.long()] * F.cross_entropy(logits, labels, reduction="none")
    return losses.sum() * processes.count()  # the mean of this over the processes is the sum over the whole batch


def feature_loss(
    student: Float[Tensor, "n d"], teacher: Float[Tensor, "n d"], weight: Float[Tensor, "o d"]
) -> Float[Tensor, ""]:
    r"""Squared distance between features of student and teacher, measured by the teacher's last layer.

    .. math:: \frac{1}{n o} \sum_i \lVert W_o (f_i^S - f_i^T) \rVert_2^2

    Smith et al. (2021), section 5, Eq 13.

    Args:
        student: Inputs of the student's last layer, of shape `(n, d)`.
        teacher: Inputs of the teacher's last layer, of shape `(n, d)`.
        weight: Weight of the teacher's last layer, of shape `(o, d)`. Changes that it cannot see cost nothing.

    Returns:
        A scalar in squared logits, not negative.
    """
    return F.linear(student - teacher, weight).square().mean()
