"""The report of a run: one HTML file without scripts and external resources, and pages of all its classes beside it."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from datafree import __version__
from datafree.errors import printable
from datafree.files import write_text
from datafree.files.temporary import delete_leftovers
from datafree.files.validation import from_plain
from datafree.runs.reading.answers import Answers, Comparison, read_answers
from datafree.runs.reading.flattening import flatten
from datafree.runs.reading.layout import LOG
from datafree.runs.reading.log import read_log
from datafree.runs.reading.summary import held_out
from datafree.runs.reporting.pages import facts, gallery
from datafree.runs.reporting.pages.charts import calibration_chart
from datafree.runs.reporting.pages.curves import curves
from datafree.runs.reporting.pages.headline import date_of, ended, headline, names, verb_of
from datafree.runs.reporting.sentences import old_and_new_classes, percent, pruning, real_images, unscored
from datafree.runs.reporting.tables import count
from datafree.sets.privacy import PRIVACY

REPORT = "report.html"
GENERATOR = '<meta name="generator" content="datafree">'
"""line of every page that this package writes"""
NAME_LENGTH = 60
"""characters of a name that are shown"""
SETTING_LENGTH = 500
"""characters of a setting that are shown"""


def write_page(path: Path, summary: Mapping[str, Any]) -> None:
    """Write `report.html` of a finished run with its pages of classes, and delete what a killed process has left."""
    synthetic = path / "synthetic"
    if synthetic.is_dir():
        delete_leftovers(synthetic)
    answers = read_answers(path, len(summary["classes"]))
    links = write_class_pages(synthetic, answers, summary)
    write_text(path / REPORT, page(path, summary, answers, links))


def write_class_pages(folder: Path, answers: Answers | None, summary: Mapping[str, Any]) -> list[str]:
    """Write all classes to pages in a folder; return their paths relative to the report. One page shows a few: none."""
    for old in folder.glob("classes-*.html"):
        old.unlink()
    found = gallery.pages(answers, summary["classes"]) if answers else []
    if not answers or not any(sheet.others for sheet in gallery.sheets(answers, summary)):
        return []
    for number, strips in enumerate(found, 1):
        text = render(
            "classes.html", strips=strips, number=number, total=len(found), size=answers, names=names(summary)
        )
        write_text(folder / f"classes-{number}.html", text)
    return [f"{folder.name}/classes-{number}.html" for number in range(1, len(found) + 1)]


def page(path: Path, summary: Mapping[str, Any], answers: Answers | None = None, links: Sequence[str] = ()) -> str:
    """Return the report of a run.

    Args:
        path: The run folder.
        summary: Its summary.
        answers: The pictures and answers in its folder.
        links: The pages of classes beside the report.
    """
    controls = facts.controls_of(path, summary)
    compared = comparison_of(summary)
    return render(
        "run.html",
        summary=summary,
        head=headline(summary, controls),
        names=names(summary),
        verb=verb_of(summary),
        date=date_of(summary),
        made_by=summary["environment"].get("datafree", ""),
        rows=facts.side_by_side(summary, controls),
        sentences=sentences_about(summary),
        size=answers,
        sheets=gallery.sheets(answers, summary) if answers else [],
        links=links,
        comparisons=comparisons(compared, answers, summary["classes"]),
        classes=facts.class_rows(summary, compared),
        labelled=held_out(summary["student"]) is not None,
        open_classes=facts.OPEN_CLASSES,
        curves=curves(log_of(path)),
        times=shares_of_time(summary),
        settings=flatten(summary["experiment"]),
    )


def sentences_about(summary: Mapping[str, Any]) -> list[str]:
    """Return what is said above the table of both networks."""
    student = summary["student"]
    unknown = unscored(student) if held_out(student) is None else ""
    told = (pruning(summary), real_images(summary), old_and_new_classes(student), unknown)
    return [sentence for sentence in told if sentence]


def log_of(path: Path) -> list[dict[str, Any]]:
    """Return the log of a run; empty if it has none."""
    return read_log(path) if (path / LOG).exists() else []


def comparison_of(summary: Mapping[str, Any]) -> Comparison | None:
    """Return the comparison of both networks on real images; None if there is none."""
    plain = summary.get("comparison")
    return from_plain(Comparison, plain, "the summary", ignore_unknown=True) if plain else None


def comparisons(real: Comparison | None, answers: Answers | None, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return agreement, confusion and calibration on real images and on the images of each part."""
    found = [("real images", real, True)] if real else []
    found += [
        (f"synthesized images of {part.name}" if part.name else "synthesized images", part.comparison, False)
        for part in (answers.parts if answers else ())
    ]
    return [
        {
            "name": name,
            "real": is_real,
            "comparison": comparison,
            "matrix": facts.confusion_matrix(comparison, len(classes)),
            "pairs": facts.confused_pairs(comparison, classes),
            "classes": classes,
            "chart": calibration(comparison),
        }
        for name, comparison, is_real in found
    ]


def calibration(comparison: Comparison) -> str:
    """Return the calibration curve; empty without predictions."""
    drawn = {"teacher": comparison.teacher, "student": comparison.student}
    drawn = {name: bins for name, bins in drawn.items() if bins}
    return calibration_chart(drawn, "correct" if comparison.labelled else "equal to the teacher") if drawn else ""


def shares_of_time(summary: Mapping[str, Any]) -> list[tuple[str, float, str, float]]:
    """Return the phases of a run with their share of the time, their duration in words, and where they begin."""
    times = {name: seconds for name, seconds in (summary.get("times") or {}).items() if seconds >= 0}
    total, before, rows = sum(times.values()), 0.0, []
    for name, seconds in times.items():
        if total > 0:
            rows.append((name, seconds / total, facts.duration(seconds), before))
            before += seconds / total
    return rows


def short(text: Any, length: int = NAME_LENGTH) -> str:
    """Return a text that is cut if it is long."""
    text = str(text)
    return text if len(text) <= length else f"{text[: length - 1]}\u2026"


def setting(value: Any) -> str:
    """Return a setting as it is shown."""
    if isinstance(value, list):
        value = " ".join(map(str, value))
    return "-" if value in ("", None) else short(value, SETTING_LENGTH)


def options_in(command: str) -> list[str]:
    """Return a command in pieces that a line is not broken in: the program, then each option with its values."""
    first, *rest = command.split(" --")
    return [first, *(f"--{words}" for words in rest)]


def marked(text: str) -> Markup:
    """Return a sentence in which `words` between backticks are code."""
    pieces = printable(text).split("`")
    if len(pieces) % 2 == 0:  # a single backtick is a character
        return escape(printable(text))
    return Markup("").join(Markup("<code>{}</code>").format(p) if i % 2 else escape(p) for i, p in enumerate(pieces))


def inert(value: Any) -> Any:
    """Return a value for a template; in texts that are not markup, control characters are replaced."""
    return printable(value) if type(value) is str else value


def render(template: str, **values: Any) -> str:
    """Render a template; values are escaped, since names of classes and paths may contain HTML."""
    return environment().get_template(template).render(privacy=PRIVACY, version=__version__, **values)


@cache
def environment() -> Any:
    """Return the templates with their filters."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    templates = Environment(
        loader=PackageLoader("datafree.runs.reporting.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=inert,
    )
    templates.filters |= {"percent": percent, "number": count, "short": short, "setting": setting}
    templates.filters |= {"sentence": ended, "duration": facts.duration, "options": options_in, "marked": marked}
    return templates
