"""Losses of the statistics of features: their distance to stored means and variances."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from datafree import processes
from datafree.classifier import LayerCall
from datafree.types import InputError, Scalar


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
    mean, var = processes.moments(*channel_statistics(features, stored_mean), stored_mean)
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


def relative_layer_distance(features: Tensor, stored: tuple[Tensor, Tensor], eps: float = 1e-5) -> Scalar:
    r"""Compute the distance between the statistics of one layer and stored ones, relative to the stored variance.

    .. math:: d_l(x) = \frac{1}{C} \sum_c \biggl[ \frac{(\mu_c(x) - \hat\mu_c)^2}{\hat\sigma_c^2 + \epsilon}
        + \Bigl( \ln \frac{\sigma_c^2(x) + \epsilon}{\hat\sigma_c^2 + \epsilon} \Bigr)^2 \biggr]

    It does not change with the scale of a channel. In the distance of the paper, `layer_distance`, the layers and channels
    with the largest variances outweigh all others, which differ by orders of magnitude in networks such as MobileNet.

    Args:
        features: Of shape `(n, c, *)`.
        stored: Mean and variance, both of shape `(c,)`.
        eps: Added to both variances; of a batch-norm layer its own.

    Returns:
        A non-negative scalar; zero only if the statistics are the stored ones.
    """
    stored_mean, stored_var = stored
    mean, var = processes.moments(*channel_statistics(features, stored_mean), stored_mean)
    scale = stored_var + eps
    return ((mean - stored_mean).square() / scale + ((var + eps) / scale).log().square()).mean()


def relative_batch_norm_distance(call: LayerCall) -> Scalar:
    r"""Compute the relative distance between the input of a batch-norm layer and its running statistics, for `record`.

    Args:
        call: A call of a batch-norm layer with an input of shape `(n, c, *)`.

    Returns:
        A non-negative scalar, see `relative_layer_distance`; `mean_of_layers` averages those of all layers.
    """
    norm = call.module
    stored = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
    return relative_layer_distance(call.input, stored, cast(float, norm.eps))


def mean_of_layers(distances: Sequence[Scalar], weights: Sequence[float] = (1.0,)) -> Scalar:
    r"""Compute :math:`\frac1L \sum_l w_l d_l`, the weighted mean of the distances of all layers.

    Args:
        distances: One per layer, in the order in which the layers are called.
        weights: :math:`w_l` of the first layers; the last value is used for all further layers.

    Returns:
        A non-negative scalar.

    Raises:
        InputError: If there is no layer.
    """
    return sum_of_layers(distances, weights) / len(distances)


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
