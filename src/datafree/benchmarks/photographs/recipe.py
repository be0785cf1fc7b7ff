"""The recipe of `auto` with plain counts: procedural pictures, a share of them refined."""

from dataclasses import replace

from datafree.benchmarks.table import Row
from datafree.methods import METHODS
from datafree.methods.deep_inversion import DeepInversionConfig
from datafree.runs.planning.auto import HINTS, REFINED
from datafree.synthesis import Schedule
from datafree.synthesis.mixture import Mixture, Part

AUTO = "auto"
"""name of the rows with what the method `auto` chooses for their teacher"""
HINTED, UNHINTED, HINTED_CEILING = "auto, with hints", "auto, without hints", "real images, with hints"
"""rows with the features of the teacher where `auto` has none, without them where it has some, and with them on real images"""


def hinted(row: Row) -> Row:
    """Return a row whose student learns the features of the teacher too."""
    return replace(row, application=replace(row.application, hints=HINTS))  # type: ignore[call-arg]


def drawn(batch_size: int) -> Schedule:
    """Return when pictures are drawn, as in the preset.

    Args:
        batch_size: Images of a step of the student.
    """
    return replace(METHODS["procedural"].schedule, batch_size=batch_size)


def optimized(batches: int, batch_size: int) -> Schedule:
    """Return the schedule of images that are all synthesized first.

    Args:
        batches: Their batches.
        batch_size: Images of a step of the student.
    """
    return Schedule(warmup_batches=batches, refresh_every=0, pool_batches=batches, batch_size=batch_size)


def mixture(refine: DeepInversionConfig, batches: int, batch_size: int) -> Mixture:
    """Return procedural pictures with a share of images that are optimized for a short time, as `auto` mixes them.

    Args:
        refine: The settings of the optimization.
        batches: Batches that are optimized.
        batch_size: Images of a step of the student.
    """
    parts = (
        Part(name="procedural", method=METHODS["procedural"], share=1 - REFINED, schedule=drawn(batch_size)),
        Part(name="refine", method=refine, share=REFINED, schedule=optimized(batches, batch_size)),
    )
    return Mixture(parts=parts, batch_size=batch_size)
