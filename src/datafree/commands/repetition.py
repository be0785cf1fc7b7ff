"""The command that repeats a run: the words of the user, with what `auto` and the budget decided as plain settings."""

import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from datafree.commands.options.mixtures import SCHEDULE
from datafree.commands.options.table import canonical, is_option, rows, take_values
from datafree.runs.reporting.command import differences, method_settings, preset_of, schedule_settings
from datafree.runs.settings import Experiment
from datafree.runs.tasks import Task
from datafree.synthesis.mixture import Mixture

DROPPED = ("--method", "--budget", "--steps", "--batch-size", *SCHEDULE, "--out", "--push-to-hub")
"""options whose values are decided, must be new in another run, or are no part of a run"""
REAL = "real"
"""`--method` of a student that learns on real images"""
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
    name = REAL if method is None else method.label if isinstance(method, Mixture) else preset_of(method)
    settings = [f"--method {name}", *(method_settings(method) if method else ())]
    settings += differences(experiment.application, defaults(name), "")
    settings += (
        schedule_settings(experiment.schedule, method) if method else [f"--batch-size {experiment.schedule.batch_size}"]
    )
    decided = {setting.split(" ")[0] for setting in settings}
    if verb == "distill" and isinstance(experiment.task, Task):
        settings.insert(0, f"--student {shlex.quote(experiment.task.student)}")
        decided |= {*OF_STUDENT}
    kept = [shlex.quote(word) for word in without_decided(verb, words, decided)]
    return " ".join(["datafree", verb, *kept, *dict.fromkeys(settings)])


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
