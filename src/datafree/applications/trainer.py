"""The training step that all applications share, and how they take batches."""

from collections.abc import Callable, Iterator

from lightning_fabric import Fabric
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from datafree.applications.base import Learning
from datafree.synthesis import total
from datafree.types import Batch, InputError, Stateful, Terms


class Trainer:
    """A model with its optimiser and learning-rate schedule.

    Args:
        model: Trained in place.
        config: Optimiser settings.
        fabric: Device and precision.
        lr_factor: Learning rate at each step, counted from 0, as a fraction of the peak; default: `config.lr_factor`.

    Attributes:
        module: The model as Fabric wraps it; the objective must call this one.

    Raises:
        InputError: If the optimiser is unknown.
    """

    def __init__(
        self, model: nn.Module, config: Learning, fabric: Fabric, lr_factor: Callable[[int], float] | None = None
    ) -> None:
        self.fabric = fabric
        self.module, self.optimizer = fabric.setup(model, config.create_optimizer(model), move_to_device=False)
        factor = lr_factor or config.lr_factor
        self.schedule = LambdaLR(self.optimizer, lambda step: factor(step))  # a checkpoint can hold no other callable

    @property
    def state(self) -> dict[str, Stateful]:
        """The objects that a checkpoint must hold besides the model."""
        return {"optimizer": self.optimizer.optimizer, "schedule": self.schedule}

    def step(self, terms: Terms) -> Terms:
        """Take one optimiser step on the sum of the terms and return them detached."""
        self.optimizer.zero_grad(set_to_none=True)
        self.fabric.backward(total(terms))
        self.optimizer.step()
        self.schedule.step()
        return {name: term.detach() for name, term in terms.items()}


def fabric_for(model: nn.Module) -> Fabric:
    """Return a Fabric for one process on the device of a model."""
    return Fabric(accelerator=next(model.parameters()).device.type, devices=1)


def next_batch(batches: Iterator[Batch], step: int, steps: int) -> Batch:
    """Return the next batch.

    Args:
        batches: The batches.
        step: Number of batches taken so far.
        steps: Number of batches needed in all.

    Raises:
        InputError: If there are no more batches.
    """
    batch = next(batches, None)
    if batch is None:
        raise InputError(f"the batches ended after {step} of {steps} steps; use a stream that does not end")
    return batch
