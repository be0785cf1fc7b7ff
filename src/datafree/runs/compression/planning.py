"""The plan of a compression: how many images, and how many training steps of each network, fit into its budget.

The counts are decided once, from measured times, and written into the folder. So a compression that is interrupted and
continued gives the same networks as an uninterrupted one, also on a slower machine.
"""

import math
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from datafree.applications.distillation import DistillationConfig
from datafree.applications.pruning import PruningConfig
from datafree.applications.trainer import Fabric
from datafree.classifier import Classifier
from datafree.files import read_json, write_json
from datafree.files.validation import from_plain
from datafree.methods import METHODS
from datafree.quantization.choosing import QuantizationConfig
from datafree.runs.compression.folder import PLAN
from datafree.runs.compression.settings import CompressionConfig
from datafree.runs.compression.steps import MOST, Step, parse_steps, pruning
from datafree.runs.hardware import launch
from datafree.runs.planning.auto import Auto, decides_flip, recipe_for
from datafree.runs.planning.budget import duration, parse_time
from datafree.runs.planning.fitting import parts_of
from datafree.runs.planning.pools import POOL
from datafree.runs.planning.timing import time_student, time_synthesis
from datafree.runs.tasks import Task
from datafree.synthesis import Method
from datafree.teachers.options import TeacherOptions
from datafree.types import InputError, require_one_of

SHARES = {"pool": 0.25, "distill": 0.45, "prune": 0.2, "quantize": 0.1, "export": 0.05}
"""parts of the budget, before they are divided by the sum over the steps"""
OVERHEAD = 5.0
"""seconds of a step of training besides its training: loading, evaluation, saving and the report"""
FEWEST_IMAGES, MOST_IMAGES = 256, 16384
"""images of a pool, whatever the budget"""
FEWEST_STEPS = 20
"""training steps of a network, at least"""
BATCH_SIZE = 128
"""images of a training step"""
LR = 5e-3
"""peak learning rate of a new student, as in the tables; with the default of 2e-3, short trainings end too early"""
IMPORTANCE_PASSES = 2.0
"""what the importance of filters on one batch costs, in training steps"""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The counts of a compression."""

    method: str
    """the method in one word; `auto` chooses the same for a checkpoint every time"""
    images: int
    steps: tuple[int, ...]
    """training steps of each step that trains a network, in order"""
    importance_batches: int = PruningConfig.importance_batches
    """batches of a round on which pruning estimates importance"""
    recovery_steps: int = QuantizationConfig.recovery_steps
    """training steps under fake quantisation, where predictions change"""
    flips: bool = False
    """whether images are mirrored in training, because the checkpoint answers the same on mirrored pictures"""


@dataclass(frozen=True)
class Shares:
    """The seconds of each part of a compression.

    Args:
        config: The settings.
        elapsed: Seconds that the command has taken already.
    """

    config: CompressionConfig
    elapsed: float = 0.0

    @property
    def budget(self) -> float:
        """The whole budget in seconds."""
        return parse_time(self.config.budget)

    def fraction(self, kind: str) -> float:
        """Return the part of the budget for the pool, or for one step of a kind."""
        return SHARES[kind] / (SHARES["pool"] + sum(SHARES[step.kind] for step in parse_steps(self.config.steps)))

    def seconds(self, kind: str) -> float:
        """Return the time for the pool, or for one step of a kind, in seconds."""
        return max(0.0, self.budget - self.elapsed) * self.fraction(kind)

    def steps(self, seconds: float, each: float, step: Step) -> int:
        """Return how many training steps fit into some time.

        Args:
            seconds: The time.
            each: Seconds of a training step.
            step: The step of the compression.

        Raises:
            InputError: If fewer than `FEWEST_STEPS` fit; with the budget that is enough.
        """
        count = math.floor(seconds / each)
        if count < FEWEST_STEPS:
            least = self.budget + (FEWEST_STEPS * each - seconds) / self.fraction(step.kind)
            raise InputError(
                f"a budget of {duration(self.budget)} is too short for {step}; give a --budget of {math.ceil(least)}s or more"
            )
        return count


def method_for(name: str, teacher: Classifier, flips: bool = False) -> Method:
    """Return a method by name; `auto` is chosen by the teacher.

    Args:
        name: The method, or auto.
        teacher: The checkpoint.
        flips: Whether `auto` may mirror images.

    Raises:
        InputError: If the method is unknown.
    """
    require_one_of(("auto", *METHODS), method=name)
    return METHODS[name] if name != "auto" else recipe_for(teacher, flips=flips).method


def application_for(step: Step, method: Method, plan: Plan, number: int) -> DistillationConfig:
    """Return how a network is trained.

    Args:
        step: The step.
        method: The method of the images, which says what augmentation fits them.
        plan: The counts.
        number: The place of the step among those that train, from 0.
    """
    settings: dict[str, Any] = {"lr": LR, **method.distillation}
    new = DistillationConfig(**settings)
    if plan.flips:
        new = replace(new, augment=replace(new.augment, flip=True))
    count = plan.steps[number] if number < len(plan.steps) else new.steps
    if step.kind != "prune":
        return replace(new, steps=count)
    return replace(pruning(step.value), augment=new.augment, steps=count, importance_batches=plan.importance_batches)


def read_plan(out: Path) -> Plan | None:
    """Read the plan of a compression; None if it has none yet.

    Raises:
        InputError: If the file is damaged.
    """
    file = out / PLAN
    return from_plain(Plan, read_json(file), str(file)) if file.is_file() else None


def planned(config: CompressionConfig, checkpoint: Classifier, out: Path, elapsed: float = 0.0) -> Plan:
    """Return the plan of a compression: the one in its folder, or a new one, which is written there.

    Args:
        config: The settings.
        checkpoint: The network that is compressed; it is not changed.
        out: The folder.
        elapsed: Seconds that the command has taken already.

    Raises:
        InputError: If the budget is too short, the method is unknown, or a student cannot be built.
    """
    if (plan := read_plan(out)) is not None:
        return plan
    plan = new_plan(config, checkpoint, Shares(config, elapsed))
    write_json(out / PLAN, asdict(plan))
    return plan


def new_plan(config: CompressionConfig, checkpoint: Classifier, shares: Shares) -> Plan:
    """Measure the images and the training steps of a compression, and fit them into its budget.

    Raises:
        InputError: If the budget is too short, the method is unknown, or a student cannot be built.
    """
    fabric = launch(config.device)
    teacher = deepcopy(checkpoint)
    fabric.to_device(teacher)
    flips = config.method == "auto" and decides_flip(Auto(), teacher)
    method = method_for(config.method, teacher, flips)
    images = config.images or images_within(method, teacher, shares.seconds("pool"))
    plan, student = Plan(method=config.method, images=images, steps=(), flips=flips), teacher
    for step in parse_steps(config.steps):
        if step.kind == "export":
            continue
        if step.kind == "distill":
            student = new_student(config, step, fabric)
        training = DistillationConfig(augment=application_for(step, method, plan, MOST).augment)
        each = time_student(training, student, teacher, fabric, {"batch_size": min(BATCH_SIZE, images)})
        plan = extended(plan, step, each, shares)
    return plan


def extended(plan: Plan, step: Step, each: float, shares: Shares) -> Plan:
    """Return a plan with the counts of one more step.

    Args:
        plan: The plan so far.
        step: The step.
        each: Seconds of a training step of its network.
        shares: The time for it.

    Raises:
        InputError: If the time is too short.
    """
    seconds = shares.seconds(step.kind)
    if step.kind == "quantize":
        most = QuantizationConfig.recovery_steps
        return replace(plan, recovery_steps=max(FEWEST_STEPS, min(most, math.floor(seconds / each))))
    seconds -= OVERHEAD
    if step.kind == "prune":
        batch = PruningConfig.rounds * IMPORTANCE_PASSES * each
        count = min(plan.importance_batches, max(1, math.floor(seconds / 2 / batch)))
        plan, seconds = replace(plan, importance_batches=count), seconds - count * batch
    return replace(plan, steps=(*plan.steps, shares.steps(seconds, each, step)))


def new_student(config: CompressionConfig, step: Step, fabric: Fabric) -> Classifier:
    """Return the untrained student of a step.

    Raises:
        InputError: If it cannot be built, or does not fit the checkpoint.
    """
    _, student = task_of(config, step.value).load()
    fabric.to_device(student)
    return student


def task_of(config: CompressionConfig, student: str) -> Task:
    """Return the task of a step that trains: its teacher is always the checkpoint, so that losses do not add up.

    Args:
        config: The settings.
        student: The student; empty: a copy of the checkpoint.
    """
    given: dict[str, Any] = {name: getattr(config, name) for name in TeacherOptions.__dataclass_fields__}
    return Task(teacher=config.checkpoint, student=student, data=config.data, data_root=config.data_root, **given)


def images_within(method: Method, teacher: Classifier, seconds: float) -> int:
    """Return how many images a method makes in some time, within the bounds of a pool."""
    parts = parts_of(method, method.schedule)
    total = sum(part.share for part in parts)
    each = sum(
        part.share / total * time_synthesis(part.method, teacher, teacher).batch / part.method.images_per_batch
        for part in parts
    )
    most = min(MOST_IMAGES, POOL // (4 * math.prod(teacher.shape)))
    return max(FEWEST_IMAGES, min(most, int(seconds / max(each, 1e-9))))
