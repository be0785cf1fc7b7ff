"""The tables of a run on the console."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from datafree.runs.reading.summary import held_out
from datafree.runs.reporting.console import plain
from datafree.runs.reporting.sentences import percent

UNLABELLED_COLUMNS = ("parameters", "agreement", "real\nimages", "seconds")
"""columns if the real images have no labels"""
COLUMNS = ("parameters", "held-out", "vs\nteacher", "real\nimages", "seconds")
EXTENSION_COLUMNS = ("held-out", "old\nclasses", "new\nclasses", "real\nold", "real\nnew", "seconds")
"""columns if new classes were learned: the accuracy on old and new classes, and the real images seen of each"""


def results_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return the table of a run on the console, in at most 80 columns for model names of up to 25 characters.

    Args:
        rows: The rows, as of `table_rows`; the teacher comes first.
    """
    extended = any(row.get("new_class_images_seen") is not None for row in rows)
    unlabelled = all(row.get("accuracy") is None and row.get("agreement") is not None for row in rows)
    columns = UNLABELLED_COLUMNS if unlabelled else EXTENSION_COLUMNS if extended else COLUMNS
    table = _new_table(columns)
    for row in rows:
        cells = _cells(row, None if row is rows[0] else held_out(rows[0]))
        table.add_row(plain(row["model"]), *(cells[column] for column in columns))
    return table


def _cells(row: Mapping[str, Any], teacher_score: float | None) -> dict[str, str]:
    """The text of each column in a row."""
    held_out_score = held_out(row)
    gap = None if held_out_score is None or teacher_score is None else 100 * (held_out_score - teacher_score)
    seconds, seen = row.get("seconds"), count(row.get("real_images_seen"))
    if start := row.get("student_start"):
        seen = f"{seen} + {'?' if start['images'] is None else count(start['images'])}"
    return {
        "parameters": count(row["parameters"]),
        "held-out": percent(held_out_score),
        "agreement": percent(row.get("agreement")),
        "vs\nteacher": "-" if gap is None else f"{gap:+.2f}",
        "old\nclasses": percent(row.get("old_classes_accuracy")),
        "new\nclasses": percent(row.get("new_classes_accuracy")),
        "real\nimages": seen,
        "real\nold": seen,
        "real\nnew": count(row.get("new_class_images_seen")),
        "seconds": "-" if seconds is None else f"{seconds:.1f}",
    }


def count(number: int | None) -> str:
    """Format a number of images, parameters and so on; "-" for None."""
    return "-" if number is None else f"{number:,}"


def cost_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return the table of filters, parameters, MACs and latency before and after pruning."""
    table = _new_table(("filters", "parameters", "MACs", "ms per image"))
    for row in rows:
        counts = (count(row[name]) for name in ("filters", "parameters", "macs"))
        table.add_row(plain(row["model"]), *counts, f"{row['milliseconds']:.2f}")
    return table


def _new_table(columns: Sequence[str]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("model", overflow="fold")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def tables(summary: Mapping[str, Any]) -> Iterator[Table]:
    """Yield the tables that are printed at the end of a run."""
    rows = table_rows(summary)
    yield results_table(rows)
    if "pruned" in summary:
        yield cost_table(rows)


def table_rows(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of teacher and student for `results_table` and `cost_table`."""
    pruned = summary.get("pruned")
    student = {
        "model": f"{'pruned' if pruned else 'student'} · {summary['method']}",
        "real_images_seen": summary["real_images_seen"],
        "new_class_images_seen": summary.get("new_class_images_seen"),
        "student_start": summary.get("student_start"),
        "seconds": summary["seconds"],
    }
    rows = [{"model": "teacher", "real_images_seen": None, **summary["teacher"]}, student | summary["student"]]
    if pruned:
        rows[0]["filters"], rows[1]["filters"] = pruned["filters_before"], pruned["filters_after"]
    return rows
