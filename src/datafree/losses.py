"""Every term that two methods share, as a pure function: no weights, no state, no device."""

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from datafree.classifier import LayerCall
from datafree.types import Images, Logits, Probabilities, Scalar


def total_variation(images: Images) -> Scalar:
    r"""How much neighbouring pixels differ, in the four directions of an image.

    .. math:: R_\text{TV}(x) = \frac1n \sum_i \sum_{\delta \in \{(0,1), (1,0), (1,1), (1,-1)\}}
        \lVert x_i - \operatorname{shift}_\delta x_i \rVert_2

    References:
        | Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion (Yin et al., 2020), section 3.1
        | https://arxiv.org/abs/1912.08795

    Args:
        images: Of shape `(n, c, h, w)`, any range.

    Returns:
        A scalar, zero exactly for images of one colour. The norm is taken per image and averaged, so that a weight
        does not depend on the batch size; the authors take one norm over their batch of 256, 16 times smaller.
    """
    differences = (
        images[..., :, 1:] - images[..., :, :-1],
        images[..., 1:, :] - images[..., :-1, :],
        images[..., 1:, 1:] - images[..., :-1, :-1],
        images[..., 1:, :-1] - images[..., :-1, 1:],
    )
    return torch.stack([_norm(difference) for difference in differences]).sum()


def image_norm(images: Images) -> Scalar:
    r"""The mean length of an image, :math:`R_{\ell_2}(x) = \frac1n \sum_i \lVert x_i \rVert_2`.

    References:
        | Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion (Yin et al., 2020), section 3.1
        | https://arxiv.org/abs/1912.08795

    Args:
        images: Of shape `(n, c, h, w)`, in the normalised space of the teacher.
    """
    return _norm(images)


def _norm(images: Tensor) -> Scalar:
    return torch.linalg.vector_norm(images.flatten(1), dim=1).mean()


def feature_statistics(
    features: Sequence[Tensor], stored: Sequence[tuple[Tensor, Tensor]], weights: Sequence[float] = (1.0,)
) -> Scalar:
    r"""How far a batch is from the statistics of the training data, layer by layer.

    .. math:: R_\text{feature}(x) = \sum_l w_l \bigl( \lVert \mu_l(x) - \hat\mu_l \rVert_2
        + \lVert \sigma_l^2(x) - \hat\sigma_l^2 \rVert_2 \bigr)

    References:
        | Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion (Yin et al., 2020), section 3.2, Eq 4
        | https://arxiv.org/abs/1912.08795

    Args:
        features: Of each layer, of shape `(n, c_l, *)`.
        stored: Of each layer, mean and variance, of shape `(c_l)`.
        weights: Of the first layers; the last one holds for all that follow.

    Returns:
        A scalar, zero exactly where every layer sees the statistics that are stored. They are computed in float32
        whatever the type of the features: a variance does not survive half precision.
    """
    distances = []
    for depth, (seen, (stored_mean, stored_var)) in enumerate(zip(features, stored, strict=True)):
        mean, var = channel_statistics(seen, stored_mean)
        distance = torch.dist(mean, stored_mean) + torch.dist(var, stored_var)
        distances.append(weights[min(depth, len(weights) - 1)] * distance)
    return torch.stack(distances).sum()


def batch_norm_statistics(calls: Sequence[LayerCall], weights: Sequence[float] = (1.0,)) -> Scalar:
    r"""How far a batch is from the statistics the teacher stored while it was trained; see `feature_statistics`.

    References:
        | Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion (Yin et al., 2020), section 3.2, Eq 4
        | https://arxiv.org/abs/1912.08795

    Args:
        calls: One call per batch-norm layer, inputs of shape `(n, c_l, *)`; see `record`.
        weights: Of the first layers; the last one holds for all that follow.
    """
    stored = [(cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)) for norm, _, _ in calls]
    return feature_statistics([features for _, features, _ in calls], stored, weights)


def channel_statistics(features: Tensor, near: Tensor) -> tuple[Tensor, Tensor]:
    r"""Mean and biased variance of each channel of `(n, c, *)`, in float32 and in one pass.

    .. math:: \mu = a + \overline{x - a}, \quad \sigma^2 = \overline{(x - a)^2} - \overline{x - a}^2

    Args:
        features: Of shape `(n, c, *)`, any floating type.
        near: :math:`a`, of shape `(c)`: a guess of the mean. It changes no result, but the difference of two large
            squares would lose the variance of a channel that is far from zero.
    """
    return _ChannelStatistics.apply(features, near)


class _ChannelStatistics(torch.autograd.Function):
    """Rows of a channels-last view, and a gradient in one product and sum; see `benchmarks/inversion_step.py`."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, near: Tensor) -> tuple[Tensor, Tensor]:
        rows = features.movedim(1, -1).reshape(-1, features.shape[1])
        centred = rows.to(_exact(features)) - near
        offset = centred.mean(0)
        var = (centred.square_().mean(0) - offset.square()).clamp_min_(0)
        ctx.save_for_backward(features, near + offset)
        return near + offset, var

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *to: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        to_mean, to_var = to
        features, mean = ctx.saved_tensors
        channels_last = features.movedim(1, -1)
        rows = channels_last.reshape(-1, features.shape[1]).to(_exact(features))
        slope = 2 * to_var / len(rows)
        gradient = torch.addcmul(to_mean / len(rows) - slope * mean, rows, slope)
        return gradient.to(features.dtype).view(channels_last.shape).movedim(-1, 1), None


def soft_cross_entropy(logits: Logits, targets: Probabilities) -> Scalar:
    r"""Cross-entropy with soft labels, :math:`\frac1n \sum_i -\sum_j y_{ij} \ln \text{softmax}(t_i)_j`.

    References:
        | Zero-Shot Knowledge Distillation in Deep Networks (Nayak et al., 2019), section 3.3, Eq 6
        | https://arxiv.org/abs/1905.08114

    Args:
        logits: Of shape `(n, k)`, divided by the temperature already.
        targets: Of shape `(n, k)`, rows on the simplex.

    Returns:
        A scalar in nats, not under the mean entropy of the targets.
    """
    return F.cross_entropy(logits, targets)


def one_hot_loss(logits: Logits) -> Scalar:
    r"""How far the answers are from naming one class each: cross-entropy with their own highest class.

    .. math:: L_{oh} = \frac1n \sum_i H_\text{cross}(y_T^i, t^i), \quad t^i = \arg\max_j (y_T^i)_j

    References:
        | Data-Free Learning of Student Networks (Chen et al., 2019), section 3.2, Eq 2
        | https://arxiv.org/abs/1904.01186

    Args:
        logits: The teacher's, of shape `(n, k)`.

    Returns:
        A scalar in nats, in (0, ln k]: ln k where all classes are alike.
    """
    return F.cross_entropy(logits, logits.detach().argmax(1))


def activation_loss(features: Tensor) -> Scalar:
    r"""How little the features are excited; it is negative, and minimising it excites them.

    .. math:: L_a = -\frac1n \sum_i \lVert f_T^i \rVert_1

    References:
        | Data-Free Learning of Student Networks (Chen et al., 2019), section 3.2, Eq 3
        | https://arxiv.org/abs/1904.01186

    Args:
        features: Before the first fully connected layer, of shape `(n, d)` or `(n, c, h, w)`.
    """
    return -features.flatten(1).abs().sum(1).mean()


def information_entropy_loss(logits: Logits) -> Scalar:
    r"""How unequally a batch is spread over the classes; minimising it balances them.

    .. math:: L_{ie} = -H_\text{info}\Bigl(\frac1n \sum_i y_T^i\Bigr), \quad
        H_\text{info}(p) = -\frac1k \sum_j p_j \ln p_j

    References:
        | Data-Free Learning of Student Networks (Chen et al., 2019), section 3.2, Eqs 4-5
        | https://arxiv.org/abs/1904.01186

    Args:
        logits: The teacher's, of shape `(n, k)`.

    Returns:
        A scalar in nats, in [-ln(k) / k, 0]: lowest where all classes are equally probable over the batch.
    """
    mean = logits.softmax(1).mean(0)
    return -torch.special.entr(mean).sum() / len(mean)


def sparsity_loss(probabilities: Probabilities) -> Scalar:
    r"""How many labels an image has, as a part of all: few are tagged with everything.

    .. math:: L_{dis} = \frac1n \sum_i \frac1k \sum_j \lvert y_{ij} \rvert

    It is lowest where no image has any label, and so is the one-hot loss: callback the positives per image.

    References:
        | Data-Free Knowledge Amalgamation via Group-Stack Dual-GAN (Ye et al., 2020), section 3.2, Eq 7
        | https://arxiv.org/abs/2003.09088

    Args:
        probabilities: Of shape `(n, k)`, in [0, 1].

    Returns:
        A scalar in [0, 1].
    """
    return probabilities.abs().mean()


def decision_adversarial_loss(teacher: Logits, student: Logits) -> Scalar:
    r"""How little the student's probabilities differ where its decision is the teacher's; minimising it drives them apart.

    .. math:: L_{adv} = -\frac1n \sum_i \mathbb{1}[\arg\max t_i = \arg\max s_i] \; \text{KL}(p_i \Vert q_i)

    Images on which the decisions differ already are left alone: pushing them on leads off the data.

    References:
        | Contrastive Model Inversion for Data-Free Knowledge Distillation (Fang et al., 2021), section 3.3
        | https://arxiv.org/abs/2105.08584

    Args:
        teacher: Logits of shape `(n, k)`.
        student: Logits of shape `(n, k)`.

    Returns:
        A scalar in nats, not positive.
    """
    log_q, log_p = F.log_softmax(student, 1), F.log_softmax(teacher, 1)
    divergence = F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1)
    agreed = teacher.argmax(1) == student.argmax(1)
    return -(divergence * agreed).mean()


def _exact(features: Tensor) -> torch.dtype:
    """A variance does not survive half precision."""
    return torch.promote_types(features.dtype, torch.float32)


def js_divergence(a: Logits, b: Logits, temperature: float = 1.0) -> Scalar:
    r"""The Jensen-Shannon divergence of two classifiers' predictions, averaged over the batch.

    .. math:: \text{JS}(p, q) = \tfrac12 \text{KL}(p \Vert m) + \tfrac12 \text{KL}(q \Vert m), \quad m = \tfrac12 (p + q)

    References:
        | Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion (Yin et al., 2020), section 3.3, Eq 8
        | https://arxiv.org/abs/1912.08795

    Args:
        a: Logits of shape `(n, k)`.
        b: Logits of shape `(n, k)`.
        temperature: Divides both.

    Returns:
        A scalar in nats, in [0, ln 2]: symmetric, zero at equality.
    """
    log_p, log_q = F.log_softmax(a / temperature, 1), F.log_softmax(b / temperature, 1)
    log_m = torch.logaddexp(log_p, log_q) - torch.log(log_p.new_tensor(2.0))
    to_m = [F.kl_div(log_m, log, reduction="batchmean", log_target=True) for log in (log_p, log_q)]
    return (to_m[0] + to_m[1]) / 2


def distillation_loss(student: Logits, teacher: Logits, temperature: float = 1.0) -> Scalar:
    r"""How far the student's softened prediction is from the teacher's.

    .. math:: L_\text{KD} = \tau^2 \, \frac1n \sum_i \text{KL}(\text{softmax}(t_i/\tau) \Vert \text{softmax}(s_i/\tau))

    References:
        | Distilling the Knowledge in a Neural Network (Hinton et al., 2015), section 2
        | https://arxiv.org/abs/1503.02531

    Args:
        student: Logits of shape `(n, k)`.
        teacher: Logits of shape `(n, k)`.
        temperature: :math:`\tau`; the factor :math:`\tau^2` keeps the gradient's size when it changes.

    Returns:
        A scalar in nats, not negative, zero exactly where the softened predictions are equal.
    """
    log_q, log_p = F.log_softmax(student / temperature, 1), F.log_softmax(teacher / temperature, 1)
    return F.kl_div(log_q, log_p, reduction="batchmean", log_target=True) * temperature**2
