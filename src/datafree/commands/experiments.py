"""`datafree distill`, `extend`, `amalgamate`, `prune`: an experiment from options."""

from collections.abc import Sequence
from dataclasses import field, fields, make_dataclass
from pathlib import Path
from typing import Annotated

import tyro

from datafree.applications.amalgamation import AmalgamationConfig
from datafree.applications.base import Application
from datafree.applications.continual import RECIPES
from datafree.applications.distillation import DistillationConfig
from datafree.applications.pruning import PruningConfig
from datafree.commands.options import Flat, parse, take, take_all
from datafree.commands.runs import finish, start
from datafree.methods import METHODS
from datafree.runs.experiment import Experiment, RuntimeConfig
from datafree.runs.run_folder import next_folder
from datafree.runs.tasks import AmalgamationTask, ExtensionTask, SingleTeacherTask, Task
from datafree.sets.saved import NAMED
from datafree.synthesis import Method, Schedule
from datafree.types import InputError, nearest


def method_named(name: str) -> Method | None:
    """A preset by its name; `real` is the ceiling, `saved` a set that was written.

    Raises:
        InputError: If there is none.
    """
    if name == "real":
        return None
    if name not in NAMED:
        raise InputError(f"method {name!r} is unknown{nearest(name, NAMED)}; `datafree methods` lists them")
    return NAMED[name]


def preset(arguments: Sequence[str], default: str) -> tuple[Method | None, list[str]]:
    """The method that `--method` names, whose settings are then options of their own."""
    name, rest = take(list(arguments), "--method", default)
    return method_named(name), rest


def parse_experiment(
    verb: str,
    method: Method | None,
    application: Application,
    arguments: Sequence[str],
    task: type[SingleTeacherTask | AmalgamationTask] = Task,
    more: str = "",
) -> tuple[Experiment, Path]:
    """An experiment from options: the task's and the machine's without a prefix, all others by the part they belong to."""
    where = Annotated[Path | None, tyro.conf.arg(help="folder to write; runs/VERB-NNN if not given")]
    kind = make_dataclass(
        verb,
        [
            ("task", Flat[task]),
            ("out", where, field(default=None)),
            *([("method", type(method), field(default=method))] if method else []),
            ("schedule", Flat[Schedule], field(default=method.schedule if method else Schedule())),
            ("application", Flat[type(application)], field(default=application)),
            ("machine", Flat[RuntimeConfig], field(default=RuntimeConfig())),
        ],
        frozen=True,
        kw_only=True,
    )
    given = parse(kind, verb, arguments, more=f" {CHOOSE}{more}")
    settings = {name: getattr(given, name) for name in ("task", "schedule", "application")}
    machine = {f.name: getattr(given.machine, f.name) for f in fields(RuntimeConfig)}
    experiment = Experiment(method=getattr(given, "method", None), **settings, **machine)
    return experiment, given.out or next_folder(verb)


CHOOSE = (
    f"--method NAME chooses among {', '.join(METHODS)}, saved (a set that synthesize wrote), and real (the ceiling); "
    "its settings are the options below."
)


def distill(arguments: list[str]) -> None:
    """`datafree distill`."""
    method, rest = preset(arguments, "adi")
    learning = DistillationConfig(**method.distillation) if method else DistillationConfig()
    experiment, out = parse_experiment("distill", method, learning, rest)
    if isinstance(experiment.task, Task) and not experiment.task.student:
        raise InputError("--student is missing; see `datafree distill --help`")
    finish(start(experiment, out))


def extend(arguments: list[str]) -> None:
    """`datafree extend`."""
    name, rest = take(arguments, "--recipe", "replay")
    if name not in RECIPES:
        raise InputError(f"recipe {name!r} is unknown{nearest(name, RECIPES)}; choose one of {', '.join(RECIPES)}")
    method, rest = preset(rest, "deep-inversion")
    choose = f" --recipe NAME chooses among {', '.join(RECIPES)}: the weights of the terms below."
    experiment, out = parse_experiment("extend", method, RECIPES[name], rest, ExtensionTask, choose)
    finish(start(experiment, out))


INTO: dict[str, Application] = {"target-net": AmalgamationConfig(), "student": DistillationConfig()}


def amalgamate(arguments: list[str]) -> None:
    """`datafree amalgamate`."""
    name, rest = take(arguments, "--method", "group-stack")
    into, rest = take(rest, "--into", "target-net" if name == "group-stack" else "student")
    if into not in INTO:
        raise InputError(f"into {into!r} is unknown{nearest(into, INTO)}; choose one of {', '.join(INTO)}")
    choose = " --into target-net makes a trunk with a branch per teacher, block by block; --into student distils one network."
    experiment, out = parse_experiment(
        "amalgamate", method_named(name), INTO[into], gathered(rest, "--teacher"), AmalgamationTask, choose
    )
    finish(start(experiment, out))


def gathered(arguments: list[str], option: str) -> list[str]:
    """An option that was given several times, as one with several values."""
    values, rest = take_all(arguments, option)
    return [*rest, option, *values] if values else rest


def prune(arguments: list[str]) -> None:
    """`datafree prune`."""
    method, rest = preset(arguments, "adi")
    recovery = PruningConfig(**method.distillation) if method else PruningConfig()
    experiment, out = parse_experiment("prune", method, recovery, rest)
    task = experiment.task
    if isinstance(task, Task) and (task.student or task.inherit):
        raise InputError("a pruned network begins as a copy of its teacher; leave --student and --inherit out")
    finish(start(experiment, out))
