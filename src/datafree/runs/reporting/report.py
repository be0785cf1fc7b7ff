"""What a run leaves for its reader: the student with its card, the HTML report, and the tables on the console."""

import base64
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from datafree.classifier import Classifier
from datafree.evaluation import score
from datafree.files import atomic_file, read_bytes, read_json, write_json, write_text
from datafree.files.temporary import delete_leftovers
from datafree.files.validation import from_plain
from datafree.real.ledger import LEDGER, Entry
from datafree.runs.logger import read_log
from datafree.runs.reporting.card import card, old_and_new_classes, percent, pruning, real_images, unscored
from datafree.runs.reporting.console import plain
from datafree.runs.reporting.drawing import bar_chart, curves
from datafree.runs.reporting.methods import PartResult, sheet_batch
from datafree.runs.run_folder import SUMMARY, read_experiment
from datafree.runs.serialization import flatten
from datafree.runs.tasks import StudentStart
from datafree.sets.contact_sheet import contact_sheet
from datafree.sets.image_set import PRIVACY
from datafree.teachers.folders import save_folder
from datafree.types import Batch, InputError


@dataclass(frozen=True)
class AssessedNetwork:
    """A network in a summary: the fields of `Cost` and, if there were real images, of `Evaluation`."""

    parameters: int
    macs: int
    bytes: int
    milliseconds: float
    accuracy: float = 0.0
    agreement: float | None = None
    calibration_error: float = 0.0
    per_class: tuple[float | None, ...] = ()
    images: int = 0
    average_precision: tuple[float | None, ...] = ()
    routing_accuracy: float | None = None
    old_classes_accuracy: float | None = None
    new_classes_accuracy: float | None = None


@dataclass(frozen=True)
class Pruned:
    """What pruning adds to a summary."""

    filters_before: int
    filters_after: int
    rounds: int


@dataclass(frozen=True)
class Summary:
    """The entries of `summary.json` that a report reads; applications may add others."""

    experiment: dict[str, Any]
    method: str
    classes: tuple[str, ...]
    teacher: AssessedNetwork
    student: AssessedNetwork
    teacher_sha256: str
    student_sha256: str
    images_synthesized: int
    real_images_seen: int
    health: dict[str, float]
    notes: tuple[str, ...]
    ledger: tuple[Entry, ...]
    seconds: float
    environment: dict[str, Any]
    student_start: StudentStart | None = None
    new_class_images_seen: int | None = None
    real_images_measured: int = 0
    pruned: Pruned | None = None
    parts: tuple[PartResult, ...] = ()

    def __post_init__(self) -> None:
        for network in (self.teacher, self.student):
            measured = network.average_precision or network.per_class
            if measured and len(measured) != len(self.classes) and network is self.student:
                raise InputError(f"it has results of {len(measured)} classes, but {len(self.classes)} classes")


def write_results(
    path: Path, summary: Mapping[str, Any], student: Classifier, first_batches: Mapping[str, Batch] | None = None
) -> None:
    """Write all files of a finished run. `summary.json` is the last: it marks the run as finished.

    Args:
        path: The run folder.
        summary: The summary of the run.
        student: The student.
        first_batches: The first synthesized batch by part of the mixture, with an empty name if the method is none; shown in
            the report. Empty if the run used real images.
    """
    first_batches = first_batches or {}
    sheets = {f"part-{name}": batch for name, batch in first_batches.items() if name}
    if (all_parts := sheet_batch(first_batches)) is not None:
        sheets["grid"] = all_parts
        (path / "synthetic").mkdir(exist_ok=True)
    for name, batch in sheets.items():
        with atomic_file(path / "synthetic" / f"{name}.png") as new:
            contact_sheet(batch).save(new)
    save_folder(student, path / "student", lambda config: card(summary, config))
    write_json(path / LEDGER, summary["ledger"])
    write_page(path, summary)
    write_json(path / SUMMARY, summary)


def write_page(path: Path, summary: Mapping[str, Any]) -> None:
    """Write `report.html` of a finished run, and delete what a killed process has left in its folder."""
    if (path / "synthetic").is_dir():
        delete_leftovers(path / "synthetic")
    write_text(path / "report.html", page(path, summary))


def read_summary(path: str | Path) -> dict[str, Any]:
    """Read the summary of a finished run.

    Raises:
        InputError: If the folder has no finished run, or was written by a version of datafree with another layout.
    """
    path = Path(path)
    read_experiment(path)
    if not (path / SUMMARY).exists():
        raise InputError(f"{path} has no finished run; continue it with `datafree resume {shlex.quote(str(path))}`")
    summary = read_json(path / SUMMARY, root=path)
    from_plain(Summary, summary, str(path / SUMMARY), ignore_unknown=True)
    return summary


PICTURE_LIMIT = 2**26
"""bytes of a contact sheet"""
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


def held_out(row: Mapping[str, Any]) -> float | None:
    """Return the held-out score of a row; None if it was not evaluated."""
    return score(row) if row.get("accuracy") is not None else None


def _cells(row: Mapping[str, Any], teacher_score: float | None) -> dict[str, str]:
    """The text of each column in a row."""
    held_out_score = held_out(row)
    gap = None if held_out_score is None or teacher_score is None else 100 * (held_out_score - teacher_score)
    seconds, seen = row.get("seconds"), _count(row.get("real_images_seen"))
    if start := row.get("student_start"):
        seen = f"{seen} + {'?' if start['images'] is None else _count(start['images'])}"
    return {
        "parameters": _count(row["parameters"]),
        "held-out": percent(held_out_score),
        "agreement": percent(row.get("agreement")),
        "vs\nteacher": "-" if gap is None else f"{gap:+.2f}",
        "old\nclasses": percent(row.get("old_classes_accuracy")),
        "new\nclasses": percent(row.get("new_classes_accuracy")),
        "real\nimages": seen,
        "real\nold": seen,
        "real\nnew": _count(row.get("new_class_images_seen")),
        "seconds": "-" if seconds is None else f"{seconds:.1f}",
    }


def _count(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"


def cost_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return the table of filters, parameters, MACs and latency before and after pruning."""
    table = _new_table(("filters", "parameters", "MACs", "ms per image"))
    for row in rows:
        counts = (_count(row[name]) for name in ("filters", "parameters", "macs"))
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


def page(path: Path, summary: Mapping[str, Any]) -> str:
    """Return the report of a run as one HTML file without scripts and external resources."""
    grid = path / "synthetic" / "grid.png"
    parts = [(part, path / "synthetic" / f"part-{part['name']}.png") for part in summary.get("parts", ())]
    return render(
        "run.html",
        summary=summary,
        pruning=pruning(summary),
        rows=table_rows(summary),
        real_images=real_images(summary),
        old_and_new_classes=old_and_new_classes(summary["student"]),
        curves=curves(read_log(path)),
        classes=summary["classes"],
        settings=flatten(summary["experiment"]),
        grid=_data_url(grid) if grid.exists() and not parts else "",
        parts=[(part, _data_url(sheet) if sheet.exists() else "") for part, sheet in parts],
    )


def comparison_page(
    rows: Sequence[Mapping[str, Any]], grids: Mapping[str, Path], runs: Mapping[str, str], title: str
) -> str:
    """Return an HTML report that compares several runs.

    Args:
        rows: The rows, as of `table_rows`.
        grids: The contact sheet of each run; missing files are left out.
        runs: The path of each run's own report.
        title: The title.
    """
    sheets = {name: _data_url(grid) for name, grid in grids.items() if grid.exists()}
    return render("comparison.html", rows=rows, sheets=sheets, runs=runs, title=title, chart=bar_chart(rows))


def render(template: str, **values: Any) -> str:
    """Render a template; values are escaped, since names of classes and paths may contain HTML."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("datafree.runs.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "score": score, "held_out": held_out, "number": _count}
    environment.filters |= {"setting": _setting, "unscored": unscored}
    return environment.get_template(template).render(privacy=PRIVACY, **values)


def _setting(value: Any) -> str:
    """A setting as it is shown in the report."""
    if isinstance(value, list):
        return " ".join(map(str, value)) or "-"
    return "-" if value in ("", None) else str(value)


def _data_url(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(read_bytes(path, PICTURE_LIMIT)).decode()
