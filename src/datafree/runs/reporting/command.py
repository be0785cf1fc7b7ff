"""The command that repeats a run, from its settings alone, so that runs from Python and resumed ones have one too."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from datafree.applications.amalgamation import AmalgamationConfig
from datafree.applications.base import Application
from datafree.applications.continual import RECIPES, ExtensionConfig
from datafree.applications.distillation import DistillationConfig
from datafree.applications.pruning import PruningConfig
from datafree.runs.settings import Experiment, RuntimeConfig
from datafree.runs.tasks import AmalgamationTask, ExtensionTask, Task
from datafree.sets.saved import ALL_METHODS
from datafree.synthesis import Method, Schedule
from datafree.synthesis.mixture import Mixture

SCHEDULED = ("warmup_batches", "refresh_every", "pool_batches")
"""fields of the schedule that each part of a mixture has on its own"""
NAMED = ("teacher", "student", "max_parameters", "max_macs", "ratio")
"""fields of a task that are written first, or that only choose the student"""
NOT_REPEATED = ("budget", "checkpoint_interval", "evaluation_interval", "tensorboard")
"""settings that do not change the student, or that were decided"""


def repeating_command(experiment: Experiment) -> str:
    """Return the command that runs an experiment again; empty if the command line cannot express it.

    Args:
        experiment: The settings, without `auto`.
    """
    method, task, application = experiment.method, experiment.task, experiment.application
    if method is not None and not is_known(method):
        return ""
    verb, selectors, defaults = form_of(experiment)
    if not verb:
        return ""
    words = [f"datafree {verb}", *networks(task, verb)]
    if application.needs_images:
        words.append(f"--method {'real' if method is None else name_of(method)}")
    words += selectors
    words += task_settings(task)
    words += method_settings(method) if method else []
    words += differences(application, defaults, "")
    words += (
        schedule_settings(experiment.schedule, method) if method else differences(experiment.schedule, Schedule(), "")
    )
    names = [f.name for f in fields(RuntimeConfig) if f.name not in NOT_REPEATED]
    words += differences(experiment, RuntimeConfig(), "", names)
    return " ".join(words)


def is_known(method: Method) -> bool:
    """Return whether the command line has a method. A part of a mixture must also have the name of its method there."""
    if isinstance(method, Mixture):
        return all(type(ALL_METHODS.get(part.name)) is type(part.method) for part in method.parts)
    return any(type(preset) is type(method) for preset in ALL_METHODS.values())


def name_of(method: Method) -> str:
    """Return the value of `--method`."""
    return method.label if isinstance(method, Mixture) else preset_of(method)


def form_of(experiment: Experiment) -> tuple[str, list[str], Application | None]:
    """Return the command of an experiment, its selectors, and the defaults of its application.

    An empty command means that there is none.
    """
    task, application, method = experiment.task, experiment.application, experiment.method
    paper = dict(prescribed(method)) if method else {}
    if isinstance(task, ExtensionTask) and isinstance(application, ExtensionConfig):
        recipe = min(RECIPES, key=lambda name: len(differences(application, RECIPES[name], "")))
        return "extend", [f"--recipe {recipe}"], RECIPES[recipe]
    if isinstance(task, AmalgamationTask):
        if isinstance(application, AmalgamationConfig):
            return "amalgamate", ["--into target-net"], AmalgamationConfig()
        if isinstance(application, DistillationConfig):
            return "amalgamate", ["--into student"], DistillationConfig(**paper)
    if isinstance(task, Task):
        if isinstance(application, PruningConfig) and not task.student:
            return "prune", [], PruningConfig(**paper)
        if type(application) is DistillationConfig and task.student:
            return "distill", [], DistillationConfig(**paper)
    return "", [], None


def prescribed(method: Method) -> Mapping[str, Any]:
    """Return the settings of the student that a method prescribes with its default settings."""
    if isinstance(method, Mixture):
        return ALL_METHODS[max(method.parts, key=lambda part: part.share).name].distillation
    return ALL_METHODS[preset_of(method)].distillation


def networks(task: Task | ExtensionTask | AmalgamationTask, verb: str) -> list[str]:
    """Return the teacher and the student as they are written on the command line."""
    if verb == "prune":
        return [shlex.quote(str(task.teacher))]
    teachers = task.teacher if isinstance(task.teacher, tuple) else (task.teacher,)
    student = getattr(task, "student", "")
    return [option("teacher", teacher) for teacher in teachers] + ([option("student", student)] if student else [])


def task_settings(task: Task | ExtensionTask | AmalgamationTask) -> list[str]:
    """Return the options of a task that differ from its defaults, without the networks."""
    defaults = {f.name: f.default for f in fields(task)}
    return [
        option(name.replace("_", "-"), getattr(task, name))
        for name, default in defaults.items()
        if name not in NAMED and getattr(task, name) != default
    ]


def preset_of(method: Method) -> str:
    """Return the name of the preset that differs from a method in the fewest settings."""

    def distance(preset: Method) -> int:
        return sum(getattr(preset, f.name) != getattr(method, f.name) for f in fields(method))

    presets = {name: preset for name, preset in ALL_METHODS.items() if type(preset) is type(method)}
    return min(presets, key=lambda name: distance(presets[name]))


def method_settings(method: Method) -> list[str]:
    """Return the options of a method, or of the parts of a mixture, that differ from its preset."""
    if not isinstance(method, Mixture):
        return differences(method, ALL_METHODS[preset_of(method)], "method.")
    settings = []
    for part in method.parts:
        prefix, preset = f"method.{part.name}.", ALL_METHODS[part.name]
        settings += differences(part.method, preset, prefix)
        settings += differences(part.own_schedule, preset.schedule, prefix, SCHEDULED)
    return settings


def schedule_settings(schedule: Schedule, method: Method) -> list[str]:
    """Return the options of the schedule that differ from that of the method; of a mixture, only the batch size."""
    if isinstance(method, Mixture):
        return [f"--batch-size {method.batch_size}"]
    return differences(schedule, ALL_METHODS[preset_of(method)].schedule, "")


def differences(value: Any, default: Any, prefix: str, names: Sequence[str] = ()) -> list[str]:
    """Return the options that turn one dataclass into another of the same type.

    Args:
        value: The settings.
        default: Those that need no option.
        prefix: Of the names of the options.
        names: The fields to compare; empty: all of them.
    """
    options: list[str] = []
    for f in fields(value):
        if names and f.name not in names:
            continue
        own, other = getattr(value, f.name), getattr(default, f.name)
        if own == other:
            continue
        if is_dataclass(own):
            options += differences(own, other, f"{prefix}{f.name}." if prefix else "")  # flat options have no prefix
        else:
            options.append(option(f"{prefix}{f.name}".replace("_", "-"), own))
    return options


def option(name: str, value: Any) -> str:
    """Return an option with its value, as it is written on the command line."""
    if isinstance(value, bool):
        group, _, last = name.rpartition(".")
        return f"--{name}" if value else f"--{group}.no-{last}" if group else f"--no-{last}"
    values = value if isinstance(value, (tuple, list)) else [value]
    return " ".join(
        [f"--{name}", *(shlex.quote(str(item) if isinstance(item, Path) else f"{item}") for item in values)]
    )
