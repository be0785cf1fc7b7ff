r"""Pruning: remove the filters of a network that matter least to its predictions, then recover by distillation.

.. math:: \mathcal{I}_g = \frac{\tau^2}{2n} \sum_b \Bigl( \sum_{w \in g} w \, \frac{\partial}{\partial w}
        \sum_{x \in b} -\ln p_S^\tau(y_x | x) \Bigr)^2, \quad y_x \sim p_T^\tau(\cdot | x)

A group :math:`g` is one channel of one layer, or of all layers whose outputs are added by shortcuts. Its weights are
those with which later layers read the channel, so the inner sum is the gradient of a gate on the channel. The groups of
lowest importance are removed in rounds. The network is distilled from the unpruned one after each round.

The differences from the paper are listed in `docs/applications/pruning.md`.

References:
    | Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion (Yin et al., 2020), section 4.3 and Eq 10
    | https://arxiv.org/abs/1912.08795
    | Importance Estimation for Neural Network Pruning (Molchanov et al., 2019), section 3
    | https://arxiv.org/abs/1906.10771
    | Faster Gaze Prediction with Dense Networks and Fisher Pruning (Theis et al., 2018), section 2.1
    | https://arxiv.org/abs/1801.05787
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datafree import processes
from datafree.applications.base import require_fraction
from datafree.applications.distillation import DistillationConfig, Distiller
from datafree.applications.pruning_goals import Goal, cost_after, fewest_cuts
from datafree.applications.showing import shows_progress
from datafree.applications.trainer import Fabric, fabric_for, next_batch
from datafree.callback import Callback, silent
from datafree.classifier import Classifier, frozen
from datafree.networks.importance import gate_gradients, hardware_aware_scores, macs_saved
from datafree.networks.pruning_order import Cut, cuts_for, cuts_in_order, least_widths, selected
from datafree.networks.pruning_surgery import Channels, layers_of, narrow, require_removable, widths_of
from datafree.synthesis import Stream
from datafree.types import Batch, InputError, Logits, Scalar, Stateful, require_at_least, require_at_most


@dataclass(frozen=True, kw_only=True)
class PruningConfig(DistillationConfig):
    """Settings of pruning, and of the distillation that recovers the network."""

    steps: int = 2000
    """optimizer steps in all, including those between rounds; 0: no recovery"""
    ratio: float = 0.5
    """fraction of the filters to remove, counted over all layers except the output layer"""
    target: str = ""
    """used in place of the ratio: what the network may cost, as a fraction of its multiplications (macs:0.5) or of its
    parameters (params:0.3), or as the time for one image on this machine (latency:5ms); rounds stop when it is met"""
    multiple: int = 1
    """layers that lose filters keep a multiple of this number, such as 8; narrower layers lose none"""
    rounds: int = 5
    """number of rounds in which filters are removed"""
    rounds_fraction: float = 0.3
    """fraction of the steps over which the rounds are spread; the remaining steps follow the last round"""
    importance_batches: int = 16
    """batches per round on which the importance is estimated"""
    importance_temperature: float = 16.0
    """tau of the sampled labels; a high value lets images count on which the teacher is certain"""
    importance_slice: int = 16
    """b, images whose gradients are added before they are squared"""
    macs_weight: float = 0.0
    """eta, weight of the multiplications saved against the importance lost; 0: importance only"""
    min_kept: float = 0.0
    """fraction of its channels that every layer keeps; at least one channel is always kept"""

    min_steps: ClassVar[int] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, rounds=self.rounds, multiple=self.multiple)
        if self.target:
            Goal.parse(self.target)
        require_at_least(1, importance_batches=self.importance_batches, importance_slice=self.importance_slice)
        require_at_least(1e-9, importance_temperature=self.importance_temperature)
        require_at_least(0, macs_weight=self.macs_weight, rounds_fraction=self.rounds_fraction)
        require_at_most(1, rounds_fraction=self.rounds_fraction)
        require_fraction(min_kept=self.min_kept)
        if not 0 < self.ratio < 1:
            raise InputError(f"ratio is {self.ratio}, but it must be above 0 and below 1")

    def build(self) -> Callable[..., nn.Module]:
        return partial(prune, config=self)

    def summarize(self, student: Classifier, teacher: Classifier) -> Mapping[str, Any]:
        before, after = (Channels(network.model, network.shape).filters for network in (teacher, student))
        pruned = {"filters_before": before, "filters_after": after, "rounds": self.rounds, "multiple": self.multiple}
        if self.target:
            goal = Goal.parse(self.target)
            pruned |= {"target": self.target, "reached": goal.shown(goal.cost(student), goal.cost(teacher))}
        return {"pruned": pruned, **super().summarize(student, teacher)}

    def rounds_due(self, step: int) -> int:
        """Return the number of rounds that must be complete before a step, counted from 0."""
        last = self.rounds_fraction * self.steps
        return self.rounds if step >= last else min(self.rounds, 1 + math.floor(step * self.rounds / last))


@shows_progress
def prune(
    student: Classifier,
    teacher: Classifier,
    batches: Iterable[Batch],
    config: PruningConfig,
    *,
    fabric: Fabric | None = None,
    callback: Callback = silent,
    progress: bool = False,
) -> Classifier:
    """Remove the least important filters of a network, and recover its accuracy by distillation.

    Args:
        student: A copy of the teacher. Pruned and trained in place, so an adaptive method sees its current state.
        teacher: The unpruned network. Not changed.
        batches: A stream, a data loader or a list. Each round takes `config.importance_batches` batches, each step
            `config.select`.
            Their targets are not used.
        config: Settings of pruning and recovery.
        fabric: Device and precision; default: one process on the student's device.
        callback: Receives the loss and the number of filters after every step, and registers the state that a
            checkpoint needs.
        progress: Show how far the training is, and how much time is left.

    Returns:
        The student, with narrower layers, after the last step and in evaluation mode.

    Raises:
        InputError: If the ratio is too high for the network, its channels cannot be traced, the optimizer is unknown, or
            there are too few batches.

    References:
        | Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion (Yin et al., 2020), section 4.3
        | https://arxiv.org/abs/1912.08795
    """
    pruner = Pruner(student, teacher, config, fabric)
    start = callback.register(pruning=pruner)
    if isinstance(batches, Stream):
        batches.take_per_step(config.select)
    source = iter(batches)
    with frozen(teacher), processes.divided(pruner.fabric):
        student.train()
        for step in callback.track(range(start, config.steps), "prune"):
            pruner.complete_rounds(config.rounds_due(step), step, source, callback)
            assert pruner.distiller is not None, "the first round comes before the first step"
            terms = pruner.distiller.step(next_batch(source, step, config.steps, config.select))
            callback.log(step + 1, {**terms, "filters": torch.tensor(float(pruner.channels.filters))})
        pruner.complete_rounds(config.rounds, config.steps, source, callback)
    if pruner.distiller:
        pruner.distiller.finish(callback)
    return student.eval()


class Pruner:
    """The state of pruning: rounds completed, importance accumulated so far, and the distillation of the student.

    Args:
        student: Pruned and trained in place.
        teacher: The unpruned network; must be frozen.
        config: Settings of pruning and recovery.
        fabric: Device and precision; default: one process on the student's device.

    Raises:
        InputError: If the ratio is too high for the network, or its channels cannot be traced.
    """

    def __init__(
        self, student: Classifier, teacher: Classifier, config: PruningConfig, fabric: Fabric | None = None
    ) -> None:
        self.student = student.requires_grad_(True)  # a copy of a frozen teacher is frozen
        self.teacher, self.config = teacher, config
        self.fabric = fabric or fabric_for(student)
        self.channels = Channels(student.model, student.shape)
        self.initial_filters = self.channels.filters
        widths = widths_of(student.model)
        self.min_widths = {name: max(1, math.ceil(config.min_kept * width)) for name, width in widths.items()}
        self.goal = Goal.parse(config.target) if config.target else None
        self.initial_cost = self.cost = self.measured(self.student)
        self.reset_importance()
        self.require_possible()
        self.round = 0
        self.distiller: Distiller | None = None

    def require_possible(self) -> None:
        """Check that the goal leaves every layer its minimum width, and that the network runs with narrower layers.

        Raises:
            InputError: Names the highest possible ratio, or the least possible cost.
        """
        if not self.initial_filters:
            raise InputError("the network has no layer besides its output layer, so there is nothing to prune")
        if self.goal is None:
            self.require_ratio()
        require_removable(self.student.model, self.student.shape)
        if self.goal:
            everything = self.in_order(self.squared_gradients)
            least = self.shared(cost_after(self.goal, self.student, everything))
            self.goal.require_possible(least, self.initial_cost)

    def require_ratio(self) -> None:
        """Check that the ratio leaves every layer its minimum width.

        Raises:
            InputError: Names the highest possible ratio.
        """
        groups, multiple = self.channels.groups, self.config.multiple
        least_of = least_widths(groups, self.group_min_widths(), multiple)
        removable = sum((len(g) - least) * len(g.writers) for g, least in zip(groups, least_of, strict=True))
        if self.filters_to_remove(self.config.rounds) > removable:
            highest = math.floor(1000 * removable / self.initial_filters) / 1000
            limits = f"min-kept {self.config.min_kept}" + (f" and multiple {multiple}" if multiple > 1 else "")
            if not highest:
                raise InputError(f"no filter can be removed with {limits}; give smaller values")
            raise InputError(
                f"ratio is {self.config.ratio}, but only {removable} of {self.initial_filters} filters can be removed "
                f"with {limits}; give at most {highest}"
            )

    def in_order(self, scores: Sequence[Tensor]) -> list[Cut]:
        """Return everything that can be removed, the lowest score first."""
        return cuts_in_order(self.channels.groups, scores, self.group_min_widths(), self.config.multiple)

    def measured(self, network: Classifier) -> float:
        """Return what a network costs in the measure of the goal; the processes of a run take the time of the first one."""
        return self.shared(self.goal.cost(network)) if self.goal else 0.0

    def shared(self, cost: float) -> float:
        """Return the number of the first process of a run."""
        return float(self.fabric.broadcast(cost))

    def group_min_widths(self) -> list[int]:
        """Return the number of channels that each group must keep."""
        names = {layer: name for name, layer in layers_of(self.student.model).items()}
        return [max(self.min_widths[names[layer]] for layer in group.writers) for group in self.channels.groups]

    def filters_to_remove(self, rounds: int) -> int:
        """Return how many filters must be removed in the first `rounds` rounds together."""
        count = math.ceil(round(self.initial_filters * self.config.ratio * rounds / self.config.rounds, 6))
        return max(1, count) if rounds == self.config.rounds else count

    def reset_importance(self) -> None:
        """Discard the accumulated importance."""
        self.batches_seen = self.images_seen = 0
        self.squared_gradients = [torch.zeros(len(group), device=self.student.device) for group in self.channels.groups]

    def complete_rounds(self, rounds: int, step: int, source: Iterator[Batch], callback: Callback) -> None:
        """Run the rounds that are due before a step: estimate the importance, remove filters, restart the optimizer."""
        count = self.config.importance_batches
        while self.round < rounds and not self.is_reached:
            for index in callback.track(range(self.batches_seen, count), "importance"):
                self.accumulate_importance(next_batch(source, index, count))
                callback.on_measurement()
            self.remove_filters()
            self.round += 1
            self.start_distillation(step)
            self.reset_importance()

    def accumulate_importance(self, batch: Batch) -> None:
        """Add the squared gate gradients of one batch to the importance."""
        images, groups = batch.images.to(self.student.device), self.channels.groups
        self.student.eval()
        draws = label_draws(len(images), self.config.importance_slice, self.teacher)
        for part, draw in zip(images.split(self.config.importance_slice), draws, strict=True):
            student_logits, teacher_logits = map(self.teacher.decisions, (self.student(part), self.teacher(part)))
            loss = sampled_cross_entropy(student_logits, teacher_logits, self.config.importance_temperature, draw)
            for total, gradients in zip(self.squared_gradients, gate_gradients(loss, groups), strict=True):
                total += gradients.square()
        self.batches_seen, self.images_seen = self.batches_seen + 1, self.images_seen + len(images)
        self.student.train()

    def importance(self) -> list[Tensor]:
        """Return the expected rise of the distillation loss in nats for each channel of each group."""
        factor = self.config.importance_temperature**2 / (2 * self.images_seen)
        return [self.fabric.all_reduce(factor * total, reduce_op="mean") for total in self.squared_gradients]  # type: ignore[misc]

    @property
    def is_reached(self) -> bool:
        """Whether the goal is met, so that no further round is needed."""
        return self.goal is not None and self.cost <= self.goal.limit(self.initial_cost)

    def remove_filters(self) -> None:
        """Remove the channels with the lowest scores until the goal of this round is reached."""
        groups, scores = self.channels.groups, self.importance()
        if self.config.macs_weight:
            scores = hardware_aware_scores(scores, macs_saved(self.student, groups), self.config.macs_weight)
        cuts = self.in_order(scores)
        for group, channels in zip(groups, selected(cuts[: self.cuts_due(cuts)], len(groups)), strict=True):
            if channels:
                self.channels.remove(group, channels)
        self.channels = Channels(self.student.model, self.student.shape)
        self.cost = self.measured(self.student)

    def cuts_due(self, cuts: Sequence[Cut]) -> int:
        """Return how many of the first cuts this round makes.

        With a goal, the cost falls by the same amount in each round.
        """
        goal = self.goal
        if goal is None:
            excess = self.channels.filters - self.initial_filters + self.filters_to_remove(self.round + 1)
            return cuts_for(cuts, self.channels.groups, excess)
        done = (self.round + 1) / self.config.rounds
        limit = self.initial_cost - done * (self.initial_cost - goal.limit(self.initial_cost))
        return fewest_cuts(len(cuts), lambda count: self.shared(cost_after(goal, self.student, cuts[:count])), limit)

    def start_distillation(self, step: int) -> None:
        """Create a new optimizer, because the state of the previous one belongs to weights of other shapes."""
        if self.config.steps:
            self.distiller = Distiller(self.student, self.teacher, self.config, self.fabric, step)

    @property
    def training_state(self) -> dict[str, Stateful]:
        """The objects with a state of their own, including the student."""
        return self.distiller.state if self.distiller else {"student": self.student}

    def state_dict(self) -> dict[str, Any]:
        """Return the widths of the student's layers, the progress, and the state of its training."""
        return {
            "round": self.round,
            "costs": [self.initial_cost, self.cost],
            "batches_seen": self.batches_seen,
            "images_seen": self.images_seen,
            "squared_gradients": self.squared_gradients,
            "widths": widths_of(self.student.model),
            "first_step": self.distiller.first_step if self.distiller else None,
            "training": {name: stateful.state_dict() for name, stateful in self.training_state.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Narrow the student to the saved widths and restore its training."""
        narrow(self.student.model, self.student.shape, state["widths"])
        self.channels = Channels(self.student.model, self.student.shape)
        self.round, self.batches_seen, self.images_seen = state["round"], state["batches_seen"], state["images_seen"]
        self.initial_cost, self.cost = state.get("costs", (self.initial_cost, self.cost))
        self.squared_gradients = [total.to(self.student.device) for total in state["squared_gradients"]]
        if state["first_step"] is not None:
            self.start_distillation(state["first_step"])
        for name, stateful in self.training_state.items():
            stateful.load_state_dict(state["training"][name])


def label_draws(images: int, slice_images: int, teacher: Classifier) -> Iterator[Tensor]:
    """Yield the random numbers with which the labels of each slice of a batch are sampled.

    With several processes, every one draws those of the whole batch, in order. The slices are those of one process if the
    images of a process are a multiple of the images of a slice.
    """
    whole, first = images * processes.count(), images * processes.rank()
    if images % slice_images:  # the last slice of each process is shorter
        sizes = [len(part) for part in torch.empty(images, 0).split(slice_images)] * processes.count()
    else:
        sizes = [len(part) for part in torch.empty(whole, 0).split(slice_images)]
    start, probe = (
        0,
        teacher.decisions(torch.empty(1, len(teacher.classes), device=teacher.device, dtype=teacher.mean.dtype)),
    )
    for size in sizes:
        draw = probe.new_empty(size * len(probe), probe.shape[1]).exponential_()
        if first <= start < first + images:
            yield draw
        start += size


def sampled_cross_entropy(student: Logits, teacher: Logits, temperature: float, draw: Tensor | None = None) -> Scalar:
    r"""Return the cross-entropy with labels sampled from the teacher.

    .. math:: \sum_i -\ln p_S^\tau(y_i), \quad y_i \sim p_T^\tau

    Its expectation is the sum of :math:`\text{KL}(p_T^\tau \Vert p_S^\tau)` and the teacher's entropy. Unlike that of the
    divergence, the gradient of one sample does not vanish where both predictions are equal.

    Args:
        student: Logits of shape `(n, k)`.
        teacher: Logits of shape `(n, k)`.
        temperature: :math:`\tau`, divides both.
        draw: Exponential random numbers of the shape of the logits; default: new ones.

    Returns:
        A scalar in nats, summed over the batch.
    """
    probabilities = (teacher.detach() / temperature).softmax(1)
    draw = torch.empty_like(probabilities).exponential_() if draw is None else draw
    labels = (probabilities / draw).argmax(1)  # as multinomial, without waiting
    return F.cross_entropy(student / temperature, labels, reduction="sum")
