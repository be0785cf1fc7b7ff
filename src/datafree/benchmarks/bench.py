"""Tables that compare methods on one teacher and student, with several seeds, a noise floor and a real-image ceiling.

A table is a dict of rows, and a row is an experiment. Finished runs are not repeated: an interrupted table can be continued.
The files are written as soon as all seeds of a row are finished.
"""

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from datafree.benchmarks import BENCHMARKS
from datafree.benchmarks.results import collect, markdown, plot, with_earlier_rows
from datafree.benchmarks.rows import RowRun, RowSettings, run_row, train_teachers
from datafree.benchmarks.table import Benchmark
from datafree.evaluation import score
from datafree.files import write_json, write_text
from datafree.runs.parallel import parallel_map
from datafree.runs.reporting import report
from datafree.types import InputError, require_at_least, require_one_of, require_seed, suggestion


@dataclass(frozen=True, kw_only=True)
class Bench(RowSettings):
    """Which rows of a table are run, and where the results are written."""

    out: Path | None = None
    """folder of the runs; finished runs in it are not repeated (default: runs/bench-TABLE)"""
    results: Path = Path("benchmarks/results")
    """output folder of the table as JSON, Markdown and SVG"""
    rows: tuple[str, ...] = ()
    """rows to run; other rows in an existing file are kept if the teacher is the same (default: all)"""
    seeds: tuple[int, ...] = (0, 1, 2)
    """random seeds; each row is run once for each"""
    jobs: int = 1
    """number of runs at a time, each in its own process; runs that share a core take longer"""
    command: str = field(default_factory=lambda: shlex.join(["datafree", *sys.argv[1:]]))
    """the command that is written under the table"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, seeds=len(self.seeds), jobs=self.jobs)
        for seed in self.seeds:
            require_seed(seed)


def bench(name: str, options: Bench, console: Console) -> dict[str, Any]:
    """Run a table and write it as JSON, Markdown and SVG, again after each row.

    Args:
        name: A key of `BENCHMARKS`.
        options: Which rows are run, and how.
        console: Where progress is shown.

    Returns:
        The content of the JSON file.

    Raises:
        InputError: If the table or a row is unknown, or the data set is missing.
    """
    require_one_of(tuple(BENCHMARKS), table=name)
    table = BENCHMARKS[name]
    row_runs = plan(table, chosen_rows(table, options), options.out or Path("runs") / f"bench-{name}", options, console)
    finished: dict[int, dict[str, Any]] = {}
    result: dict[str, Any] = {}
    for index, summary in parallel_map(run_row, row_runs, options.jobs, console, "runs"):
        finished[index], row_run = summary, row_runs[index]
        accuracy, seconds = report.percent(score(summary["student"])), summary["seconds"]
        console.print(f"{row_run.name:<18} seed {row_run.seed}  {accuracy}  {seconds:.0f} s", highlight=False)
        rows = finished_rows(row_runs, finished)
        if row_run.name in rows and not all(table.rows[row].reference for row in rows):
            result = collect(table, rows, command=options.command, seeds=options.seeds, jobs=options.jobs)
            if options.rows:
                result = with_earlier_rows(result, options.results / f"{name}.json", tuple(table.rows))
            write_results(name, result, options.results)
    return result


def finished_rows(
    row_runs: Sequence[RowRun], finished: Mapping[int, dict[str, Any]]
) -> dict[str, list[dict[str, Any]]]:
    """Return the summaries of the rows of which every seed is finished, in the order of the table.

    Args:
        row_runs: All runs.
        finished: The summaries by the index of the run.
    """
    indices: dict[str, list[int]] = {}
    for index, row_run in enumerate(row_runs):
        indices.setdefault(row_run.name, []).append(index)
    return {name: [finished[index] for index in each] for name, each in indices.items() if finished.keys() >= set(each)}


def write_results(name: str, result: Mapping[str, Any], folder: Path) -> None:
    """Write the rows that are finished as JSON, Markdown and SVG."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / f"{name}.json", result)
    write_text(folder / f"{name}.md", markdown(result))
    write_text(folder / f"{name}.svg", plot(result))


def chosen_rows(table: Benchmark, options: Bench) -> Sequence[str]:
    """Return the names of the rows to run.

    Raises:
        InputError: If a row is unknown, no row trains a student, or a seed is given twice.
    """
    names = options.rows or tuple(table.rows)
    for name in names:
        if name not in table.rows:
            raise InputError(
                f"row {name!r} is unknown{suggestion(name, table.rows)}; choose among: {'; '.join(table.rows)}"
            )
    if len(set(options.seeds)) < len(options.seeds):
        raise InputError("a seed is given twice; give each seed once")
    if all(table.rows[name].reference for name in names):
        raise InputError("none of these rows trains a student; add a row that does")
    return names


def plan(table: Benchmark, names: Sequence[str], out: Path, options: Bench, console: Console) -> list[RowRun]:
    """Train the teachers of the rows, unless they are there already, and return one run for each row and seed."""
    teachers = {name: train_teachers(table, table.rows[name], out, options, console) for name in names}
    return [
        RowRun(table=table, name=name, teachers=teachers[name], seed=seed, out=out, settings=options)
        for name in names
        for seed in (options.seeds if table.rows[name].depends_on_seed else options.seeds[:1])
    ]
