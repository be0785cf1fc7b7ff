"""A run from options: which experiment was asked for, how it is carried out, what is said at its end."""

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, fields, make_dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from datafree import report
from datafree.application import Application
from datafree.commands.options import Flat, parse, take
from datafree.experiment import Experiment, Machine, Result, resume, run
from datafree.methods import METHODS
from datafree.saved import NAMED
from datafree.store import next_folder
from datafree.synthesis import Method, Schedule
from datafree.tasks import AmalgamationTask, Task, Teaching
from datafree.types import InputError, nearest

console = Console(quiet=int(os.environ.get("LOCAL_RANK", "0")) > 0)  # of several processes one speaks

open_run: list[Path] = []
"""the run that would be left behind if the verb were stopped"""


def how_to_go_on() -> str:
    """What to do after something stopped the verb."""
    begun = open_run and (open_run[-1] / "experiment.json").is_file()
    return f"go on with: datafree resume {open_run[-1]}" if begun else "start it again"


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
    task: type[Teaching | AmalgamationTask] = Task,
    more: str = "",
    short: Collection[str] = (),
) -> tuple[Experiment, Path]:
    """An experiment from options: the task's and the machine's without a prefix, all others by the part they belong to."""
    where = Annotated[Path | None, tyro.conf.arg(help="folder to write; runs/VERB-NNN if not given")]
    kind = make_dataclass(
        verb,
        [
            ("task", Flat[task]),
            ("out", where, field(default=None)),
            *([("method", type(method), field(default=method))] if method else []),
            ("schedule", Schedule, field(default=method.schedule if method else Schedule())),
            ("application", type(application), field(default=application)),
            ("machine", Flat[Machine], field(default=Machine())),
        ],
        frozen=True,
        kw_only=True,
    )
    given = parse(kind, verb, arguments, more=f" {CHOOSE}{more}", short=short)
    settings = {name: getattr(given, name) for name in ("task", "schedule", "application")}
    machine = {f.name: getattr(given.machine, f.name) for f in fields(Machine)}
    experiment = Experiment(method=getattr(given, "method", None), **settings, **machine)
    return experiment, given.out or next_folder(verb)


CHOOSE = (
    f"--method NAME chooses among {', '.join(METHODS)}, saved (a set that synthesize wrote), and real (the ceiling); "
    "its settings are the options below."
)


def start(experiment: Experiment, out: Path) -> Result:
    """Runs an experiment; until it is done, an interrupt says how to go on with it."""
    open_run.append(out)
    result = run(experiment, out, console=console)
    open_run.pop()
    return result


def finish(result: Result) -> None:
    """Says what came out and where it lies."""
    console.print(*report.tables(result.summary))
    console.print(f"student  {result.path / 'student'}", highlight=False, soft_wrap=True)
    console.print(f"report   {result.path / 'report.html'}", highlight=False, soft_wrap=True)


@dataclass(frozen=True, kw_only=True)
class Named:
    """A run."""

    run: tyro.conf.Positional[Path]
    """its folder"""


def resume_run(arguments: list[str]) -> None:
    """`datafree resume`."""
    path = parse(Named, "resume", arguments).run
    open_run.append(path)
    finish(resume(path, console))


def show_report(arguments: list[str]) -> None:
    """`datafree report`."""
    path = parse(Named, "report", arguments).run
    summary = report.read_summary(path)
    report.rewrite(path, summary)
    console.print(*report.tables(summary))
    console.print(f"report   {path / 'report.html'}", highlight=False, soft_wrap=True)


def refuse_existing(out: Path) -> None:
    """A folder that is written as a whole must be new, and there must be room for it.

    Raises:
        InputError: If it exists, or the folder it would be in cannot be written.
    """
    if out.exists():
        raise InputError(f"{out} exists already; give another --out")
    nearest_there = next(parent for parent in out.absolute().parents if parent.exists())
    if not nearest_there.is_dir() or not os.access(nearest_there, os.W_OK):
        raise InputError(f"{out} cannot be written, since {nearest_there} cannot; give another --out")
