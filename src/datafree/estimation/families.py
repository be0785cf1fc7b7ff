"""Families of pool images: independent ways to synthesize them, so that one is left when the student's own is taken away."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, TypeVar

from datafree.classifier import Classifier
from datafree.estimation.perturbations import Perturbation
from datafree.methods import METHODS
from datafree.methods.dafl import DAFLConfig
from datafree.methods.deep_inversion import DeepInversionConfig
from datafree.methods.group_stack import GroupStackConfig
from datafree.methods.noise import NoiseConfig
from datafree.methods.pictures import PicturesConfig
from datafree.methods.procedural import ProceduralConfig
from datafree.methods.zskd import ZSKDConfig
from datafree.synthesis import Method
from datafree.synthesis.method import capabilities
from datafree.types import InputError

Kind = TypeVar("Kind")

BATCH = 128
"""images that a pool synthesizes at once, if time allows"""
GENERATOR_BATCH, TAKEN = 128, 64
"""images of a generator's step, and how many of them are taken into the pool"""
FAMILIES = ("procedural", "robust", "zskd", "deep-inversion", "dafl", "deep-dream", "fast")
"""all families, in the order in which they are synthesized"""
LAST_RESORT = "procedural"
"""a family that is only used if fewer than two others are left: the teacher has no part in these pictures, and students are
underrated on them"""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A method, and how its batches become a pool."""

    method: Method
    skipped: int = 0
    """batches left out before each batch that is taken, while a generator moves on"""
    taken: int = 0
    """images that are taken of each batch; 0: all"""
    first: int = 0
    """generator steps before the first batch"""

    def passes(self, images: int) -> float:
        """Return how many images pass forward and backward through the teacher for a number of pool images."""
        if not self.taken:
            return images * self.method.passes
        batches = -(-images // self.taken)
        return self.method.batch_size * (self.first + batches * (1 + self.skipped) * _steps_per_batch(self.method))


def _steps_per_batch(method: Method) -> float:
    return getattr(method, "steps_per_batch", 1.0)


def sources(teacher: Classifier) -> dict[str, tuple[Source, ...]]:
    """Return the families that a teacher has, each with its methods in equal parts.

    What a method needs and the teacher lacks leaves it out: without batch norm there is no DeepInversion, without gradients
    only procedural pictures are left.
    """
    side = min(teacher.shape[1:])
    inversion: dict[str, Any] = {"batch_size": BATCH, "targets": "balanced", "jitter": side // 16}
    short: dict[str, Any] = {**inversion, "steps": (100,), "lr": 0.1, "cosine": True}
    dream, deep = METHODS["deep-dream"], METHODS["deep-inversion"]
    robust = {"robust": 3.0, "classification": 0.5, "tv": 0.01, "l2": 0.0, "transform": Perturbation()}
    has_statistics = "batch-norm statistics" in capabilities(teacher)
    statistics = 3.0 if has_statistics else 0.0
    generator = {"batch_size": GENERATOR_BATCH, "adversary": 0.0}
    dafl = replace(
        METHODS["dafl"], generator="subpixel", lr=0.02, student_batch_size=TAKEN, discard_first=150, **generator
    )
    fast = replace(METHODS["fast"], reset_every=50, discard_first=49, **generator)
    if not has_statistics:
        fast = replace(fast, statistics=0.0)
    families = {
        "procedural": (Source(method=replace(METHODS["procedural"], batch_size=BATCH)),),
        "robust": (Source(method=replace(dream, statistics=statistics, **robust, **short)),),
        "zskd": (Source(method=replace(METHODS["zskd"], batch_size=BATCH)),),
        "deep-inversion": (
            Source(method=replace(deep, **short)),
            Source(method=replace(deep, statistics=1.0, statistics_norm="relative", **short)),
        ),
        "dafl": (Source(method=dafl, skipped=15, taken=TAKEN, first=150),),
        "deep-dream": (Source(method=replace(dream, **short)),),
        "fast": (Source(method=fast, taken=TAKEN),),
    }
    return {name: kept for name, each in families.items() if (kept := tuple(s for s in each if supported(s, teacher)))}


def without(families: Mapping[str, Kind], left_out: frozenset[str]) -> dict[str, Kind]:
    """Return the families that are used for a student, without those of its own images."""
    left = {name: each for name, each in families.items() if name not in left_out}
    if len(left) > 2:
        left.pop(LAST_RESORT, None)
    return left


def supported(source: Source, teacher: Classifier) -> bool:
    """Return whether a teacher has what a method needs."""
    if source.method.missing(teacher):
        return False
    try:
        source.method.build(teacher)
    except InputError:  # such as a generator for images of 14 x 14
        return False
    return True


def families_of(method: Method | None) -> frozenset[str]:
    """Return the families of the images that a student was trained on; of a mixture those of all parts.

    The pools of these families are left out: a student agrees with its teacher on the images that it was trained for, good
    or not.

    Args:
        method: The method; None: real images, which have no family.
    """
    return frozenset(family for part in parts_of(method) for family in _families_of_part(part))


def is_known(method: Method | None) -> bool:
    """Return whether the families of a method are known; those of a third party's method are not."""
    kinds = (
        DeepInversionConfig,
        ZSKDConfig,
        DAFLConfig,
        GroupStackConfig,
        NoiseConfig,
        PicturesConfig,
        ProceduralConfig,
    )
    return all(isinstance(part, kinds) for part in parts_of(method))


def parts_of(method: Method | None) -> Iterator[Method]:
    """Yield the methods inside a mixture, or inside a wrapper such as one that takes turns between teachers."""
    inner: list[Method] = []
    if is_dataclass(method):
        values = [getattr(method, field.name) for field in fields(method)]
        inner = [value for value in values if isinstance(value, Method)]
        inner += [
            part.method for value in values if isinstance(value, tuple) for part in value if hasattr(part, "method")
        ]
    if not inner and method is not None:
        yield method
    for each in inner:
        yield from parts_of(each)


def _families_of_part(method: Method) -> tuple[str, ...]:
    if isinstance(method, DeepInversionConfig):
        kinds = {
            "deep-inversion": bool(method.statistics),
            "deep-dream": not method.statistics,
            "robust": bool(method.robust),
            "procedural": method.start == "procedural",
        }
        return tuple(family for family, applies in kinds.items() if applies)
    if isinstance(method, DAFLConfig):
        return ("fast",) if method.reset_every else ("dafl",)
    table: Mapping[type[Method], tuple[str, ...]] = {
        ZSKDConfig: ("zskd",),
        GroupStackConfig: ("dafl", "fast"),
        ProceduralConfig: ("procedural",),
    }
    return next((families for kind, families in table.items() if isinstance(method, kind)), ())
