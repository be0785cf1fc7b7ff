"""Pages that compare several runs: of `datafree report RUN RUN...`, and of the demo."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rich.box import SIMPLE_HEAD
from rich.table import Table

from datafree.errors import InputError
from datafree.files import read_text, write_text
from datafree.runs.reading.answers import Answers, read_answers
from datafree.runs.reading.flattening import flatten
from datafree.runs.reading.summary import held_out, read_summary
from datafree.runs.reporting.console import plain
from datafree.runs.reporting.pages.facts import points, quantity
from datafree.runs.reporting.pages.gallery import Figure, strips_of
from datafree.runs.reporting.pages.headline import WORDS, names, verdict_of
from datafree.runs.reporting.pages.run import GENERATOR, REPORT, render
from datafree.runs.reporting.sentences import percent

MOST_RUNS = 100
"""runs of a comparison"""
THUMBNAILS = 32
"""pictures of each run"""
BYTES = 1_000_000
"""of all pictures of the page, in base64"""
CONTROLS = {"noise": "floor", "real images": "ceiling"}
"""methods that are no methods but bounds"""


@dataclass(frozen=True)
class ComparedRun:
    """A run in a comparison."""

    name: str
    link: str
    """its report, relative to the page; empty if there is none"""
    kind: str
    """teacher, student, floor or ceiling"""
    value: float | None
    """held-out score, else estimated retention, else agreement"""
    measure: str
    """what the value is"""
    cells: Sequence[str]
    """of the table"""
    pictures: Sequence[Figure] = ()
    size: Answers | None = None


@dataclass(frozen=True)
class Difference:
    """A setting that is not the same in all runs."""

    name: str
    values: Sequence[Any]


COLUMNS = ("verdict", "score", "against the teacher", "agreement", "parameters", "real images", "time")


def read_runs(paths: Sequence[Path]) -> list[tuple[str, Path, dict[str, Any]]]:
    """Read the summaries of runs, each with a name that tells it apart from the others.

    Raises:
        InputError: If a folder has no finished run, or there are too many.
    """
    if len(paths) > MOST_RUNS:
        raise InputError(f"{len(paths)} runs are too many for one comparison; give at most {MOST_RUNS}")
    labels = [path.absolute().name for path in paths]
    labels = [str(path) if labels.count(label) > 1 else label for path, label in zip(paths, labels, strict=True)]
    return [(label, path, read_summary(path)) for label, path in zip(labels, paths, strict=True)]


def write_comparison(paths: Sequence[Path], out: Path, title: str, sentences: Sequence[str] = ()) -> None:
    """Write the page that compares runs.

    Args:
        paths: The run folders.
        out: The page. A file that is no report of datafree is not replaced.
        title: Its title.
        sentences: What it shows, in a few sentences.

    Raises:
        InputError: If a folder has no finished run, or the page cannot be written.
    """
    require_replaceable(out)
    runs = read_runs(paths)
    compared = [compare_run(name, path, summary, out, len(runs)) for name, path, summary in runs]
    teachers = {summary["teacher_sha256"]: summary for _, _, summary in runs}
    first = [teacher_row(summary) for summary in teachers.values()] if len(teachers) == 1 else []
    values = {run.kind: run.value for run in compared if run.value is not None}
    bounds = {kind: values[kind] for kind in ("floor", "ceiling") if kind in values}
    text = render(
        "comparison.html",
        title=title,
        sentences=sentences,
        runs=[*first, *compared],
        columns=COLUMNS,
        bounds=bounds,
        differences=differences([summary["experiment"] for _, _, summary in runs]),
        names=[run.name for run in compared],
    )
    write_text(out, text)


def require_replaceable(out: Path) -> None:
    """Check that a page can be written without the loss of another file.

    Raises:
        InputError: If there is a file that datafree has not written.
    """
    if not os.path.lexists(out):
        return
    if GENERATOR not in read_text(out)[:2000]:
        raise InputError(f"{out} exists and is no report of datafree; give another --page")


def compare_run(name: str, path: Path, summary: Mapping[str, Any], out: Path, runs: int) -> ComparedRun:
    """Return a run as it is shown in a comparison."""
    value, measure = value_of(summary)
    answers = read_answers(path, len(summary["classes"]))
    kind = CONTROLS.get(summary["method"], "student")
    return ComparedRun(
        name=name,
        link=link_to(path / REPORT, out) if (path / REPORT).is_file() else "",
        kind=kind,
        value=value,
        measure=measure,
        cells=cells_of(summary),
        pictures=thumbnails(answers, summary["classes"], BYTES // runs) if answers else (),
        size=answers,
    )


def value_of(summary: Mapping[str, Any]) -> tuple[float | None, str]:
    """Return the best known measure of a student, and its name."""
    student, estimate = summary["student"], summary.get("estimate") or {}
    if (score := held_out(student)) is not None:
        return score, "held-out"
    if estimate.get("retention") is not None:
        return estimate["retention"], "estimated retention"
    if student.get("agreement") is not None:
        return student["agreement"], "agreement"
    return None, ""


def cells_of(summary: Mapping[str, Any]) -> list[str]:
    """Return the cells of a run in the table, one for each of `COLUMNS`."""
    student, teacher = summary["student"], summary["teacher"]
    word = verdict_of(summary)[0]
    value, measure = value_of(summary)
    return [
        WORDS.get(word, word) or "-",
        f"{percent(value)}" + (f" ({measure})" if measure not in ("", "held-out") else ""),
        points(held_out(teacher), held_out(student)) or "-",
        percent(student.get("agreement")),
        quantity(student["parameters"]),
        f"{summary['real_images_seen']:,}",
        f"{summary['seconds']:.1f} s",
    ]


def teacher_row(summary: Mapping[str, Any]) -> ComparedRun:
    """Return the teacher that all runs share."""
    teacher = summary["teacher"]
    score = held_out(teacher)
    cells = ["", percent(score), "", "", quantity(teacher["parameters"]), "", ""]
    return ComparedRun(f"teacher · {names(summary)[0]}", "", "teacher", score, "held-out", cells)


def link_to(page: Path, out: Path) -> str:
    """Return the address of a page relative to another one."""
    relative = os.path.relpath(page.absolute(), out.absolute().parent)
    return quote(relative.replace(os.sep, "/"))


def thumbnails(answers: Answers, classes: Sequence[str], limit: int) -> list[Figure]:
    """Return a few pictures of a run, of each class in turn, within a number of bytes."""
    strips = [strip for part in answers.parts for strip in strips_of(part, classes)]
    strips.sort(key=lambda strip: strip.name)
    most = max((len(strip.figures) for strip in strips), default=0)
    figures = [strip.figures[index] for index in range(most) for strip in strips if index < len(strip.figures)]
    chosen: list[Figure] = []
    for figure in figures[:THUMBNAILS]:
        limit -= len(figure.url)
        if limit < 0:
            break
        chosen.append(figure)
    return chosen


def differences(experiments: Sequence[Mapping[str, Any]]) -> list[Difference]:
    """Return the settings that are not the same in all runs; None stands for one that a run does not have."""
    flat = [flatten(experiment) for experiment in experiments]
    keys = dict.fromkeys(key for settings in flat for key in settings)
    found = [Difference(key, [settings.get(key) for settings in flat]) for key in keys]
    return [item for item in found if any(value != item.values[0] for value in item.values)]


def runs_table(runs: Sequence[tuple[str, Path, Mapping[str, Any]]]) -> Table:
    """Return the table of several runs on the console, in 80 columns for names of up to 25 characters."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("run", overflow="fold", min_width=10)
    for column in ("verdict", "score", "vs\nteacher", "parameters", "seconds"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, _, summary in runs:
        verdict, score, gap, _, parameters, _, seconds = cells_of(summary)
        cells = (verdict.lower(), score, gap.removesuffix(" points"), parameters, seconds.removesuffix(" s"))
        table.add_row(plain(name), *map(plain, cells))
    return table
