"""Fitting a method into a budget: how many images it optimizes, with how many steps, and how many steps the student takes.

A method that optimizes each batch by itself, such as DeepInversion, gets a fixed fraction of the time, `SHARE`. It keeps the
steps of its paper where at least `BATCHES` batches fit; else its batches are optimized in fewer steps, but not in fewer than
`MIN_STEPS`. Every other method synthesizes beside the student, and its cost is part of a student step.

The counts are decided once, from measured times, and written into the run. A resumed or repeated run uses the counts, so it
does the same on a slower machine.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil, floor, inf
from typing import Any

from datafree.runs.planning.budget import Budget, duration
from datafree.runs.planning.timing import SynthesisTime
from datafree.synthesis import Method, Schedule
from datafree.synthesis.mixture import Mixture, Part
from datafree.types import InputError

SHARE = 0.4
"""fraction of the time for images that are optimized"""
BATCHES = 16
"""batches that are worth more than longer optimizations"""
MIN_STEPS = 100
"""fewest optimization steps of a batch; see the ablation in `benchmarks/results`"""
MIN_BATCH = 16
"""smallest batch that is optimized"""
MAX_BATCHES = 64
"""most batches; the rest of the time is for the student"""
WHOLE = "whole"
"""name of the only part of a method that is no mixture"""


@dataclass(frozen=True)
class Fitted:
    """A method with plain counts that fit into a budget."""

    method: Method
    schedule: Schedule
    steps: int
    """steps of the student"""
    seconds: float
    """expected duration, from the start of the command to its end"""
    notes: tuple[str, ...] = ()
    """what the user should know about it"""


def fit(
    method: Method,
    schedule: Schedule,
    times: Mapping[str, SynthesisTime],
    *,
    student: float,
    overhead: float,
    budget: Budget,
) -> Fitted:
    """Fit a method or a mixture into a budget.

    Args:
        method: The method.
        schedule: Its schedule; not used for a mixture, whose parts have their own.
        times: Measured times of each part of the mixture, by name; of a single method by the name `WHOLE`.
        student: Seconds of a student step.
        overhead: Seconds of everything besides synthesis and student.
        budget: The budget.

    Raises:
        InputError: If the budget is too short. The message names the least that works.
    """
    parts = parts_of(method, schedule)
    optimized = [part for part in parts if times[part.name].step]
    for part in parts:
        if part not in optimized:
            own, batch = part.own_schedule, times[part.name].batch
            student += batch / own.refresh_every if own.refresh_every else 0.0
            overhead += batch * own.warmup_batches
    most = most_steps(budget, student, overhead)
    seconds = SHARE * most * student / (1 - SHARE if budget.steps else 1)
    total = sum(part.share for part in optimized)
    shortened = {
        part.name: shorten(part, seconds * part.share / total, times[part.name].step, most) for part in optimized
    }
    chosen = [part for part in (shortened.get(part.name, part) for part in parts) if part]
    if not chosen:
        least = overhead + min(times[part.name].step * MIN_BATCH / part.method.batch_size for part in optimized) * (
            MIN_STEPS / SHARE
        )
        raise InputError(
            f"a budget of {budget} is too short: it takes {duration(least)} to optimize {MIN_BATCH} images in {MIN_STEPS} "
            "steps and to train the student as long; give a longer --budget"
        )
    sizes = {part.name: part.method.batch_size for part in optimized}
    synthesis = sum(
        optimization_seconds(part, times[part.name].step * part.method.batch_size / sizes[part.name])
        for part in chosen
        if part.name in sizes
    )
    steps = budget.steps or max(1, floor((budget.seconds - overhead - synthesis) / student))
    chosen = [spread(part, steps) for part in chosen]
    if len(chosen) > 1:
        fitted, own = replace(method, parts=tuple(chosen)), schedule  # type: ignore[call-arg]
    else:
        fitted, own = chosen[0].method, replace(chosen[0].own_schedule, batch_size=schedule.batch_size)
    return Fitted(fitted, own, steps, overhead + synthesis + steps * student, notes_on(parts, chosen))


def parts_of(method: Method, schedule: Schedule) -> list[Part]:
    """Return the parts of a mixture; a single method is one part."""
    if isinstance(method, Mixture):
        return list(method.parts)
    return [Part(name=WHOLE, method=method, share=1, schedule=schedule)]


def most_steps(budget: Budget, student: float, overhead: float) -> int:
    """Return how many steps the student could take if nothing were optimized.

    Raises:
        InputError: If the budget is too short for one.
    """
    steps = budget.steps or floor((budget.seconds - overhead) / student)
    if steps < 1:
        raise InputError(
            f"a budget of {budget} is too short: loading the networks, one step and saving take "
            f"{duration(overhead + student)}; give a longer --budget"
        )
    return steps


def notes_on(parts: list[Part], chosen: list[Part]) -> tuple[str, ...]:
    """Return notes about the parts for which the budget is too short."""
    names = {part.name for part in chosen}
    return tuple(
        f"{part.name} is left out of the mixture: the budget is too short for its images"
        for part in parts
        if part.name not in names
    )


def shorten(part: Part, seconds: float, step: float, student_steps: float = inf) -> Part | None:
    """Return a part whose batches are optimized within a time; None if it is too short for one batch.

    Args:
        part: The part.
        seconds: The time for all its batches.
        step: Seconds of one optimization step of a batch.
        student_steps: Steps of the student; more batches than this are of no use.
    """
    method = part.method
    paper = round(method.passes)
    steps = max(min(paper, MIN_STEPS), min(paper, floor(seconds / (BATCHES * step))))
    batches = min(MAX_BATCHES, student_steps, floor(seconds / (steps * step)))
    if batches < 1:
        size = floor(method.batch_size * seconds / (steps * step))
        if size < MIN_BATCH:
            return None
        method, batches = replace(method, batch_size=size), 1
    own = part.own_schedule
    schedule = replace(own, warmup_batches=int(batches), refresh_every=0, pool_batches=int(batches))
    return replace(part, method=with_passes(method, steps), schedule=schedule)


def with_passes(method: Method, steps: int) -> Method:
    """Return a method whose batches are optimized in this number of steps at full resolution."""
    current: Any = method.steps  # type: ignore[attr-defined]
    return replace(method, steps=(*current[:-1], steps) if isinstance(current, tuple) else steps)  # type: ignore[call-arg]


def optimization_seconds(part: Part, step: float) -> float:
    """Return the time in which all batches of a shortened part are optimized.

    Args:
        part: The part.
        step: Seconds of one optimization step of a batch of its size.
    """
    return part.own_schedule.warmup_batches * part.method.passes * step


def spread(part: Part, steps: int) -> Part:
    """Return an adaptive part whose batches are optimized while the student trains; of these, a quarter before.

    The student of an adaptive method must have learned something before its mistakes are of use.
    """
    own = part.own_schedule
    if not part.method.adaptive or own.refresh_every or own.warmup_batches < 4:
        return part
    first = own.warmup_batches // 4
    every = max(1, ceil(steps / (own.warmup_batches - first)))
    return replace(part, schedule=replace(own, warmup_batches=first, refresh_every=every))
