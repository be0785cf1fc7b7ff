"""The command that repeats a run: the words of the user, with what `auto` and the budget decided as plain settings."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from datafree.commands.mixtures import scheduled
from datafree.commands.options.table import canonical, is_option, rows, take_values
from datafree.runs.settings import Experiment
from datafree.runs.tasks import Task
from datafree.sets.saved import ALL_METHODS
from datafree.synthesis import Method, Schedule
from datafree.synthesis.mixture import Mixture

DROPPED = ("--method", "--budget", "--steps", "--batch-size", "--out")
"""options whose values are decided, or must be new in another run"""
OF_STUDENT = ("--student", "--ratio", "--max-parameters", "--max-macs")
"""options that decide the student of `datafree distill`"""


def command_of(verb: str, words: Sequence[str], experiment: Experiment, defaults: Any) -> str:
    """Return the command that runs an experiment again.

    Args:
        verb: The command.
        words: The arguments that the user gave.
        experiment: The decided experiment.
        defaults: Returns the defaults of the application for a value of `--method`.
    """
    method = experiment.method
    assert method is not None
    name = method.label if isinstance(method, Mixture) else preset_of(method)
    settings = [f"--method {name}", *method_settings(method)]
    settings += differences(experiment.application, defaults(name), "")
    settings += schedule_settings(experiment.schedule, method)
    decided = {setting.split(" ")[0] for setting in settings}
    if verb == "distill" and isinstance(experiment.task, Task):
        settings.insert(0, f"--student {shlex.quote(experiment.task.student)}")
        decided |= {*OF_STUDENT}
    kept = [shlex.quote(word) for word in without_decided(verb, words, decided)]
    return " ".join(["datafree", verb, *kept, *dict.fromkeys(settings)])


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
        settings += differences(part.own_schedule, preset.schedule, prefix, scheduled())
    return settings


def schedule_settings(schedule: Schedule, method: Method) -> list[str]:
    """Return the options of the schedule that differ from that of the method; of a mixture, only the batch size."""
    if isinstance(method, Mixture):
        return [f"--batch-size {method.batch_size}"]
    return differences(schedule, ALL_METHODS[preset_of(method)].schedule, "")


def differences(value: Any, default: Any, prefix: str, names: Sequence[str] = ()) -> list[str]:
    """Return the options that turn one dataclass into another of the same type."""
    options: list[str] = []
    for f in fields(value):
        own, other = getattr(value, f.name), getattr(default, f.name)
        if own == other or (names and f.name not in names):
            continue
        if is_dataclass(own):
            options += differences(own, other, f"{prefix}{f.name}.")
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


def without_decided(verb: str, words: Sequence[str], decided: set[str]) -> Iterator[str]:
    """Yield the user's words without the options that are decided, and without their values."""
    selected, options = rows(verb, words)
    counts = dict.fromkeys(selected, 1) | {option.name: option.count for option in options if not option.positional}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, has_value, _ = word.partition("=")
        name = canonical(name)
        drops = name in DROPPED or name in decided or name.startswith("--method.")
        values = take_values(rest, counts.get(name, 0)) if is_option(word) and not has_value else []
        if not drops:
            yield from (word, *values)
