"""`datafree report`: the results of a finished run, or of several side by side. Nothing here imports torch."""

import os
from dataclasses import dataclass
from pathlib import Path

from datafree.commands.console.output import current
from datafree.commands.options.parsing import Form, Positional
from datafree.errors import InputError
from datafree.progress.output import Output, emit
from datafree.runs.reading.summary import read_summary
from datafree.runs.reporting.console import say
from datafree.runs.reporting.pages.comparison import read_runs, runs_table, write_comparison
from datafree.runs.reporting.pages.run import REPORT, write_page
from datafree.runs.reporting.sentences import verdict_lines
from datafree.runs.reporting.tables import tables

PAGE = "comparison.html"
"""name of a comparison"""


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """One run, or several to compare."""

    run: Positional[tuple[Path, ...]]
    """folder of a finished run; several are compared on one page"""
    page: Path | None = None
    """page that compares several runs; default: comparison.html in the folder that has all of them"""


REPORT_FORM = Form(verb="report", options=lambda: ReportOptions)
FORMS = (REPORT_FORM,)


def show_report(arguments: list[str]) -> None:
    """`datafree report`."""
    options: ReportOptions = REPORT_FORM.parse(arguments)
    console = Output()
    console.use(current.mode, current.stream)  # type: ignore[arg-type]
    paths: list[Path] = list(options.run)
    if len(paths) > 1:
        return compare(paths, options.page, console)
    if options.page:
        raise InputError("--page is the page that compares several runs; leave it out, or give more runs")
    return show_run(paths[0], console)


def show_run(path: Path, console: Output) -> None:
    """Show the results of a run, and rewrite its report."""
    summary = read_summary(path)
    write_page(path, summary)
    console.print(*tables(summary))
    for label, text in verdict_lines(summary["verdict"]) if summary.get("verdict") else ():
        say(console, label, text)
    say(console, "report", path / REPORT)
    emit(console, "result", run=str(path), summary=summary)


def compare(paths: list[Path], page: Path | None, console: Output) -> None:
    """Compare several runs on one page.

    Raises:
        InputError: If a run is given twice, or the page cannot be written.
    """
    places = [path.resolve() for path in paths]
    if len(set(places)) < len(places):
        twice = next(path for path, place in zip(paths, places, strict=True) if places.count(place) > 1)
        raise InputError(f"{twice} is given twice; give each run once")
    runs = read_runs(paths)
    out = page or Path(os.path.commonpath([path.absolute().parent for path in paths])) / PAGE
    if not page and out.is_relative_to(Path.cwd()):
        out = out.relative_to(Path.cwd())
    write_comparison(paths, out, f"{len(runs)} runs compared")
    console.print(runs_table(runs))
    say(console, "report", out)
    emit(console, "comparison", page=str(out), runs={name: summary for name, _, summary in runs})
