"""Tables of methods on one teacher and student: several seeds, a floor, a ceiling, published figures beside ours.

A row is an experiment; a table is a dict of rows. Runs that are finished are not repeated, so a table that was
interrupted goes on where it was.
"""

import json
import platform
import shlex
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from datafree import report
from datafree.description import describe
from datafree.experiment import Experiment, run
from datafree.logbook import read_log
from datafree.store import read_description, write_json, write_text
from datafree.tables import BENCHMARKS
from datafree.tables.table import Benchmark, Row
from datafree.tasks import Task
from datafree.training import example_teacher
from datafree.types import InputError, nearest

COLUMNS = (
    "published",
    "parameters",
    "seconds to 95",
    "to 97",
    "to 98",
    "to the end",
    "images synthesized",
    "real images seen",
)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Which parts of a table to make, and where."""

    out: Path | None = None
    """folder of the runs; runs/bench-TABLE if not given; finished runs in it are not repeated"""
    results: Path = Path("benchmarks/results")
    """folder for the table as JSON and Markdown, and its plot"""
    rows: tuple[str, ...] = ()
    """only these rows; all if not given"""
    seeds: tuple[int, ...] = (0, 1, 2)
    """one run of each row for each"""
    shorten: int = 1
    """divide the steps of students and teacher by this; for tests, not for tables"""
    data_root: str = ""
    """where data sets lie; empty: $DATAFREE_DATA, or ./data"""
    device: str = "cpu"
    """cpu, cuda, mps, ..."""
    threads: int = 1
    """on the CPU"""
    command: str = field(default_factory=lambda: shlex.join(["datafree", *sys.argv[1:]]))
    """what is written down as the command that made the table"""


def benchmark(name: str) -> Benchmark:
    """A table by its name.

    Raises:
        InputError: If there is none.
    """
    if name not in BENCHMARKS:
        raise InputError(f"table {name!r} is unknown{nearest(name, BENCHMARKS)}; choose one of {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name]


def bench(name: str, options: Bench, console: Console) -> dict[str, Any]:
    """Makes a table, and writes it as JSON, Markdown and a plot; returns what is in the JSON.

    Raises:
        InputError: If the table or a row is unknown, or its data are not there.
    """
    table = benchmark(name)
    for row in options.rows:
        if row not in table.rows:
            raise InputError(f"row {row!r} is unknown{nearest(row, table.rows)}; choose among: {'; '.join(table.rows)}")
    out = options.out or Path("runs") / f"bench-{name}"
    found: dict[str, list[dict[str, Any]]] = {}
    for row in options.rows or tuple(table.rows):
        teacher = teacher_of(table, table.rows[row], out, options, console)
        for seed in options.seeds:
            place = out / row.replace(", ", "-").replace(" ", "-") / f"seed-{seed}"
            experiment = experiment_of(table, table.rows[row], teacher, seed, options)
            if not (place / "summary.json").is_file():
                run(experiment, place, console=console, resuming=place.is_dir())
            elif read_description(place) != json.loads(json.dumps(describe(experiment))):
                raise InputError(f"{place} was made with other settings; remove it or give another --out")
            summary: dict[str, Any] = {**report.read_summary(place), "curve": curve_of(place)}
            found.setdefault(row, []).append(summary)
            accuracy, seconds = summary["student"]["accuracy"], summary["seconds"]
            console.print(f"{row:<18} seed {seed}  {report.percent(accuracy)}  {seconds:.0f} s", highlight=False)
    result = collect(table, found, options)
    options.results.mkdir(parents=True, exist_ok=True)
    write_json(options.results / f"{name}.json", result)
    write_text(options.results / f"{name}.md", markdown(result))
    write_text(options.results / f"{name}.svg", plot(result))
    return result


def teacher_of(table: Benchmark, row: Row, out: Path, options: Bench, console: Console) -> Path:
    """The folder of a row's teacher, which is trained if it is not there."""
    folder = out / (f"teacher-{row.teacher}" if row.teacher and row.teacher != table.teacher else "teacher")
    if not folder.is_dir():
        example_teacher(
            network=row.teacher or table.teacher,
            data=table.data,
            data_root=options.data_root,
            out=folder,
            training=replace(table.training, steps=max(1, table.training.steps // options.shorten)),
            device=options.device,
            threads=options.threads,
            console=console,
        )
    return folder


def experiment_of(table: Benchmark, row: Row, teacher: Path, seed: int, options: Bench) -> Experiment:
    """A row for one seed."""
    return Experiment(
        task=Task(
            **{
                "teacher": f"local-dir:{teacher}",
                "student": table.student,
                "data": table.data,
                "data_root": options.data_root,
                **row.task,
            }
        ),
        method=row.method,
        schedule=row.schedule,
        application=replace(row.application, steps=max(1, row.application.steps // options.shorten)),
        seed=seed,
        device=options.device,
        threads=options.threads,
        curve=5.0,
    )


def curve_of(run: Path) -> list[tuple[float, float]]:
    """Seconds and accuracy along a run."""
    return [(line["seconds"], line["accuracy"]) for line in read_log(run) if line["phase"] == "curve"]


def collect(table: Benchmark, found: Mapping[str, Sequence[Mapping[str, Any]]], options: Bench) -> dict[str, Any]:
    """The table as data."""
    anyone = next(iter(found.values()))[0]
    rows = {}
    for name, summaries in found.items():
        accuracies = [100 * summary["student"]["accuracy"] for summary in summaries]
        rows[name] = {
            "mean": round(statistics.mean(accuracies), 2),
            "sd": round(statistics.stdev(accuracies), 2) if len(accuracies) > 1 else None,
            "each": [round(accuracy, 2) for accuracy in accuracies],
            "seconds": round(statistics.mean(summary["seconds"] for summary in summaries)),
            "seconds to": {goal: reached(summaries, goal) for goal in (95, 97, 98)},
            "parameters": summaries[0]["student"]["parameters"],
            "images synthesized": summaries[0]["images synthesized"],
            "real images seen": summaries[0]["real images seen by the student"],
            "published": table.rows[name].published,
            "curves": [[[round(t, 1), round(100 * a, 2)] for t, a in summary["curve"]] for summary in summaries],
        }
    return {
        "title": table.title,
        "command": options.command,
        "seeds": list(options.seeds),
        "teacher": {
            "network": table.teacher,
            "sha256": anyone["teacher sha256"],
            "accuracy": round(100 * anyone["teacher"]["accuracy"], 2),
            "parameters": anyone["teacher"]["parameters"],
        },
        "student": {"network": table.student, "parameters": anyone["student"]["parameters"]},
        "environment": anyone["environment"] | {"machine": platform.processor() or platform.machine()},
        "rows": rows,
    }


def reached(summaries: Sequence[Mapping[str, Any]], goal: float) -> int | None:
    """Mean seconds to the first point of the curve at or over the goal; None unless every seed got there."""
    firsts = [next((t for t, a in summary["curve"] if 100 * a >= goal), None) for summary in summaries]
    times = [first for first in firsts if first is not None]
    return round(statistics.mean(times)) if len(times) == len(firsts) else None


def markdown(result: Mapping[str, Any]) -> str:
    """The table for people; the docs include it as it is."""

    def cell(value: Any) -> str:
        return "-" if value is None or value == "" else str(value)

    teacher, student = result["teacher"], result["student"]
    several = len({row["parameters"] for row in result["rows"].values()}) > 1
    whom = "" if several else f"Student: `{student['network']}`, {student['parameters']:,} parameters. "
    lines = [
        f"Teacher: `{teacher['network']}`, {teacher['parameters']:,} parameters, {teacher['accuracy']:.2f} % "
        f"(SHA-256 of its weights `{teacher['sha256'][:16]}`).",
        f"{whom}{len(result['seeds'])} seeds, held-out accuracy in %, mean ± standard deviation.",
        "",
        f"| row | accuracy | {' | '.join(COLUMNS)} |",
        "|---" * (2 + len(COLUMNS)) + "|",
    ]
    for name, row in result["rows"].items():
        spread = "" if row["sd"] is None else f" ± {row['sd']:.2f}"
        to = row["seconds to"]
        cells = [
            f"{row['mean']:.2f}{spread}",
            row["published"],
            f"{row['parameters']:,}",
            to[95],
            to[97],
            to[98],
            row["seconds"],
        ]
        cells += [f"{row['images synthesized']:,}", f"{row['real images seen']:,}"]
        lines.append(f"| {name} | " + " | ".join(map(cell, cells)) + " |")
    environment = result["environment"]
    lines += [
        "",
        f"Command: `{result['command']}`. torch {environment['torch']}, {environment['device']}, "
        f"{environment['threads']} thread(s), {environment['machine']}. Real images train the teacher, the ceiling, and "
        "evaluate; no student was selected by them. Seconds leave the evaluations along the curve out.",
        "",
    ]
    return "\n".join(lines)


def plot(result: Mapping[str, Any]) -> str:
    """Accuracy against seconds, one line a run."""
    figure = report.new_figure(7, 4)
    axes = figure.add_subplot(xlabel="seconds", ylabel="held-out accuracy, %", xscale="log")
    lowest = 100.0
    for place, (name, row) in enumerate(result["rows"].items()):
        for seed, curve in enumerate(row["curves"]):
            if curve:
                label = name if seed == 0 else None
                axes.plot(*zip(*curve, strict=True), color=f"C{place}", linewidth=1, label=label)
        lowest = min(lowest, row["mean"])
    axes.set_ylim(max(0.0, lowest - 5), 100)
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return report.svg(figure)
