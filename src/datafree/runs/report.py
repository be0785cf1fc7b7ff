"""What a run leaves for people: the student with its card, pictures of what was synthesized, curves, one page, tables."""

import base64
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from datafree.runs.card import card, made, on_parts, percent, seen_by_student
from datafree.classifier import Classifier
from datafree.evaluation import score
from datafree.runs.logger import read_log
from datafree.files import write_json, write_text
from datafree.sets.contact_sheet import contact_sheet
from datafree.sets.image_set import PRIVACY
from datafree.teachers.sources import home_of, narrowing_of, save_folder
from datafree.types import Batch, InputError


def close(
    path: Path, summary: Mapping[str, Any], teacher: Classifier, student: Classifier, first: Batch | None
) -> None:
    """Writes everything a finished run holds; `summary.json` comes last and says that it is finished."""
    if first is not None:
        (path / "synthetic").mkdir(exist_ok=True)
        contact_sheet(first, teacher.classes).save(path / "synthetic" / "grid.png")
    about = card(summary, narrowed="widths" in narrowing_of(student), home=home_of(student.model))
    save_folder(student, path / "student", about)
    write_json(path / "ledger.json", summary["ledger"])
    rewrite(path, summary)
    write_json(path / "summary.json", summary)


def rewrite(path: Path, summary: Mapping[str, Any]) -> None:
    """Draws the page of a finished run again."""
    write_text(path / "report.html", page(path, summary))


COLUMNS = ("parameters", "held-out", "vs teacher", "real images", "seconds")
EXTENDED = ("held-out", "old classes", "new classes", "real old", "real new", "seconds")
"""where new classes were learned: how good it is on which, and how many images of either it has seen"""


def ladder(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The table at the end: who, how large, how good, and how many real images it has seen."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("model", overflow="fold")
    columns = EXTENDED if any(row.get("new") is not None for row in rows) else COLUMNS
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        cells = _cells(row, None if row is rows[0] else held_out(rows[0]))
        table.add_row(row["model"], *(cells[column] for column in columns))
    return table


def held_out(row: Mapping[str, Any]) -> float | None:
    """The one figure of a row, if real images were asked."""
    return score(row) if row.get("accuracy") is not None else None


def _cells(row: Mapping[str, Any], reference: float | None) -> dict[str, str]:
    """What each column says of a row."""
    accuracy, (old, new) = held_out(row), row.get("parts") or (None, None)
    gap = None if accuracy is None or reference is None else 100 * (accuracy - reference)
    seen, learned, seconds = row.get("real"), row.get("new"), row.get("seconds")
    return {
        "parameters": f"{row['parameters']:,}",
        "held-out": percent(accuracy),
        "vs teacher": "-" if gap is None else f"{gap:+.2f}",
        "old classes": percent(old),
        "new classes": percent(new),
        "real images": "-" if seen is None else f"{seen:,}",
        "real old": "-" if seen is None else f"{seen:,}",
        "real new": "-" if learned is None else f"{learned:,}",
        "seconds": "-" if seconds is None else f"{seconds:.1f}",
    }


def costs(rows: Sequence[Mapping[str, Any]]) -> Table:
    """What pruning has saved; the time is measured on this machine, the rest is counted."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("model", overflow="fold")
    for column in ("filters", "parameters", "MACs", "ms per image"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        counted = (f"{row[name]:,}" for name in ("filters", "parameters", "macs"))
        table.add_row(row["model"], *counted, f"{row['milliseconds']:.2f}")
    return table


def tables(summary: Mapping[str, Any]) -> Iterator[Table]:
    """What is said at the end of a run."""
    rows = rows_of(summary)
    yield ladder(rows)
    if "pruned" in summary:
        yield costs(rows)


def rows_of(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A run's two rows of the table."""
    pruned = summary.get("pruned")
    student = {
        "model": f"{'pruned' if pruned else 'student'} · {summary['method']}",
        "real": summary["real images seen by the student"],
        "new": summary.get("real images of new classes"),
        "seconds": summary["seconds"],
    }
    rows = [{"model": "teacher", "real": None, **summary["teacher"]}, student | summary["student"]]
    if pruned:
        rows[0]["filters"], rows[1]["filters"] = pruned["filters before"], pruned["filters after"]
    return rows


def page(path: Path, summary: Mapping[str, Any]) -> str:
    """The report of one run: one file, no script, nothing loaded from elsewhere."""
    grid = path / "synthetic" / "grid.png"
    return render(
        "run.html",
        summary=summary,
        made=made(summary),
        rows=rows_of(summary),
        seen=seen_by_student(summary),
        parts=on_parts(summary["student"]),
        curves=curves(read_log(path)),
        classes=summary["classes"],
        grid=_data_url(grid) if grid.is_file() else "",
    )


def ladder_page(
    rows: Sequence[Mapping[str, Any]], grids: Mapping[str, Path], runs: Mapping[str, str], title: str
) -> str:
    """The report of several runs side by side."""
    pictures = {name: _data_url(grid) for name, grid in grids.items() if grid.is_file()}
    return render("ladder.html", rows=rows, pictures=pictures, runs=runs, title=title, chart=bars(rows))


def render(template: str, **values: Any) -> str:
    """A page from a template; names and paths are escaped, since a class may be called anything."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("datafree.runs"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "score": score, "held_out": held_out}
    return environment.get_template(template).render(privacy=PRIVACY, **values)


def curves(log: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """One drawing for each phase of the log: its terms, and its health apart."""
    drawings = {}
    for phase, health in (("application", False), ("synthesis", False), ("synthesis", True)):
        lines = [line for line in log if line["phase"] == phase]
        names = sorted(
            {name for line in lines for name in line if name.startswith("health/") == health} - {"phase", "step"}
        )
        points = {name: [(line["step"], line[name]) for line in lines if name in line] for name in names}
        points = {name: xy for name, xy in points.items() if len(xy) > 1}
        if points:
            title = f"{phase}, health" if health else f"{phase}, terms"
            drawings[title] = _draw(points, "batch" if phase == "synthesis" else "step", logarithmic=not health)
    return drawings


def new_figure(width: float, height: float, left: float = 0.1, right: float = 0.74) -> Any:
    """An empty figure that is drawn as SVG, equal bytes for equal content; its margins are set, not searched for."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "datafree"
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    figure.subplots_adjust(left=left, right=right, bottom=0.5 / height, top=1 - 0.1 / height)
    return figure


def _draw(points: Mapping[str, list[tuple[float, float]]], unit: str, *, logarithmic: bool) -> str:
    figure = new_figure(7, 3)
    axes = figure.add_subplot(xlabel=unit)
    for name, xy in points.items():
        axes.plot(*zip(*xy, strict=True), label=name.removeprefix("health/"), linewidth=1.2)
    if logarithmic and all(y > 0 for xy in points.values() for _, y in xy):
        axes.set_yscale("log")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return svg(figure)


def bars(rows: Sequence[Mapping[str, Any]]) -> str:
    """Accuracy of each row as a bar."""
    known = [row for row in rows if "accuracy" in row]
    figure = new_figure(7, 0.4 * len(known) + 0.6, left=0.28, right=0.98)
    axes = figure.add_subplot(xlabel="held-out accuracy, %", xlim=(0, 109))
    names, heights = [row["model"] for row in known], [100 * score(row) for row in known]
    axes.bar_label(axes.barh(names, heights, color="#4477aa"), fmt="%.1f", padding=3)
    axes.invert_yaxis()
    return svg(figure)


def svg(figure: Any) -> str:
    """A figure as text that stands inside a page."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()[file.getvalue().index("<svg") :]


def _data_url(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def read_summary(path: Path) -> dict[str, Any]:
    """What a finished run found.

    Raises:
        InputError: If the run is not finished, or there is none.
    """
    if not (path / "summary.json").is_file():
        unfinished = (path / "experiment.json").is_file()
        mend = f"go on with `datafree resume {path}`" if unfinished else "give the folder of a run"
        raise InputError(f"{path} holds no finished run; {mend}")
    return json.loads((path / "summary.json").read_text())
