"""What results say about methods: their names, and the parts of a mixture."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import torch

from datafree.classifier import Classifier
from datafree.evaluation import health
from datafree.runs.reading.summary import PartResult as PartResult
from datafree.sets.contact_sheet import labels_of
from datafree.sets.saved import ALL_METHODS
from datafree.synthesis import Method
from datafree.synthesis.mixture import Mixture
from datafree.types import Batch

SHEET = 128
"""images of the first batches on the contact sheet of a mixture"""


def method_name(method: Method | None) -> str:
    """Return the name of the preset that is most similar to a method, by which settings are on and which are off."""
    if method is None:
        return "real images"
    if isinstance(method, Mixture):
        return method.label

    def differences(preset: Method) -> int:
        return sum(bool(getattr(method, f.name)) != bool(getattr(preset, f.name)) for f in fields(method))

    presets = {name: preset for name, preset in ALL_METHODS.items() if type(preset) is type(method)}
    if not presets:
        return type(method).__name__.removesuffix("Config")
    return min(presets, key=lambda name: differences(presets[name]))


def part_results(
    method: Method | None,
    first_batches: Mapping[str, Batch],
    images: Mapping[str, int],
    teacher: Classifier,
    student: Classifier,
) -> list[dict[str, Any]]:
    """Return the entries of the parts of a mixture in a summary, as JSON; an empty list for other methods.

    Args:
        method: The method.
        first_batches: The first batch of each part.
        images: Number of images synthesized, by part.
        teacher: The teacher.
        student: The trained student; its agreement with the teacher is measured on the first batches.
    """
    if not isinstance(method, Mixture):
        return []
    rows = []
    for part, share in zip(method.parts, method.shares, strict=True):
        row: dict[str, Any] = {"name": part.name, "share": share, "images": images.get(part.name, 0), "health": {}}
        if batch := first_batches.get(part.name):
            row["health"] = health(teacher, student, replace(batch, images=batch.images.to(teacher.device)))
        rows.append(row)
    return rows


def sheet_batch(first_batches: Mapping[str, Batch]) -> Batch | None:
    """Return images of all parts for one contact sheet: as many of each; None if nothing was synthesized."""
    batches = list(first_batches.values())
    if len(batches) < 2:
        return batches[0] if batches else None
    each = SHEET // len(batches)
    images = torch.cat([batch.images[:each].cpu() for batch in batches])
    return Batch(images, torch.cat([labels_of(batch)[:each].cpu() for batch in batches]), {})
