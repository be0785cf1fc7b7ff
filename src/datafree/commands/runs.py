"""`datafree resume`; and what every command that runs an experiment needs."""

import os
from dataclasses import dataclass
from pathlib import Path

from datafree.commands import PROCESS, STARTED
from datafree.commands.console.advice import Unfinished, begin_run, unfinished
from datafree.commands.console.output import current
from datafree.commands.options.parsing import Form, Positional, Repeated
from datafree.export.hub import Kind, push_to_hub, require_repository
from datafree.files import unwritable
from datafree.files.numbering import is_reserved
from datafree.progress import Output, emit
from datafree.runs.compression.settings import is_compression
from datafree.runs.experiment import Experiment, Result, resume, run
from datafree.runs.reporting import report
from datafree.runs.reporting.console import say
from datafree.runs.tasks import networks_in
from datafree.runs.verdict import verdict_lines
from datafree.teachers.code import code_words
from datafree.types import InputError, require_at_least

console = Output(quiet=PROCESS > 0)  # only the first of several processes prints


def print_in_mode() -> None:
    """Print text, nothing or JSON from now on, as the command line says."""
    console.use(current.mode, current.stream)  # type: ignore[arg-type]


def start(experiment: Experiment, out: Path) -> Result:
    """Run an experiment; if it is interrupted, `how_to_continue` names its folder, and the code that it uses."""
    begin_run(out, code_words(networks_in(experiment.task)))
    return run(experiment, out, console=console, started=STARTED)


def finish(result: Result) -> None:
    """Print the results of a run and the paths of its files."""
    console.print(*report.tables(result.summary))
    for label, text in verdict_lines(result.summary["verdict"]):
        say(console, label, text)
    say(console, "student", result.path / "student")
    say(console, "report", result.path / "report.html")
    emit(console, "result", run=str(result.path), summary=result.summary)


def upload(folder: Path, repository: str, kind: Kind = "model") -> None:
    """Upload a folder to a repository of the Hugging Face hub as the last step, if one is named; see `push_to_hub`."""
    if repository and PROCESS == 0:
        say(console, "uploaded", push_to_hub(folder, repository, kind))


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """A run."""

    run: Positional[Path]
    """folder of the run"""


@dataclass(frozen=True, kw_only=True)
class ResumeOptions(RunOptions):
    """A run that is continued."""

    run: Positional[Path]
    """folder of the run, or of a compression"""
    teacher: Repeated[tuple[str, ...]] = ()
    """teacher of the run that is your own code, as it was given then; repeat the option for each"""
    student: Repeated[tuple[str, ...]] = ()
    """student of the run that is your own code, as it was given then; repeat the option for each of a compression"""
    devices: int = 0
    """number of processes; 0: as many as before. With another number the student differs from that of an uninterrupted run"""
    push_to_hub: str = ""
    """repository of the Hugging Face hub that the student is uploaded to at the end; it is created as a private one"""

    def __post_init__(self) -> None:
        require_at_least(0, devices=self.devices)


RESUME = Form(verb="resume", options=lambda: ResumeOptions)
FORMS = (RESUME,)


def resume_run(arguments: list[str]) -> None:
    """`datafree resume`: a run, or a compression."""
    options: ResumeOptions = RESUME.parse(arguments)
    if options.push_to_hub:
        require_repository(options.push_to_hub)
    if is_compression(options.run):
        from datafree.commands.integers.compressing import continue_compression

        continue_compression(options)
        return
    path = options.run
    words = code_words({"--teacher": options.teacher, "--student": options.student})
    unfinished.append(Unfinished(path, is_run=True, words=tuple(words)))
    if len(options.student) > 1:
        raise InputError("a run has one student; give --student once")
    student = "".join(options.student)
    finish(resume(path, console, teacher=options.teacher, student=student, devices=options.devices))
    upload(path / "student", options.push_to_hub)


def refuse_existing(out: Path) -> None:
    """Require an output path that is new and can be written. A numbered folder was made by this process.

    Raises:
        InputError: If it exists, or its parent folder cannot be written.
    """
    if is_reserved(out):
        return
    try:
        out.lstat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as fault:  # a name that is too long
        raise unwritable(out, fault, "give another --out") from fault
    else:
        raise InputError(f"{out} already exists; give another --out")
    parent = next(parent for parent in out.absolute().parents if parent.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise InputError(f"{out} cannot be written because {parent} is not a writable folder; give another --out")
