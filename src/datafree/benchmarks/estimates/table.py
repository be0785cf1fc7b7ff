"""The table of estimates as data, as Markdown, on the console, and as a scatter plot."""

import platform
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from rich.box import SIMPLE_HEAD
from rich.table import Table

from datafree.benchmarks.estimates.scores import GOOD, coverage, false_praise, mean_error, scores
from datafree.runs.reporting import drawing

OURS = "stability-weighted agreement"
NAIVE = ("own pool", "other pools", "confidence", "ATC", "GDE")
LABELS = {
    OURS: OURS,
    "own pool": "agreement on the own pool",
    "other pools": "agreement on the other pools",
    "confidence": "mean confidence",
    "ATC": "ATC",
    "GDE": "GDE with two seeds",
}


def collect(
    rows: Sequence[Mapping[str, Any]], shares: Mapping[str, Sequence[float]], command: str, threads: int
) -> dict[str, Any]:
    """Return the results as data.

    Args:
        rows: The students.
        shares: h of each teacher, measured on its real images.
        command: The command that made the table.
        threads: CPU threads.
    """
    everyone, rows = rows, [row for row in rows if row["word"] != "not estimated"]
    estimates = {OURS: [row["S"] for row in rows]} | {n: [row["naive"][n] for row in rows] for n in NAIVE}
    return {
        "title": "estimates of retention without data",
        "command": command,
        "students": len(rows),
        "teachers": len({row["teacher"] for row in rows}),
        "refused": refusals(everyone),
        "scores": {name: scores(rows, values) for name, values in estimates.items()},
        "by_kind": {kind: scores_of_kind(rows, kind) for kind in dict.fromkeys(row["kind"] for row in rows)},
        "coverage": coverage(rows),
        "coverage_by_teacher": {
            name: coverage([row for row in rows if row["teacher"] == name])
            for name in dict.fromkeys(row["teacher"] for row in rows)
        },
        "false_praise": false_praise(rows),
        "shares_of_real_images": {name: [round(value, 4) for value in each] for name, each in shares.items()},
        "environment": {
            "torch": torch.__version__,
            "machine": platform.processor() or platform.machine(),
            "threads": threads,
        },
        "rows": [rounded(row) for row in everyone],
    }


def scores_of_kind(rows: Sequence[Mapping[str, Any]], kind: str) -> dict[str, Any]:
    """Return how good our estimate is on the students of one kind, with the share that the interval covers."""
    those = [row for row in rows if row["kind"] == kind]
    bias = statistics.fmean(row["S"] - row["retention"] for row in those)
    return scores(those, [row["S"] for row in those]) | {"coverage": coverage(those), "bias": bias}


def refusals(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the students that are not estimated, by the reason: how many, and how wrong their estimates would be."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["word"] == "not estimated":
            found.setdefault(row["refused"], []).append(row)
    return {
        reason: {
            "students": len(those),
            "error": mean_error([row["S"] for row in those], [row["retention"] for row in those]),
            "bias": statistics.fmean(row["S"] - row["retention"] for row in those),
        }
        for reason, those in found.items()
    }


def rounded(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with four digits after the point."""
    naive = {name: None if value is None else round(value, 4) for name, value in row["naive"].items()}
    plain = {name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()}
    return plain | {"naive": naive}


def percent(value: float | None) -> str:
    """Return a share in %, or a dash."""
    return "-" if value is None else f"{100 * value:.1f}"


def score_cells(name: str, found: Mapping[str, Any]) -> list[str]:
    """Return the cells of an estimate in the table of scores."""
    spread = found["error_above_range"]
    above = percent(found["error_above"]) + (f" [{percent(spread[0])}, {percent(spread[1])}]" if spread else "")
    correlation = found["rank_correlation"]
    return [
        LABELS[name],
        str(found["students"]),
        above,
        percent(found["error"]),
        "-" if correlation is None else f"{correlation:.2f}",
        percent(found["right_choices"]),
    ]


SCORES = ("estimate", "students", "error above 90", "error", "rank correlation", "right choices")


def markdown(result: Mapping[str, Any]) -> str:
    """Return the results as Markdown."""
    above = result["scores"][OURS]["above"]
    environment = result["environment"]
    header = ("teacher", "recipe", "seed", "steps", "retention", "S", "interval", "word")
    lines = [
        f"{result['students']} students of {result['teachers']} teachers, {above} of them with a retention of "
        f"{100 * GOOD:.0f} % or more. All figures in % of the teacher's accuracy. The weights of the stability of "
        "real images are those of the other teachers.",
        "",
        "| " + " | ".join(SCORES) + " |",
        "|---" * len(SCORES) + "|",
        *("| " + " | ".join(score_cells(name, found)) + " |" for name, found in result["scores"].items()),
        "",
        f"The interval covers {percent(result['coverage'])} % of the students. Called good with a retention below "
        f"80 %: {result['false_praise']}.",
        *(
            f"{each['students']} further students are not estimated ({reason}): S would be wrong by "
            f"{percent(each['error'])} points in the mean, and {percent(abs(each['bias']))} too "
            f"{'high' if each['bias'] > 0 else 'low'}."
            for reason, each in result["refused"].items()
        ),
        "",
        *kinds(result["by_kind"]),
        "",
        "| " + " | ".join(header) + " |",
        "|---" * len(header) + "|",
    ]
    for row in result["rows"]:
        ends = f"{percent(row['low'])} - {percent(row['high'])}"
        cells = (row["teacher"], row["recipe"], row["seed"], row["steps"], percent(row["retention"]), percent(row["S"]))
        lines.append("| " + " | ".join(map(str, (*cells, ends, row["word"]))) + " |")
    lines += [
        "",
        f"Command: `{result['command']}`. torch {environment['torch']}, {environment['threads']} thread(s), "
        f"{environment['machine']}. Real images are used to train the teachers, to measure h, and for evaluation.",
        "",
    ]
    return "\n".join(lines)


def kinds(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the scores of our estimate by the kind of the student, as lines of Markdown."""
    header = (f"{OURS}, by kind", *SCORES[1:-1], "too high by", "covered")
    rows = (
        [kind, *score_cells(OURS, each)[1:-1], percent(each["bias"]), percent(each["coverage"])]
        for kind, each in found.items()
    )
    return ["| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *rows)]


def console_table(result: Mapping[str, Any]) -> Table:
    """Return the scores for a terminal."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(SCORES):
        table.add_column(column, justify="right" if index else "left", overflow="fold")
    for name, found in result["scores"].items():
        table.add_row(*score_cells(name, found))
    return table


def plot(result: Mapping[str, Any]) -> str:
    """Return a scatter plot of estimate and truth as SVG: ours, and the agreement on the own pool, by teacher."""
    figure = drawing.new_figure(9, 4.2, left=0.07, right=0.78)
    names = list(dict.fromkeys(row["teacher"] for row in result["rows"]))
    panels = {OURS: lambda row: row["S"], "own pool": lambda row: row["naive"]["own pool"]}
    axes: Any = None
    for place, (title, value) in enumerate(panels.items()):
        axes = figure.add_subplot(1, 2, place + 1, xlabel="retention, %", title=LABELS[title])
        axes.plot([0, 100], [0, 100], color="grey", linewidth=0.8)
        for index, name in enumerate(names):
            rows = [row for row in result["rows"] if row["teacher"] == name]
            points = [100 * row["retention"] for row in rows], [100 * value(row) for row in rows]
            axes.scatter(*points, s=16, color=f"C{index}", label=name, alpha=0.8)
        axes.set_xlim(0, 102)
        axes.set_ylim(0, 102)
        axes.grid(alpha=0.3)
        if place == 0:
            axes.set_ylabel("estimate, %")
    figure.subplots_adjust(top=0.9, wspace=0.18)
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return drawing.to_svg(figure)


def mean_shares(shares: Mapping[str, Sequence[float]], without: str) -> list[float]:
    """Return the mean h of the other teachers."""
    others = [each for name, each in shares.items() if name != without]
    return [statistics.mean(values) for values in zip(*others, strict=True)]
