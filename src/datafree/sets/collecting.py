"""Collecting the images of a set: all that a method synthesizes, a number of each chosen class, or shares of a mixture."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

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
    """Synthesize the images of a set; see `Collection`.

    Raises:
        InputError: If the method does not support the teacher, images of a multi-label teacher shall be counted by class, or
            no images of a class are found.
    """
    return Collection(method, sources, wanted).collect()


class Collection:
    """The images of a set as they are synthesized, after those with which a generator is trained.

    The number of images is rounded up to whole batches, unless classes are chosen or counted, or the method is a mixture. A
    mixture contributes images of each part in proportion to its share. A checkpoint can hold a collection, between two batches
    or two steps of a batch.

    Args:
        method: A method or a mixture.
        sources: What the streams share.
        wanted: The images.

    Raises:
        InputError: If images of a multi-label teacher shall be counted by class, or a part of a mixture has less than one
            image.
    """

    def __init__(self, method: Method, sources: Sources, wanted: Wanted) -> None:
        if sources.teacher.multi_label and wanted.per_class:
            raise InputError(
                "images of a multi-label teacher can have several classes; give --images instead of --per-class"
            )
        self.method, self.sources, self.wanted = method, sources, wanted
        self.shares = shares_of(method, wanted) if isinstance(method, Mixture) else (("", method, wanted),)
        self.pools: list[Pool] = []
        self.measured: dict[str, int] = {}
        self.current: WholeBatches | Selection | None = None

    def collect(self) -> Collected:
        """Synthesize the images that are missing, and return all.

        Raises:
            InputError: If the method does not support the teacher, or no images of a class are found.
        """
        while len(self.pools) < len(self.shares):
            self.current = self.current or self.open(len(self.pools))
            self.current.collect()
            self.pools.append(self.current.pool)
            self.measured |= self.current.stream.synthesizer.measured_images
            self.current = None
        images = FromPools(self.pools, self.sources.teacher)
        if not isinstance(self.method, Mixture):
            return Collected(images=images, measured_images=self.measured)
        owners = [torch.full((len(pool),), place) for place, pool in enumerate(self.pools)]
        names = tuple(part.name for part in self.method.parts)
        return Collected(images=images, measured_images=self.measured, parts=names, part_of=torch.cat(owners))

    def open(self, place: int) -> "WholeBatches | Selection":
        """Return the empty share of one part of a mixture, or of the only method."""
        part, method, wanted = self.shares[place]
        sources = replace(self.sources, storage=self.storage(place))
        if part or wanted.classes or wanted.per_class:
            return Selection(method, sources, wanted, part)
        return WholeBatches(method, sources, wanted)

    def storage(self, place: int) -> Storage:
        """Return where the images of one part are kept."""
        part, storage = self.shares[place][0], self.sources.storage
        return storage.of_part(part, len(self.shares)) if part else storage

    def state_dict(self) -> dict[str, Any]:
        """Return the images so far, and the state of the stream that synthesizes the next ones."""
        return {
            "pools": [pool.state_dict() for pool in self.pools],
            "measured": dict(self.measured),
            "current": self.current and self.current.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state returned by `state_dict`."""
        self.measured = dict(state["measured"])
        for place, saved in enumerate(state["pools"]):
            pool = Pool(1, self.storage(place))
            pool.load_state_dict(saved)
            self.pools.append(pool)
        if state["current"]:
            self.current = self.open(len(self.pools))
            self.current.load_state_dict(state["current"])


def shares_of(mixture: Mixture, wanted: Wanted) -> tuple[tuple[str, Method, Wanted], ...]:
    """Return the name and the method of each part of a mixture, and what it contributes to a set.

    Raises:
        InputError: If a part has less than one image.
    """
    nothing = [0] * len(mixture.parts)
    images, per_class = (next_counts(mixture.shares, nothing, count) for count in (wanted.images, wanted.per_class))
    for part, count in zip(mixture.parts, per_class if wanted.per_class else images, strict=True):
        if not count:
            of_class = " of each class" if wanted.per_class else ""
            raise InputError(f"the share of {part.name} is less than one image{of_class}; give more images")
    return tuple(
        (part.name, part.method, replace(wanted, images=max(1, count), per_class=each))
        for part, count, each in zip(mixture.parts, images, per_class, strict=True)
    )


class WholeBatches:
    """All images of as many batches as the wanted number needs.

    Args:
        method: The method.
        sources: What the streams share.
        wanted: The images.
    """

    def __init__(self, method: Method, sources: Sources, wanted: Wanted) -> None:
        count = -(-wanted.images // method.batch_size)
        self.stream, self.batches, self.callback = sources.open(method, count), method.burn_in + count, sources.callback
        self.stream.pool.storage = sources.storage

    @property
    def pool(self) -> Pool:
        """The images."""
        return self.stream.pool

    def collect(self) -> None:
        """Synthesize the batches that are missing."""
        for index in self.callback.track(range(self.stream.batch_count, self.batches), "synthesize"):
            self.stream.synthesize_until(index + 1)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the stream, whose pool has the images."""
        return self.stream.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state returned by `state_dict`."""
        self.stream.load_state_dict(state)


class Selection:
    """Exactly the wanted images.

    A method that aims at classes is told which. Of other methods, the images of other classes are dropped.

    Args:
        method: The method.
        sources: What the streams share.
        wanted: The images.
        part: The name of the part of a mixture.
    """

    def __init__(self, method: Method, sources: Sources, wanted: Wanted, part: str = "") -> None:
        total = wanted.total(sources.teacher)
        if method.aims:  # no more images at once than are wanted; a generator needs whole batches
            method = replace(method, batch_size=min(method.batch_size, total) if method.batch_size else 0)
        self.stream, self.burn_in = sources.aimed_at(wanted).open(method, 1, part), method.burn_in
        self.part, self.callback = part, sources.callback
        self.missing, self.pool = Missing(wanted, sources.teacher), Pool(1, sources.storage)
        self.pool.size = total
        self.looked, self.idle = self.burn_in, 0

    def collect(self) -> None:
        """Synthesize until all images are there.

        Raises:
            InputError: If no batch has an image that is missing for a long time.
        """
        for index in self.callback.track(range(self.stream.batch_count, self.burn_in), "synthesize"):
            self.stream.synthesize_until(index + 1)
        while self.missing.total:
            if self.stream.batch_count == self.looked:  # not if a checkpoint was saved right after the batch
                self.stream.synthesize_until(self.looked + 1)
            self.look()

    def look(self) -> None:
        """Keep the images of the newest batch that are missing.

        Raises:
            InputError: If there have been none for a long time.
        """
        batch = self.stream.pool.newest
        indices = self.missing.take(batch)
        self.looked, self.idle = self.stream.batch_count, 0 if len(indices) else self.idle + 1
        if self.idle == PATIENCE:
            name, count = self.part or "the method", PATIENCE * len(batch)
            raise InputError(
                f"{name} made no image of class {self.missing.first!r} among {count:,}; use a method that aims at classes, "
                "such as deep-inversion"
            )
        if len(indices):
            self.pool.add(taken(batch, indices))

    def state_dict(self) -> dict[str, Any]:
        """Return the images so far, what is missing, and the state of the stream."""
        return {
            "stream": self.stream.state_dict(),
            "kept": self.pool.state_dict() if self.pool.written else None,
            "missing": self.missing.state_dict(),
            "looked": self.looked,
            "idle": self.idle,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state returned by `state_dict`."""
        self.stream.load_state_dict(state["stream"])
        if state["kept"]:
            self.pool.load_state_dict(state["kept"])
        self.missing.load_state_dict(state["missing"])
        self.looked, self.idle = state["looked"], state["idle"]


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

    def state_dict(self) -> dict[str, Any]:
        """Return the numbers of missing images, in total and by class."""
        return {"total": self.total, "by_class": dict(self.by_class)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state returned by `state_dict`."""
        self.total, self.by_class = state["total"], dict(state["by_class"])


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
