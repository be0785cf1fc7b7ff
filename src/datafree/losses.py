"""The loss functions of the methods and applications.

Every loss is a pure function of tensors on any device. It returns an unweighted scalar; weights belong to the settings of a
method.
"""

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from datafree.classifier import LayerCall
from datafree.types import Images, InputError, Logits, Probabilities, Scalar


def total_variation(images: Images) -> Scalar:
    r"""Compute the total variation of images: how much neighbouring pixels differ, in four directions.

    .. math:: R_\text{TV}(x) = \frac1n \sum_i \sum_{\delta \in \{(0,1), (1,0), (1,1), (1,-1)\}}
        \lVert x_i - \operatorname{shift}_\delta x_i \rVert_2

    References:
        | Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion (Yin et al., 2020), section 3.1
        | https://arxiv.org/abs/1912.08795

    Args:
        images: Of shape `(n, c, h, w)`, in any range.

    Returns:
        A non-negative scalar; zero only for images of one colour. It is the mean of one norm per image, so that its weight
        does not depend on the batch size. The authors' code takes one norm over the batch of 256, which is 16 times larger
        for images of equal norm.
    """
    differences = (
        images[..., :, 1:] - images[..., :, :-1],
        images[..., 1:, :] - images[..., :-1, :],
        images[..., 1:, 1:] - images[..., :-1, :-1],
        images[..., 1:, :-1] - images[..., :-1, 1:],
    )
    return torch.stack([_norm(difference) for difference in differences]).sum()


def image_norm(images: Images) -> Scalar:
    r"""Compute the mean Euclidean norm of images.

    .. math:: R_{\ell_2}(x) = \frac1n \sum_i \lVert x_i \rVert_2

    References:
        | Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion (Yin et al., 2020), section 3.1
        | https://arxiv.org/abs/1912.08795

    Args:
        images: Of shape `(n, c, h, w)`, normalised by the teacher's mean and standard deviation.

    Returns:
        A non-negative scalar.
    """
    return _norm(images)


def _norm(images: Tensor) -> Scalar:
    return torch.linalg.vector_norm(images.flatten(1), dim=1).mean()


def feature_statistics(
    features: Sequence[Tensor], stored: Sequence[tuple[Tensor, Tensor]], weights: Sequence[float] = (1.0,)
) -> Scalar:
    r"""Compute the distance between the feature statistics of a batch and stored ones, summed over layers.

    .. math:: R_\text{feature}(x) = \sum_l w_l \bigl( \lVert \mu_l(x) - \hat\mu_l \rVert_2
        + \lVert \sigma_l^2(x) - \hat\sigma_l^2 \rVert_2 \bigr)

    References:
        | Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion (Yin et al., 2020), section 3.2, Eq 4
        | https://arxiv.org/abs/1912.08795

    Args:
        features: One tensor per layer, of shape `(n, c_l, *)`.
        stored: Mean :math:`\hat\mu_l` and variance :math:`\hat\sigma_l^2` of each layer, both of shape `(c_l,)`.
        weights: :math:`w_l` of the first layers; the last value is used for all further layers.

    Returns:
        A non-negative scalar; zero only if every layer has the stored statistics. The statistics of the batch are computed in
        float32 or better, because half precision is too coarse for a variance.
    """
    return sum_of_layers([layer_distance(*pair) for pair in zip(features, stored, strict=True)], weights)


def layer_distance(features: Tensor, stored: tuple[Tensor, Tensor]) -> Scalar:
    r"""Compute the distance between the statistics of one layer and stored ones, one summand of `feature_statistics`.

    Args:
        features: Of shape `(n, c, *)`.
        stored: Mean and variance, both of shape `(c,)`.

    Returns:
        A non-negative scalar.
    """
    stored_mean, stored_var = stored
    mean, var = channel_statistics(features, stored_mean)
    return torch.dist(mean, stored_mean) + torch.dist(var, stored_var)


def batch_norm_distance(call: LayerCall) -> Scalar:
    r"""Compute the distance between the input of a batch-norm layer and its running statistics, for `record`.

    Args:
        call: A call of a batch-norm layer with an input of shape `(n, c, *)`.

    Returns:
        A non-negative scalar; `sum_of_layers` adds those of all layers.
    """
    norm = call.module
    return layer_distance(call.input, (cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)))


def sum_of_layers(distances: Sequence[Scalar], weights: Sequence[float] = (1.0,)) -> Scalar:
    r"""Compute the weighted sum of the distances of all layers.

    References:
        | Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion (Yin et al., 2020), section 3.2, Eq 4
        | https://arxiv.org/abs/1912.08795

    Args:
        distances: One per layer, in the order in which the layers are called.
        weights: :math:`w_l` of the first layers; the last value is used for all further layers.

    Returns:
        A non-negative scalar; zero only if every layer has the stored statistics.

    Raises:
        InputError: If there is no layer.
    """
    if not distances:
        raise InputError(
            "the teacher has no layer with statistics; use a method that needs none, or measure its features"
        )
    weighted = [weights[min(depth, len(weights) - 1)] * distance for depth, distance in enumerate(distances)]
    return torch.stack(weighted).sum()


def batch_norm_statistics(calls: Sequence[LayerCall], weights: Sequence[float] = (1.0,)) -> Scalar:
    r"""Compute the distance between the statistics of a batch and the running statistics of batch norm.

    See `feature_statistics` for the equation. Where a layer may change its input in place, record the `batch_norm_distance`
    of each call instead of the calls.

    References:
        | Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion (Yin et al., 2020), section 3.2, Eq 4
        | https://arxiv.org/abs/1912.08795

    Args:
        calls: One call per batch-norm layer, with an input of shape `(n, c_l, *)`; see `record`.
        weights: :math:`w_l` of the first layers; the last value is used for all further layers.

    Returns:
        A non-negative scalar; zero only if every layer has its running statistics.
    """
    return sum_of_layers([batch_norm_distance(call) for call in calls], weights)


def channel_statistics(features: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    r"""Compute the mean and the biased variance of each channel in one pass.

    .. math:: \mu = a + \overline{x - a}, \quad \sigma^2 = \overline{(x - a)^2} - \overline{x - a}^2

    Args:
        features: Of shape `(n, c, *)`, of any floating-point type.
        shift: :math:`a`, of shape `(c,)`: an estimate of the mean. The result does not depend on it in exact arithmetic. It
            avoids the cancellation of two large squares in channels with a mean far from zero.

    Returns:
        Mean and variance, each of shape `(c,)`, in float32 or better.
    """
    return _ChannelStatistics.apply(features, shift)


class _ChannelStatistics(torch.autograd.Function):
    """Faster than autograd: one pass over a channels-last view, and a fused backward; see `benchmarks/inversion_step.py`."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        rows = features.movedim(1, -1).reshape(-1, features.shape[1])
        centred = rows.to(_float32_or_better(features)) - shift
        offset = centred.mean(0)
        var = (centred.square_().mean(0) - offset.square()).clamp_min_(0)
        ctx.save_for_backward(features, shift + offset)
        return shift + offset, var

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        mean_gradient, var_gradient = gradients
        features, mean = ctx.saved_tensors
        channels_last = features.movedim(1, -1)
        rows = channels_last.reshape(-1, features.shape[1]).to(_float32_or_better(features))
        slope = 2 * var_gradient / len(rows)
        gradient = torch.addcmul(mean_gradient / len(rows) - slope * mean, rows, slope)
        return gradient.to(features.dtype).view(channels_last.shape).movedim(-1, 1), None


def _float32_or_better(features: Tensor) -> torch.dtype:
    """Half precision is too coarse for a variance."""
    return torch.promote_types(features.dtype, torch.float32)


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
    log_mean = torch.logsumexp(logits.log_softmax(1), 0) - math.log(len(logits))
    return -(log_mean.exp() * log_mean).sum()


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
