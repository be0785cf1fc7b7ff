r"""Distillation: train a student to reproduce the predictions of a teacher on the images of a stream.

.. math:: \min_{W_S} \sum_x \tau^2 \, \text{KL}\bigl(p_T^\tau(x) \Vert p_S^\tau(x)\bigr)

No labels are used. With `hints`, the student learns the teacher's features too, see `datafree.applications.hints`. With
`select` above 1 there are more candidates than images, see `datafree.applications.selection`.

References:
    | Distilling the Knowledge in a Neural Network (Hinton et al., 2015), section 2
    | https://arxiv.org/abs/1503.02531
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from datafree import processes
from datafree.applications.base import AugmentedLearning, require_fraction
from datafree.applications.hints import HintedStudent
from datafree.applications.running_statistics import RunningStatistics
from datafree.applications.selection import divergence_per_image, draw_in_proportion
from datafree.applications.showing import shows_progress
from datafree.applications.trainer import Fabric, Trainer, fabric_for, next_batch
from datafree.callback import Callback, silent
from datafree.classifier import Classifier, frozen
from datafree.ensemble import exclude
from datafree.losses import distillation_loss, hint_loss
from datafree.matching import resized_to
from datafree.synthesis import Stream
from datafree.types import Batch, Images, Logits, Stateful, Terms, require_at_least, require_at_most

Model = TypeVar("Model", bound=nn.Module)


MAX_SELECT = 64
"""largest number of candidates per image, to catch typing errors"""


@dataclass(frozen=True, kw_only=True)
class DistillationConfig(AugmentedLearning):
    """Settings of distillation."""

    ema: float = 0.0
    """decay of the exponential moving average of the student's weights, which is then the result; 0: no average"""
    hints: float | None = None
    """lambda, weight of the teacher's features, which the student then learns where both have some of the same size; 0: no
    hints (default: 0, or what `auto` chooses)"""
    select: int = 1
    """candidates per image; those on which the student differs from the teacher are preferred; 1: no selection"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_fraction(ema=self.ema)
        require_at_least(0, hints=self.hints or 0.0)
        require_at_least(1, select=self.select)
        require_at_most(MAX_SELECT, select=self.select)

    def build(self) -> Callable[..., nn.Module]:
        return partial(distill, config=self)

    @property
    def passes(self) -> float:
        selection = 2 * self.select if self.select > 1 else 1
        return 3 + selection

    def summarize(self, student: Classifier, teacher: Classifier) -> Mapping[str, Any]:
        return {"select": self.select, "passes_per_image": self.passes} if self.select > 1 else {}


class Distiller:
    """A student, its teacher, and the training of the one by the other.

    Args:
        student: Trained in place.
        teacher: Must be frozen.
        config: Settings of the training.
        fabric: Device and precision; default: one process on the student's device.
        first_step: Number of steps that were taken before; the learning-rate schedule starts there.

    Raises:
        InputError: If the optimizer is unknown, or there are hints, but no features of the same size.
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
        steps = config.steps - first_step
        self.hinted = HintedStudent(student, teacher) if config.hints else None
        self.trainer = Trainer(
            self.hinted or student,
            config,
            fabric or fabric_for(student),
            lambda step: config.lr_factor(first_step + step),
            steps,
        )
        self.average = moving_average(student, config.ema) if config.ema else None
        self.statistics = (
            RunningStatistics(self.average.module, steps, config.ema) if self.average else self.trainer.statistics
        )
        """those of the result"""

    @property
    def state(self) -> dict[str, Stateful]:
        """The objects that a checkpoint must hold."""
        average: dict[str, Stateful] = {"average": self.average} if self.average else {}
        hints: dict[str, Stateful] = {"hints": self.hinted.maps} if self.hinted else {}
        return {"student": self.student, **self.trainer.state, **average, **hints}

    def step(self, batch: Batch) -> Terms:
        """Take one training step on a batch and return its loss.

        Args:
            batch: The images; with `config.select`, the candidates.
        """
        with processes.arranged(*[len(batch) // self.config.select] * self.config.select):
            return self.step_on(batch)

    def step_on(self, batch: Batch) -> Terms:
        """Take one training step on batches that were joined."""
        images = self.config.augment(batch.images.to(self.teacher.device))
        teacher_logits, features = self.answers(images, batch)
        if self.config.select > 1:
            chosen = self.select(images, teacher_logits)
            images, teacher_logits, *features = (
                processes.fetch(rows, chosen) for rows in (images, teacher_logits, *features)
            )
        inputs = resized_to(images, self.student)
        outputs = self.trainer(inputs)
        student_logits, predicted = outputs if self.hinted else (outputs, [])
        decisions = self.teacher.decisions
        loss = distillation_loss(decisions(student_logits), decisions(teacher_logits), self.config.temperature)
        losses = {"distillation": self.teacher.decisions_per_image * loss}
        if self.hinted and self.config.hints:
            losses["hints"] = self.config.hints * hint_loss(predicted, features)
        terms = self.trainer.step(losses)
        if self.average:
            with self.statistics.kept():
                self.average.update_parameters(self.student)
            self.statistics.measure(self.trainer.steps_taken - 1, inputs)
        return terms

    def answers(self, images: Images, batch: Batch) -> tuple[Logits, list[Tensor]]:
        """Return the teacher's logits on augmented images, and its features for the hints."""
        if batch.teacher_logits is not None and not self.config.augment and not self.hinted:
            return batch.teacher_logits.to(images.device), []
        with torch.no_grad():
            answers = self.hinted.answers(self.teacher, images) if self.hinted else (self.teacher(images), [])
        return exclude(answers[0], None if self.config.augment.combines else batch.teacher_logits), answers[1]

    def select(self, images: Images, teacher_logits: Logits) -> Tensor:
        """Return the indices in the whole batch of the images to learn from, drawn from the candidates.

        The student predicts the candidates in evaluation mode.
        """
        with frozen(self.student), torch.no_grad():
            student_logits = self.student(resized_to(images, self.student))
        temperature = self.config.temperature
        divergence = divergence_per_image(self.teacher, teacher_logits, student_logits, temperature)
        return draw_in_proportion(divergence, max(1, len(images) // self.config.select))

    def finish(self, callback: Callback = silent) -> None:
        """Put the student in evaluation mode, with its averaged weights if there is an average."""
        if self.average:
            self.student.load_state_dict(self.average.module.state_dict())
        self.student.eval()
        for note in self.statistics.notes:
            callback.note(note)


def moving_average(student: nn.Module, decay: float) -> AveragedModel:
    """Return a copy of the student that averages its weights and its batch-norm statistics."""
    return AveragedModel(student, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)


@shows_progress
def distill(
    student: Model,
    teacher: Classifier,
    batches: Iterable[Batch],
    config: DistillationConfig,
    *,
    fabric: Fabric | None = None,
    callback: Callback = silent,
    progress: bool = False,
) -> Model:
    r"""Train a student to reproduce the predictions of a teacher.

    Each step minimises :math:`\tau^2 \frac1n \sum_i \text{KL}(p_T^\tau(x_i) \Vert p_S^\tau(x_i))` on one batch.

    Args:
        student: Takes pixels in [0, 1] of shape `(n, c, h, w)`, returns logits `(n, k)`. Trained in place.
        teacher: Takes the same images, returns logits of the same shape. Not changed.
        batches: A stream, a data loader or a list with at least `config.steps * config.select` batches. Their targets are
            not used.
        config: Settings of the training.
        fabric: Device and precision; default: one process on the student's device.
        callback: Receives the loss of every step and registers the state that a checkpoint needs.
        progress: Show how far the training is, and how much time is left.

    Returns:
        The student after the last step, in evaluation mode; with `config.ema`, the average of its weights. There is no
        selection of a best step.

    Raises:
        InputError: If the optimizer is unknown, or there are too few batches.

    References:
        | Distilling the Knowledge in a Neural Network (Hinton et al., 2015), section 2
        | https://arxiv.org/abs/1503.02531
    """
    distiller = Distiller(student, teacher, config, fabric)
    start = callback.register(**distiller.state)
    if isinstance(batches, Stream):
        batches.take_per_step(config.select)
    source = iter(batches)
    with frozen(teacher), processes.divided(distiller.trainer.fabric):
        student.train()
        for step in callback.track(range(start, config.steps), "distill"):
            callback.log(step + 1, distiller.step(next_batch(source, step, config.steps, config.select)))
    distiller.finish(callback)
    return student
