r"""Amalgamation: the dual generator is trained block by block, then regrouped into a TargetNet with a branch per teacher.

1. *Blocks.* Block b of the dual generator takes what the block before it made of the image, or the feature that was
   generated at its depth. What it makes is judged by what the teachers' last blocks say of it:

   .. math:: \mathcal{L}_\text{dual}^b = \ell\Bigl(\bigcup_m \mathcal{A}_m^{b+1 \dots B}\bigl(f_m^b(F_u^b)\bigr),
       \mathcal{O}_g(\mathcal{I}_g)\Bigr), \quad F_u^b = \mathcal{T}^b(F_u^{b-1})

2. *Branches.* Each teacher's branch leaves the trunk where its own answer is kept best, measured on the next images:
   :math:`b_m^* = \arg\min_b \ell(\mathcal{A}_m^{b+1 \dots B}(f_m^b(F_u^b)), \mathcal{A}_m(\mathcal{I}_g))`.

3. *Regrouping.* The trunk :math:`\mathcal{T}^1 \dots \mathcal{T}^{\max b^*}`, and for each teacher its filter and a copy
   of its last blocks, is fine-tuned as a whole by distillation from the union of the teachers' answers.

The paper's section 4 was not to be had but for its abstract and figures: this is a reconstruction after the same
group's method for teachers with data. :math:`\ell` is the distillation loss of `losses`.

References:
    | Data-Free Knowledge Amalgamation via Group-Stack Dual-GAN (Ye et al., 2020), section 4
    | https://arxiv.org/abs/2003.09088
    | Student Becoming the Master (Ye et al., 2019), sections 3.3-3.4
    | https://arxiv.org/abs/1904.11098
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from datafree.applications.base import Learning
from datafree.callback import Callback, silent
from datafree.classifier import Classifier, frozen
from datafree.ensemble import Ensemble
from datafree.losses import distillation_loss
from datafree.networks.blocks import Blocks
from datafree.networks.filters import Filter
from datafree.networks.target_net import TargetNet, branch_of
from datafree.synthesis import descend
from datafree.types import Batch, InputError, Logits, Terms, at_least


@dataclass(frozen=True, kw_only=True)
class AmalgamationConfig(Learning):
    """How the TargetNet is made. The learning rate begins anew with each block, at its highest: `warmup` has no effect."""

    blockwise_fraction: float = 0.5
    """part of the steps in which the dual generator is trained block by block; 0: the trunk begins untrained"""
    lr: float = 4e-3
    """learning rate at the beginning of each block and of the whole; it falls to zero along a half cosine"""
    temperature: float = 4.0
    """tau, softens all answers"""
    generated_fraction: float = 0.5
    """part of the images for which a block takes the generated feature instead of the block's before it"""
    branch_points: tuple[int, ...] = ()
    """blocks before each teacher's branch; measured if not given, where the later ones are trained as well"""
    measure_batches: int = 8
    """batches on which the branches are measured"""
    blocks: int = 0
    """B; as many as the teachers fall into, if 0"""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, measure_batches=self.measure_batches)
        at_least(1e-9, temperature=self.temperature)
        at_least(0, blocks=self.blocks)
        if not 0 <= self.blockwise_fraction < 1 or not 0 <= self.generated_fraction <= 1:
            raise InputError("blockwise must be from 0 to under 1 and feed from 0 to 1; both are parts of a whole")
        if self.blockwise_fraction == 0 and not self.branch_points:
            raise InputError("branches are measured on trained blocks; give points where blockwise is 0")

    def build(self) -> Callable[..., nn.Module]:
        return partial(amalgamate, config=self)

    def findings(self, student: Classifier, teacher: Classifier) -> Mapping[str, Any]:
        target = cast(TargetNet, student.model)
        return {"branches": {"points": list(target.points), "blocks of the trunk": len(target.trunk)}}


def amalgamate(
    student: Classifier,
    teacher: Classifier,
    batches: Iterable[Batch],
    config: AmalgamationConfig,
    *,
    fabric: Fabric | None = None,
    callback: Callback = silent,
) -> nn.Module:
    """Makes the TargetNet; the student becomes it.

    Args:
        student: A network whose blocks take what the teachers' blocks take: the dual generator. It is trained in place
            and ends as a `TargetNet`.
        teacher: A `Ensemble`, never changed.
        batches: Anything that yields batches; without generated features each block takes what the one before it made.
        config: How.
        fabric: Where and in which precision it learns; this process on the student's device if not given.
        callback: Sees every step's loss, and keeps what a checkpoint needs.

    Returns:
        The student, in evaluation mode.

    Raises:
        InputError: If a network was made with arguments, the networks' blocks do not fit each other or the batches, or the
            batches end before the steps are taken.
    """
    ensemble = teacher if isinstance(teacher, Ensemble) else Ensemble([teacher])
    work = DualGenerator(student, ensemble, config, fabric or Fabric(accelerator=student.device.type, devices=1))
    start = callback.register(dual=work)
    source = iter(batches)
    with frozen(ensemble):
        for step in callback.track(range(start, config.steps), "amalgamate"):
            work.enter(step, source)
            terms = descend(work.objective(_next(source, step, config.steps)), work.optimizer)
            work.schedule.step()
            callback.log(step + 1, terms)
    return student.eval()


class DualGenerator:
    """What is trained: first one block and its filters at a time, then the whole TargetNet."""

    def __init__(self, student: Classifier, ensemble: Ensemble, config: AmalgamationConfig, fabric: Fabric) -> None:
        self.student, self.ensemble, self.config, self.fabric = student, ensemble, config, fabric
        for one in (student, *ensemble.teachers):
            arguments = getattr(one.model, "pretrained_cfg", {}).get("model_args")
            if arguments:
                raise InputError(
                    f"a network made with arguments ({', '.join(arguments)}) cannot be part of a TargetNet, which is made "
                    "again from names alone; distil one plain student instead"
                )
        self.discriminators = [Blocks(one, config.blocks) for one in ensemble.teachers]
        self.blocks = Blocks(student, config.blocks)
        for other in self.discriminators:
            if other.shapes != self.blocks.shapes:
                raise InputError(
                    f"the student's blocks take {self.blocks.shapes} and a teacher's {other.shapes}; "
                    "name a student of the teachers' architecture"
                )
        if config.branch_points and (
            len(config.branch_points) != len(self.discriminators) or not self._are_inside(config.branch_points)
        ):
            raise InputError(
                f"points are {config.branch_points}; give one from 1 to {len(self.blocks) - 1} for each of the "
                f"{len(self.discriminators)} teachers"
            )
        inner = self.blocks.shapes[1:]
        self.filters = nn.ModuleList(
            nn.ModuleList(Filter(shape[0]) for _ in self.discriminators) for shape in inner
        ).to(student.device)
        self.inner = max(config.branch_points, default=len(inner))
        """blocks that are trained one after another: those behind the last branch would be thrown away"""
        if config.blockwise_fraction and config.blockwise_fraction * config.steps < self.inner:
            raise InputError(
                f"{config.steps} steps are too few to train {self.inner} blocks one after another; "
                "give more steps or fewer blocks"
            )
        self.stage = -1
        self.points: tuple[int, ...] = ()
        self.measured: list[Tensor] = []
        """losses of the branches, batch by batch, while they are measured"""

    def _are_inside(self, points: Sequence[int]) -> bool:
        return all(1 <= point < len(self.blocks) for point in points)

    def stage_of(self, step: int) -> tuple[int, int]:
        """The stage at a step, and how many steps it has: first one for each inner block, then the whole."""
        each = int(self.config.blockwise_fraction * self.config.steps) // self.inner
        if step < each * self.inner:
            return step // each, each
        return self.inner, self.config.steps - each * self.inner

    def enter(self, step: int, source: Iterator[Batch]) -> None:
        """Goes on to the stage of this step, if it is not there yet."""
        stage, steps = self.stage_of(step)
        if stage != self.stage:
            if stage == self.inner and not self.points:
                self.regroup(self.config.branch_points or self.branch_points(source))
            self.begin(stage, steps)

    def begin(self, stage: int, steps: int) -> None:
        """A new optimiser for what this stage trains."""
        self.stage = stage
        last = stage == self.inner
        filters = None if last else cast(nn.ModuleList, self.filters[stage])
        learner = self.student if filters is None else _Stage(self.blocks[stage], filters)
        self.student.train(last)
        learner.train()
        optimizer = self.config.optimizer_of(learner)
        self.module, self.optimizer = self.fabric.setup(learner, optimizer, move_to_device=False)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: (1 + math.cos(math.pi * step / steps)) / 2
        )

    def objective(self, batch: Batch) -> Terms:
        images = batch.images.to(self.ensemble.device)
        answer = self._answer(batch, images)
        if self.points:
            return {"distillation": self._loss(self.module(images), answer)}
        taken = self.taken(batch, images, self.stage)
        answers = self._judge(self.module(taken), self.stage)
        return {f"block {self.stage + 1}": self._loss(self.ensemble.unite(answers), answer)}

    def taken(self, batch: Batch, images: Tensor, stage: int) -> Tensor:
        """What a block is fed: what those before it make of the images, or features that were generated there."""
        with torch.no_grad():
            made = self.student.normalize(images)
            for block in list(self.blocks)[:stage]:
                made = block(made)
            if not batch.features:
                return made
            theirs, ours = tuple(tuple(one.shape[1:]) for one in batch.features), self.blocks.shapes[1:]
            if theirs != ours:
                raise InputError(
                    f"features were generated for blocks that take {theirs}, but the student's take {ours}; "
                    "give blocks of the method and of the application the same number"
                )
            if stage == 0:
                return made
            generated = batch.features[stage - 1].to(made.device)
            fed = torch.rand(len(made), 1, 1, 1, device=made.device) < self.config.generated_fraction
            return torch.where(fed, generated, made)

    def _answer(self, batch: Batch, images: Tensor) -> Logits:
        if batch.answers is not None:
            return batch.answers.to(images.device)
        with torch.no_grad():
            return self.ensemble(images)

    def _judge(self, filtered: Sequence[Tensor], stage: int) -> list[Tensor]:
        last = len(self.blocks) - 1 - stage
        return [blocks(features, last) for blocks, features in zip(self.discriminators, filtered, strict=True)]

    def _loss(self, said: Logits, answer: Logits) -> Tensor:
        decisions = self.ensemble.decisions
        return distillation_loss(decisions(said), decisions(answer), self.config.temperature)

    def branch_points(self, source: Iterator[Batch]) -> tuple[int, ...]:
        """For each teacher, after how many blocks its own answer is kept best."""
        self.student.eval()
        while len(self.measured) < self.config.measure_batches:
            self.measured.append(self._branch_losses(_next(source, len(self.measured), self.config.measure_batches)))
        losses = cast(Tensor, self.fabric.all_reduce(torch.stack(self.measured).mean(0), reduce_op="mean"))
        return tuple((losses.argmin(0) + 1).tolist())

    @torch.no_grad()
    def _branch_losses(self, batch: Batch) -> Tensor:
        """Of shape `(B - 1, teachers)`."""
        images = batch.images.to(self.ensemble.device)
        answers = [teacher(images) for teacher in self.ensemble.teachers]
        made, losses = self.student.normalize(images), []
        for stage, block in enumerate(list(self.blocks)[:-1]):
            made = block(made)
            said = self._judge([through(made) for through in cast(nn.ModuleList, self.filters[stage])], stage)
            for teacher, ours, theirs in zip(self.ensemble.teachers, said, answers, strict=True):
                pair = teacher.decisions(ours), teacher.decisions(theirs)
                losses.append(distillation_loss(*pair, self.config.temperature))
        return torch.stack(losses).view(-1, len(answers))

    def regroup(self, points: tuple[int, ...]) -> None:
        """The student becomes the TargetNet."""
        branches = []
        for m, (blocks, point) in enumerate(zip(self.discriminators, points, strict=True)):
            branch = deepcopy(branch_of(blocks, point)).to(self.student.device)
            branch[0].load_state_dict(self.filters[point - 1][m].state_dict())  # type: ignore[index]
            for parameter in branch.parameters():
                parameter.requires_grad_(True)  # copies of what is frozen
            branches.append(branch)
        names = {label: place for place, label in enumerate(self.ensemble.classes)}
        labels = [[names.get(label, -1) for label in teacher.classes] for teacher in self.ensemble.teachers]
        trunk = list(self.blocks)[: max(points)]
        target = TargetNet(trunk, branches, points, labels).to(self.student.device)
        architectures = [_architecture(self.student), *map(_architecture, self.ensemble.teachers)]
        _say_how_it_is_made(target, architectures, self.config.blocks, self.student.shape)
        self.student.model, self.points = target, points

    def state_dict(self) -> dict[str, Any]:
        return {
            "stage": self.stage,
            "points": self.points,
            "measured": self.measured,
            "student": self.student.model.state_dict(),
            "filters": self.filters.state_dict(),
            "optimizer": self.optimizer.optimizer.state_dict(),
            "schedule": {"last_epoch": self.schedule.last_epoch},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["points"]:
            self.regroup(tuple(state["points"]))
        self.student.model.load_state_dict(state["student"])
        self.filters.load_state_dict(state["filters"])
        starts = [step for step in range(self.config.steps) if self.stage_of(step)[0] == state["stage"]]
        self.begin(state["stage"], len(starts))
        self.optimizer.optimizer.load_state_dict(state["optimizer"])
        self.schedule.last_epoch = state["schedule"]["last_epoch"]
        self.measured = list(state["measured"])


class _Stage(nn.Module):
    """One block, and what each teacher's filter lets through of it."""

    def __init__(self, block: nn.Module, filters: nn.ModuleList) -> None:
        super().__init__()
        self.block, self.filters = block, filters

    def forward(self, taken: Tensor) -> list[Tensor]:
        made = self.block(taken)
        return [through(made) for through in self.filters]


def _next(source: Iterator[Batch], step: int, steps: int) -> Batch:
    batch = next(source, None)
    if batch is None:
        raise InputError(f"the batches ended after {step} of {steps} steps; give a stream that does not end")
    return batch


def _architecture(classifier: Classifier) -> str:
    return getattr(classifier.model, "pretrained_cfg", {}).get("architecture", "")


def _say_how_it_is_made(target: TargetNet, networks: Sequence[str], blocks: int, shape: tuple[int, int, int]) -> None:
    """Leaves with the network by which arguments timm makes it, for the folder it is saved in."""
    arguments = {
        "networks": list(networks),
        "points": list(target.points),
        "labels": [list(row) for row in target.labels],
        "blocks": blocks,
        "input_size": list(shape[1:]),
    }
    target.pretrained_cfg = {"architecture": "target_net", "model_args": arguments}  # type: ignore[assignment]
