"""How good an estimate is: errors, rank correlation, coverage, and the choice between two recipes."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

GOOD, WEAK = 0.90, 0.80
"""retention above which errors count most, and below which no student may be called good"""
NOTABLE = 0.02
"""difference in retention of two recipes that a choice should see"""


def rank_correlation(estimates: Sequence[float], truths: Sequence[float]) -> float | None:
    """Return Spearman's rank correlation; equal values share their mean rank. None if one side is constant."""
    if min(len(set(estimates)), len(set(truths))) < 2:
        return None
    return torch.corrcoef(torch.stack([ranks(estimates), ranks(truths)]))[0, 1].item()


def ranks(values: Sequence[float]) -> Float[Tensor, " n"]:
    """Return the rank of each value, from 0; equal values share their mean rank."""
    numbers = torch.tensor(values, dtype=torch.float64)
    below = (numbers[:, None] > numbers).sum(1)
    equal = (numbers[:, None] == numbers).sum(1)
    return below + (equal - 1) / 2


def mean_error(estimates: Sequence[float], truths: Sequence[float]) -> float | None:
    """Return the mean absolute error; None without students."""
    if not truths:
        return None
    return sum(abs(e - t) for e, t in zip(estimates, truths, strict=True)) / len(truths)


def error_range(estimates: Sequence[float], truths: Sequence[float]) -> list[float] | None:
    """Return the 5th and 95th percentile of the mean absolute error over 2,000 bootstrap samples of the students."""
    if not truths:
        return None
    errors = (torch.tensor(estimates) - torch.tensor(truths)).abs()
    samples = torch.randint(len(errors), (2000, len(errors)), generator=torch.Generator().manual_seed(0))
    return errors[samples].mean(1).quantile(torch.tensor([0.05, 0.95])).tolist()


def right_choices(rows: Sequence[Mapping[str, Any]], estimates: Sequence[float]) -> float | None:
    """Return in which share of pairs of students of one teacher the better one has the higher estimate.

    Only pairs whose retention differs by `NOTABLE` or more count, and of which the better one keeps 80 % or more: between
    two that have failed there is nothing to choose.
    """
    pairs = [
        (i, j)
        for i, j in combinations(range(len(rows)), 2)
        if rows[i]["teacher"] == rows[j]["teacher"]
        and abs(rows[i]["retention"] - rows[j]["retention"]) >= NOTABLE
        and max(rows[i]["retention"], rows[j]["retention"]) >= GOOD - 0.1
    ]
    if not pairs:
        return None
    right = [(rows[i]["retention"] > rows[j]["retention"]) == (estimates[i] > estimates[j]) for i, j in pairs]
    return sum(right) / len(right)


def scores(rows: Sequence[Mapping[str, Any]], estimates: Sequence[float | None]) -> dict[str, Any]:
    """Return how good an estimate is on the students that have one."""
    kept = [(row, estimate) for row, estimate in zip(rows, estimates, strict=True) if estimate is not None]
    those, values = [row for row, _ in kept], [estimate for _, estimate in kept]
    truths = [row["retention"] for row in those]
    best = [index for index, truth in enumerate(truths) if truth >= GOOD]
    above = ([values[i] for i in best], [truths[i] for i in best])
    return {
        "students": len(values),
        "above": len(best),
        "error_above": mean_error(*above),
        "error_above_range": error_range(*above),
        "error": mean_error(values, truths),
        "rank_correlation": rank_correlation(values, truths),
        "right_choices": right_choices(those, values),
    }


def coverage(rows: Sequence[Mapping[str, Any]]) -> float:
    """Return the share of students whose retention lies in their interval.

    A student that is better than its teacher on the held-out images keeps all of its accuracy.
    """
    return sum(row["low"] <= min(row["retention"], 1) <= row["high"] for row in rows) / max(1, len(rows))


def false_praise(rows: Sequence[Mapping[str, Any]]) -> int:
    """Return how many students below `WEAK` are called good."""
    return sum(row["word"] == "good" and row["retention"] < WEAK for row in rows)
