"""A run from options: which experiment was asked for, how it is carried out, what is said at its end."""

import os
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from datafree.commands.options import parse
from datafree.runs import report
from datafree.runs.experiment import Experiment, Result, resume, run
from datafree.types import InputError

console = Console(quiet=int(os.environ.get("LOCAL_RANK", "0")) > 0)  # of several processes one speaks

open_run: list[Path] = []
"""the run that would be left behind if the verb were stopped"""


def how_to_continue() -> str:
    """What to do after something stopped the verb."""
    begun = open_run and (open_run[-1] / "experiment.json").is_file()
    return f"go on with: datafree resume {open_run[-1]}" if begun else "start it again"


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
