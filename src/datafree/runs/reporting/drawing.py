"""Figures of benchmark tables, drawn by Matplotlib as SVG: equal numbers give equal bytes."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

from datafree.evaluation import score


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
