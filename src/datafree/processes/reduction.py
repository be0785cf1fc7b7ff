r"""Quantities of the whole batch: sums and means over all processes, through which gradients flow.

The gradient of a sum over processes is again a sum over processes: with :math:`S = \sum_r s_r`, and a loss :math:`L_q(S)` in
each process, :math:`\partial \sum_q L_q / \partial s_r = \sum_q L_q'(S)`. So the gradient of the *mean* of the losses of all
processes is what one process computes for the whole batch, divided by their number.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.distributed as distributed
from torch import Tensor

from datafree.processes.division import count


class _Sum(torch.autograd.Function):
    """The sum of a tensor over all processes."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return _summed(tensor)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _summed(gradients[0])


def _summed(tensor: Tensor) -> Tensor:
    result = tensor.detach().clone(memory_format=torch.contiguous_format)
    distributed.all_reduce(result)
    return result


def total(tensor: Tensor) -> Tensor:
    """Return the sum of a tensor over all processes. Gradients flow to every process."""
    return tensor if count() == 1 else _Sum.apply(tensor)


def mean(tensor: Tensor) -> Tensor:
    """Return the mean of a tensor over all processes: of a mean over images, that over the whole batch."""
    return tensor if count() == 1 else _Sum.apply(tensor) / count()


def largest(tensor: Tensor) -> Tensor:
    """Return the largest value of each element in any process, without gradient."""
    if count() == 1:
        return tensor.detach()
    result = tensor.detach().clone(memory_format=torch.contiguous_format)
    distributed.all_reduce(result, op=distributed.ReduceOp.MAX)
    return result


def moments(mean: Tensor, var: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return the mean and the biased variance over the whole batch from those over the rows of each process.

    .. math:: \mu = a + \overline{\mu_r - a}, \quad
        \sigma^2 = \overline{\sigma_r^2 + (\mu_r - a)^2} - \overline{\mu_r - a}^2

    Args:
        mean: :math:`\mu_r` of each channel, of shape `(c,)`.
        var: :math:`\sigma_r^2`, of shape `(c,)`.
        shift: :math:`a`, an estimate of the mean, the same in every process.
    """
    if count() == 1:
        return mean, var
    offset = mean - shift
    offset, square = (_Sum.apply(torch.stack([offset, var + offset.square()])) / count()).unbind()
    return shift + offset, (square - offset.square()).clamp_min(0)


def mean_terms(terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the detached terms of an objective on the whole batch, given those of this process."""
    detached = {name: term.detach() for name, term in terms.items()}
    if count() == 1 or not detached:
        return detached
    values = _summed(torch.stack([term.double() for term in detached.values()])) / count()
    return dict(zip(detached, values.unbind(), strict=True))


@torch.no_grad()
def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Replace the gradients of parameters that every process has by their mean over the processes."""
    if count() == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not gradients:
        return
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    distributed.all_reduce(flat)
    flat /= count()
    for gradient, values in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(values.view(gradient.shape))


@torch.no_grad()
def overflow_together(groups: Iterable[Iterable[Tensor]]) -> None:
    """Make all gradients infinite if one is not finite in any process, so that all processes skip a step in float16."""
    if count() == 1:
        return
    gradients = [p.grad for parameters in groups for p in parameters if p.grad is not None]
    finite = torch.stack([gradient.isfinite().all() for gradient in gradients]).all()
    bad = largest((~finite).float())
    for gradient in gradients:
        gradient.masked_fill_(bad > 0, torch.inf)
