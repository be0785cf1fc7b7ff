"""The training step that all applications share, and how they take batches."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from datafree import processes
from datafree.applications.base import Learning
from datafree.applications.running_statistics import RunningStatistics
from datafree.applications.selection import joined
from datafree.callback import Callback
from datafree.synthesis import total
from datafree.types import Batch, InputError, Stateful, Terms


@runtime_checkable
class Fabric(Protocol):
    """What is used of Lightning's `Fabric`: the device, the processes and the precision of a training.

    Lightning is imported when the first one is created, since it imports the compiler of torch, which takes seconds.
    """

    @property
    def device(self) -> torch.device:
        """The device of this process."""
        ...

    @property
    def world_size(self) -> int:
        """The number of processes."""
        ...

    @property
    def global_rank(self) -> int:
        """The number of this process among all."""
        ...

    @property
    def is_global_zero(self) -> bool:
        """Whether this is the process that prints and writes."""
        ...

    def to_device(self, obj: Any) -> Any:
        """Move a model or tensors to the device of this process."""
        ...

    def broadcast(self, obj: Any, src: int = 0) -> Any:
        """Return what a process has, in all processes."""
        ...

    def setup(self, module: nn.Module, *optimizers: Optimizer, move_to_device: bool = True) -> Any:
        """Return a model and its optimizers, wrapped for the precision and for several processes."""
        ...

    def backward(self, tensor: Tensor, *args: Any, **kwargs: Any) -> None:
        """Compute the gradients of a loss."""
        ...

    def all_reduce(self, data: Any, group: Any = None, reduce_op: Any = "mean") -> Any:
        """Reduce tensors over all processes."""
        ...


class Trainer:
    """A model with its optimizer and learning-rate schedule.

    Args:
        model: Trained in place.
        config: Optimizer settings.
        fabric: Device and precision.
        lr_factor: Learning rate at each step, counted from 0, as a fraction of the peak; default: `config.lr_factor`.
        steps: Number of steps; default: `config.steps`.

    Attributes:
        module: The model as Fabric wraps it. The objective must call the trainer itself, which runs this one.
        statistics: Measures the running statistics of batch norm again where the training is too short for them.

    Raises:
        InputError: If the optimizer is unknown.
    """

    def __init__(
        self,
        model: nn.Module,
        config: Learning,
        fabric: Fabric,
        lr_factor: Callable[[int], float] | None = None,
        steps: int | None = None,
    ) -> None:
        self.fabric = fabric
        self.module, self.optimizer = fabric.setup(model, config.create_optimizer(model), move_to_device=False)
        factor = lr_factor or config.lr_factor
        self.schedule = LambdaLR(self.optimizer, lambda step: factor(step))  # a checkpoint can hold no other callable

        self.statistics = RunningStatistics(model, config.steps if steps is None else steps)

    @property
    def steps_taken(self) -> int:
        """Number of steps taken."""
        return self.schedule.last_epoch

    def __call__(self, inputs: Tensor) -> Any:
        """Return the outputs of the model for the inputs of the next step. Each step calls it once."""
        with self.statistics.at(self.steps_taken), processes.whole_batch_layers():
            return self.module(inputs)

    @property
    def state(self) -> dict[str, Stateful]:
        """The objects that a checkpoint must hold besides the model."""
        return {"optimizer": self.optimizer.optimizer, "schedule": self.schedule}

    def step(self, terms: Terms) -> Terms:
        """Take one optimizer step on the sum of the terms, and return them detached, as means over all processes."""
        self.optimizer.zero_grad(set_to_none=True)
        self.fabric.backward(total(terms))
        self.optimizer.step()
        self.schedule.step()
        return processes.mean_terms(terms)

    def report(self, callback: Callback) -> None:
        """Say after the last step what the user should know about the training."""
        for note in self.statistics.notes:
            callback.note(note)


def fabric_for(model: nn.Module) -> Fabric:
    """Return a Fabric for one process on the device of a model."""
    from lightning_fabric import Fabric as LightningFabric

    return LightningFabric(accelerator=next(model.parameters()).device.type, devices=1)


def next_batch(batches: Iterator[Batch], step: int, steps: int, count: int = 1) -> Batch:
    """Return the next batch, or several joined to one.

    Args:
        batches: The batches.
        step: Number of steps for which batches were taken so far.
        steps: Number of steps in all.
        count: Number of batches per step.

    Raises:
        InputError: If there are no more batches.
    """
    taken: list[Batch] = []
    for _ in range(count):
        batch = next(batches, None)
        if batch is None:
            raise InputError(f"the batches ended after {step} of {steps} steps; use a stream that does not end")
        taken.append(batch)
    return joined(taken)
