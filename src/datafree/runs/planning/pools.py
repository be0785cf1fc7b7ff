"""How many images the pools of a run hold: default pools are bounded, whatever the size of an image."""

import math
from dataclasses import replace

from datafree.runs.planning.fitting import parts_of
from datafree.runs.settings import Experiment
from datafree.synthesis import Method, Schedule
from datafree.synthesis.mixture import Mixture, Part

POOL = 2 * 10**9
"""bytes of all pools of a run with a budget or with default pools; the same on every machine, so that a repeated run does the
same"""


def in_memory(
    method: Method, schedule: Schedule, shape: tuple[int, int, int], *, only_defaults: bool = False
) -> tuple[Method, Schedule]:
    """Return a method and its schedule with pools that are not larger than `POOL` together.

    Args:
        method: A method or a mixture.
        schedule: Its schedule.
        shape: Channels, height and width of an image.
        only_defaults: Leave a part alone if its schedule is not the default of its method.
    """
    parts = parts_of(method, schedule)
    image = 4 * math.prod(shape)

    def smaller(part: Part) -> Schedule:
        own = part.own_schedule
        if only_defaults and own != replace(part.method.schedule, batch_size=own.batch_size):
            return own
        if not part.method.images_per_batch:  # a saved set has no batches of its own
            return own
        most = max(1, POOL // len(parts) // (part.method.images_per_batch * image))
        return replace(own, pool_batches=min(own.pool_batches, most), warmup_batches=min(own.warmup_batches, most))

    if not isinstance(method, Mixture):
        return method, smaller(parts[0])
    return replace(method, parts=tuple(replace(part, schedule=smaller(part)) for part in parts)), schedule


def with_bounded_pools(experiment: Experiment, shape: tuple[int, int, int]) -> tuple[Experiment, tuple[str, ...]]:
    """Return an experiment whose default pools are bounded, and what was changed, as notes for the user.

    Args:
        experiment: The settings. Pools that the user has set are left alone.
        shape: Channels, height and width of an image.
    """
    if experiment.method is None or not experiment.application.needs_images:
        return experiment, ()
    method, schedule = in_memory(experiment.method, experiment.schedule, shape, only_defaults=True)
    notes = []
    before, after = parts_of(experiment.method, experiment.schedule), parts_of(method, schedule)
    for part, bounded in zip(before, after, strict=True):
        if (own := bounded.own_schedule) != part.own_schedule:
            option = f"--method.{part.name}.pool-batches" if isinstance(method, Mixture) else "--pool-batches"
            notes.append(
                f"the pool holds {own.pool_batches} batches instead of {part.own_schedule.pool_batches}, so that it takes at "
                f"most {POOL / 1e9:g} GB; set {option} to store more"
            )
    return (replace(experiment, method=method, schedule=schedule) if notes else experiment), tuple(notes)
