r"""Continual learning without old data: a network learns new classes, and keeps the old ones by synthesized images.

.. math::
    \min_{W_k} \; \text{KL}\bigl([p_o(\hat x), 0] \Vert p_k(\hat x)\bigr)
        + \text{CE}\bigl(y_k, p_k(x_k)\bigr)
        + \text{KL}\bigl(p_o(x_k \mid y \in C_o) \Vert p_k(x_k \mid y \in C_o)\bigr)

The teacher, which knows the old classes :math:`C_o`, answers with :math:`p_o`; the student, with :math:`p_k`, knows the
new ones :math:`C_k` as well. :math:`\hat x` are synthesized from the teacher, :math:`x_k` are real images of new classes.

`RECIPES` has the three-term loss of the DeepInversion paper (`replay`), parts of it as baselines (`lwf`, after
Li and Hoiem, 2016, https://arxiv.org/abs/1606.09282, and `fine-tuning`), and the one of Always Be Dreaming (`abd`):

.. math::
    \min_{W_k} \; \text{CE}\bigl(y_k, p_k(x_k \mid y \in C_k)\bigr)
        + \text{CE}_\text{head}\bigl(y, p_k(x)\bigr)
        + \tfrac{\lambda}{|C_o|} \lVert W_o (f_k(x) - f_o(x)) \rVert_2^2,
        \qquad x \in \{\hat x, x_k\}

Differences from the papers:

1. All images of a step, synthesized and real, are one batch to the student: its batch norm sees old and new classes.
2. The head's cross-entropy counts each class alike, whatever part of the batch has it, on the features of the same pass.

References:
    | Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion (Yin et al., 2020), section 4.5
    | https://arxiv.org/abs/1912.08795
    | Always Be Dreaming: A New Approach for Data-Free Class-Incremental Learning (Smith et al., 2021), section 5
    | https://arxiv.org/abs/2106.09701
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from lightning_fabric import Fabric
from torch import Tensor, nn

from datafree.applications.base import Learning
from datafree.callback import Callback, silent
from datafree.classifier import Classifier, frozen, last_layer, record
from datafree.losses import distillation_loss
from datafree.synthesis import total
from datafree.synthesis.augmentation import Augmentation
from datafree.types import Batch, Images, InputError, Labels, Logits, Scalar, Terms, at_least


class Seen(NamedTuple):
    """What one step shows, synthesized images first, and what both networks make of it."""

    synthesized: int
    labels: Labels
    """of the real images: their classes as the student counts them; of the synthesized: the teacher's decisions"""
    student: Float[Tensor, "n k"]
    """its logits over all classes"""
    teacher: Float[Tensor, "n o"]
    """its logits over the old classes"""
    student_features: Float[Tensor, "n d"]
    teacher_features: Float[Tensor, "n d"]
    """what the last layer of either is given"""


@dataclass(frozen=True, kw_only=True)
class ExtensionConfig(Learning):
    """How the student learns. Six terms, each with its weight; a term of weight zero is left out."""

    old_weight: float = 1.0
    """weight of the divergence from the teacher on synthesized images"""
    new_weight: float = 1.0
    """weight of the cross-entropy over all classes on new images"""
    remember_weight: float = 1.0
    """weight of the divergence from the teacher over the old classes on new images"""
    local_weight: float = 0.0
    """weight of the cross-entropy over the new classes only on new images"""
    head_weight: float = 0.0
    """weight of the cross-entropy, balanced by class, on all images, which the last layer alone feels"""
    feature_weight: float = 0.0
    """lambda, weight of the distillation of features on all images"""
    temperature: float = 1.0
    """tau, softens predictions in both divergences"""
    new_batch_size: int = 128
    """new images per step"""
    augment: Augmentation = field(default_factory=Augmentation)
    """small movements of all images shown"""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1e-9, temperature=self.temperature)
        at_least(1, new_batch_size=self.new_batch_size)
        at_least(0, old_weight=self.old_weight, new_weight=self.new_weight, remember_weight=self.remember_weight)
        at_least(0, local_weight=self.local_weight, head_weight=self.head_weight, feature_weight=self.feature_weight)
        if not self.new_weight + self.local_weight + self.head_weight:
            raise InputError("new, local and head are all 0, so that nothing new is learned; give one of them a weight")
        self.augment.must_keep_labels()

    def build(self) -> Callable[..., nn.Module]:
        return partial(extend, config=self)

    @property
    def weights(self) -> dict[str, float]:
        """The weights that are not zero."""
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
    def replays(self) -> bool:
        """Whether synthesized images are shown at all."""
        return bool(self.old_weight or self.head_weight or self.feature_weight)

    def called(self, method: str) -> str:
        names = [name for name, recipe in RECIPES.items() if recipe.weights.keys() == self.weights.keys()]
        recipe = names[0] if names else " + ".join(self.weights)
        return f"{recipe}, {method}" if self.replays else recipe

    def objective(self, seen: Seen, head: nn.Linear, old_head: nn.Linear) -> Terms:
        """The summands of the equations above, weights included."""
        made, old = seen.synthesized, seen.teacher.shape[1]
        terms: dict[str, Callable[[], Scalar]] = {
            "old": lambda: old_image_loss(seen.student[:made], seen.teacher[:made], self.temperature),
            "new": lambda: F.cross_entropy(seen.student[made:], seen.labels[made:]),
            "remember": lambda: old_class_loss(seen.student[made:], seen.teacher[made:], self.temperature),
            "local": lambda: local_cross_entropy(seen.student[made:], seen.labels[made:], old),
            "head": lambda: balanced_cross_entropy(head(seen.student_features.detach()), seen.labels, old),
            "features": lambda: feature_loss(seen.student_features, seen.teacher_features, old_head.weight),
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


def extend(
    student: nn.Module,
    teacher: Classifier,
    batches: Iterable[Batch],
    new: Iterable[Batch],
    config: ExtensionConfig,
    *,
    fabric: Fabric | None = None,
    callback: Callback = silent,
) -> nn.Module:
    """Teaches the student new classes until its steps are taken, and the old ones as the teacher knows them.

    Args:
        student: The teacher with a last layer for all classes, old ones first; see `widen`. It is trained in place.
        teacher: Knows the old classes. Never changed.
        batches: Images of the old classes, without end. Targets are not looked at. Nothing is taken from them unless
            the settings replay.
        new: Real images of the new classes, without end; their targets count the new classes from 0.
        config: How the student learns.
        fabric: Where and in which precision it learns; this process on the student's device if not given.
        callback: Sees every step's terms, and keeps what a checkpoint needs.

    Returns:
        The student after the last step, in evaluation mode. Nothing is selected.

    Raises:
        InputError: If the student has no room for new classes, the optimiser is unknown, new images or their targets do
            not fit, or images end too early.
    """
    head, old_head = heads(student, teacher)
    fabric = fabric or Fabric(accelerator=next(student.parameters()).device.type, devices=1)
    learner, optimizer = fabric.setup(student, config.optimizer_of(student), move_to_device=False)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: config.lr_factor(step))
    start = callback.register(student=student, optimizer=optimizer.optimizer, schedule=schedule)

    replayed, learned = iter(batches), iter(new)
    with frozen(teacher):
        student.train()
        for step in callback.track(range(start, config.steps), "extend"):
            made = _next(replayed, step, config.steps).images if config.replays else torch.empty(0, *teacher.shape)
            fresh = _next(learned, step, config.steps)
            require_new(fresh, teacher, head.out_features - old_head.out_features)
            images = config.augment(torch.cat([made.to(teacher.device), fresh.images.to(teacher.device)]))
            terms = config.objective(look(learner, teacher, images, fresh.targets, head, old_head), head, old_head)
            optimizer.zero_grad(set_to_none=True)
            fabric.backward(total(terms))
            optimizer.step()
            schedule.step()
            callback.log(step + 1, {name: term.detach() for name, term in terms.items()})
    return student.eval()


def heads(student: nn.Module, teacher: Classifier) -> tuple[nn.Linear, nn.Linear]:
    """The last layers of both, which must be seen, and the student's wider."""
    head, old_head = last_layer(student), last_layer(teacher)
    if not head or not old_head:
        raise InputError("no last layer is to be seen in this network; it cannot be extended")
    if head.out_features <= old_head.out_features:
        raise InputError(f"the student has {head.out_features} classes, the teacher {old_head.out_features}; widen it")
    return head, old_head


def require_new(fresh: Batch, teacher: Classifier, count: int) -> None:
    """Refuses images of new classes that do not fit.

    Raises:
        InputError: If they have another shape than the teacher takes, or targets that do not count the new classes from 0.
    """
    if fresh.images.shape[1:] != teacher.shape:
        shape = tuple(fresh.images.shape[1:])
        raise InputError(f"new images are of {shape} and the teacher takes {teacher.shape}; give images of that shape")
    targets = fresh.targets
    if targets.device.type == "cpu" and not 0 <= int(targets.min()) <= int(targets.max()) < count:  # else it would wait
        raise InputError(
            f"targets of new images go from {int(targets.min())} to {int(targets.max())}; count the {count} new classes from 0"
        )


def _next(source: Iterator[Batch], step: int, steps: int) -> Batch:
    batch = next(source, None)
    if batch is None:
        raise InputError(f"the images ended after {step} of {steps} steps; give a stream that does not end")
    return batch


def look(
    student: nn.Module, teacher: Classifier, images: Images, labels: Tensor, head: nn.Linear, old_head: nn.Linear
) -> Seen:
    """One pass of both networks over images of which the last are real and have these labels."""
    with torch.no_grad(), record(old_head) as old_visits:
        answers = teacher(images)
    with record(head) as calls:
        logits = student(images)
    made = len(images) - len(labels)
    decisions = torch.cat([answers[:made].argmax(1), labels.to(answers.device) + answers.shape[1]])
    return Seen(made, decisions, logits, answers, calls[0].input.float(), old_visits[0].input.float())


def old_image_loss(
    student: Float[Tensor, "n k"], teacher: Float[Tensor, "n o"], temperature: float = 1.0
) -> Float[Tensor, ""]:
    r"""How far the student is, over all its classes, from a teacher to whom the new ones are impossible.

    .. math:: \tau^2 \, \frac1n \sum_i \text{KL}\bigl([\text{softmax}(t_i/\tau), 0] \Vert \text{softmax}(s_i/\tau)\bigr)

    The first term of Yin et al. (2020), section 4.5.

    Args:
        student: Logits of shape `(n, k)`, the old classes first.
        teacher: Logits of shape `(n, o)` with o <= k.
        temperature: :math:`\tau`.

    Returns:
        A scalar in nats, not negative; what the student gives to new classes counts against it.
    """
    log_q = F.log_softmax(student / temperature, 1)[:, : teacher.shape[1]]
    log_p = F.log_softmax(teacher / temperature, 1)
    return F.kl_div(log_q, log_p, reduction="batchmean", log_target=True) * temperature**2


def old_class_loss(
    student: Float[Tensor, "n k"], teacher: Float[Tensor, "n o"], temperature: float = 1.0
) -> Float[Tensor, ""]:
    r"""How far the student is from the teacher if a class must be an old one; what it gives to new classes does not count.

    .. math:: \tau^2 \, \frac1n \sum_i
        \text{KL}\bigl(\text{softmax}(t_i/\tau) \Vert \text{softmax}((s_{i1}, \dots, s_{io})/\tau)\bigr)

    The third term of Yin et al. (2020), section 4.5, after Learning without Forgetting; arguments as for `old_image_loss`.

    Returns:
        A scalar in nats, not negative, zero exactly where both agree about the old classes.
    """
    return distillation_loss(student[:, : teacher.shape[1]], teacher, temperature)


def local_cross_entropy(logits: Logits, labels: Labels, old: int) -> Scalar:
    """Cross-entropy over the new classes only, so that learning them pushes no old class away.

    Smith et al. (2021), section 5, Eq 11.

    Args:
        logits: Of shape `(n, k)`, the old classes first.
        labels: From `old` to k - 1.
        old: How many classes are old.
    """
    return F.cross_entropy(logits[:, old:], labels - old)


def balanced_cross_entropy(logits: Logits, labels: Labels, old: int) -> Scalar:
    r"""Cross-entropy over all classes in which old and new ones weigh by their number, not by the images they have.

    .. math:: \frac{o}{k} \underset{y_i < o}{\text{mean}} \, \text{CE}(y_i, p_i)
        + \frac{k - o}{k} \underset{y_i \ge o}{\text{mean}} \, \text{CE}(y_i, p_i)

    Smith et al. (2021), section 5, Eq 14; arguments as for `local_cross_entropy`, labels from 0. A scalar in nats.
    """
    is_new, share = labels >= old, logits.new_tensor([old, logits.shape[1] - old]) / logits.shape[1]
    count = torch.stack([(~is_new).sum(), is_new.sum()]).clamp_min(1)
    return ((share / count)[is_new.long()] * F.cross_entropy(logits, labels, reduction="none")).sum()


def feature_loss(
    student: Float[Tensor, "n d"], teacher: Float[Tensor, "n d"], weight: Float[Tensor, "o d"]
) -> Float[Tensor, ""]:
    r"""How far features have moved in the directions that the old classes are told by.

    .. math:: \frac{1}{n o} \sum_i \lVert W_o (f_i^S - f_i^T) \rVert_2^2

    Smith et al. (2021), section 5, Eq 13.

    Args:
        student: What its last layer is given, of shape `(n, d)`.
        teacher: Likewise.
        weight: Of the teacher's last layer, of shape `(o, d)`; what it cannot tell apart is no distance.
    """
    return F.linear(student - teacher, weight).square().mean()
