"""Tables of methods on one teacher and student: several seeds, a floor, a ceiling, published figures beside ours.

A row is an experiment; a table is a dict of rows. Runs that are finished are not repeated, so a table that was
interrupted goes on where it was.
"""

import json
import platform
import re
import shlex
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from rich.console import Console

from datafree.benchmarks import BENCHMARKS
from datafree.benchmarks.shared_images import owner, sharing
from datafree.benchmarks.table import Benchmark, Row
from datafree.ensemble import Ensemble, SingleTeacher
from datafree.evaluation import score
from datafree.files import write_json, write_text
from datafree.real.data import Ledger, open_real
from datafree.real.feature_measuring import measure_some
from datafree.runs import report
from datafree.runs.experiment import Experiment, judge, run
from datafree.runs.logger import read_log
from datafree.runs.parallel import side_by_side
from datafree.runs.run_folder import read_description
from datafree.runs.serialization import from_json
from datafree.runs.tasks import AmalgamationTask, ExtensionTask, SingleTeacherTask, Task
from datafree.runs.training import TRAINING, example_teacher, recipe
from datafree.synthesis import features
from datafree.teachers import load_folder
from datafree.types import InputError, at_least, is_seed, nearest


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
    jobs: int = 1
    """runs at a time, each in a process of its own; seconds are longer where they share a core"""
    command: str = field(default_factory=lambda: shlex.join(["datafree", *sys.argv[1:]]))
    """what is written down as the command that made the table"""

    def __post_init__(self) -> None:
        at_least(1, seeds=len(self.seeds), shorten=self.shorten, threads=self.threads, jobs=self.jobs)
        for seed in self.seeds:
            is_seed(seed)


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
    if len(set(options.seeds)) < len(options.seeds):
        raise InputError("a seed is given twice; give each once")
    names = options.rows or tuple(table.rows)
    if all(table.rows[row].known for row in names):
        raise InputError("none of these rows is a student that learns; choose one that is as well")
    out = options.out or Path("runs") / f"bench-{name}"
    folders = {row: teachers_of(table, table.rows[row], out, options, console) for row in names}
    cells = [
        Cell(name, row, tuple(folders[row]), seed, options, out)
        for row in names
        for seed in (options.seeds if table.rows[row].drawn else options.seeds[:1])
    ]
    summaries: dict[Cell, dict[str, Any]] = {}
    for place, summary in side_by_side(filled, cells, options.jobs, console, "runs"):
        cell = cells[place]
        summaries[cell] = summary
        accuracy, seconds = score(summary["student"]), summary["seconds"]
        console.print(f"{cell.row:<18} seed {cell.seed}  {report.percent(accuracy)}  {seconds:.0f} s", highlight=False)
    found = {row: [summaries[cell] for cell in cells if cell.row == row] for row in names}
    result = collect(table, found, options)
    options.results.mkdir(parents=True, exist_ok=True)
    write_json(options.results / f"{name}.json", result)
    write_text(options.results / f"{name}.md", markdown(result))
    write_text(options.results / f"{name}.svg", plot(result))
    return result


@dataclass(frozen=True)
class Cell:
    """One row of a table for one seed."""

    table: str
    row: str
    teachers: tuple[Path, ...]
    seed: int
    options: Bench
    out: Path

    @property
    def place(self) -> Path:
        """The folder of its run."""
        return self.out / re.sub(r"[^\w]+", "-", self.row) / f"seed-{self.seed}"


def filled(cell: Cell, console: Console | None) -> dict[str, Any]:
    """The summary of a cell."""
    table, console = benchmark(cell.table), console or Console(quiet=True)
    row = table.rows[cell.row]
    if row.known:
        return judged(table, row, cell.teachers, cell.seed, cell.options, cell.place, console)
    seconds = 0.0
    if row.measured:
        row = informed(table, row, cell)
    elif first := owner(table, row):
        images = replace(cell, row=first).place.with_name(f"images-of-seed-{cell.seed}")
        machine = {"seed": cell.seed, "device": cell.options.device, "threads": cell.options.threads}
        row, seconds = sharing(row, cell.teachers[0], images, **machine, console=console)
    chain = experiments_of(table, row, cell.teachers, cell.seed, cell.options, cell.place)
    return later(joined([carry_out(experiment, folder, console) for experiment, folder in chain]), seconds)


def informed(table: Benchmark, row: Row, cell: Cell) -> Row:
    """The row whose method has the statistics of the teacher's features; they lie beside the run."""
    file = cell.place.with_name(f"{cell.place.name}-measured-on-{row.measured}.safetensors")
    if not file.is_file():
        teacher, root = load_folder(cell.teachers[0]).eval(), cell.options.data_root
        file.parent.mkdir(parents=True, exist_ok=True)
        features.save(measure_some(teacher, table.data, row.measured, cell.seed, root), file)
    return replace(row, method=replace(cast(Any, row.method), feature_statistics=str(file)))


def teachers_of(table: Benchmark, row: Row, out: Path, options: Bench, console: Console) -> list[Path]:
    """The folders of a row's teachers, which are trained if they are not there."""
    network = row.teacher or table.teacher
    name = f"teacher-{network}" if network != table.teacher else "teacher"
    folders = {out / name: table.data}
    if table.members:
        folders = {out / f"teacher-{number}": data for number, data in enumerate(table.members, 1)}
    for folder, data in folders.items():
        train(table, network, data, folder, 0, options, console)
    return list(folders)


def train(table: Benchmark, network: str, data: str, folder: Path, seed: int, options: Bench, console: Console) -> None:
    """A network that learns from real images and their labels, for a table; not again, if it lies there.

    Raises:
        InputError: If another one lies in its place.
    """
    training = replace(table.training, steps=max(1, table.training.steps // options.shorten))
    wanted = json.loads(json.dumps(recipe(network=network, data=data, training=training, seed=seed)))
    if (folder / TRAINING).is_file():
        if not wanted.items() <= json.loads((folder / TRAINING).read_text()).items():
            raise InputError(f"{folder} was trained with other settings; remove it or give another --out")
        return
    example_teacher(
        network=network,
        data=data,
        data_root=options.data_root,
        out=folder,
        training=training,
        seed=seed,
        device=options.device,
        threads=options.threads,
        console=console,
    )


def judged(
    table: Benchmark, row: Row, folders: Sequence[Path], seed: int, options: Bench, place: Path, console: Console
) -> dict[str, Any]:
    """The summary of a row that is no run: the teachers alone or together, or the oracle."""
    members, ledger = [load_folder(folder).eval() for folder in folders], Ledger()
    test = open_real(table.data, "test", "evaluation", ledger, root=options.data_root, shape=members[0].shape)
    seconds, real = 0.0, None
    kind, _, which = row.known.partition(" ")
    if kind == "oracle":
        train(table, table.student or table.teacher, table.data, place, seed, options, console)
        model, real = load_folder(place).eval(), json.loads((place / "ledger.json").read_text())[0]["images"]
        seconds = json.loads((place / TRAINING).read_text())["seconds"]
    elif kind == "ensemble":
        model = Ensemble(members, table.labels, which).eval()
    else:
        model = SingleTeacher(members[int(which) - 1], test.classes).eval()
    found = judge(model, Ensemble(members, table.labels).eval() if table.members else model, test, console)
    costs = {"images synthesized": 0, "real images seen by the student": real, "real images of new classes": None}
    return {"student": found, "seconds": seconds, "along": [score(found)], "curve": [], **costs}


def experiments_of(
    table: Benchmark, row: Row, folders: Sequence[Path], seed: int, options: Bench, place: Path
) -> Iterator[tuple[Experiment, Path]]:
    """A row for one seed, and where it lies; of a sequence, its experiments, each student the teacher of the next."""
    steps = row.application.steps
    learn = replace(row.application, steps=min(steps, max(1, steps // options.shorten)))
    common = {"method": row.method, "schedule": row.schedule, "application": learn}
    machine = {
        "seed": seed,
        "device": options.device,
        "threads": options.threads,
        "evaluation_interval": table.evaluation_interval,
    }

    def task(kind: type[SingleTeacherTask | AmalgamationTask], folder: Path, **more: Any) -> Any:
        return kind(**{"teacher": f"local-dir:{folder}", "data_root": options.data_root, **more, **row.task})

    teacher = folders[0]
    if table.members:
        several = {"teacher": tuple(f"local-dir:{folder}" for folder in folders), "labels": tuple(table.labels)}
        amalgam = task(AmalgamationTask, teacher, data=table.data, student=table.student, **several)
        yield Experiment(task=amalgam, **common, **machine), place
        return
    if not table.extensions:
        yield Experiment(task=task(Task, teacher, student=table.student, data=table.data), **common, **machine), place
    for number, (new, data) in enumerate(table.extensions, 1):
        folder = place if len(table.extensions) == 1 else place / f"task-{number}"
        yield Experiment(task=task(ExtensionTask, teacher, new_data=new, data=data), **common, **machine), folder
        teacher = folder / "student"


def carry_out(experiment: Experiment, place: Path, console: Console) -> dict[str, Any]:
    """The summary of an experiment, which is run unless it is finished.

    Raises:
        InputError: If another one lies in its place.
    """
    if not (place / "summary.json").is_file():
        run(experiment, place, console=console, resuming=place.is_dir())
    elif from_json(read_description(place)) != experiment:  # a setting that came later is as it was before
        raise InputError(f"{place} was made with other settings; remove it or give another --out")
    return {**report.read_summary(place), "curve": curve_of(place)}


def joined(chain: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One summary for a sequence: its first teacher, its last student, and what all of it cost."""
    costs = ("seconds", "images synthesized", "real images seen by the student", "real images of new classes")
    total = {cost: sum(summary.get(cost) or 0 for summary in chain) for cost in costs}
    begin = {name: chain[0][name] for name in ("teacher", "teacher sha256")}
    return {**chain[-1], **total, **begin, "along": [score(summary["student"]) for summary in chain]}


def later(summary: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """A summary, where so many seconds had passed before its run began: its images had been made by then."""
    curve = [(moment + seconds, accuracy) for moment, accuracy in summary["curve"]]
    return {**summary, "seconds": summary["seconds"] + seconds, "curve": curve}


def curve_of(run: Path) -> list[tuple[float, float]]:
    """Seconds and accuracy along a run."""
    return [(line["seconds"], line["accuracy"]) for line in read_log(run) if line["phase"] == "curve"]


def collect(table: Benchmark, found: Mapping[str, Sequence[Mapping[str, Any]]], options: Bench) -> dict[str, Any]:
    """The table as data."""
    learned = {name: summaries[0] for name, summaries in found.items() if not table.rows[name].known}
    ours = [one for name, one in learned.items() if table.rows[name].teacher in ("", table.teacher)]
    anyone = next(iter(ours or learned.values()))
    sizes = {one["student"]["parameters"] for one in learned.values()}
    rows = {name: row_of(table.rows[name], summaries) for name, summaries in found.items()}
    return {
        "title": table.title,
        "command": options.command,
        "seeds": list(options.seeds),
        "teacher": {
            "count": len(table.members) or 1,
            "network": table.teacher,
            "sha256": anyone["teacher sha256"],
            "accuracy": round(100 * (anyone["teacher"].get("parts") or [score(anyone["teacher"])])[0], 2),
            "parameters": anyone["teacher"]["parameters"],
            "MACs": anyone["teacher"]["macs"],
        },
        "student": {"network": table.student, "parameters": sizes.pop()} if table.student and len(sizes) == 1 else None,
        "measure": "mean average precision" if anyone["student"].get("average_precision") else "accuracy",
        "columns": list(table.columns),
        "environment": anyone["environment"] | {"machine": platform.processor() or platform.machine()},
        "jobs": options.jobs,
        "rows": rows,
    }


def row_of(row: Row, summaries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One row as data; what seeds differ in is averaged."""
    accuracies = [100 * score(summary["student"]) for summary in summaries]

    def mean(value: Callable[[Mapping[str, Any]], float]) -> int:
        return round(statistics.mean(map(value, summaries)))

    return {
        "mean": round(statistics.mean(accuracies), 2),
        "sd": round(statistics.stdev(accuracies), 2) if len(accuracies) > 1 else None,
        "each": [round(accuracy, 2) for accuracy in accuracies],
        "teacher": round(100 * score(summaries[0]["teacher"]), 2) if "teacher" in summaries[0] else None,
        "parameters": mean(lambda summary: summary["student"]["parameters"]),
        "MACs": mean(lambda summary: summary["student"]["macs"]),
        "seconds": mean(lambda summary: summary["seconds"]),
        **{f"seconds to {goal}": reached(summaries, goal) for goal in (95, 97, 98)},
        "images synthesized": summaries[0]["images synthesized"],
        "real images seen": summaries[0]["real images seen by the student"],
        "real images measured": summaries[0].get("real images measured", 0),
        "right teacher": rounded([right_teacher(summary) for summary in summaries]),
        "published": row.published,
        "per class": [rounded(each) for each in zip(*map(per_class, summaries), strict=True)],
        **extended(summaries),
        "curves": [[[round(t, 1), round(100 * a, 2)] for t, a in summary["curve"]] for summary in summaries],
    }


def per_class(summary: Mapping[str, Any]) -> Sequence[float | None]:
    """The measure of the table for each class or label by itself."""
    return summary["student"].get("average_precision") or summary["student"]["per_class"]


def right_teacher(summary: Mapping[str, Any]) -> float | None:
    """How often the answer was a class of a teacher that knows the right one, where there are several teachers."""
    return summary["student"].get("right_teacher")


def rounded(each: Sequence[float | None]) -> float | None:
    """The mean over seeds in %; None where nothing was measured."""
    known = [value for value in each if value is not None]
    return round(100 * statistics.mean(known), 2) if known else None


def extended(summaries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a row says where new classes were learned: old and new ones apart, and the course of a sequence."""
    parts = [summary["student"].get("parts") for summary in summaries]
    if not all(parts):
        return {}

    def mean(values: Iterable[float]) -> str:
        return f"{100 * statistics.mean(values):.2f}"

    along = zip(*(summary["along"] for summary in summaries), strict=True)
    return {
        "old classes": mean(old for old, _ in parts),
        "new classes": mean(new for _, new in parts),
        "after each task": ", ".join(map(mean, along)),
        "new images seen": summaries[0]["real images of new classes"],
        "parts": [[round(100 * part, 2) for part in each] for each in parts],
        "along": [[round(100 * accuracy, 2) for accuracy in summary["along"]] for summary in summaries],
    }


def reached(summaries: Sequence[Mapping[str, Any]], goal: float) -> int | None:
    """Mean seconds to the first point of the curve at or over the goal; None unless every seed got there."""
    firsts = [next((t for t, a in summary["curve"] if 100 * a >= goal), None) for summary in summaries]
    times = [first for first in firsts if first is not None]
    return round(statistics.mean(times)) if len(times) == len(firsts) else None


def markdown(result: Mapping[str, Any]) -> str:
    """The table for people; the docs include it as it is."""

    def cell(value: Any) -> str:
        return "-" if value is None or value == "" else f"{value:,}" if isinstance(value, int) else str(value)

    teacher, student, columns = result["teacher"], result["student"], result["columns"]
    count = teacher.get("count", 1)
    who = f"{count} teachers together: each `{teacher['network']}`" if count > 1 else f"Teacher: `{teacher['network']}`"
    whom = f"Student: `{student['network']}`, {student['parameters']:,} parameters. " if student else ""
    lines = [
        f"{who}, {teacher['parameters']:,} parameters, {teacher['MACs']:,} MACs, "
        f"{teacher['accuracy']:.2f} % (SHA-256 of its weights `{teacher['sha256'][:16]}`).",
        f"{whom}{len(result['seeds'])} seeds, held-out {result['measure']} in %, mean ± standard deviation.",
        "",
        f"| row | {result['measure']} | {' | '.join(columns)} |",
        "|---" * (2 + len(columns)) + "|",
    ]
    for name, row in result["rows"].items():
        spread = "" if row["sd"] is None else f" ± {row['sd']:.2f}"
        lines.append(f"| {name} | {row['mean']:.2f}{spread} | " + " | ".join(cell(row[c]) for c in columns) + " |")
    environment, jobs = result["environment"], result.get("jobs", 1)
    several = f", {jobs} runs at a time" if jobs > 1 else ""
    lines += [
        "",
        f"Command: `{result['command']}`. torch {environment['torch']}, {environment['device']}, "
        f"{environment['threads']} thread(s), {environment['machine']}{several}. Real images train the teacher, the "
        "ceiling, and evaluate; no student was selected by them. Seconds leave the evaluations along the curve out.",
        "",
    ]
    return "\n".join(lines)


def plot(result: Mapping[str, Any]) -> str:
    """Accuracy against seconds, one line a run; bars where no curve was drawn."""
    if not any(curve for row in result["rows"].values() for curve in row["curves"]):
        return report.bars([{"model": name, "accuracy": row["mean"] / 100} for name, row in result["rows"].items()])
    figure = report.new_figure(7, 4)
    axes = figure.add_subplot(xlabel="seconds", ylabel=f"held-out {result['measure']}, %", xscale="log")
    lowest = 100.0
    for place, (name, row) in enumerate(result["rows"].items()):
        for seed, curve in enumerate(filter(None, row["curves"])):
            label = name if seed == 0 else None
            style = ("-", "--")[place // 10 % 2]  # there are ten colours
            axes.plot(*zip(*curve, strict=True), color=f"C{place % 10}", linestyle=style, linewidth=1, label=label)
        lowest = min(lowest, row["mean"])
    axes.set_ylim(max(0.0, lowest - 5), 100)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return report.svg(figure)
