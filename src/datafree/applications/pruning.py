r"""Pruning: a copy of the teacher loses the filters that its answers depend on least, and learns to answer as before.

.. math:: \mathcal{I}_g = \frac{\tau^2}{2n} \sum_b \Bigl( \sum_{w \in g} w \, \frac{\partial}{\partial w}
        \sum_{x \in b} -\ln p_S^\tau(y_x | x) \Bigr)^2, \quad y_x \sim p_T^\tau(\cdot | x)

A group :math:`g` is one channel of one layer, or of all layers that shortcuts add up; its weights are those by which
later layers read the channel, so that the inner sum is the slope of a gate on it. The groups of least importance are
removed in rounds; after each the network is distilled from the unpruned one, and longer after the last.

Differences from the paper:

1. The paper squares the slope of the KL divergence between the unpruned and the pruned network. It is zero in every
   weight as long as both are the same network, so nothing could be ranked by it at first. Here the labels of the
   cross-entropy, whose mean over :math:`y \sim p_T` is that divergence up to a constant, are drawn from the teacher's
   softened answers, and the slopes are squared before they are averaged. Between equal networks this is the divergence's
   second-order term (the Fisher information of the gate), between others the paper's square of its slope comes on top.
2. The gates are at the channel's readers, not behind batch norm: through shortcuts each channel counts once, and the
   authors' divisors for skip connections are not needed.
3. The hardware-aware score takes multiplications in the place of measured latencies, which would make a run not
   repeatable, and compares means: importance / mean importance - eta * saving / mean saving.
4. Rounds are spread evenly over a first part of the steps and remove equal numbers of filters.

References:
    | Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion (Yin et al., 2020), section 4.3 and Eq 10
    | https://arxiv.org/abs/1912.08795
    | Importance Estimation for Neural Network Pruning (Molchanov et al., 2019), section 3
    | https://arxiv.org/abs/1906.10771
    | Faster Gaze Prediction with Dense Networks and Fisher Pruning (Theis et al., 2018), section 2.1
    | https://arxiv.org/abs/1801.05787
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor, nn

from datafree.applications.distillation import DistillationConfig, Learner, draw
from datafree.callback import Callback, silent
from datafree.classifier import Classifier, frozen
from datafree.networks.importance import gate_slopes, hardware_aware, savings, weakest
from datafree.networks.pruning_surgery import Channels, layers_of, narrow, require_removable, widths_of
from datafree.types import Batch, InputError, Scalar, Stateful, at_least


@dataclass(frozen=True, kw_only=True)
class PruningConfig(DistillationConfig):
    """What is removed, and how the network recovers: as a student learns."""

    steps: int = 2000
    """optimiser steps, those between the rounds included; 0: no recovery"""
    ratio: float = 0.5
    """part of the filters that is removed, of all layers but the one that makes the answer"""
    rounds: int = 5
    """times at which filters are removed"""
    rounds_fraction: float = 0.3
    """part of the steps over which the rounds are spread; the rest is the recovery after the last"""
    importance_batches: int = 16
    """batches by which the importance is estimated in each round"""
    importance_temperature: float = 16.0
    """tau of the labels drawn; higher than that of the recovery, so that images count on which the teacher is sure"""
    importance_slice: int = 16
    """b, images whose slopes are added before they are squared"""
    macs_weight: float = 0.0
    """eta, weight of the multiplications saved against the importance lost; 0: importance alone"""
    min_kept: float = 0.0
    """part of its channels that every layer keeps in any case; one channel at least"""

    fewest: ClassVar[int] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(
            1, rounds=self.rounds, importance_batches=self.importance_batches, importance_slice=self.importance_slice
        )
        at_least(1e-9, importance_temperature=self.importance_temperature)
        at_least(0, macs_weight=self.macs_weight, min_kept=self.min_kept, rounds_fraction=self.rounds_fraction)
        if not 0 < self.ratio < 1 or not self.min_kept < 1 or not self.rounds_fraction <= 1:
            raise InputError(
                "ratio must be over 0, ratio and least under 1, and spread not over 1; all are parts of a whole"
            )

    def build(self) -> Callable[..., nn.Module]:
        return partial(prune, config=self)

    def findings(self, student: Classifier, teacher: Classifier) -> Mapping[str, Any]:
        before, after = (Channels(network.model, network.shape).filters for network in (teacher, student))
        return {"pruned": {"filters before": before, "filters after": after, "rounds": self.rounds}}

    def due(self, step: int) -> int:
        """Rounds that must be over when this step is taken (counted from 0)."""
        last = self.rounds_fraction * self.steps
        return self.rounds if step >= last else min(self.rounds, 1 + math.floor(step * self.rounds / last))


def prune(
    student: Classifier,
    teacher: Classifier,
    batches: Iterable[Batch],
    config: PruningConfig,
    *,
    fabric: Fabric | None = None,
    callback: Callback = silent,
) -> nn.Module:
    """Removes filters from a copy of the teacher until a part of them is gone, and lets it recover.

    Args:
        student: A copy of the teacher. It is pruned and trained in place; adaptive methods see it as it is by then.
        teacher: The network before; never changed.
        batches: A stream, a loader, a list: anything that yields batches. Targets are not looked at. Each round takes
            `looks` batches, each step one.
        config: What is removed, and how the network recovers.
        fabric: Where and in which precision it learns; this process on the student's device if not given.
        callback: Sees every step's loss and the filters left, and keeps what a checkpoint needs.

    Returns:
        The narrower student after the last step, in evaluation mode.

    Raises:
        InputError: If so much cannot be removed, the network's channels cannot be followed, the optimiser is unknown,
            or the batches end before the steps are taken.
    """
    pruning = Pruning(student, teacher, config, fabric)
    start = callback.register(pruning=pruning)
    source = iter(batches)
    with frozen(teacher):
        student.train()
        for step in callback.track(range(start, config.steps), "prune"):
            pruning.catch_up(config.due(step), step, source, callback)
            assert pruning.learner is not None, "the first round is before the first step"
            terms = pruning.learner.step(draw(source, step, config.steps))
            callback.log(step + 1, {**terms, "filters": torch.tensor(float(pruning.channels.filters))})
        pruning.catch_up(config.rounds, config.steps, source, callback)
    return pruning.learner.finish() if pruning.learner else student.eval()


class Pruning:
    """A network that is being pruned: the rounds that are over, the importance seen so far, and what trains it."""

    def __init__(
        self, student: Classifier, teacher: Classifier, config: PruningConfig, fabric: Fabric | None = None
    ) -> None:
        self.student, self.teacher, self.config = student.requires_grad_(True), teacher, config  # a copy may be frozen
        self.fabric = fabric or Fabric(accelerator=student.device.type, devices=1)
        self.channels = Channels(student.model, student.shape)
        self.filters = self.channels.filters
        widths = widths_of(student.model)
        self.floor = {name: max(1, math.ceil(config.min_kept * width)) for name, width in widths.items()}
        self.require_possible()
        self.round = 0
        self.learner: Learner | None = None
        self.begin_round()

    def require_possible(self) -> None:
        """Refuses a ratio that would empty a layer, and a network that does not run when it is narrower.

        Raises:
            InputError: Naming the largest ratio that is possible.
        """
        if not self.filters:
            raise InputError("the network has no layer but the one that makes the answer; there is nothing to prune")
        floors = self.floors()
        spare = sum(
            (len(group) - floor) * len(group.writers)
            for group, floor in zip(self.channels.groups, floors, strict=True)
            if group.removable
        )
        if self.goal(self.config.rounds) > spare:
            raise InputError(
                f"ratio is {self.config.ratio}, but only {spare} of the {self.filters} filters can be removed while every "
                f"layer keeps what it must; give at most {math.floor(1000 * spare / self.filters) / 1000}"
            )
        require_removable(self.student.model, self.student.shape)

    def floors(self) -> list[int]:
        """How many channels each group must keep."""
        names = {layer: name for name, layer in layers_of(self.student.model).items()}
        return [max(self.floor[names[layer]] for layer in group.writers) for group in self.channels.groups]

    def goal(self, rounds: int) -> int:
        """Filters that are gone after so many rounds."""
        part = math.ceil(round(self.filters * self.config.ratio * rounds / self.config.rounds, 6))
        return max(1, part) if rounds == self.config.rounds else part

    def begin_round(self) -> None:
        """Forgets the importance seen so far: the network has changed."""
        self.looked = self.images = 0
        self.squares = [torch.zeros(len(group), device=self.student.device) for group in self.channels.groups]

    def catch_up(self, rounds: int, step: int, source: Iterator[Batch], callback: Callback) -> None:
        """Goes through the rounds that are due: looks, removes, and begins to learn anew."""
        while self.round < rounds:
            for look in callback.track(range(self.looked, self.config.importance_batches), "look"):
                self.look(draw(source, look, self.config.importance_batches))
            self.remove()
            self.round += 1
            self.learn(step)
            self.begin_round()

    def look(self, batch: Batch) -> None:
        """Adds the squared slopes of one batch to the importance."""
        images, groups = batch.images.to(self.student.device), self.channels.groups
        self.student.eval()
        for part in images.split(self.config.importance_slice):
            ours, theirs = map(self.teacher.decisions, (self.student(part), self.teacher(part)))
            loss = drawn_cross_entropy(ours, theirs, self.config.importance_temperature)
            for square, slope in zip(self.squares, gate_slopes(loss, groups), strict=True):
                square += slope.square()
        self.looked, self.images = self.looked + 1, self.images + len(images)
        self.student.train()

    def importance(self) -> list[Tensor]:
        """By how much the distillation loss is expected to rise, in nats, for each channel of each group."""
        factor = self.config.importance_temperature**2 / (2 * self.images)
        return [self.fabric.all_reduce(factor * square, reduce_op="mean") for square in self.squares]  # type: ignore[misc]

    def remove(self) -> None:
        """Removes the channels of least score, until this round's part of the filters is gone."""
        groups, scores = self.channels.groups, self.importance()
        if self.config.macs_weight:
            scores = hardware_aware(scores, savings(self.student, groups), self.config.macs_weight)
        excess = self.channels.filters - self.filters + self.goal(self.round + 1)
        for group, places in zip(groups, weakest(groups, scores, self.floors(), excess), strict=True):
            if places:
                self.channels.remove(group, places)
        self.channels = Channels(self.student.model, self.student.shape)

    def learn(self, step: int) -> None:
        """Whoever trained the network before knows weights that are gone; from here on somebody else does."""
        if self.config.steps:
            self.learner = Learner(self.student, self.teacher, self.config, self.fabric, step)

    @property
    def kept(self) -> dict[str, Stateful]:
        """What has a state of its own; the network is among it."""
        return self.learner.kept if self.learner else {"student": self.student}

    def state_dict(self) -> dict[str, Any]:
        return {
            "round": self.round,
            "looked": self.looked,
            "images": self.images,
            "squares": self.squares,
            "widths": widths_of(self.student.model),
            "first": self.learner.first if self.learner else None,
            "kept": {name: part.state_dict() for name, part in self.kept.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        narrow(self.student.model, self.student.shape, state["widths"])
        self.channels = Channels(self.student.model, self.student.shape)
        self.round, self.looked, self.images = state["round"], state["looked"], state["images"]
        self.squares = [square.to(self.student.device) for square in state["squares"]]
        if state["first"] is not None:
            self.learn(state["first"])
        for name, part in self.kept.items():
            part.load_state_dict(state["kept"][name])


def drawn_cross_entropy(student: Tensor, teacher: Tensor, temperature: float) -> Scalar:
    r"""The cross-entropy with labels drawn from the teacher, :math:`\sum_i -\ln p_S^\tau(y_i), \; y_i \sim p_T^\tau`.

    Its mean over the draws is the sum of :math:`\text{KL}(p_T^\tau \Vert p_S^\tau)` and the teacher's entropy; unlike
    that of the divergence, its slope in one draw does not vanish where both are equal.

    Args:
        student: Logits of shape `(n, k)`.
        teacher: Logits of shape `(n, k)`.
        temperature: Divides both.
    """
    labels = torch.multinomial((teacher.detach() / temperature).softmax(1), 1).squeeze(1)
    return F.cross_entropy(student / temperature, labels, reduction="sum")
