"""Losses of the statistics of features: their distance to stored means and variances.

The statistics of all layers are joined to one vector before they are compared. So there is one operation for all layers, and
several processes exchange them once, not once per layer.
"""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from datafree import processes
from datafree.classifier import LayerCall
from datafree.losses.channels import channel_statistics
from datafree.types import InputError, Scalar


class LayerMoments(NamedTuple):
    """The statistics of the features of one layer, next to those that are stored. All have the shape `(c,)`."""

    mean: Tensor
    """mean of each channel over the rows of this process"""
    var: Tensor
    """biased variance of each channel over the rows of this process"""
    stored_mean: Tensor
    """the mean to compare with"""
    stored_var: Tensor
    """the variance to compare with"""
    eps: float = 1e-5
    """added to both variances in relative distances; of a batch-norm layer its own"""


def layer_moments(features: Tensor, stored: tuple[Tensor, Tensor], eps: float = 1e-5) -> LayerMoments:
    """Compute the statistics of the features of one layer.

    Args:
        features: Of shape `(n, c, *)`.
        stored: Mean and variance, both of shape `(c,)`.
        eps: Added to both variances in relative distances.
    """
    return LayerMoments(*channel_statistics(features), *stored, eps)


def batch_norm_moments(call: LayerCall, moments: tuple[Tensor, Tensor] | None = None) -> LayerMoments:
    """Compute the statistics of the input of a batch-norm layer, for `record`.

    Args:
        call: A call of a batch-norm layer with an input of shape `(n, c, *)`.
        moments: Mean and variance of the input, if they are known.
    """
    norm = call.module
    mean, var = moments or channel_statistics(call.input)
    return LayerMoments(
        mean, var, cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var), cast(float, norm.eps)
    )


def statistics_distance(layers: Sequence[LayerMoments], weights: Sequence[float] = (1.0,)) -> Scalar:
    r"""Compute the distance between the feature statistics of a batch and stored ones, summed over layers.

    .. math:: R_\text{feature}(x) = \sum_l w_l \bigl( \lVert \mu_l(x) - \hat\mu_l \rVert_2
        + \lVert \sigma_l^2(x) - \hat\sigma_l^2 \rVert_2 \bigr)

    References:
        | Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion (Yin et al., 2020), section 3.2, Eq 4
        | https://arxiv.org/abs/1912.08795

    Args:
        layers: The statistics of each layer, in the order in which the layers are called.
        weights: :math:`w_l` of the first layers; the last value is used for all further layers.

    Returns:
        A non-negative scalar; zero only if every layer has the stored statistics.

    Raises:
        InputError: If there is no layer.
    """
    mean, var, stored_mean, stored_var = _joined(layers)
    sizes = [len(layer.mean) for layer in layers]
    norms = _Norms.apply(torch.cat([mean - stored_mean, var - stored_var]), 2 * sizes)
    return _weighted_sum(norms.view(2, -1).sum(0), weights)


def relative_distance(layers: Sequence[LayerMoments], weights: Sequence[float] = (1.0,)) -> Scalar:
    r"""Compute the mean over layers of the distances that are relative to the stored variances.

    .. math:: R(x) = \frac{1}{L} \sum_l \frac{w_l}{C_l} \sum_c \biggl[ \frac{(\mu_{lc}(x) - \hat\mu_{lc})^2}{\hat\sigma_{lc}^2
        + \epsilon} + \Bigl( \ln \frac{\sigma_{lc}^2(x) + \epsilon}{\hat\sigma_{lc}^2 + \epsilon} \Bigr)^2 \biggr]

    It does not change with the scale of a channel. In the distance of the paper, `statistics_distance`, the layers and
    channels with the largest variances outweigh all others, which differ by orders of magnitude in networks such as MobileNet.

    Args:
        layers: The statistics of each layer, in the order in which the layers are called.
        weights: :math:`w_l` of the first layers; the last value is used for all further layers.

    Returns:
        A non-negative scalar; zero only if every layer has the stored statistics.

    Raises:
        InputError: If there is no layer.
    """
    mean, var, stored_mean, stored_var = _joined(layers)
    eps = _of_channels(layers)
    scale = stored_var + eps
    distances = (mean - stored_mean).square() / scale + ((var + eps) / scale).log().square()
    means = [part.mean() for part in distances.split([len(layer.mean) for layer in layers])]
    return _weighted_sum(torch.stack(means), weights) / len(layers)


def relative_layer_distance(features: Tensor, stored: tuple[Tensor, Tensor], eps: float = 1e-5) -> Scalar:
    """Compute the `relative_distance` of one layer.

    Args:
        features: Of shape `(n, c, *)`.
        stored: Mean and variance, both of shape `(c,)`.
        eps: Added to both variances.
    """
    return relative_distance([layer_moments(features, stored, eps)])


def feature_statistics(
    features: Sequence[Tensor], stored: Sequence[tuple[Tensor, Tensor]], weights: Sequence[float] = (1.0,)
) -> Scalar:
    r"""Compute the distance between the feature statistics of a batch and stored ones; see `statistics_distance`.

    Args:
        features: One tensor per layer, of shape `(n, c_l, *)`.
        stored: Mean :math:`\hat\mu_l` and variance :math:`\hat\sigma_l^2` of each layer, both of shape `(c_l,)`.
        weights: :math:`w_l` of the first layers; the last value is used for all further layers.

    Returns:
        A non-negative scalar; zero only if every layer has the stored statistics. The statistics of the batch are computed in
        float32 or better, because half precision is too coarse for a variance.
    """
    return statistics_distance([layer_moments(*pair) for pair in zip(features, stored, strict=True)], weights)


def batch_norm_statistics(calls: Sequence[LayerCall], weights: Sequence[float] = (1.0,)) -> Scalar:
    r"""Compute the distance between the statistics of a batch and the running statistics of batch norm.

    See `statistics_distance` for the equation. Where a layer may change its input in place, record the `batch_norm_moments`
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
    return statistics_distance([batch_norm_moments(call) for call in calls], weights)


def _joined(layers: Sequence[LayerMoments]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the mean and the variance over the whole batch, and the stored ones, of the channels of all layers."""
    if not layers:
        raise InputError(
            "the teacher has no layer with statistics; use a method that needs none, or measure its features"
        )
    mean, var, stored_mean, stored_var = (
        torch.cat([cast(Tensor, layer[part]) for layer in layers]) for part in range(4)
    )
    return *processes.moments(mean, var, stored_mean), stored_mean, stored_var


def _of_channels(layers: Sequence[LayerMoments]) -> Tensor | float:
    """Return the `eps` of each channel of all layers; one number if it is the same."""
    if len({layer.eps for layer in layers}) == 1:
        return layers[0].eps
    return torch.cat([torch.full_like(layer.mean, layer.eps) for layer in layers])


def _weighted_sum(distances: Tensor, weights: Sequence[float]) -> Scalar:
    """Return the weighted sum of the distances of layers, of which runs of equal weights are summed first."""
    of_layers = [*weights, *[weights[-1]] * len(distances)][: len(distances)]
    runs = [(weight, len(list(run))) for weight, run in groupby(of_layers)]
    parts: Iterable[Tensor] = distances.split([length for _, length in runs])
    return torch.stack([weight * part.sum() for (weight, _), part in zip(runs, parts, strict=True)]).sum()


class _Norms(torch.autograd.Function):
    """The Euclidean norm of each part of a vector. The gradient of a norm that is zero is zero."""

    @staticmethod
    def forward(ctx: Any, vector: Tensor, sizes: list[int]) -> Tensor:
        norms = torch.stack(torch._foreach_norm(vector.split(sizes)))  # one kernel for all parts
        ctx.save_for_backward(vector, norms)
        ctx.sizes = sizes
        return norms

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        vector, norms = ctx.saved_tensors
        slopes = gradients[0] / norms.clamp_min(torch.finfo(norms.dtype).tiny)
        return vector * torch.cat([s.expand(size) for s, size in zip(slopes, ctx.sizes, strict=True)]), None
