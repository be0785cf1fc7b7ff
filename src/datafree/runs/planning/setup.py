"""The processes, networks and real images of an experiment, and what its budget decides."""

import time
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from datafree.applications.continual import ExtensionConfig
from datafree.applications.trainer import Fabric
from datafree.classifier import Classifier, ClassSubset
from datafree.estimation.estimate import pools_are_stored
from datafree.matching import Resized
from datafree.runs.estimating.duration import seconds_after
from datafree.runs.estimating.history import history_of
from datafree.runs.hardware import launch, place, place_sharded, return_freed_memory, set_threads
from datafree.runs.launching.racing import Trials
from datafree.runs.launching.sharding import require_shardable, wants_shards, whole_again
from datafree.runs.launching.world import world_of
from datafree.runs.planning.auto import Auto
from datafree.runs.planning.deciding import SAVING, Request, decide
from datafree.runs.planning.halving import with_batches_that_fit
from datafree.runs.planning.pools import with_bounded_pools
from datafree.runs.settings import Experiment
from datafree.runs.task_data import TaskData, open_data, require_data
from datafree.runs.tasks import AmalgamationTask, Task, starts_fresh
from datafree.synthesis import Method
from datafree.teachers.candidates import AUTO, RATIO
from datafree.teachers.folders import architecture
from datafree.teachers.inspection import require_capabilities
from datafree.types import InputError


@dataclass(frozen=True)
class Setup:
    """An experiment with its processes, networks and real images."""

    experiment: Experiment
    fabric: Fabric
    teacher: Classifier
    student: Classifier
    data: TaskData
    decisions: tuple[str, ...] = ()
    """what the budget and the method `auto` decided, and why"""
    seconds: float | None = None
    """expected duration, if it was measured for the budget"""
    skeleton: Classifier | None = None
    """the teacher without its weights, if these are divided among the processes"""

    @property
    def visible_student(self) -> nn.Module:
        """The student as an adaptive method sees it: with the image size and the classes of the teacher."""
        student: nn.Module = self.student if self.student.shape == self.teacher.shape else Resized(self.student)
        classes = len(self.teacher.classes)
        return student if len(self.student.classes) == classes else ClassSubset(student, range(classes))

    def closing_seconds(self, seconds: float) -> float:
        """Return about how long a run takes after its last step: to save the student, and to make the pools of an estimate.

        Args:
            seconds: Duration of its work. A budget contains both already.
        """
        if self.seconds is not None:
            return 0.0
        return SAVING + (seconds_after(seconds) if makes_pools(self) else 0.0)

    def with_whole_teacher(self) -> "Setup":
        """Return a setup whose teacher is whole, in the first process, for what it does alone. All processes must call this.

        If the teacher does not fit into the memory of the device, it is on the CPU, and so is a copy of the student.
        """
        teacher = whole_again(self.teacher, self.skeleton, self.fabric) if self.skeleton else None
        if teacher is None:
            return self
        same = teacher.device == self.student.device
        return replace(self, teacher=teacher, student=self.student if same else deepcopy(self.student).cpu())

    def extra_inputs(self) -> dict[str, Any]:
        """Return what the application takes besides the synthesized batches: real images of new classes."""
        application, new_classes = self.experiment.application, self.data.new_classes
        if not new_classes:
            return {}
        assert isinstance(application, ExtensionConfig)
        return {"new": new_classes.random_batches(application.new_batch_size)}


def set_up(
    experiment: Experiment,
    resuming: bool = False,
    started: float | None = None,
    devices: int = 0,
    trials: Callable[[Fabric], Trials] | None = None,
) -> Setup:
    """Start the processes of an experiment, load its networks, open its real images, and decide what its budget leaves open.

    Args:
        experiment: The settings.
        resuming: Whether the run exists: nothing is downloaded, and nothing is decided.
        started: When the command started, in seconds of `time.monotonic`; default: now.
        devices: Number of processes, instead of that of the experiment; 0: the same.
        trials: Returns where the trials of a race are kept, given the processes; None: nowhere.

    Raises:
        InputError: If a setting is invalid or a file cannot be used.
    """
    started = time.monotonic() if started is None else started
    set_threads(experiment.threads)
    if resuming:
        require_data(experiment.task, ceiling=experiment.method is None)
    processes = devices or experiment.devices
    shards = wants_shards(experiment.shard_teacher)
    if shards:
        merges, halves = isinstance(experiment.task, AmalgamationTask), bool(experiment.fit_memory)
        require_shardable(world_of(processes).size, resuming=resuming, merges=merges, halves=halves)
    fabric = launch(experiment.device, devices=processes, precision=experiment.precision, resuming=resuming)
    torch.manual_seed(experiment.seed)  # all processes draw the same numbers
    shards_here = shards and fabric.world_size > 1
    if shards_here:
        return_freed_memory()
    teacher, student = experiment.task.load(download=not resuming)
    skeleton = None
    if shards_here:
        skeleton = place_sharded(teacher, experiment.precision, fabric)
    else:
        place(teacher, experiment.precision, fabric)
    place(student, experiment.precision, fabric)
    experiment, notes = with_named_student(experiment, student)
    experiment = replace(experiment, shard_teacher=shards)
    if experiment.method is not None and experiment.application.needs_images:
        require_capabilities(teacher, method_of(experiment))
    setup = Setup(experiment, fabric, teacher, student, open_data(experiment.task, student, teacher), skeleton=skeleton)
    if experiment.fit_memory and (not resuming or is_open(experiment)):
        experiment, fitting = fabric.broadcast(with_batches_that_fit(experiment, teacher, setup.visible_student))
        setup, notes = replace(setup, experiment=experiment), (*notes, *fitting)
    if is_open(experiment):
        open_setup = decided(setup, started, trials(fabric) if trials else None)
        return replace(open_setup, decisions=(*notes, *open_setup.decisions))
    bounded, bounds = (experiment, ()) if resuming else with_bounded_pools(experiment, teacher.shape)
    return replace(setup, experiment=bounded, decisions=(*notes, *bounds))


def is_open(experiment: Experiment) -> bool:
    """Return whether the method or the counts of an experiment are to be decided."""
    return bool(experiment.budget) or isinstance(experiment.method, Auto)


def has_race(experiment: Experiment) -> bool:
    """Return whether a race decides the method of an experiment."""
    return isinstance(experiment.method, Auto) and experiment.method.race


def with_named_student(experiment: Experiment, student: Classifier) -> tuple[Experiment, tuple[str, ...]]:
    """Return an experiment that names its student, and a note that says so if it was chosen by the teacher."""
    task = experiment.task
    if not isinstance(task, Task) or task.student != AUTO:
        return experiment, ()
    chosen = replace(task, student=architecture(student.model), max_parameters=0, max_macs=0, ratio=RATIO)
    note = (
        f"student: {chosen.student}, the largest network of a list within the limits; `datafree inspect` lists others"
    )
    return replace(experiment, task=chosen), (note,)


def decided(setup: Setup, started: float, trials: Trials | None = None) -> Setup:
    """Return a setup whose experiment has a method and plain counts in place of `auto` and the budget.

    Raises:
        InputError: If the budget is invalid or too short, or there is nothing to divide.
    """
    experiment, test = setup.experiment, setup.data.test
    if experiment.method is None or not experiment.application.needs_images:
        raise InputError("no images are synthesized in this run, so a budget cannot be divided; set --steps")
    decision = decide(
        Request(
            method=experiment.method,
            schedule=experiment.schedule,
            application=experiment.application,
            budget=experiment.budget,
            teacher=setup.teacher,
            student=setup.student,
            visible=setup.visible_student,
            fabric=setup.fabric,
            fresh=starts_fresh(experiment.task),
            apply=experiment.task.applied,
            inputs=setup.extra_inputs,
            test_images=len(test) if test else 0,
            estimated=makes_pools(setup),
            elapsed=lambda: time.monotonic() - started,
            trials=trials,
        )
    )
    plain = replace(
        experiment,
        method=decision.method,
        schedule=decision.schedule,
        application=decision.application,
        budget="",
    )
    return replace(setup, experiment=plain, decisions=decision.notes, seconds=decision.seconds)


def makes_pools(setup: Setup) -> bool:
    """Return whether a run makes pools at its end: to estimate its student, if they are not on disk already."""
    test = setup.data.test
    if (test and test.labelled) or history_of(setup.experiment, setup.data.ledger).reason:
        return False
    with suppress(InputError):
        return setup.skeleton is not None or not pools_are_stored(setup.teacher)
    return True


def method_of(experiment: Experiment) -> Method:
    """Return the method of an experiment as its task applies it: to one teacher at a time, or to some of its classes."""
    assert experiment.method is not None
    return experiment.task.applied(experiment.method)
