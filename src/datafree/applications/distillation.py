r"""Distillation: a student learns to answer as the teacher does, on images that a stream shows it.

.. math:: \min_{W_S} \sum_x \tau^2 \, \text{KL}\bigl(p_T^\tau(x) \Vert p_S^\tau(x)\bigr)

No label is used: what the images should be is the business of whoever made them.

References:
    | Distilling the Knowledge in a Neural Network (Hinton et al., 2015), section 2
    | https://arxiv.org/abs/1503.02531
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

import torch
from lightning_fabric import Fabric
from torch import nn

from datafree.application import Learning
from datafree.augmentation import Augmentation
from datafree.classifier import Classifier, frozen
from datafree.losses import distillation_loss
from datafree.types import Batch, InputError, at_least
from datafree.watch import Watch, silent


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


def distill(
    student: nn.Module,
    teacher: Classifier,
    batches: Iterable[Batch],
    config: DistillationConfig,
    *,
    fabric: Fabric | None = None,
    watch: Watch = silent,
) -> nn.Module:
    """Trains the student on the batches until its steps are taken.

    Args:
        student: Takes pixels, as the teacher does. It is trained in place.
        teacher: Never changed.
        batches: A stream, a loader, a list: anything that yields batches. Targets are not looked at.
        config: How the student learns.
        fabric: Where and in which precision it learns; this process on the student's device if not given.
        watch: Sees every step's loss, and keeps what a checkpoint needs.

    Returns:
        The student after the last step, in evaluation mode; its moving average if there is one. Nothing is selected.

    Raises:
        InputError: If the optimiser is unknown, or the batches end before the steps are taken.
    """
    fabric = fabric or Fabric(accelerator=next(student.parameters()).device.type, devices=1)
    learner, optimizer = fabric.setup(student, config.optimizer_of(student), move_to_device=False)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: config.lr_factor(step))
    average = (
        torch.optim.swa_utils.AveragedModel(
            student, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(config.ema), use_buffers=True
        )
        if config.ema
        else None
    )
    kept = {"student": student, "optimizer": optimizer.optimizer, "schedule": schedule}
    start = watch.keep(**kept, **({"average": average} if average else {}))

    source = iter(batches)
    with frozen(teacher):
        student.train()
        for step in watch.track(range(start, config.steps), "distill"):
            batch = next(source, None)
            if batch is None:
                raise InputError(
                    f"the batches ended after {step} of {config.steps} steps; give a stream that does not end"
                )
            images = config.augment(batch.images.to(teacher.device))
            if batch.answers is not None and not config.augment:
                answer = batch.answers
            else:
                with torch.no_grad():
                    answer = teacher(images)
            said = teacher.decisions(learner(images))
            loss = distillation_loss(said, teacher.decisions(answer), config.temperature)
            optimizer.zero_grad(set_to_none=True)
            fabric.backward(loss)
            optimizer.step()
            schedule.step()
            if average:
                average.update_parameters(student)
            watch.log(step + 1, {"distillation": loss.detach()})
    if average:
        student.load_state_dict(average.module.state_dict())
    return student.eval()
