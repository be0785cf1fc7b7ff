r"""Distillation: a student learns to answer as the teacher does, on images that a stream shows it.

.. math:: \min_{W_S} \sum_x \tau^2 \, \text{KL}\bigl(p_T^\tau(x) \Vert p_S^\tau(x)\bigr)

No label is used: what the images should be is the business of whoever made them.

References:
    | Distilling the Knowledge in a Neural Network (Hinton et al., 2015), section 2
    | https://arxiv.org/abs/1503.02531
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

import torch
from lightning_fabric import Fabric
from torch import nn

from datafree.applications.base import Learning
from datafree.callback import Callback, silent
from datafree.classifier import Classifier, frozen
from datafree.losses import distillation_loss
from datafree.synthesis.augmentation import Augmentation
from datafree.types import Batch, InputError, Stateful, Terms, at_least


@dataclass(frozen=True, kw_only=True)
class DistillationConfig(Learning):
    """How the student learns."""

    temperature: float = 4.0
    """tau, softens both predictions"""
    ema: float = 0.0
    """decay of an exponential moving average of the student, which is then the result; 0: none"""
    augment: Augmentation = field(default_factory=Augmentation)
    """small movements of the images shown"""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1e-9, temperature=self.temperature)
        at_least(0, ema=self.ema)
        if not self.ema < 1:
            raise InputError("ema is a part of one and must be under 1")

    def build(self) -> Callable[..., nn.Module]:
        return partial(distill, config=self)


class Learner:
    """A student with all that trains it: optimiser, learning rate, moving average.

    Args:
        student: Trained in place.
        teacher: Whom it should answer like.
        config: How it learns.
        fabric: Where and in which precision; this process on the student's device if not given.
        first: The step it begins with, where it takes over from another.

    Raises:
        InputError: If the optimiser is unknown.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: Classifier,
        config: DistillationConfig,
        fabric: Fabric | None = None,
        first: int = 0,
    ) -> None:
        self.student, self.teacher, self.config, self.first = student, teacher, config, first
        self.fabric = fabric or Fabric(accelerator=next(student.parameters()).device.type, devices=1)
        self.learner, self.optimizer = self.fabric.setup(student, config.optimizer_of(student), move_to_device=False)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: config.lr_factor(first + step))
        self.average = moving_average(student, config.ema) if config.ema else None

    @property
    def kept(self) -> dict[str, Stateful]:
        """What a checkpoint must hold."""
        kept: dict[str, Stateful] = {
            "student": self.student,
            "optimizer": self.optimizer.optimizer,
            "schedule": self.schedule,
        }
        return kept | ({"average": self.average} if self.average else {})

    def step(self, batch: Batch) -> Terms:
        """One step towards the teacher's answers on these images."""
        config = self.config
        images = config.augment(batch.images.to(self.teacher.device))
        if batch.answers is not None and not config.augment:
            answer = batch.answers
        else:
            with torch.no_grad():
                answer = self.teacher(images)
        decisions = self.teacher.decisions
        loss = distillation_loss(decisions(self.learner(images)), decisions(answer), config.temperature)
        self.optimizer.zero_grad(set_to_none=True)
        self.fabric.backward(loss)
        self.optimizer.step()
        self.schedule.step()
        if self.average:
            self.average.update_parameters(self.student)
        return {"distillation": loss.detach()}

    def finish(self) -> nn.Module:
        """The student, in evaluation mode; its moving average if there is one."""
        if self.average:
            self.student.load_state_dict(self.average.module.state_dict())
        return self.student.eval()


def moving_average(student: nn.Module, decay: float) -> torch.optim.swa_utils.AveragedModel:
    """A copy that follows the student; statistics too."""
    average = torch.optim.swa_utils.get_ema_multi_avg_fn(decay)
    return torch.optim.swa_utils.AveragedModel(student, multi_avg_fn=average, use_buffers=True)


def draw(batches: Iterator[Batch], step: int, steps: int) -> Batch:
    """The next batch.

    Raises:
        InputError: If there is none.
    """
    batch = next(batches, None)
    if batch is None:
        raise InputError(f"the batches ended after {step} of {steps} steps; give a stream that does not end")
    return batch


def distill(
    student: nn.Module,
    teacher: Classifier,
    batches: Iterable[Batch],
    config: DistillationConfig,
    *,
    fabric: Fabric | None = None,
    callback: Callback = silent,
) -> nn.Module:
    """Trains the student on the batches until its steps are taken.

    Args:
        student: Takes pixels, as the teacher does. It is trained in place.
        teacher: Never changed.
        batches: A stream, a loader, a list: anything that yields batches. Targets are not looked at.
        config: How the student learns.
        fabric: Where and in which precision it learns; this process on the student's device if not given.
        callback: Sees every step's loss, and keeps what a checkpoint needs.

    Returns:
        The student after the last step, in evaluation mode; its moving average if there is one. Nothing is selected.

    Raises:
        InputError: If the optimiser is unknown, or the batches end before the steps are taken.
    """
    learner = Learner(student, teacher, config, fabric)
    start = callback.register(**learner.kept)
    source = iter(batches)
    with frozen(teacher):
        student.train()
        for step in callback.track(range(start, config.steps), "distill"):
            callback.log(step + 1, learner.step(draw(source, step, config.steps)))
    return learner.finish()
