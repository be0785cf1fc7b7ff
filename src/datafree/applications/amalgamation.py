r"""Amalgamation: train a dual generator block by block, then turn it into a TargetNet with one branch per teacher.

1. *Blocks.* Block b of the dual generator takes the output of the block before it, or the features that were generated at
   its depth. Its loss compares the teachers' last blocks, run on its output, with the predictions of the teachers:

   .. math:: \mathcal{L}_\text{dual}^b = \ell\Bigl(\bigcup_m \mathcal{A}_m^{b+1 \dots B}\bigl(f_m^b(F_u^b)\bigr),
       \mathcal{O}_g(\mathcal{I}_g)\Bigr), \quad F_u^b = \mathcal{T}^b(F_u^{b-1})

2. *Branches.* Each teacher's branch leaves the trunk where the loss to its own predictions is lowest, measured on the
   next batches: :math:`b_m^* = \arg\min_b \ell(\mathcal{A}_m^{b+1 \dots B}(f_m^b(F_u^b)), \mathcal{A}_m(\mathcal{I}_g))`.

3. *Regrouping.* The trunk :math:`\mathcal{T}^1 \dots \mathcal{T}^{\max b^*}`, with a filter and a copy of the last blocks
   of each teacher, is fine-tuned as a whole by distillation from the ensemble of the teachers.

:math:`\ell` is `distillation_loss`. Of section 4 of the paper only the abstract and the figures were available to us: this
is a reconstruction that follows the same group's method for teachers with data.

References:
    | Data-Free Knowledge Amalgamation via Group-Stack Dual-GAN (Ye et al., 2020), section 4
    | https://arxiv.org/abs/2003.09088
    | Student Becoming the Master (Ye et al., 2019), sections 3.3-3.4
    | https://arxiv.org/abs/1904.11098
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from datafree import processes
from datafree.applications.base import Learning, cosine_factor, require_fraction
from datafree.applications.showing import shows_progress
from datafree.applications.trainer import Fabric, Trainer, fabric_for, next_batch
from datafree.callback import Callback, silent
from datafree.classifier import Classifier, frozen
from datafree.ensemble import Ensemble
from datafree.losses import distillation_loss
from datafree.networks.blocks import Blocks
from datafree.networks.filters import Filter
from datafree.networks.target_net import TargetNet, make_branch
from datafree.synthesis import Stream
from datafree.types import Batch, Images, InputError, Logits, Scalar, Terms, require_at_least, require_at_most


@dataclass(frozen=True, kw_only=True)
class AmalgamationConfig(Learning):
    """Settings of amalgamation. The learning rate restarts at its peak for each block; `lr_warmup` has no effect."""

    blockwise_fraction: float = 0.5
    """fraction of the steps in which blocks are trained one after another; 0: the trunk starts untrained"""
    lr: float = 4e-3
    """peak learning rate; falls to 0 along a half cosine for each block and again for the whole network"""
    generated_fraction: float = 0.5
    """fraction of the images for which a block takes generated features instead of the previous block's output"""
    branch_points: tuple[int, ...] = ()
    """number of trunk blocks before each teacher's branch; default: measured after all blocks are trained"""
    measure_batches: int = 8
    """batches on which branch points are measured"""
    blocks: int = 0
    """B, number of blocks that each network is split into; 0: as many as its architecture has"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, measure_batches=self.measure_batches)
        require_at_least(0, blocks=self.blocks, generated_fraction=self.generated_fraction)
        require_at_most(1, generated_fraction=self.generated_fraction)
        require_fraction(blockwise_fraction=self.blockwise_fraction)
        if self.blockwise_fraction == 0 and not self.branch_points:
            raise InputError(
                "branch points can only be measured on trained blocks; give branch-points, or a blockwise-fraction above 0"
            )

    def build(self) -> Callable[..., nn.Module]:
        return partial(amalgamate, config=self)

    def summarize(self, student: Classifier, teacher: Classifier) -> Mapping[str, Any]:
        target = cast(TargetNet, student.model)
        return {"branches": {"points": list(target.branch_points), "trunk_blocks": len(target.trunk)}}


@shows_progress
def amalgamate(
    student: Classifier,
    teacher: Classifier,
    batches: Iterable[Batch],
    config: AmalgamationConfig,
    *,
    fabric: Fabric | None = None,
    callback: Callback = silent,
    progress: bool = False,
) -> Classifier:
    """Train one TargetNet from several teachers.

    Args:
        student: The dual generator, of the teachers' architecture. Trained in place; its `model` is a `TargetNet`
            afterwards.
        teacher: An `Ensemble`. Not changed.
        batches: A stream, a data loader or a list with at least `config.steps` batches, plus `config.measure_batches`
            if branch points are measured. Without generated features, each block takes the previous block's output.
        config: Settings of the training.
        fabric: Device and precision; default: one process on the student's device.
        callback: Receives the loss of every step and registers the state that a checkpoint needs.
        progress: Show how far the training is, and how much time is left.

    Returns:
        The student, in evaluation mode.

    Raises:
        InputError: If a network was created with arguments, the blocks of the networks or the generated features have
            different shapes, or there are too few batches.

    References:
        | Data-Free Knowledge Amalgamation via Group-Stack Dual-GAN (Ye et al., 2020), section 4
        | https://arxiv.org/abs/2003.09088
    """
    ensemble = teacher if isinstance(teacher, Ensemble) else Ensemble([teacher])
    dual = DualGenerator(student, ensemble, config, fabric or fabric_for(student))
    if isinstance(batches, Stream) and config.blockwise_fraction and config.generated_fraction:
        batches.keep_block_inputs()
    start = callback.register(dual=dual)
    source = iter(batches)
    with frozen(ensemble), processes.divided(dual.fabric):
        for step in callback.track(range(start, config.steps), "amalgamate"):
            dual.enter_stage(step, source, callback)
            terms = dual.objective(next_batch(source, step, config.steps))
            callback.log(step + 1, dual.trainer.step(terms))
    dual.trainer.report(callback)
    return student.eval()


class DualGenerator:
    """The training of a TargetNet: one block and its filters at a time, then the whole network.

    Stage s < `block_stages` trains block s of the student. The last stage fine-tunes the TargetNet.

    Args:
        student: Trained in place.
        ensemble: The teachers; must be frozen.
        config: Settings of the training.
        fabric: Device and precision.

    Raises:
        InputError: If a network was created with arguments, blocks have different shapes, branch points are invalid, or
            there are fewer steps than stages.
    """

    trainer: Trainer
    """trains the current stage"""

    def __init__(self, student: Classifier, ensemble: Ensemble, config: AmalgamationConfig, fabric: Fabric) -> None:
        self.student, self.ensemble, self.config, self.fabric = student, ensemble, config, fabric
        require_plain_networks([student, *ensemble.teachers])
        self.discriminators = [Blocks(teacher, config.blocks) for teacher in ensemble.teachers]
        self.blocks = Blocks(student, config.blocks)
        require_equal_shapes(self.blocks, self.discriminators)
        require_branch_points(config.branch_points, len(self.blocks), len(self.discriminators))
        inner_shapes = self.blocks.shapes[1:]
        self.filters = nn.ModuleList(
            nn.ModuleList(Filter(shape[0]) for _ in self.discriminators) for shape in inner_shapes
        ).to(student.device)
        # Blocks after the last branch point are not part of the TargetNet.
        self.block_stages = max(config.branch_points, default=len(inner_shapes))
        if config.blockwise_fraction and config.blockwise_fraction * config.steps < self.block_stages:
            raise InputError(
                f"{config.steps} steps are too few to train {self.block_stages} blocks one after another; "
                "give more steps or fewer blocks"
            )
        self.stage = -1
        self.branch_points: tuple[int, ...] = ()
        self.measured_losses: list[Tensor] = []

    def stage_at(self, step: int) -> tuple[int, int]:
        """Return the stage of a step, counted from 0, and the number of steps of that stage."""
        block_steps = int(self.config.blockwise_fraction * self.config.steps) // self.block_stages
        if step < block_steps * self.block_stages:
            return step // block_steps, block_steps
        return self.block_stages, self.config.steps - block_steps * self.block_stages

    def enter_stage(self, step: int, source: Iterator[Batch], callback: Callback = silent) -> None:
        """Start the stage of a step if it is not the current one."""
        stage, steps = self.stage_at(step)
        if stage != self.stage:
            if stage == self.block_stages and not self.branch_points:
                self.regroup(self.config.branch_points or self.measure_branch_points(source, callback))
            self.start_stage(stage, steps)

    def start_stage(self, stage: int, steps: int) -> None:
        """Create the optimizer of a stage."""
        self.stage = stage
        is_last = stage == self.block_stages
        self.student.train(is_last)
        model = self.student if is_last else FilteredBlock(self.blocks[stage], self.stage_filters(stage))
        model.train()
        self.trainer = Trainer(model, self.config, self.fabric, lambda step: cosine_factor(step, steps), steps)

    def stage_filters(self, stage: int) -> nn.ModuleList:
        """Return the filters after a block, one for each teacher."""
        return cast(nn.ModuleList, self.filters[stage])

    def objective(self, batch: Batch) -> Terms:
        """Return the distillation loss of the current block, or of the TargetNet."""
        images = batch.images.to(self.ensemble.device)
        teacher_logits = self.teacher_logits(batch, images)
        if self.branch_points:
            return {"distillation": self.loss(self.trainer(images), teacher_logits)}
        filtered = self.trainer(self.block_input(batch, images, self.stage))
        logits = self.ensemble.merge(self.discriminate(filtered, self.stage))
        return {f"block {self.stage + 1}": self.loss(logits, teacher_logits)}

    def loss(self, logits: Logits, teacher_logits: Logits) -> Scalar:
        """Return the distillation loss between logits and those of the ensemble."""
        decisions = self.ensemble.decisions
        loss = distillation_loss(decisions(logits), decisions(teacher_logits), self.config.temperature)
        return self.ensemble.decisions_per_image * loss

    def teacher_logits(self, batch: Batch, images: Images) -> Logits:
        """Return the logits of the ensemble; those of the batch if it has them."""
        if batch.teacher_logits is not None:
            return batch.teacher_logits.to(images.device)
        with torch.no_grad():
            return self.ensemble(images)

    @torch.no_grad()
    def block_input(self, batch: Batch, images: Images, stage: int) -> Tensor:
        """Return the input of a block: the output of the previous blocks, or for some images the generated features."""
        features = self.student.normalize(images)
        for block in list(self.blocks)[:stage]:
            features = block(features)
        if not batch.block_inputs:
            return features
        generated_shapes, shapes = tuple(tuple(x.shape[1:]) for x in batch.block_inputs), self.blocks.shapes[1:]
        if generated_shapes != shapes:
            raise InputError(
                f"the method generates features of shapes {generated_shapes}, but the student's blocks take {shapes}; "
                "set the same number of blocks for the method and the application"
            )
        if stage == 0:
            return features
        generated = batch.block_inputs[stage - 1].to(features.device)
        uniform = processes.draw_rows(torch.rand, (len(features), 1, 1, 1), device=features.device)
        is_generated = uniform < self.config.generated_fraction
        return torch.where(is_generated, generated, features)

    def discriminate(self, filtered: Sequence[Tensor], stage: int) -> list[Logits]:
        """Return the logits of each teacher's last blocks on its filtered features of a block."""
        last = len(self.blocks) - 1 - stage
        return [blocks(features, last) for blocks, features in zip(self.discriminators, filtered, strict=True)]

    def measure_branch_points(self, source: Iterator[Batch], callback: Callback = silent) -> tuple[int, ...]:
        """Return for each teacher the number of blocks after which the loss to its own predictions is lowest."""
        self.student.eval()
        count = self.config.measure_batches
        while len(self.measured_losses) < count:
            self.measured_losses.append(self.branch_losses(next_batch(source, len(self.measured_losses), count)))
            callback.on_measurement()
        losses = cast(Tensor, self.fabric.all_reduce(torch.stack(self.measured_losses).mean(0), reduce_op="mean"))
        return tuple((losses.argmin(0) + 1).tolist())

    @torch.no_grad()
    def branch_losses(self, batch: Batch) -> Tensor:
        """Return the loss of a branch after each block for each teacher, of shape `(B - 1, teachers)`."""
        images = batch.images.to(self.ensemble.device)
        teachers = self.ensemble.teachers
        teacher_logits = [teacher(images) for teacher in teachers]
        features, losses = self.student.normalize(images), []
        for stage, block in enumerate(list(self.blocks)[:-1]):
            features = block(features)
            branch_logits = self.discriminate(
                [teacher_filter(features) for teacher_filter in self.stage_filters(stage)], stage
            )
            for teacher, branch, target in zip(teachers, branch_logits, teacher_logits, strict=True):
                decisions = teacher.decisions
                losses.append(distillation_loss(decisions(branch), decisions(target), self.config.temperature))
        return torch.stack(losses).view(-1, len(teachers))

    def regroup(self, branch_points: tuple[int, ...]) -> None:
        """Turn the student into a TargetNet with these branch points."""
        branches = []
        for index, (blocks, point) in enumerate(zip(self.discriminators, branch_points, strict=True)):
            branch = deepcopy(make_branch(blocks, point)).to(self.student.device)
            branch[0].load_state_dict(self.stage_filters(point - 1)[index].state_dict())
            branches.append(branch.requires_grad_(True))  # the teacher's blocks are frozen
        indices = {label: index for index, label in enumerate(self.ensemble.classes)}
        labels = [[indices.get(label, -1) for label in teacher.classes] for teacher in self.ensemble.teachers]
        trunk = list(self.blocks)[: max(branch_points)]
        target = TargetNet(trunk, branches, branch_points, labels).to(self.student.device)
        networks = [architecture(network) for network in (self.student, *self.ensemble.teachers)]
        record_arguments(target, networks, self.config.blocks, self.student.shape)
        self.student.model, self.branch_points = target, branch_points

    def state_dict(self) -> dict[str, Any]:
        """Return the stage, the branch points, and the state of the student, the filters and the training."""
        return {
            "stage": self.stage,
            "branch_points": self.branch_points,
            "measured_losses": self.measured_losses,
            "student": self.student.model.state_dict(),
            "filters": self.filters.state_dict(),
            "training": {name: stateful.state_dict() for name, stateful in self.trainer.state.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Rebuild the TargetNet if it existed, and continue the saved stage."""
        if state["branch_points"]:
            self.regroup(tuple(state["branch_points"]))
        self.student.model.load_state_dict(state["student"])
        self.filters.load_state_dict(state["filters"])
        steps = sum(self.stage_at(step)[0] == state["stage"] for step in range(self.config.steps))
        self.start_stage(state["stage"], steps)
        for name, stateful in self.trainer.state.items():
            stateful.load_state_dict(state["training"][name])
        self.measured_losses = list(state["measured_losses"])


class FilteredBlock(nn.Module):
    """A block followed by one filter per teacher."""

    def __init__(self, block: nn.Module, filters: nn.ModuleList) -> None:
        super().__init__()
        self.block, self.filters = block, filters

    def forward(self, features: Tensor) -> list[Tensor]:
        features = self.block(features)
        return [teacher_filter(features) for teacher_filter in self.filters]


def require_plain_networks(networks: Sequence[Classifier]) -> None:
    """Check that timm can create each network from its name alone, as it does when a TargetNet is loaded.

    Raises:
        InputError: If a network was created with arguments.
    """
    for network in networks:
        arguments = getattr(network.model, "pretrained_cfg", {}).get("model_args")
        if arguments:
            raise InputError(
                f"a TargetNet cannot contain a network that was created with arguments ({', '.join(arguments)}); "
                "distil one plain student instead"
            )


def require_equal_shapes(blocks: Blocks, discriminators: Sequence[Blocks]) -> None:
    """Check that the blocks of the student and of all teachers take the same shapes.

    Raises:
        InputError: Names the shapes.
    """
    for other in discriminators:
        if other.shapes != blocks.shapes:
            raise InputError(
                f"the student's blocks take {blocks.shapes}, but a teacher's take {other.shapes}; "
                "use a student of the teachers' architecture"
            )


def require_branch_points(branch_points: Sequence[int], blocks: int, teachers: int) -> None:
    """Check that there is a branch point for each teacher, and that each lies between two blocks; none at all is valid.

    Raises:
        InputError: Names the branch points and the valid range.
    """
    is_inside = all(1 <= point < blocks for point in branch_points)
    if branch_points and not (is_inside and len(branch_points) == teachers):
        raise InputError(
            f"branch-points are {tuple(branch_points)}; give a number from 1 to {blocks - 1} for each of the "
            f"{teachers} teachers"
        )


def architecture(classifier: Classifier) -> str:
    """Return the timm name of a network, or an empty string."""
    return getattr(classifier.model, "pretrained_cfg", {}).get("architecture", "")


def record_arguments(target: TargetNet, networks: Sequence[str], blocks: int, shape: tuple[int, int, int]) -> None:
    """Store in a TargetNet the arguments with which timm can create it again; they are saved in `config.json`."""
    arguments = {
        "networks": list(networks),
        "branch_points": list(target.branch_points),
        "labels": [list(row) for row in target.labels],
        "blocks": blocks,
        "input_size": list(shape[1:]),
    }
    target.pretrained_cfg = {"architecture": "target_net", "model_args": arguments}  # type: ignore[assignment]
