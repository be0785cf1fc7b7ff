"""Losses of predictions and features: what one network predicts, or how two predictions differ."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from datafree import processes
from datafree.types import Logits, Probabilities, Scalar


def soft_cross_entropy(logits: Logits, targets: Probabilities) -> Scalar:
    r"""Compute the cross-entropy with soft labels.

    .. math:: H(y, t) = -\frac1n \sum_i \sum_j y_{ij} \ln \text{softmax}(t_i)_j

    References:
        | Zero-Shot Knowledge Distillation in Deep Networks (Nayak et al., 2019), section 3.3, Eq 6
        | https://arxiv.org/abs/1905.08114

    Args:
        logits: :math:`t`, of shape `(n, k)`, already divided by the temperature.
        targets: :math:`y`, of shape `(n, k)`; rows sum to 1.

    Returns:
        A scalar in nats; at least the mean entropy of the targets.
    """
    return F.cross_entropy(logits, targets)


def one_hot_loss(logits: Logits) -> Scalar:
    r"""Compute the cross-entropy of the logits with their own most probable class; low if every image has a clear class.

    .. math:: L_{oh} = \frac1n \sum_i H_\text{cross}(y_T^i, t^i), \quad t^i = \arg\max_j (y_T^i)_j

    References:
        | Data-Free Learning of Student Networks (Chen et al., 2019), section 3.2, Eq 2
        | https://arxiv.org/abs/1904.01186

    Args:
        logits: The teacher's logits :math:`y_T`, of shape `(n, k)`.

    Returns:
        A scalar in nats, in (0, ln k]; ln k if all classes are equally probable.
    """
    return F.cross_entropy(logits, logits.detach().argmax(1))


def activation_loss(features: Tensor) -> Scalar:
    r"""Compute the negative mean L1 norm of the features; minimising it increases their activation.

    .. math:: L_a = -\frac1n \sum_i \lVert f_T^i \rVert_1

    References:
        | Data-Free Learning of Student Networks (Chen et al., 2019), section 3.2, Eq 3
        | https://arxiv.org/abs/1904.01186

    Args:
        features: :math:`f_T`, the input of the first linear layer after the convolutions, of shape `(n, d)` or `(n, c, h, w)`.

    Returns:
        A scalar, at most zero.
    """
    return -features.flatten(1).abs().sum(1).mean()


def information_entropy_loss(logits: Logits) -> Scalar:
    r"""Compute the negative information entropy of the mean prediction of a batch; minimising it balances the classes.

    .. math:: L_{ie} = -H_\text{info}\Bigl(\frac1n \sum_i y_T^i\Bigr), \quad
        H_\text{info}(p) = -\frac1k \sum_j p_j \ln p_j

    References:
        | Data-Free Learning of Student Networks (Chen et al., 2019), section 3.2, Eqs 4-5
        | https://arxiv.org/abs/1904.01186

    Args:
        logits: The teacher's logits, of shape `(n, k)`; :math:`y_T` is their softmax.

    Returns:
        A scalar in nats, in [-ln(k) / k, 0]; lowest if the mean prediction is uniform.
    """
    return -mean_prediction_entropy(logits) / logits.shape[1]


def mean_prediction_entropy(logits: Logits) -> Scalar:
    r"""Compute the entropy of the mean prediction of a batch, :math:`-\sum_j \bar p_j \ln \bar p_j`.

    It is computed from log-probabilities. Where the probability of a class underflows, the derivative of
    :math:`p \ln p` is infinite, and times the zero derivative of the softmax it is not a number.

    Args:
        logits: Of shape `(n, k)`; :math:`p` is their softmax.

    Returns:
        A scalar in nats, in [0, ln k].
    """
    log_mean = log_mean_exp(logits.log_softmax(1))
    return -(log_mean.exp() * log_mean).sum()


def log_mean_exp(rows: Tensor) -> Tensor:
    """Return the logarithm of the mean of the exponentials of rows of shape `(n, k)`, over the images of all processes."""
    log_sum = torch.logsumexp(rows, 0)
    if processes.count() > 1:
        shift = processes.largest(log_sum)
        log_sum = processes.total((log_sum - shift).exp()).log() + shift
    return log_sum - math.log(len(rows) * processes.count())


def sparsity_loss(probabilities: Probabilities) -> Scalar:
    r"""Compute the mean fraction of labels per image; minimising it makes multi-label predictions sparse.

    .. math:: L_{dis} = \frac1n \sum_i \frac1k \sum_j \lvert y_{ij} \rvert

    The minimum is reached by images without any label, which also minimise the one-hot loss. Monitor the number of labels
    per image during synthesis.

    References:
        | Data-Free Knowledge Amalgamation via Group-Stack Dual-GAN (Ye et al., 2020), section 3.2, Eq 7
        | https://arxiv.org/abs/2003.09088

    Args:
        probabilities: :math:`y`, of shape `(n, k)`, in [0, 1].

    Returns:
        A scalar in [0, 1].
    """
    return probabilities.abs().mean()


def decision_adversarial_loss(teacher: Logits, student: Logits) -> Scalar:
    r"""Compute the negative divergence of student and teacher on images where both predict the same class.

    .. math:: L_{adv} = -\frac1n \sum_i \mathbb{1}[\arg\max t_i = \arg\max s_i] \; \text{KL}(p_i \Vert q_i)

    Minimising it drives the two predictions apart. Images on which they already differ in the predicted class do not count,
    because increasing their divergence further leads away from the training data.

    References:
        | Contrastive Model Inversion for Data-Free Knowledge Distillation (Fang et al., 2021), section 3.3
        | https://arxiv.org/abs/2105.08584

    Args:
        teacher: Teacher logits :math:`t`, of shape `(n, k)`; :math:`p` is their softmax.
        student: Student logits :math:`s`, of shape `(n, k)`; :math:`q` is their softmax.

    Returns:
        A scalar in nats, at most zero.
    """
    log_q, log_p = F.log_softmax(student, 1), F.log_softmax(teacher, 1)
    divergence = F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1)
    agreed = teacher.argmax(1) == student.argmax(1)
    return -(divergence * agreed).mean()


def js_divergence(a: Logits, b: Logits, temperature: float = 1.0) -> Scalar:
    r"""Compute the Jensen-Shannon divergence of two predictions, averaged over the batch.

    .. math:: \text{JS}(p, q) = \tfrac12 \text{KL}(p \Vert m) + \tfrac12 \text{KL}(q \Vert m), \quad m = \tfrac12 (p + q)

    References:
        | Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion (Yin et al., 2020), section 3.3, Eq 8
        | https://arxiv.org/abs/1912.08795

    Args:
        a: Logits of shape `(n, k)`; :math:`p` is the softmax of `a / temperature`.
        b: Logits of shape `(n, k)`; :math:`q` is the softmax of `b / temperature`.
        temperature: Divides both logits; positive.

    Returns:
        A scalar in nats, in [0, ln 2]; symmetric in `a` and `b`, and zero if the predictions are equal.
    """
    log_p, log_q = F.log_softmax(a / temperature, 1), F.log_softmax(b / temperature, 1)
    log_m = torch.logaddexp(log_p, log_q) - torch.log(log_p.new_tensor(2.0))
    kl_p = F.kl_div(log_m, log_p, reduction="batchmean", log_target=True)
    kl_q = F.kl_div(log_m, log_q, reduction="batchmean", log_target=True)
    return (kl_p + kl_q) / 2


def clamped_divergence(teacher: Logits, student: Logits, temperature: float = 1.0) -> Scalar:
    r"""Return the divergence that the authors' code uses instead of the Jensen-Shannon divergence.

    .. math:: \operatorname{clip}_{[0, 1]} \tfrac12 \bigl( \text{KL}(m \Vert p) + \text{KL}(m \Vert q) \bigr), \quad
        m = \tfrac12 (p + q), \quad p, q, m \text{ clipped to } [0.01, 0.99]

    The arguments are swapped compared to Eq 8. The result saturates at 1 (no gradient) under strong disagreement, and at 0
    with hundreds of classes, where most probabilities are below 0.01.

    References:
        | Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion (Yin et al., 2020), section 3.3, Eq 8
        | https://arxiv.org/abs/1912.08795

    Args:
        teacher, student: Logits of shape `(n, k)`.
        temperature: Divides both.

    Returns:
        A scalar in [0, 1].
    """
    p, q = F.softmax(teacher / temperature, 1), F.softmax(student / temperature, 1)
    m = ((p + q) / 2).clamp(0.01, 0.99)
    p, q = p.clamp(0.01, 0.99), q.clamp(0.01, 0.99)
    reverse = [F.kl_div(prediction.log(), m, reduction="batchmean") for prediction in (p, q)]
    return processes.mean((reverse[0] + reverse[1]) / 2).clamp(0, 1)


def distillation_loss(student: Logits, teacher: Logits, temperature: float = 1.0) -> Scalar:
    r"""Compute the divergence of the student's prediction from the teacher's, both softened by a temperature.

    .. math:: L_\text{KD} = \tau^2 \, \frac1n \sum_i \text{KL}(\text{softmax}(t_i/\tau) \Vert \text{softmax}(s_i/\tau))

    References:
        | Distilling the Knowledge in a Neural Network (Hinton et al., 2015), section 2
        | https://arxiv.org/abs/1503.02531

    Args:
        student: Student logits :math:`s`, of shape `(n, k)`.
        teacher: Teacher logits :math:`t`, of shape `(n, k)`.
        temperature: :math:`\tau`, positive. The factor :math:`\tau^2` keeps the scale of the gradient independent of it.

    Returns:
        A non-negative scalar in nats; zero only if the softened predictions are equal.
    """
    log_q, log_p = F.log_softmax(student / temperature, 1), F.log_softmax(teacher / temperature, 1)
    return F.kl_div(log_q, log_p, reduction="batchmean", log_target=True) * temperature**2
