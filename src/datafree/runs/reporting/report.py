"""What a run leaves for its reader: the student with its card, the HTML report, and the tables on the console."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datafree.classifier import Classifier
from datafree.evaluation import score
from datafree.files import atomic_file, read_bytes, write_json, write_text
from datafree.files.temporary import delete_leftovers
from datafree.real.ledger import LEDGER
from datafree.runs.logger import read_log
from datafree.runs.reading.summary import held_out as held_out
from datafree.runs.reading.summary import read_summary as read_summary
from datafree.runs.reporting.card import card
from datafree.runs.reporting.drawing import bar_chart, curves
from datafree.runs.reporting.methods import sheet_batch
from datafree.runs.reporting.sentences import old_and_new_classes, percent, pruning, real_images, unscored
from datafree.runs.reporting.tables import count
from datafree.runs.reporting.tables import results_table as results_table
from datafree.runs.reporting.tables import table_rows as table_rows
from datafree.runs.reporting.tables import tables as tables
from datafree.runs.run_folder import SUMMARY
from datafree.runs.serialization import flatten
from datafree.sets.contact_sheet import contact_sheet
from datafree.sets.privacy import PRIVACY
from datafree.teachers.folders import save_folder
from datafree.types import Batch


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


PICTURE_LIMIT = 2**26
"""bytes of a contact sheet"""


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
    environment.filters |= {"percent": percent, "score": score, "held_out": held_out, "number": count}
    environment.filters |= {"setting": _setting, "unscored": unscored}
    return environment.get_template(template).render(privacy=PRIVACY, **values)


def _setting(value: Any) -> str:
    """A setting as it is shown in the report."""
    if isinstance(value, list):
        return " ".join(map(str, value)) or "-"
    return "-" if value in ("", None) else str(value)


def _data_url(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(read_bytes(path, PICTURE_LIMIT)).decode()
