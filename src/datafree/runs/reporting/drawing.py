"""Figures of reports and tables, drawn by Matplotlib as SVG: equal numbers give equal bytes."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

from datafree.evaluation import score

CURVES = {
    "loss terms of the student": ("application", False),
    "loss terms of the synthesized images": ("synthesis", False),
    "health during synthesis": ("synthesis", True),
}
"""titles of the curves, each with a phase of the log and whether its health or its loss terms are drawn"""


def curves(log: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Draw the loss terms and the health in a log.

    Args:
        log: The lines of the log.

    Returns:
        Figures as SVG by title; titles with fewer than two points are left out.
    """
    figures = {}
    for title, (phase, health) in CURVES.items():
        lines = [line for line in log if line["phase"] == phase]
        names = sorted(
            {name for line in lines for name in line if name.startswith("health/") == health} - {"phase", "step"}
        )
        points = {name: [(line["step"], line[name]) for line in lines if name in line] for name in names}
        points = {name: xy for name, xy in points.items() if len(xy) > 1}
        if points:
            figures[title] = _draw_lines(points, "batch" if phase == "synthesis" else "step", logarithmic=not health)
    return figures


def bar_chart(rows: Sequence[Mapping[str, Any]]) -> str:
    """Draw the held-out accuracy of each row as a bar; rows without accuracy are left out."""
    rows = [row for row in rows if "accuracy" in row]
    figure = new_figure(7, 0.4 * len(rows) + 0.6, left=0.28, right=0.98)
    axes = figure.add_subplot(xlabel="held-out accuracy, %", xlim=(0, 109))
    names, accuracies = [row["model"] for row in rows], [100 * score(row) for row in rows]
    axes.bar_label(axes.barh(names, accuracies, color="#4477aa"), fmt="%.1f", padding=3)
    axes.invert_yaxis()
    return to_svg(figure)


def new_figure(width: float, height: float, left: float = 0.1, right: float = 0.74) -> Any:
    """Create a figure.

    Args:
        width: Width in inches.
        height: Height in inches.
        left: Left end of the axes, as a fraction of the width.
        right: Right end of the axes, as a fraction of the width.
    """
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "datafree"
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    figure.subplots_adjust(left=left, right=right, bottom=0.5 / height, top=1 - 0.1 / height)
    return figure


def to_svg(figure: Any) -> str:
    """Return a figure as an SVG element."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()[file.getvalue().index("<svg") :]


def _draw_lines(points: Mapping[str, list[tuple[float, float]]], unit: str, *, logarithmic: bool) -> str:
    figure = new_figure(7, 3)
    axes = figure.add_subplot(xlabel=unit)
    for name, xy in points.items():
        axes.plot(*zip(*xy, strict=True), label=name.removeprefix("health/"), linewidth=1.2)
    if logarithmic and all(y > 0 for xy in points.values() for _, y in xy):
        axes.set_yscale("log")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return to_svg(figure)
