r"""Distillation: train a student to reproduce the predictions of a teacher on the images of a stream.

.. math:: \min_{W_S} \sum_x \tau^2 \, \text{KL}\bigl(p_T^\tau(x) \Vert p_S^\tau(x)\bigr)

No labels are used.

References:
    | Distilling the Knowledge in a Neural Network (Hinton et al., 2015), section 2
    | https://arxiv.org/abs/1503.02531
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from datafree.applications.base import AugmentedLearning, require_fraction
from datafree.applications.trainer import Fabric, Trainer, fabric_for, next_batch
from datafree.callback import Callback, silent
from datafree.classifier import Classifier, frozen
from datafree.ensemble import exclude
from datafree.losses import distillation_loss
from datafree.matching import resized_to
from datafree.types import Batch, Stateful, Terms

Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class DistillationConfig(AugmentedLearning):
    """Settings of distillation."""

    ema: float = 0.0
    """decay of the exponential moving average of the student's weights, which is then the result; 0: no average"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_fraction(ema=self.ema)

    def build(self) -> Callable[..., nn.Module]:
        return partial(distill, config=self)


class Distiller:
    """A student, its teacher, and the training of the one by the other.

    Args:
        student: Trained in place.
        teacher: Must be frozen.
        config: Settings of the training.
        fabric: Device and precision; default: one process on the student's device.
        first_step: Number of steps that were taken before; the learning-rate schedule starts there.

    Raises:
        InputError: If the optimiser is unknown.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: Classifier,
        config: DistillationConfig,
        fabric: Fabric | None = None,
        first_step: int = 0,
    ) -> None:
        self.student, self.teacher, self.config, self.first_step = student, teacher, config, first_step
        self.trainer = Trainer(
            student, config, fabric or fabric_for(student), lambda step: config.lr_factor(first_step + step)
        )
        self.average = moving_average(student, config.ema) if config.ema else None

    @property
    def state(self) -> dict[str, Stateful]:
        """The objects that a checkpoint must hold."""
        average: dict[str, Stateful] = {"average": self.average} if self.average else {}
        return {"student": self.student, **self.trainer.state, **average}

    def step(self, batch: Batch) -> Terms:
        """Take one training step on a batch and return its loss."""
        augment = self.config.augment
        images = augment(batch.images.to(self.teacher.device))
        if batch.teacher_logits is not None and not augment:
            teacher_logits = batch.teacher_logits.to(images.device)
        else:
            with torch.no_grad():
                teacher_logits = exclude(self.teacher(images), None if augment.mix else batch.teacher_logits)
        decisions = self.teacher.decisions
        student_logits = self.trainer.module(resized_to(images, self.student))
        loss = distillation_loss(decisions(student_logits), decisions(teacher_logits), self.config.temperature)
        terms = self.trainer.step({"distillation": self.teacher.decisions_per_image * loss})
        if self.average:
            self.average.update_parameters(self.student)
        return terms

    def finish(self) -> None:
        """Put the student in evaluation mode, with its averaged weights if there is an average."""
        if self.average:
            self.student.load_state_dict(self.average.module.state_dict())
        self.student.eval()


def moving_average(student: nn.Module, decay: float) -> AveragedModel:
    """Return a copy of the student that averages its weights and its batch-norm statistics."""
    return AveragedModel(student, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)


def distill(
    student: Model,
    teacher: Classifier,
    batches: Iterable[Batch],
    config: DistillationConfig,
    *,
    fabric: Fabric | None = None,
    callback: Callback = silent,
) -> Model:
    r"""Train a student to reproduce the predictions of a teacher.

    Each step minimises :math:`\tau^2 \frac1n \sum_i \text{KL}(p_T^\tau(x_i) \Vert p_S^\tau(x_i))` on one batch.

    Args:
        student: Takes pixels in [0, 1] of shape `(n, c, h, w)`, returns logits `(n, k)`. Trained in place.
        teacher: Takes the same images, returns logits of the same shape. Not changed.
        batches: A stream, a data loader or a list with at least `config.steps` batches. Their targets are not used.
        config: Settings of the training.
        fabric: Device and precision; default: one process on the student's device.
        callback: Receives the loss of every step and registers the state that a checkpoint needs.

    Returns:
        The student after the last step, in evaluation mode; with `config.ema`, the average of its weights. There is no
        selection of a best step.

    Raises:
        InputError: If the optimiser is unknown, or there are too few batches.

    References:
        | Distilling the Knowledge in a Neural Network (Hinton et al., 2015), section 2
        | https://arxiv.org/abs/1503.02531
    """
    distiller = Distiller(student, teacher, config, fabric)
    start = callback.register(**distiller.state)
    source = iter(batches)
    with frozen(teacher):
        student.train()
        for step in callback.track(range(start, config.steps), "distill"):
            callback.log(step + 1, distiller.step(next_batch(source, step, config.steps)))
    distiller.finish()
    return student
