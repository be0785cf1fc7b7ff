"""Collecting the images of a set: all that a method synthesizes, a number of each chosen class, or shares of a mixture."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from datafree.callback import Callback
from datafree.classifier import Classifier
from datafree.processes import Processes
from datafree.randomness import RandomNumbers
from datafree.sets.contact_sheet import labels_of
from datafree.sets.pieces import FromPools, Pieces
from datafree.synthesis import Method, Schedule, Stream
from datafree.synthesis.dividing import Whole
from datafree.synthesis.mixture import Mixture, next_counts
from datafree.synthesis.pool import Pool
from datafree.synthesis.storage import Storage
from datafree.types import Batch, InputError, require_at_least

PATIENCE = 50
"""batches without any image that is still missing, after which a set is given up"""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which images a set has."""

    images: int
    """number of images, unless they are counted by class"""
    classes: tuple[int, ...] = ()
    """indices of the only classes; all classes if empty"""
    per_class: int = 0
    """number of images of each class; 0: they are not counted by class"""

    def __post_init__(self) -> None:
        require_at_least(1, images=self.images)
        require_at_least(0, per_class=self.per_class)

    def total(self, teacher: Classifier) -> int:
        """Return the number of images."""
        return self.per_class * len(self.classes or teacher.classes) or self.images


@dataclass(frozen=True, kw_only=True)
class Collected:
    """Images for a set, and how they were made."""

    images: Pieces
    """the images, targets and, if all parts kept them, the teacher's logits"""
    measured_images: Mapping[str, int]
    """see `Synthesizer.measured_images`"""
    parts: tuple[str, ...] = ()
    """names of the parts of a mixture; empty for other methods"""
    part_of: Tensor | None = None
    """for each image the index of its part; None for other methods"""

    @property
    def batch(self) -> Batch:
        """All images in memory."""
        return self.images.read(0, len(self.images))


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What all streams of a set share."""

    teacher: Classifier
    student: nn.Module | None
    """the student that adaptive methods use"""
    callback: Callback
    """receives each batch"""
    note: Callable[[str], None]
    """says what the user should know, before the first batch"""
    numbers: RandomNumbers
    """the random numbers of all methods"""
    group: Processes | None = None
    """the processes that divide batches; each gets all images"""
    storage: Storage = field(default_factory=Storage)
    """where the images are until all of them are there"""

    def open(self, method: Method, pool_batches: int, part: str = "") -> Stream:
        """Return a stream that synthesizes on demand."""
        schedule = Schedule(warmup_batches=pool_batches, refresh_every=0, pool_batches=pool_batches)
        with self.numbers:
            synthesizer = method.build(self.teacher)
        if self.group and self.group.world_size > 1 and not method.batch_size % self.group.world_size:
            synthesizer = Whole(synthesizer, self.group)
        for note in synthesizer.notes:
            self.note(f"{part}: {note}" if part else note)
        return Stream(synthesizer, self.student, schedule, self.callback, self.numbers, part)

    def aimed_at(self, wanted: Wanted) -> "Sources":
        """Return the same with a teacher whose sampled targets are the wanted classes, equally often."""
        teacher = copy.copy(self.teacher)
        if wanted.classes or wanted.per_class:
            teacher.target_classes = wanted.classes or tuple(range(len(teacher.classes)))
        return replace(self, teacher=teacher)


def collect(method: Method, sources: Sources, wanted: Wanted) -> Collected:
    """Synthesize the images of a set, after those with which a generator is trained.

    The number of images is rounded up to whole batches, unless classes are chosen or counted, or the method is a mixture. A
    mixture contributes images of each part in proportion to its share.

    Raises:
        InputError: If the method does not support the teacher, images of a multi-label teacher shall be counted by class, or
            no images of a class are found.
    """
    if sources.teacher.multi_label and wanted.per_class:
        raise InputError(
            "images of a multi-label teacher can have several classes; give --images instead of --per-class"
        )
    if isinstance(method, Mixture):
        return collect_parts(method, sources, wanted)
    if wanted.classes or wanted.per_class:
        pool, measured = select(method, sources, wanted)
        return Collected(images=FromPools([pool], sources.teacher), measured_images=measured)
    count = -(-wanted.images // method.batch_size)
    stream = sources.open(method, count)
    stream.pool.storage = sources.storage
    for index in sources.callback.track(range(method.burn_in + count), "synthesize"):
        stream.synthesize_until(index + 1)
    images = FromPools([stream.pool], sources.teacher)
    return Collected(images=images, measured_images=stream.synthesizer.measured_images)


def collect_parts(mixture: Mixture, sources: Sources, wanted: Wanted) -> Collected:
    """Synthesize what each part of a mixture contributes to a set.

    Raises:
        InputError: If a part has less than one image.
    """
    nothing = [0] * len(mixture.parts)
    images, per_class = (next_counts(mixture.shares, nothing, count) for count in (wanted.images, wanted.per_class))
    for part, count in zip(mixture.parts, per_class if wanted.per_class else images, strict=True):
        if not count:
            of_class = " of each class" if wanted.per_class else ""
            raise InputError(f"the share of {part.name} is less than one image{of_class}; give more images")
    pools: list[Pool] = []
    measured: dict[str, int] = {}
    for part, count, each in zip(mixture.parts, images, per_class, strict=True):
        own = replace(wanted, images=max(1, count), per_class=each)
        storage = sources.storage.of_part(part.name, len(mixture.parts))
        pool, of_part = select(part.method, replace(sources, storage=storage), own, part.name)
        pools.append(pool)
        measured |= of_part
    return Collected(
        images=FromPools(pools, sources.teacher),
        measured_images=measured,
        parts=tuple(part.name for part in mixture.parts),
        part_of=torch.cat([torch.full((len(pool),), place) for place, pool in enumerate(pools)]),
    )


def select(method: Method, sources: Sources, wanted: Wanted, part: str = "") -> tuple[Pool, Mapping[str, int]]:
    """Synthesize until exactly the wanted images are there; return them and the images that were measured for them.

    A method that aims at classes is told which. Of other methods, the images of other classes are dropped.

    Raises:
        InputError: If no batch has an image that is missing for a long time.
    """
    total = wanted.total(sources.teacher)
    if method.aims:  # no more images at once than are wanted; a generator needs whole batches
        method = replace(method, batch_size=min(method.batch_size, total) if method.batch_size else 0)
    stream = sources.aimed_at(wanted).open(method, 1, part)
    for index in sources.callback.track(range(method.burn_in), "synthesize"):
        stream.synthesize_until(index + 1)
    missing, kept, idle = Missing(wanted, sources.teacher), Pool(1, sources.storage), 0
    kept.size = total
    while missing.total:
        stream.synthesize_until(stream.batch_count + 1)
        batch = stream.pool.newest
        indices = missing.take(batch)
        idle = 0 if len(indices) else idle + 1
        if idle == PATIENCE:
            name, count = part or "the method", PATIENCE * len(batch)
            raise InputError(
                f"{name} made no image of class {missing.first!r} among {count:,}; use a method that aims at classes, such as "
                "deep-inversion"
            )
        if len(indices):
            kept.add(taken(batch, indices))
    return kept, stream.synthesizer.measured_images


class Missing:
    """Counts the images that a set still lacks."""

    def __init__(self, wanted: Wanted, teacher: Classifier) -> None:
        self.classes, self.multi_label, self.total = teacher.classes, teacher.multi_label, wanted.total(teacher)
        allowed = wanted.classes or range(len(teacher.classes))
        self.by_class = dict.fromkeys(allowed, wanted.per_class or self.total)

    @property
    def first(self) -> str:
        """The name of the first class of which images are missing."""
        return self.classes[next(label for label, count in self.by_class.items() if count)]

    def take(self, batch: Batch) -> list[int]:
        """Return the indices of the images of a batch that are missing, and count them as there."""
        rows = batch.targets.bool().tolist() if self.multi_label else None
        indices = []
        for index, label in enumerate(labels_of(batch).tolist()):
            labels = [label] if rows is None else [place for place, has in enumerate(rows[index]) if has]
            found = next((label for label in labels if self.by_class.get(label)), None)
            if self.total and found is not None:
                self.by_class[found] -= 1
                self.total -= 1
                indices.append(index)
        return indices


def taken(batch: Batch, indices: Sequence[int]) -> Batch:
    """Return some images of a batch."""
    logits = None if batch.teacher_logits is None else batch.teacher_logits[indices]
    return Batch(batch.images[indices], batch.targets[indices], {}, logits)


def origin_of(method: Method, seed: int, student: str = "") -> str:
    """Return the text by which an image set names its method, seed and, for adaptive methods, its student."""
    text = f"{method!r}, seed {seed}"
    if not method.adaptive:
        return text
    return f"{text}, student {student}" if student else f"{text}, without a student"
