"""What a run leaves for its reader: the student with its card, the HTML report, and the tables on the console."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datafree.classifier import Classifier
from datafree.files import atomic_file, write_json
from datafree.real.ledger import LEDGER
from datafree.runs.reading.answers import ANSWERS, Answers
from datafree.runs.reading.layout import SUMMARY
from datafree.runs.reading.summary import held_out as held_out
from datafree.runs.reading.summary import read_summary as read_summary
from datafree.runs.reporting.answers import to_plain
from datafree.runs.reporting.card import card
from datafree.runs.reporting.methods import sheet_batch
from datafree.runs.reporting.pages.run import page as page
from datafree.runs.reporting.pages.run import write_page as write_page
from datafree.runs.reporting.sentences import percent as percent
from datafree.runs.reporting.tables import results_table as results_table
from datafree.runs.reporting.tables import table_rows as table_rows
from datafree.runs.reporting.tables import tables as tables
from datafree.sets.contact_sheet import contact_sheet
from datafree.sets.privacy import PRIVACY as PRIVACY
from datafree.teachers.folders import save_folder
from datafree.types import Batch


def write_results(
    path: Path,
    summary: Mapping[str, Any],
    student: Classifier,
    first_batches: Mapping[str, Batch] | None = None,
    answers: Answers | None = None,
) -> None:
    """Write all files of a finished run. `summary.json` is the last: it marks the run as finished.

    Args:
        path: The run folder.
        summary: The summary of the run.
        student: The student.
        first_batches: The first synthesized batch by part of the mixture, with an empty name if the method is none; for the
            contact sheet. Empty if the run used real images.
        answers: The answers of both networks on synthesized images, for the report.
    """
    first_batches = first_batches or {}
    sheets = {f"part-{name}": batch for name, batch in first_batches.items() if name}
    if (all_parts := sheet_batch(first_batches)) is not None:
        sheets["grid"] = all_parts
        (path / "synthetic").mkdir(exist_ok=True)
    for name, batch in sheets.items():
        with atomic_file(path / "synthetic" / f"{name}.png") as new:
            contact_sheet(batch).save(new)
    if answers:
        (path / ANSWERS).parent.mkdir(exist_ok=True)
        write_json(path / ANSWERS, to_plain(answers))
    save_folder(student, path / "student", lambda config: card(summary, config))
    write_json(path / LEDGER, summary["ledger"])
    write_page(path, summary)
    write_json(path / SUMMARY, summary)
