r"""The running statistics of batch norm after a short training.

Batch norm updates its running statistics by :math:`\hat\mu \leftarrow (1 - m) \hat\mu + m \mu`, so after :math:`T` steps they
still contain the share :math:`(1 - m)^T` of the values from before the training. With the momentum :math:`m = 0.01` of some
networks, that is 22 % after 150 steps, and a student that has learned well predicts badly. Where the share is above 1 %, the
statistics are measured again instead: they become the plain average over the last steps, in which the weights hardly change
because the learning rate falls to 0.

.. math:: \hat\mu = \frac1M \sum_{t = T - M}^{T - 1} \mu_t, \quad M = \min\bigl(T, \max(8, T / 20)\bigr)

This does not affect how the weights are trained. Nothing is stored for it: the weight :math:`1 / (t - T + M + 1)` of a step is
a function of its number, so a resumed run gives the same student.

References:
    | Averaging Weights Leads to Wider Optima and Better Generalization (Izmailov et al., 2018), section 3.2: the statistics of
    | averaged weights are measured again
    | https://arxiv.org/abs/1803.05407
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn

from datafree import processes
from datafree.classifier import batch_norms, frozen

SHARE = 0.01
"""share of the initial values above which the running statistics are measured again"""


class RunningStatistics:
    """Averages the running statistics of a model over its last training steps, where its training is too short for them.

    Args:
        model: The model under training.
        steps: Number of steps of the training.
        decay: Decay of the exponential average, if the model is the average of another one; else 0.
    """

    def __init__(self, model: nn.Module, steps: int, decay: float = 0.0) -> None:
        self.model = model
        self.steps, self.measured_steps = steps, min(steps, max(8, steps // 20))
        shares = {norm: max(share_of_start(norm.momentum, steps), decay**steps) for norm in batch_norms(model)}
        self.share = max(shares.values(), default=0.0)
        self.norms = [norm for norm, share in shares.items() if share > SHARE]

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know: whether the statistics are measured again, and why."""
        if not self.norms:
            return ()
        return (
            f"the running statistics of batch norm are averages over the last {self.measured_steps} of {self.steps} steps: "
            f"with the momentum of the network they would keep {100 * self.share:.0f} % of their initial values",
        )

    @contextmanager
    def at(self, step: int) -> Iterator[None]:
        """Average the statistics of a forward pass with those of the steps before it, if it is one of the last steps.

        Args:
            step: Number of the training step, counted from 0.
        """
        index = step - (self.steps - self.measured_steps)
        norms = self.norms if index >= 0 else []
        momenta = [norm.momentum for norm in norms]
        try:
            for norm in norms:
                norm.momentum = 1 / (index + 1)  # the first one replaces the statistics
            yield
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep the statistics as they are inside a `with` block that changes all weights and statistics."""
        statistics = [(norm.running_mean, norm.running_var) for norm in self.norms]
        tensors = [cast(Tensor, tensor) for pair in statistics for tensor in pair]
        copies = [tensor.clone() for tensor in tensors]
        yield
        for tensor, copy in zip(tensors, copies, strict=True):
            tensor.copy_(copy)

    def measure(self, step: int, inputs: Tensor) -> None:
        """Run the model on the inputs of a step to measure its statistics, if the step is one of the last ones.

        Only batch norm is in training mode: its inputs are those of an evaluation, without dropout.

        Args:
            step: Number of the training step, counted from 0.
            inputs: The images of the step.
        """
        if not self.norms or step < self.steps - self.measured_steps:
            return
        with frozen(self.model), torch.no_grad(), self.at(step), processes.whole_batch_layers():
            for norm in self.norms:
                norm.training = True
            self.model(inputs)


def share_of_start(momentum: float | None, steps: int) -> float:
    """Return the share of the initial values in running statistics after a number of steps.

    Args:
        momentum: Momentum of the layer; None: a plain average over all steps, which keeps nothing.
        steps: Number of steps.
    """
    return 0.0 if momentum is None else (1 - momentum) ** steps
