"""The results of a table: as data for JSON, as Markdown, and as a plot."""

import platform
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.box import SIMPLE_HEAD
from rich.table import Table

from datafree.benchmarks.table import Benchmark, Row
from datafree.evaluation import score
from datafree.files import read_json, write_json
from datafree.files.validation import from_plain
from datafree.runs.reporting import drawing

GOALS = (95, 97, 98)
"""accuracies in % that the seconds to reach them are given for"""


def collect(
    table: Benchmark,
    summaries: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    command: str,
    seeds: Sequence[int],
    jobs: int,
) -> dict[str, Any]:
    """Return the results of a table as data.

    Args:
        table: The table.
        summaries: For each row, the summary of each seed. At least one row has runs.
        command: The command that made the table.
        seeds: The random seeds.
        jobs: Number of runs at a time.
    """
    students = {name: each[0] for name, each in summaries.items() if not table.rows[name].reference}
    same_teacher = [name for name in students if table.rows[name].teacher in ("", table.teacher)]
    first = next(iter(same_teacher or students))  # in a table of several teachers, that of the first row
    example = students[first]
    sizes = {run["student"]["parameters"] for run in students.values()}
    own_classes = example["teacher"].get("old_classes_accuracy")
    return {
        "title": table.title,
        "command": command,
        "seeds": list(seeds),
        "teacher": {
            "count": len(table.teacher_data) or 1,
            "network": table.rows[first].teacher or table.teacher,
            "sha256": example["teacher_sha256"],
            "accuracy": _percent(score(example["teacher"]) if own_classes is None else own_classes),
            "parameters": example["teacher"]["parameters"],
            "macs": example["teacher"]["macs"],
        },
        "student": {"network": table.student, "parameters": sizes.pop()} if table.student and len(sizes) == 1 else None,
        "measure": "mean average precision" if example["student"].get("average_precision") else "accuracy",
        "columns": list(table.columns),
        "environment": example["environment"] | {"machine": platform.processor() or platform.machine()},
        "jobs": jobs,
        "rows": {name: collect_row(table.rows[name], each) for name, each in summaries.items()},
    }


def earlier_table(file: Path) -> tuple[dict[str, Any], list[int]] | None:
    """Return the results in a JSON file and their seeds; None if it does not exist.

    Raises:
        InputError: If the file is damaged.
    """
    if not file.is_file():
        return None
    earlier = from_plain(dict[str, Any], read_json(file), str(file))
    return earlier, from_plain(list[int], earlier.get("seeds"), f"{file}: seeds")


def with_earlier_rows(result: dict[str, Any], file: Path, order: Sequence[str]) -> dict[str, Any]:
    """Return the results with the rows of an earlier file that were not run now.

    Each of those has the command that made it, and its seeds if they are not those of the table. Rows of another teacher are
    left out.

    Args:
        result: The results of some rows.
        file: The JSON file; it need not exist.
        order: The names of all rows of the table.

    Raises:
        InputError: If the file is damaged.
    """
    found = earlier_table(file)
    if found is None:
        return result
    earlier, seeds = found
    teacher = from_plain(dict[str, Any], earlier.get("teacher"), f"{file}: teacher")
    if teacher.get("sha256") != result["teacher"]["sha256"]:
        return result
    kept = from_plain(dict[str, dict[str, Any]], earlier.get("rows"), f"{file}: rows")
    command = from_plain(str, earlier.get("command"), f"{file}: command")
    kept = {name: {"command": command, "seeds": seeds, **row} for name, row in kept.items()}
    for row in kept.values():
        if row["seeds"] == result["seeds"]:
            del row["seeds"]
    rows = kept | result["rows"]
    return {**result, "rows": {name: rows[name] for name in order if name in rows}}


def collect_row(row: Row, summaries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return one row as data; `summaries` has one for each seed. Accuracies are in %."""
    scores = [100 * score(summary["student"]) for summary in summaries]
    first = summaries[0]

    def mean(value: Callable[[Mapping[str, Any]], float]) -> int:
        return round(statistics.mean(map(value, summaries)))

    return {
        "mean": round(statistics.mean(scores), 2),
        "sd": round(statistics.stdev(scores), 2) if len(scores) > 1 else None,
        "each": [round(accuracy, 2) for accuracy in scores],
        "teacher": _percent(score(first["teacher"])) if "teacher" in first else None,
        "parameters": mean(lambda summary: summary["student"]["parameters"]),
        "macs": mean(lambda summary: summary["student"]["macs"]),
        "seconds": mean(lambda summary: summary["seconds"]),
        **{f"seconds_to_{goal}": seconds_to(summaries, goal) for goal in GOALS},
        "images_synthesized": first["images_synthesized"],
        "real_images_seen": first["real_images_seen"],
        "real_images_measured": first.get("real_images_measured", 0),
        "routing_accuracy": mean_percent([summary["student"].get("routing_accuracy") for summary in summaries]),
        "published": row.published,
        "per_class": [mean_percent(each) for each in zip(*map(per_class, summaries), strict=True)],
        **collect_tasks(summaries),
        "curves": [[[round(t, 1), _percent(accuracy)] for t, accuracy in summary["curve"]] for summary in summaries],
    }


def collect_tasks(summaries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what a row of continual learning has besides: accuracy on old and new classes, and after each task."""
    old = [summary["student"].get("old_classes_accuracy") for summary in summaries]
    new = [summary["student"].get("new_classes_accuracy") for summary in summaries]
    if None in old or None in new:
        return {}

    def mean(values: Iterable[float]) -> str:
        return f"{100 * statistics.mean(values):.2f}"

    tasks = zip(*(summary["scores_after_tasks"] for summary in summaries), strict=True)
    return {
        "old_classes": mean(old),
        "new_classes": mean(new),
        "after_each_task": ", ".join(map(mean, tasks)),
        "new_class_images_seen": summaries[0]["new_class_images_seen"],
        "old_classes_each": list(map(_percent, old)),
        "new_classes_each": list(map(_percent, new)),
        "after_each_task_each": [list(map(_percent, summary["scores_after_tasks"])) for summary in summaries],
    }


def per_class(summary: Mapping[str, Any]) -> Sequence[float | None]:
    """Return the average precision of each label, or the accuracy of each class."""
    return summary["student"].get("average_precision") or summary["student"]["per_class"]


def mean_percent(values: Sequence[float | None]) -> float | None:
    """Return the mean in %, without the values that are None; None if all are."""
    measured = [value for value in values if value is not None]
    return _percent(statistics.mean(measured)) if measured else None


def _percent(fraction: float) -> float:
    return round(100 * fraction, 2)


def seconds_to(summaries: Sequence[Mapping[str, Any]], goal: float) -> int | None:
    """Return the mean time in seconds until the accuracy reaches a goal in %; None unless every seed reaches it."""
    firsts = [next((t for t, a in summary["curve"] if 100 * a >= goal), None) for summary in summaries]
    times = [first for first in firsts if first is not None]
    return round(statistics.mean(times)) if len(times) == len(firsts) else None


def markdown(result: Mapping[str, Any]) -> str:
    """Return a table as Markdown, with its networks, its command and its environment."""
    columns = result["columns"]
    lines = [
        *_networks(result),
        "",
        f"| row | {result['measure']} | {' | '.join(map(header, columns))} |",
        "|---" * (2 + len(columns)) + "|",
    ]
    for name, row in result["rows"].items():
        lines.append(
            f"| {name}{_own_seeds(row)} | {row['mean']:.2f}{_spread(row)} | "
            + " | ".join(_cell(row[c]) for c in columns)
            + " |"
        )
    environment, jobs = result["environment"], result.get("jobs", 1)
    commands = dict.fromkeys([result["command"], *(row.get("command", "") for row in result["rows"].values())])
    made_by = ", ".join(f"`{command}`" for command in commands if command)
    parallel = f", {jobs} runs at a time" if jobs > 1 else ""
    lines += [
        "",
        f"Command: {made_by}. torch {environment['torch']}, {environment['device']}, "
        f"{environment['threads']} thread(s), {environment['machine']}{parallel}. Real images are used to train the "
        "teacher and the ceiling, and for evaluation; no student is selected with them. Seconds exclude the evaluations "
        "for the plot.",
        "",
    ]
    return "\n".join(lines)


def console_table(result: Mapping[str, Any]) -> Table:
    """Return the main columns of a table for a terminal of 80 columns."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("row", overflow="fold")
    for column in (result["measure"].replace(" ", "\n", 1), "seconds", "images\nsynthesized", "real\nimages"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, row in result["rows"].items():
        cells = (_cell(row[key]) for key in ("seconds", "images_synthesized", "real_images_seen"))
        table.add_row(f"{name}{_own_seeds(row)}", f"{row['mean']:.2f}{_spread(row)}", *cells)
    return table


def _spread(row: Mapping[str, Any]) -> str:
    """Return the standard deviation as it follows the mean; nothing for one seed."""
    return "" if row["sd"] is None else f" ± {row['sd']:.2f}"


def _own_seeds(row: Mapping[str, Any]) -> str:
    """Return the number of seeds of a row as it follows the name; nothing if they are those of the table."""
    count = len(row.get("seeds", ()))
    return f" ({count} {'seed' if count == 1 else 'seeds'})" if count else ""


def header(column: str) -> str:
    """Return the header of a column from its key."""
    return column.replace("_", " ").replace("macs", "MACs")


def _networks(result: Mapping[str, Any]) -> Iterable[str]:
    """Two sentences about teacher and student, above the table."""
    teacher, student, count = result["teacher"], result["student"], result["teacher"].get("count", 1)
    kind = (
        f"Teachers: an ensemble of {count} `{teacher['network']}`" if count > 1 else f"Teacher: `{teacher['network']}`"
    )
    yield (
        f"{kind}, {teacher['parameters']:,} parameters, {teacher['macs']:,} MACs, "
        f"{teacher['accuracy']:.2f} % (SHA-256 of the weights `{teacher['sha256'][:16]}`)."
    )
    size = f"Student: `{student['network']}`, {student['parameters']:,} parameters. " if student else ""
    seeds = "One seed" if len(result["seeds"]) == 1 else f"{len(result['seeds'])} seeds"
    yield f"{size}{seeds}, held-out {result['measure']} in %, mean ± standard deviation."


def _cell(value: Any) -> str:
    return "-" if value is None or value == "" else f"{value:,}" if isinstance(value, int) else str(value)


def write_script_result(path: Path | None, **values: Any) -> None:
    """Write what a script of `benchmarks/` has measured, with its command and the machine.

    Args:
        path: The JSON file; None: write nothing.
        values: What was measured, by name.
    """
    if path:
        machine = {"processor": platform.processor() or platform.machine(), "torch": torch.__version__}
        write_json(path, {"command": " ".join(["python", *sys.argv]), **machine, **values})


def plot(result: Mapping[str, Any]) -> str:
    """Return a plot of accuracy against seconds as SVG, one line per run; a bar chart if there are no curves."""
    if not any(curve for row in result["rows"].values() for curve in row["curves"]):
        return drawing.bar_chart(
            [{"model": name, "accuracy": row["mean"] / 100} for name, row in result["rows"].items()]
        )
    figure = drawing.new_figure(7, 4)
    axes = figure.add_subplot(xlabel="seconds", ylabel=f"held-out {result['measure']}, %", xscale="log")
    lowest = 100.0
    for index, (name, row) in enumerate(result["rows"].items()):
        for number, curve in enumerate(filter(None, row["curves"])):
            label = name if number == 0 else None
            style = ("-", "--")[index // 10 % 2]  # there are ten colours
            axes.plot(*zip(*curve, strict=True), color=f"C{index % 10}", linestyle=style, linewidth=1, label=label)
        lowest = min(lowest, row["mean"])
    axes.set_ylim(max(0.0, lowest - 5), 100)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return drawing.to_svg(figure)
