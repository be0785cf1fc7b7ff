"""`datafree compress`: several steps from a checkpoint to a file for a device, on images that are made once."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table

from datafree.commands import STARTED
from datafree.commands.console.advice import Unfinished, unfinished
from datafree.commands.options.parsing import Form, Positional
from datafree.commands.runs import ResumeOptions, console, upload
from datafree.export.hub import require_repository
from datafree.progress import emit
from datafree.runs.compression.pipeline import StepRow, compress, networks_in, result_folder, resume_compression
from datafree.runs.compression.settings import CompressionConfig, read_settings
from datafree.runs.reporting.console import plain, say
from datafree.teachers.code import code_words
from datafree.types import InputError


@dataclass(frozen=True, kw_only=True)
class Compress(CompressionConfig):
    """What is compressed, in which steps."""

    checkpoint: Positional[str]
    out: Path
    """output folder; if it holds the same compression, that is continued"""
    push_to_hub: str = ""
    """repository of the Hugging Face hub that the result of the last step is uploaded to; it is created as a private one"""


COMPRESS = Form(verb="compress", options=lambda: Compress)
FORMS = (COMPRESS,)


def compress_network(arguments: list[str]) -> None:
    """`datafree compress`."""
    given: Compress = COMPRESS.parse(arguments)
    if given.push_to_hub:
        require_repository(given.push_to_hub)
    config = CompressionConfig(**{option.name: getattr(given, option.name) for option in fields(CompressionConfig)})
    unfinished.append(unfinished_in(given.out, config))
    show(compress(config, given.out, console, started=STARTED), given.out, given.push_to_hub)


def continue_compression(options: ResumeOptions) -> None:
    """`datafree resume` of a folder that `datafree compress` wrote.

    Raises:
        InputError: If an option does not apply to a compression.
    """
    if options.devices > 1:
        raise InputError("a compression runs in one process; leave out --devices")
    unfinished.append(unfinished_in(options.run, read_settings(options.run)))
    rows = resume_compression(options.run, console, checkpoint=options.teacher, students=options.student)
    show(rows, options.run, options.push_to_hub)


def unfinished_in(out: Path, config: CompressionConfig) -> Unfinished:
    """Return what an interrupt would leave behind, with the words that name the user's own code."""
    return Unfinished(out, is_run=False, words=tuple(code_words(networks_in(config))), repeats=True)


def show(rows: list[StepRow], out: Path, repository: str) -> None:
    """Print the table of all steps and where they are, and upload the result of the last one if a repository is named."""
    console.print(table_of(rows))
    say(console, "written", out)
    emit(console, "result", path=str(out), rows=[asdict(row) for row in rows])
    upload(result_folder(out), repository)


def table_of(rows: list[StepRow]) -> Table:
    """Return the table of all steps for a terminal."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("step", overflow="fold")
    for column in ("bytes", "ms", "agreement", "estimate", "held-out"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            plain(row.step),
            f"{row.bytes:,}",
            f"{row.milliseconds:.3f}",
            percent(row.agreement),
            percent(row.estimate),
            percent(row.accuracy),
        )
    return table


def percent(value: float | None) -> str:
    """Return a fraction in percent; "-" for None."""
    return "-" if value is None else f"{100 * value:.2f} %"
