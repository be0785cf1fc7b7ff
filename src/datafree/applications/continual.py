r"""Continual learning without old data: learn new classes, and keep the old ones with synthesized images.

.. math::
    \min_{W_k} \; \text{KL}\bigl([p_o(\hat x), 0] \Vert p_k(\hat x)\bigr)
        + \text{CE}\bigl(y_k, p_k(x_k)\bigr)
        + \text{KL}\bigl(p_o(x_k \mid y \in C_o) \Vert p_k(x_k \mid y \in C_o)\bigr)

The teacher knows the old classes :math:`C_o` and predicts :math:`p_o`. The student knows the new classes :math:`C_k` as
well and predicts :math:`p_k`. :math:`\hat x` are images synthesized from the teacher, :math:`x_k` are real images of the
new classes with labels :math:`y_k`.

`RECIPES` contains the three-term loss of the DeepInversion paper (`replay`), two baselines that use some of its terms
(`lwf`, after Li and Hoiem, 2016, https://arxiv.org/abs/1606.09282, and `fine-tuning`), and the loss of Always Be
Dreaming (`abd`):

.. math::
    \min_{W_k} \; \text{CE}\bigl(y_k, p_k(x_k \mid y \in C_k)\bigr)
        + \text{CE}_\text{head}\bigl(y, p_k(x)\bigr)
        + \tfrac{\lambda}{|C_o|} \lVert W_o (f_k(x) - f_o(x)) \rVert_2^2,
        \qquad x \in \{\hat x, x_k\}

The differences from the papers are listed in `docs/applications/continual.md`.

References:
    | Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion (Yin et al., 2020), section 4.5
    | https://arxiv.org/abs/1912.08795
    | Always Be Dreaming: A New Approach for Data-Free Class-Incremental Learning (Smith et al., 2021), section 5
    | https://arxiv.org/abs/2106.09701
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from datafree import processes
from datafree.applications.base import AugmentedLearning
from datafree.applications.continual_losses import (
    balanced_cross_entropy,
    feature_loss,
    local_cross_entropy,
    old_class_loss,
    old_image_loss,
)
from datafree.applications.showing import shows_progress
from datafree.applications.trainer import Fabric, Trainer, fabric_for, next_batch
from datafree.callback import Callback, silent
from datafree.classifier import Classifier, frozen, last_layer, record
from datafree.synthesis.dividing import part_of
from datafree.types import Batch, Images, InputError, Labels, Scalar, Terms, require_at_least

Model = TypeVar("Model", bound=nn.Module)


class Outputs(NamedTuple):
    """Outputs of both networks on the images of one step. Synthesized images come first."""

    synthesized: int
    """number of synthesized images"""
    labels: Labels
    """class indices of the student: true labels of real images, the teacher's predictions on synthesized ones"""
    student_logits: Float[Tensor, "n k"]
    """over all classes, old ones first"""
    teacher_logits: Float[Tensor, "n o"]
    """over the old classes"""
    student_features: Float[Tensor, "n d"]
    """inputs of the student's last layer"""
    teacher_features: Float[Tensor, "n d"]
    """inputs of the teacher's last layer"""


@dataclass(frozen=True, kw_only=True)
class ExtensionConfig(AugmentedLearning):
    """Settings of continual learning. The loss is a weighted sum of six terms; a term of weight 0 is not computed."""

    old_weight: float = 1.0
    """weight of the divergence from the teacher on synthesized images"""
    new_weight: float = 1.0
    """weight of the cross-entropy over all classes on new images"""
    remember_weight: float = 1.0
    """weight of the divergence from the teacher over the old classes on new images"""
    local_weight: float = 0.0
    """weight of the cross-entropy over the new classes on new images"""
    head_weight: float = 0.0
    """weight of the class-balanced cross-entropy on all images, which trains the last layer only"""
    feature_weight: float = 0.0
    """lambda, weight of the feature distillation on all images"""
    temperature: float = 1.0
    """tau, divides the logits of student and teacher in both divergences"""
    new_batch_size: int = 128
    """real images of new classes per step"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, new_batch_size=self.new_batch_size)
        require_at_least(
            0,
            old_weight=self.old_weight,
            new_weight=self.new_weight,
            remember_weight=self.remember_weight,
            local_weight=self.local_weight,
            head_weight=self.head_weight,
            feature_weight=self.feature_weight,
        )
        if not self.new_weight + self.local_weight + self.head_weight:
            raise InputError("no term learns the new classes; set new-weight, local-weight or head-weight above 0")
        self.augment.require_no_mix()

    def build(self) -> Callable[..., nn.Module]:
        return partial(extend, config=self)

    @property
    def weights(self) -> dict[str, float]:
        """The weights above 0, by the name of their term in the log."""
        weights = {
            "old": self.old_weight,
            "new": self.new_weight,
            "remember": self.remember_weight,
            "local": self.local_weight,
            "head": self.head_weight,
            "features": self.feature_weight,
        }
        return {name: weight for name, weight in weights.items() if weight}

    @property
    def needs_images(self) -> bool:
        return bool(self.old_weight or self.head_weight or self.feature_weight)

    def label(self, method: str) -> str:
        names = [name for name, recipe in RECIPES.items() if recipe.weights.keys() == self.weights.keys()]
        recipe = names[0] if names else " + ".join(self.weights)
        return f"{recipe}, {method}" if self.needs_images else recipe

    def objective(self, outputs: Outputs, head: nn.Linear, old_head: nn.Linear) -> Terms:
        """Return the terms of the equations above, weights included.

        Args:
            outputs: Outputs of both networks.
            head: The student's last layer.
            old_head: The teacher's last layer.
        """
        old_classes = outputs.teacher_logits.shape[1]
        old, new = slice(outputs.synthesized), slice(outputs.synthesized, None)
        student, teacher, labels = outputs.student_logits, outputs.teacher_logits, outputs.labels
        terms: dict[str, Callable[[], Scalar]] = {
            "old": lambda: old_image_loss(student[old], teacher[old], self.temperature),
            "new": lambda: F.cross_entropy(student[new], labels[new]),
            "remember": lambda: old_class_loss(student[new], teacher[new], self.temperature),
            "local": lambda: local_cross_entropy(student[new], labels[new], old_classes),
            "head": lambda: balanced_cross_entropy(head(outputs.student_features.detach()), labels, old_classes),
            "features": lambda: feature_loss(
                outputs.student_features, outputs.teacher_features, processes.gathered(old_head.weight)
            ),
        }
        return {name: weight * terms[name]() for name, weight in self.weights.items()}


RECIPES: dict[str, ExtensionConfig] = {
    "replay": ExtensionConfig(),
    "abd": ExtensionConfig(
        old_weight=0.0, new_weight=0.0, remember_weight=0.0, local_weight=1.0, head_weight=1.0, feature_weight=0.1
    ),
    "lwf": ExtensionConfig(old_weight=0.0),
    "fine-tuning": ExtensionConfig(old_weight=0.0, remember_weight=0.0),
}


@shows_progress
def extend(
    student: Model,
    teacher: Classifier,
    batches: Iterable[Batch],
    new: Iterable[Batch],
    config: ExtensionConfig,
    *,
    fabric: Fabric | None = None,
    callback: Callback = silent,
    progress: bool = False,
) -> Model:
    """Train a student on new classes while it keeps the old classes of its teacher.

    Args:
        student: The teacher with a last layer for all classes, old ones first; see `widen`. Takes pixels in [0, 1] of
            shape `(n, c, h, w)`, returns logits `(n, k)`. Trained in place.
        teacher: Classifier of the old classes. Not changed.
        batches: Images of the old classes, at least `config.steps` batches. Their targets are not used. Not read if
            `config.needs_images` is false.
        new: Real images of the new classes, at least `config.steps` batches. Their targets are class indices that count
            the new classes from 0.
        config: Settings of the training.
        fabric: Device and precision; default: one process on the student's device.
        callback: Receives the terms of every step and registers the state that a checkpoint needs.
        progress: Show how far the training is, and how much time is left.

    Returns:
        The student after the last step, in evaluation mode. There is no selection of a best step.

    Raises:
        InputError: If the student has no outputs for new classes, the optimizer is unknown, new images or their targets
            are invalid, or there are too few batches.

    References:
        | Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion (Yin et al., 2020), section 4.5
        | https://arxiv.org/abs/1912.08795
        | Always Be Dreaming: A New Approach for Data-Free Class-Incremental Learning (Smith et al., 2021), section 5
        | https://arxiv.org/abs/2106.09701
    """
    head, old_head = last_layers(student, teacher)
    new_classes = head.out_features - old_head.out_features
    trainer = Trainer(student, config, fabric or fabric_for(student))
    start = callback.register(student=student, **trainer.state)
    old_source, new_source = iter(batches), iter(new)
    no_images = torch.empty(0, *teacher.shape)
    with frozen(teacher), processes.divided(trainer.fabric):
        student.train()
        for step in callback.track(range(start, config.steps), "extend"):
            old_images = next_batch(old_source, step, config.steps).images if config.needs_images else no_images
            new_batch = part_of(next_batch(new_source, step, config.steps))
            require_new_classes(new_batch, teacher, new_classes)
            images = torch.cat([part.to(teacher.device) for part in (old_images, new_batch.images)])
            with processes.arranged(len(old_images), len(new_batch)):
                images = config.augment(images)
                outputs = compute_outputs(trainer, teacher, images, new_batch.targets, head, old_head)
            callback.log(step + 1, trainer.step(config.objective(outputs, head, old_head)))
    trainer.report(callback)
    return student.eval()


def last_layers(student: nn.Module, teacher: Classifier) -> tuple[nn.Linear, nn.Linear]:
    """Return the last layers of student and teacher.

    Raises:
        InputError: If a network has no fully connected layer, or the student's is not wider than the teacher's.
    """
    head, old_head = last_layer(student), last_layer(teacher)
    if not head or not old_head:
        raise InputError("the network has no fully connected last layer, so it cannot be extended")
    if head.out_features <= old_head.out_features:
        raise InputError(
            f"the student has {head.out_features} classes and the teacher {old_head.out_features}; call widen first"
        )
    return head, old_head


def require_new_classes(batch: Batch, teacher: Classifier, new_classes: int) -> None:
    """Check the images and the targets of a batch of new classes.

    Raises:
        InputError: If the images have another shape than the teacher's, or a target is no index of a new class.
    """
    shape = tuple(batch.images.shape[1:])
    if shape != teacher.shape:
        raise InputError(f"new images have shape {shape}, but the teacher takes {teacher.shape}; resize the images")
    if batch.targets.device.type != "cpu":
        return  # reading the targets would wait for the device
    first, last = int(batch.targets.min()), int(batch.targets.max())
    if not 0 <= first <= last < new_classes:
        raise InputError(
            f"targets of new images range from {first} to {last}; number the {new_classes} new classes from 0"
        )


def compute_outputs(
    student: Callable[[Images], Tensor],
    teacher: Classifier,
    images: Images,
    new_labels: Tensor,
    head: nn.Linear,
    old_head: nn.Linear,
) -> Outputs:
    """Run both networks on the images of one step.

    Args:
        student: The student.
        teacher: The teacher.
        images: Synthesized images, then real images of new classes.
        new_labels: Labels of the real images, counted from 0.
        head: The student's last layer.
        old_head: The teacher's last layer.
    """
    with torch.no_grad(), record(old_head) as old_calls:
        teacher_logits = teacher(images)
    with record(head) as calls:
        student_logits = student(images)
    synthesized, old_classes = len(images) - len(new_labels), teacher_logits.shape[1]
    predictions = teacher_logits[:synthesized].argmax(1)
    labels = torch.cat([predictions, new_labels.to(teacher_logits.device) + old_classes])
    wide = (found[0].input.to(torch.promote_types(found[0].input.dtype, torch.float32)) for found in (calls, old_calls))
    return Outputs(synthesized, labels, student_logits, teacher_logits, *wide)
