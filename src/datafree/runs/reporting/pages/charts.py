"""Figures of a report: SVG elements that take font and colours from the page, so that they fit light, dark and print."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from markupsafe import Markup, escape

from datafree.runs.reading.answers import Bin

Kind = Literal["share", "count", "loss"]
"""of an axis: from 0 to 100 %; from 0; or of the range of the values, logarithmic if it is wide"""
Series = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 320, 150
"""of a line chart, in units of its own"""
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 10, 22
"""margins of a chart"""
MOST_POINTS = 240
"""points of a line; of more, the lowest and highest of each stretch are drawn"""
WIDE = 20.0
"""ratio of the largest to the smallest value above which an axis is logarithmic"""


def line_chart(series: Series, kind: Kind, unit: str, title: str) -> Markup:
    """Draw one quantity over time.

    Args:
        series: Pairs of step and value, ordered by step.
        kind: Of the vertical axis.
        unit: What the steps are.
        title: Read by screen readers.
    """
    series = thinned(series)
    values = [y for _, y in series]
    logarithmic = kind == "loss" and min(values) > 0 and max(values) / min(values) > WIDE
    low, high, marks = vertical_range(values, kind, logarithmic)
    first, last = series[0][0], max(series[-1][0], series[0][0] + 1)

    def across(x: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (x - first) / (last - first)

    def up(y: float) -> float:
        share = (math.log(y / low) / math.log(high / low)) if logarithmic else (y - low) / (high - low)
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * min(max(share, 0.0), 1.0)

    points = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in series)
    parts = [_mark(up(mark), label_of(mark, kind)) for mark in marks]
    parts.append(Markup('<polyline class="line" points="{}"/>').format(points))
    parts.append(
        Markup('<circle class="dot" cx="{}" cy="{}" r="2.5"/>').format(
            f"{across(series[-1][0]):.1f}", f"{up(series[-1][1]):.1f}"
        )
    )
    parts.append(_text(LEFT, HEIGHT - 6, f"{unit} {first:,.0f}", "start"))
    parts.append(_text(WIDTH - RIGHT, HEIGHT - 6, f"{last:,.0f}", "end"))
    return _svg(WIDTH, HEIGHT, parts, title)


def vertical_range(values: Sequence[float], kind: Kind, logarithmic: bool) -> tuple[float, float, list[float]]:
    """Return both ends of the vertical axis and the marks on it."""
    if kind == "share":
        return 0.0, 1.0, [0.0, 0.5, 1.0]
    low, high = min(values), max(values)
    if logarithmic:
        exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        every = max(1, math.ceil((len(exponents) - 1) / 3))
        marks = [10.0**exponent for exponent in exponents[::every]]
        return min(low, marks[0]), max(high, marks[-1]), marks
    if kind == "count":
        low = min(0.0, low)
    if high - low <= 1e-12 * max(abs(low), abs(high), 1e-12):  # a constant
        low, high = min(0.0, 2 * low), max(0.0, 2 * high) or 1.0
    step = nice_step((high - low) / 3)
    marks = [step * i for i in range(math.floor(low / step), math.ceil(high / step) + 1)]
    return marks[0], marks[-1], marks


def nice_step(rough: float) -> float:
    """Return the smallest of 1, 2, 2.5 and 5 times a power of ten that is at least as large as a number."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9))


def label_of(value: float, kind: Kind) -> str:
    """Return the text of a mark on an axis."""
    if kind == "share":
        return f"{100 * value:.0f} %"
    if value and (abs(value) >= 1e5 or abs(value) < 1e-3):
        mantissa, exponent = f"{value:.0e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    return f"{value:,.6g}"


def thinned(series: Series) -> Series:
    """Return a series with few points that has the same peaks."""
    if len(series) <= MOST_POINTS:
        return series
    size = math.ceil(len(series) / (MOST_POINTS // 2))
    kept: list[tuple[float, float]] = []
    for start in range(0, len(series), size):
        stretch = series[start : start + size]
        ends = {min(stretch, key=lambda point: point[1]), max(stretch, key=lambda point: point[1])}
        kept += sorted(ends)
    return [series[0], *kept[1:], series[-1]] if kept[-1] != series[-1] else kept


def calibration_chart(curves: Mapping[str, Sequence[Bin]], correct: str) -> Markup:
    """Draw how often predictions of each confidence are correct, with the diagonal of perfect calibration.

    Args:
        curves: The bins of each network: `student`, `teacher`.
        correct: Label of the vertical axis.
    """
    side, left, bottom = 260, 52, 40
    plot = side - left - 12

    def across(x: float) -> float:
        return left + plot * x

    def up(y: float) -> float:
        return side - bottom - plot * y

    parts = [_mark(up(y), f"{100 * y:.0f} %", left, side - 12) for y in (0.0, 0.5, 1.0)]
    parts += [_text(across(x), side - bottom + 17, f"{100 * x:.0f} %", "middle") for x in (0.0, 0.5, 1.0)]
    parts.append(
        Markup('<line class="guide" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(
            *(f"{value:.1f}" for value in (across(0), up(0), across(1), up(1)))
        )
    )
    most = max((item.images for bins in curves.values() for item in bins), default=1)
    for name, bins in curves.items():
        points = " ".join(f"{across(item.confidence):.1f},{up(item.correct):.1f}" for item in bins)
        parts.append(Markup('<polyline class="line {}" points="{}"/>').format(name, points))
        for item in bins:
            parts.append(
                Markup('<circle class="dot {}" cx="{}" cy="{}" r="{}"><title>{}</title></circle>').format(
                    name,
                    f"{across(item.confidence):.1f}",
                    f"{up(item.correct):.1f}",
                    f"{2 + 4 * math.sqrt(item.images / most):.1f}",
                    f"{name}: {item.images:,} predictions, confidence {100 * item.confidence:.1f} %, "
                    f"{correct} {100 * item.correct:.1f} %",
                )
            )
    parts.append(_text(across(0.5), side - 6, "confidence", "middle", "name"))
    label = Markup('<text class="name" text-anchor="middle" transform="translate(11 {}) rotate(-90)">{}</text>')
    parts.append(label.format(f"{up(0.5):.1f}", correct))
    return _svg(side, side, parts, "calibration curve")


def _mark(y: float, label: str, left: float = LEFT, right: float = WIDTH - RIGHT) -> Markup:
    line = Markup('<line class="grid" x1="{}" y1="{}" x2="{}" y2="{}"/>')
    return line.format(left, f"{y:.1f}", right, f"{y:.1f}") + _text(left - 6, y + 3.5, label, "end")


def _text(x: float, y: float, text: str, anchor: str, kind: str = "tick") -> Markup:
    return Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>').format(
        kind, f"{x:.1f}", f"{y:.1f}", anchor, text
    )


def _svg(width: int, height: int, parts: Sequence[Markup], title: str) -> Markup:
    head = Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">').format(width, height, escape(title))
    return head + Markup("").join(parts) + Markup("</svg>")
