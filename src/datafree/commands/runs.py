"""`datafree resume`, `report`; and what every command that runs an experiment needs."""

import os
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from datafree.commands.options import Form, Positional
from datafree.runs import report
from datafree.runs.experiment import Experiment, Result, resume, run
from datafree.types import InputError

console = Console(quiet=int(os.environ.get("LOCAL_RANK", "0")) > 0)  # only the first of several processes prints

open_run: list[Path] = []
"""the run that an interrupt would leave unfinished"""


def how_to_continue() -> str:
    """Return what to do after the command was interrupted."""
    resumable = open_run and (open_run[-1] / "experiment.json").is_file()
    return f"continue with: datafree resume {open_run[-1]}" if resumable else "run the command again"


def start(experiment: Experiment, out: Path) -> Result:
    """Run an experiment; until it is finished, `how_to_continue` names its folder."""
    open_run.append(out)
    result = run(experiment, out, console=console)
    open_run.pop()
    return result


def finish(result: Result) -> None:
    """Print the results of a run and the paths of its files."""
    console.print(*report.tables(result.summary))
    console.print(f"student  {result.path / 'student'}", highlight=False, soft_wrap=True)
    console.print(f"report   {result.path / 'report.html'}", highlight=False, soft_wrap=True)


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """A run."""

    run: Positional[Path]
    """folder of the run"""


RESUME = Form(verb="resume", options=lambda: RunOptions)
REPORT = Form(verb="report", options=lambda: RunOptions)
FORMS = (RESUME, REPORT)


def resume_run(arguments: list[str]) -> None:
    """`datafree resume`."""
    path = RESUME.parse(arguments).run
    open_run.append(path)
    finish(resume(path, console))


def show_report(arguments: list[str]) -> None:
    """`datafree report`."""
    path = REPORT.parse(arguments).run
    summary = report.read_summary(path)
    report.write_page(path, summary)
    console.print(*report.tables(summary))
    console.print(f"report   {path / 'report.html'}", highlight=False, soft_wrap=True)


def refuse_existing(out: Path) -> None:
    """Require an output path that is new and can be written.

    Raises:
        InputError: If it exists, or its parent folder cannot be written.
    """
    if out.exists():
        raise InputError(f"{out} already exists; give another --out")
    parent = next(parent for parent in out.absolute().parents if parent.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise InputError(f"{out} cannot be written because {parent} is not a writable folder; give another --out")
