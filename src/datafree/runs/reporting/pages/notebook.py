"""A result in a notebook: verdict, both networks and some pictures, as HTML without scripts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datafree.runs.reading.answers import read_answers
from datafree.runs.reporting.pages.facts import controls_of, side_by_side
from datafree.runs.reporting.pages.gallery import strips_of
from datafree.runs.reporting.pages.headline import headline, names, verb_of
from datafree.runs.reporting.pages.run import REPORT, render

PICTURES = 10
"""pictures of a result: of the classes on which the student differs most"""


def result_html(summary: Mapping[str, Any], path: Path) -> str:
    """Return a finished run as a piece of HTML, for a notebook.

    Args:
        summary: The summary of the run.
        path: The run folder. Without it there are no pictures.
    """
    answers = read_answers(path, len(summary["classes"])) if path.is_dir() else None
    strips = [strip for part in (answers.parts if answers else ()) for strip in strips_of(part, summary["classes"])]
    controls = controls_of(path, summary) if path.is_dir() else {}
    return render(
        "result.html",
        summary=summary,
        head=headline(summary, controls),
        names=names(summary),
        verb=verb_of(summary),
        rows=side_by_side(summary, controls),
        figures=[strip.figures[0] for strip in strips[:PICTURES]],
        size=answers,
        report=path / REPORT,
    )
