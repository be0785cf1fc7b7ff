"""Estimating the students of the table: everything that is computed from their answers on the pools."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datafree.benchmarks.estimates.naive import disagreement, naive_estimates
from datafree.benchmarks.estimates.quantized import load_student
from datafree.benchmarks.estimates.students import FAMILIES
from datafree.benchmarks.estimates.training import Student
from datafree.classifier import Classifier, frozen
from datafree.estimation.agreement import weighted_agreement
from datafree.estimation.estimate import Settings, families_for, family_numbers, pools_for
from datafree.estimation.families import families_of, without
from datafree.estimation.pools import Pool, is_fragile, rounded
from datafree.estimation.result import interval, word_for
from datafree.estimation.stability import BATCH, REAL_SHARES, decide, histogram, kept_decisions
from datafree.matching import resized_to
from datafree.randomness import RandomNumbers
from datafree.types import Batch, Images, Logits

FRAGILE_TEACHER, TEACHERS_WEIGHTS = "fragile teacher", "started from the teacher's weights"
"""why a student is not estimated"""
NOISE = 384
"""images of the own pool of a student of noise, which no family has"""


class Measured:
    """The pools of a teacher, and what is the same for all its students."""

    def __init__(self, teacher: Classifier, pools: Path, real: Sequence[Batch]) -> None:
        self.teacher = teacher
        self.pools = pools_for(self.teacher, families_for(self.teacher), Settings(seconds=1e9, folder=pools))
        self.fragile = is_fragile(self.pools)
        self.logits = {name: logits_of(self.teacher, pool.pixels) for name, pool in self.pools.items()}
        with RandomNumbers(0):
            self.noise = rounded(torch.rand(NOISE, *self.teacher.shape)).float() / 255
            images = torch.cat([batch.images for batch in real])[:2000]
            self.shares = histogram(kept_decisions(self.teacher, images))

    def own_images(self, own: Sequence[str]) -> Images:
        """Return the student's own kind of images."""
        return torch.cat([self.pools[name].pixels for name in own]) if own else self.noise

    def own_agreement(self, own: Sequence[str], logits: Logits, shares: Sequence[float]) -> float | None:
        """Return the stability-weighted agreement on a student's own kind of images; None if no family has it."""
        if not own:
            return None
        decisions, kept = joined(self.pools, own)
        return weighted_agreement(
            logits.argmax(1) == decisions, decisions, kept, len(self.teacher.classes), shares
        ).total


def logits_of(model: Classifier, images: Images) -> Logits:
    """Return the logits of a classifier on images of any size."""
    with frozen(model), torch.no_grad():
        return torch.cat([model(resized_to(batch, model)) for batch in images.split(BATCH)])


def joined(pools: Mapping[str, Pool], names: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Return the decisions and the stability on some pools."""
    return torch.cat([pools[name].decisions for name in names]), torch.cat([pools[name].kept for name in names])


def measure(
    student: Student, out: Path, measured: Measured, shares: Sequence[float] = REAL_SHARES
) -> tuple[dict[str, Any], Logits]:
    """Return the row of a student, and its logits on its own kind of images.

    Args:
        student: The student.
        out: The folder of all students.
        measured: The pools of its teacher.
        shares: h, measured on real images of the other teachers.
    """
    network, family = load_student(out / student.folder), FAMILIES[student.teacher]
    recipe = family.recipes.get(student.recipe)
    copied = recipe is not None and recipe.start != "random"
    refused = FRAGILE_TEACHER if measured.fragile else TEACHERS_WEIGHTS if copied else ""
    own = [name for name in measured.pools if name in families_of(family.method_of(student.recipe))]
    others = list(without(measured.pools, frozenset(own)))
    answers = {name: logits_of(network, measured.pools[name].pixels) for name in others}
    logits = torch.cat(list(answers.values()))
    decisions, kept = joined(measured.pools, others)
    own_images = measured.own_images(own)
    own_logits = logits_of(network, own_images)
    found = weighted_agreement(
        logits.argmax(1) == decisions,
        decisions,
        kept,
        len(network.classes),
        shares,
        families=family_numbers({name: measured.pools[name] for name in others}),
    )
    low, high = interval(found.total, found.error)
    own_agreement = measured.own_agreement(own, own_logits, shares)
    naive = naive_estimates(
        own_logits,
        decide(measured.teacher, own_images),
        logits,
        decisions,
        torch.cat([measured.logits[name] for name in others]),
    )
    row = {name: value for name, value in asdict(student).items() if name not in ("folder", "per_class")}
    row |= {
        "kind": family.kind_of(student.recipe),
        "retention": student.retention,
        "S": found.total,
        "error": found.error,
        "low": low,
        "high": high,
    }
    row |= {
        "word": "not estimated" if refused else word_for(found.total, own_agreement),
        "refused": refused,
        "own": own_agreement,
        "images": found.images,
        "lowest_class": min(found.per_class),
    }
    row |= {"lowest_true": min(student.per_class), "naive": naive}
    return row, own_logits


def add_disagreement(rows: Sequence[dict[str, Any]], logits: Sequence[Logits]) -> None:
    """Add GDE to the rows of which another seed has learned as many steps."""
    for row, own in zip(rows, logits, strict=True):
        twins = [
            other
            for candidate, other in zip(rows, logits, strict=True)
            if candidate["seed"] != row["seed"]
            and all(candidate[key] == row[key] for key in ("teacher", "recipe", "steps"))
        ]
        row["naive"]["GDE"] = disagreement(own, twins[0]) if twins else None
