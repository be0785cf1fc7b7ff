"""What the log of a run shows: each term of the objective and each signal over time, on an axis of its own kind."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from datafree.runs.reporting.pages.charts import Kind, line_chart

SHARES = ("agreement", "class_balance", "confidence", "accuracy", "duplicates", "on_target", "settled")
"""signals between 0 and 1"""
COUNTS = ("labels_per_image", "filters", "temperature")
"""quantities that are no losses"""
MEANINGS = {
    "one-hot": "how far the teacher's answers are from certain",
    "classification": "distance of the teacher's answers to the classes aimed for",
    "entropy": "falls as the classes become equally frequent",
    "information-entropy": "falls as the classes become equally frequent",
    "activation": "falls as the teacher's features become strong",
    "statistics": "distance to the running statistics of the teacher",
    "tv": "differences of neighbouring pixels",
    "l2": "size of the pixel values",
    "prior": "distance to the smoothness of photographs",
    "robust": "the class term on perturbed images",
    "compete": "falls as the student disagrees with the teacher",
    "adversary": "falls as the student disagrees with the teacher",
    "impression": "distance of the teacher's answers to the sampled ones",
    "residual": "of the fit to the sampled answers",
    "sparsity": "labels per image",
    "groups": "differences between the groups of the generator",
    "distillation": "distance of the student's answers to the teacher's",
    "old": "distance to the teacher's answers on old classes",
    "new": "error on new classes",
    "remember": "distance to the teacher's answers on new images",
    "local": "error among the new classes",
    "head": "error of the last layer on all classes",
    "features": "change of the student's features",
    "filters": "filters that are left",
    "agreement": "images on which student and teacher answer the same",
    "class_balance": "100 % if all classes are equally frequent",
    "confidence": "of the teacher on its images",
    "diversity": "mean distance of two images; about 1.4 for training images",
    "duplicates": "images that nearly equal another one",
    "on_target": "images that the teacher assigns to the class aimed for",
    "relative_statistics": "distance to the running statistics, in their own units",
    "labels_per_image": "labels that the teacher predicts",
    "accuracy": "on held-out images; nothing is selected by it",
}
"""terms and signals of the log, in a few words"""


@dataclass(frozen=True)
class Curve:
    """A term or a signal over time."""

    name: str
    meaning: str
    figure: Markup
    shown: str
    """the last value"""


@dataclass(frozen=True)
class Curves:
    """Curves of one kind."""

    title: str
    caption: str
    curves: Sequence[Curve]


def curves(log: Sequence[Mapping[str, Any]]) -> list[Curves]:
    """Draw every quantity of a log that was logged twice or more often.

    Args:
        log: The events of the log.
    """
    groups = (
        ("Training of the student", "Loss terms of the student's training, weights included.", "application", False),
        ("Objective of synthesis", "Terms that synthesis minimises, weights included.", "synthesis", False),
        (
            "Signals of the images",
            "Measured on synthesized images, without labels. They reveal collapse, but do not predict accuracy.",
            "synthesis",
            True,
        ),
        ("Accuracy during training", "Measured on held-out images while the student was trained.", "evaluation", False),
    )
    found = [
        Curves(title, caption, _curves([line for line in log if line["phase"] == phase], phase, signals))
        for title, caption, phase, signals in groups
    ]
    return [group for group in found if group.curves]


def _curves(lines: Sequence[Mapping[str, Any]], phase: str, signals: bool) -> list[Curve]:
    names = dict.fromkeys(name for line in lines for name in line if name.startswith("health/") == signals)
    unit = "batch" if phase == "synthesis" else "step"
    drawn = []
    for name in names:
        points = [(line["step"], line[name]) for line in lines if name in line]
        if name not in ("phase", "step", "seconds") and len(points) > 1:
            drawn.append(_curve(name.removeprefix("health/"), points, unit, signals or phase == "evaluation"))
    return drawn


def _curve(name: str, points: Sequence[tuple[float, float]], unit: str, signals: bool) -> Curve:
    part, _, term = name.rpartition("/")
    kind: Kind = "share" if signals and term in SHARES else "count" if term in COUNTS else "loss"
    last = f"{100 * points[-1][1]:.1f} %" if kind == "share" else f"{points[-1][1]:.4g}"
    shown = f"{part}: {in_words(term)}" if part else in_words(term)
    return Curve(shown, MEANINGS.get(term, ""), line_chart(points, kind, unit, shown), last)


def in_words(term: str) -> str:
    """Return the name of a term with spaces."""
    return term.replace("_", " ")
