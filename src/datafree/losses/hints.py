r"""The loss of hints: how much of the variance of a teacher's features a student does not explain."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from datafree import processes
from datafree.processes.channels import channel_moments
from datafree.types import Scalar

LEAST_VARIANCE = 1e-8
"""of all channels together; with less, features are taken as constant"""


def hint_loss(predicted: Sequence[Tensor], features: Sequence[Tensor]) -> Scalar:
    r"""Compute the share of the variance of features that predictions of them leave unexplained, as a mean over layers.

    .. math:: \frac1L \sum_{l=1}^L \frac{\sum_i \lVert \hat t_{li} - t_{li} \rVert_2^2}
        {\sum_i \lVert t_{li} - \bar t_l \rVert_2^2}

    over all images and positions :math:`i`. The distance of the paper is squared too, but not relative: layers with large
    features would outweigh all others.

    Args:
        predicted: One tensor per layer, of shape `(n, c, *)`.
        features: Those of the teacher, of the same shapes. They get no gradient.

    Returns:
        A non-negative scalar: 0 for equal features, 1 for the means of the channels. With several processes its mean over
        them is that of the whole batch.

    References:
        | FitNets: Hints for Thin Deep Nets (Romero et al., 2015), section 2.2, Eq 3
        | https://arxiv.org/abs/1412.6550
    """
    variances = _total_variances(features)
    errors = [
        F.mse_loss(guess, alike(target, guess)) * target.shape[1]
        for guess, target in zip(predicted, features, strict=True)
    ]
    return (torch.stack(errors) / variances.to(errors[0].dtype)).mean()


def alike(features: Tensor, others: Tensor) -> Tensor:
    """Return features in the type and the memory format of others, in which they are compared faster; without gradient."""
    return torch.empty_like(others).copy_(features.detach())


def _total_variances(features: Sequence[Tensor]) -> Tensor:
    """Return the sum over channels of the variance over the whole batch, for each layer."""
    means, variances = zip(*map(channel_moments, features), strict=True)
    mean = torch.cat(means)
    _, var = processes.moments(mean, torch.cat(variances), torch.zeros_like(mean))
    return torch.stack([part.sum() for part in var.split(list(map(len, means)))]).clamp_min(LEAST_VARIANCE)
