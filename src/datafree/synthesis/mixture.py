r"""Mixtures: the images of several methods in every student batch, each method with its own settings, schedule and pool.

.. code-block:: python

    Mixture(parts=(
        Part(name="noise", method=METHODS["noise"], share=0.7),
        Part(name="deep-inversion", method=DeepInversionConfig(steps=(100,)), share=0.3),
    ))

A batch for the student has :math:`n_i` images of part :math:`i`. The counts are not random. After :math:`t` batches of
:math:`b` images, :math:`N_i = \sum n_i` differs from its target by less than one image wherever the targets of the parts can
be rounded so:

.. math:: N_i(t) \approx s_i \, b \, t, \quad \sum_i s_i = 1

Which images of a pool are drawn is random.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from datafree import processes
from datafree.classifier import Classifier
from datafree.files.naming import require_name
from datafree.synthesis.dividing import draw_mixed
from datafree.synthesis.method import Method, Synthesizer
from datafree.synthesis.pool import Pool, on_device
from datafree.synthesis.schedule import Schedule
from datafree.synthesis.storage import Storage
from datafree.synthesis.stream import Stream
from datafree.types import Batch, InputError, Targets


@dataclass(frozen=True, kw_only=True)
class Part:
    """A method in a mixture, with its share of the images.

    Raises:
        InputError: If the name is no plain word, the share is not above 0, or the method is a mixture itself.
    """

    name: str
    """name of the part in notes, reports and file names: letters, digits, dashes"""
    method: Method
    """the method and its settings"""
    share: float
    """share of the images that the student sees; relative to the shares of the other parts"""
    schedule: Schedule | None = None
    """when the part synthesizes and how many batches it stores; its batch_size is not used; None: that of the method"""

    def __post_init__(self) -> None:
        require_name(self.name)
        require_share(self.name, self.share)
        if isinstance(self.method, Mixture):
            raise InputError(f"{self.name} is a mixture in a mixture; list its parts instead")

    @property
    def own_schedule(self) -> Schedule:
        """The schedule in use."""
        return self.schedule or self.method.schedule


@dataclass(frozen=True, kw_only=True)
class Mixture(Method):
    """Several methods as one.

    Raises:
        InputError: If there are fewer than two parts, or two parts have one name.
    """

    paper: ClassVar[str] = "those of its parts"

    parts: tuple[Part, ...]
    """the methods and their shares"""
    batch_size: int = 128
    """images per student step, drawn from the parts in proportion to their shares"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.parts) < 2:
            raise InputError("a mixture needs two or more parts; use the method itself")
        require_distinct([part.name for part in self.parts])

    @property
    def shares(self) -> tuple[float, ...]:
        """The shares of the parts, which sum to one."""
        return normalized([part.share for part in self.parts])

    @property
    def label(self) -> str:
        """The mixture as it is written on the command line."""
        return ",".join(f"{part.name}:{part.share:g}" for part in self.parts)

    def map(self, wrap: Callable[[Method], Method]) -> "Mixture":
        """Return the mixture with `wrap(method)` in place of the method of each part; schedules stay the same."""
        parts = [replace(part, method=wrap(part.method), schedule=part.own_schedule) for part in self.parts]
        return replace(self, parts=tuple(parts))

    @property
    def schedule(self) -> Schedule:
        """A new batch for every student step; what is synthesized when is set by the schedules of the parts."""
        return Schedule(batch_size=self.batch_size)

    @property
    def passes(self) -> float:
        return sum(share * part.method.passes for part, share in zip(self.parts, self.shares, strict=True))

    @property
    def adaptive(self) -> bool:
        return any(part.method.adaptive for part in self.parts)

    @property
    def distillation(self) -> Mapping[str, Any]:
        """Settings of the student that the part with the largest share prescribes."""
        return max(self.parts, key=lambda part: part.share).method.distillation

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(need for part in self.parts for need in part.method.needs))

    def missing(self, teacher: Classifier) -> list[str]:
        """Return what the parts need and the teacher does not have, with the names of these parts."""
        parts: dict[str, list[str]] = {}
        for part in self.parts:
            for need in part.method.missing(teacher):
                parts.setdefault(need, []).append(part.name)
        return [f"{need} (needed by {' and '.join(names)})" for need, names in parts.items()]

    def build(self, teacher: Classifier) -> "Mixed":
        return Mixed(teacher, self)


def of_each_part(method: Method, wrap: Callable[[Method], Method]) -> Method:
    """Return `wrap(method)`; of a mixture, the mixture whose parts are wrapped."""
    return method.map(wrap) if isinstance(method, Mixture) else wrap(method)


class Mixed(Synthesizer):
    """Draws each batch from the pools of the parts, after each part has synthesized what its schedule asks for.

    Every part has a stream of its own, whose steps are the batches drawn here. Batches that a part synthesizes are reported to
    the callback under the name of the part.
    """

    divides = True
    reports_batches = False

    def __init__(self, teacher: Classifier, mixture: Mixture) -> None:
        self.teacher, self.mixture = teacher, mixture
        self.streams = {
            part.name: Stream(build(part, teacher), None, part.own_schedule, part=part.name) for part in mixture.parts
        }
        self.drawn = [0] * len(mixture.parts)

    @property
    def notes(self) -> tuple[str, ...]:
        given, shares = [part.share for part in self.mixture.parts], self.mixture.shares
        notes = [f"{name}: {note}" for name, stream in self.streams.items() for note in stream.synthesizer.notes]
        if abs(sum(given) - 1) > 1e-6:
            sentence = "the shares of the mixture sum to {:g}, not to 1: they are normalised to {}"
            notes.insert(0, sentence.format(sum(given), " and ".join(f"{share:.3g}" for share in shares)))
        for part, share in zip(self.mixture.parts, shares, strict=True):
            if share * self.mixture.batch_size < 1:
                notes.append(f"{part.name} gives only one of {1 / share:,.0f} images; give it a larger share")
        return tuple(notes)

    @property
    def measured_images(self) -> Mapping[str, int]:
        measured: dict[str, int] = {}
        for stream in self.streams.values():
            for source, count in stream.synthesizer.measured_images.items():
                measured[source] = max(count, measured.get(source, 0))  # parts may read one file
        return measured

    @property
    def dependencies(self) -> Mapping[str, str]:
        return {path: sha for stream in self.streams.values() for path, sha in stream.synthesizer.dependencies.items()}

    def keep_pools_in(self, storage: Storage) -> None:
        for name, stream in self.streams.items():
            stream.keep_pools_in(storage.of_part(name, len(self.streams)))

    def synthesize(self, student: nn.Module | None = None) -> Batch:
        streams = list(self.streams.values())
        for stream in streams:
            stream.callback = stream.synthesizer.callback = self.callback
            stream.student = student
            stream.take_per_step(self.batches_per_step)
            stream.synthesize_until(stream.batches_due)
        # Nothing is drawn before all parts have synthesized, so that a checkpoint in between repeats no draw.
        counts = next_counts(self.mixture.shares, self.drawn, self.mixture.batch_size)
        batch = self.draw(counts)
        for stream in streams:
            stream.step += 1
        self.drawn = [drawn + count for drawn, count in zip(self.drawn, counts, strict=True)]
        return batch

    def draw(self, counts: Sequence[int]) -> Batch:
        """Return a number of random images of each part, in random order."""
        streams = self.streams.values()
        if processes.count() > 1:
            return draw_mixed([stream.parts for stream in streams], counts, lambda batches: join(batches, self.teacher))
        batches = [draw(stream.pool, count) for stream, count in zip(streams, counts, strict=True) if count]
        return shuffled(join(batches, self.teacher))

    def state_dict(self) -> dict[str, Any]:
        return {"drawn": self.drawn, "streams": {name: stream.state_dict() for name, stream in self.streams.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.drawn = list(state["drawn"])
        for name, stream in self.streams.items():
            stream.load_state_dict(state["streams"][name])


def require_share(name: str, share: float) -> None:
    """Check the share of a part.

    Raises:
        InputError: If it is not above 0, or not finite.
    """
    if not 0 < share < math.inf:
        advice = "give another one, such as 0.3" if share else f"leave {name} out"
        raise InputError(f"the share of {name} is {share:g}, but it must be above 0 and finite; {advice}")


def require_distinct(names: Sequence[str]) -> None:
    """Check that no two parts of a mixture have one name.

    Raises:
        InputError: Names the first name that is given twice.
    """
    if twice := next((name for place, name in enumerate(names) if name in names[:place]), None):
        raise InputError(f"{twice} is twice in the mixture; give it once, with the sum of its shares")


def normalized(shares: Sequence[float]) -> tuple[float, ...]:
    """Return shares that sum to one."""
    total = math.fsum(shares)
    return tuple(share / total for share in shares)


def build(part: Part, teacher: Classifier) -> Synthesizer:
    """Return the synthesizer of a part.

    Raises:
        InputError: If the method refuses the teacher; the message names the part.
    """
    try:
        return part.method.build(teacher)
    except InputError as fault:
        raise InputError(f"{part.name} in the mixture: {fault}") from fault


def next_counts(shares: Sequence[float], drawn: Sequence[int], size: int) -> list[int]:
    """Return the number of images of each part in the next batch: those that bring all parts closest to their shares.

    Args:
        shares: The shares; they sum to one.
        drawn: Images drawn so far, by part.
        size: Images in the batch.
    """
    due = [share * (sum(drawn) + size) - count for share, count in zip(shares, drawn, strict=True)]
    counts = [max(0, math.floor(number + 1e-9)) for number in due]
    by_rest = sorted(range(len(due)), key=lambda index: round(counts[index] - due[index], 9))  # stable: the first wins
    surplus = sum(counts) - size
    for index in by_rest[:-surplus] if surplus < 0 else ():
        counts[index] += 1
    for index in reversed(by_rest) if surplus > 0 else ():
        removed = min(counts[index], max(0, sum(counts) - size))
        counts[index] -= removed
    return counts


def draw(pool: Pool, count: int) -> Batch:
    """Return `count` random images of a pool; with repetitions if it holds fewer."""
    if count <= len(pool):
        return pool.draw(count)
    return pool.select(torch.randint(len(pool), (count,)))


def join(batches: Sequence[Batch], teacher: Classifier) -> Batch:
    """Return one batch of the images of several.

    Targets of different kinds become soft labels. The teacher's logits are kept if all batches have them.

    Args:
        batches: One or more batches of images for one teacher.
        teacher: Its classes are those of the targets.
    """
    targets = [batch.targets for batch in batches]
    if len({target.ndim for target in targets}) > 1:
        targets = [soft_targets(target, len(teacher.classes)) for target in targets]
    logits = [batch.teacher_logits for batch in batches if batch.teacher_logits is not None]
    return Batch(
        torch.cat([batch.images for batch in batches]),
        torch.cat(targets),
        {},
        torch.cat(logits) if len(logits) == len(batches) else None,
    )


def soft_targets(targets: Targets, classes: int) -> Targets:
    """Return targets as a matrix with a column for each class."""
    return targets.float() if targets.ndim > 1 else F.one_hot(targets, classes).float()


def shuffled(batch: Batch) -> Batch:
    """Return the images of a batch in random order: an application may split the batch."""
    order = on_device(torch.randperm(len(batch)), batch.images.device)
    logits = None if batch.teacher_logits is None else batch.teacher_logits[order]
    return Batch(batch.images[order], batch.targets[order], {}, logits)
