"""Who makes images (`Synthesizer`), when they are made, kept and shown (`Schedule`, `Stream`), and one step of descent."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from datafree.classifier import Classifier
from datafree.pool import Pool
from datafree.randomness import RandomNumbers
from datafree.types import Batch, Terms, at_least, same_as_before, words_known
from datafree.watch import Watch, silent


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """When images are made, kept and shown. All first: `every=0`; alternating: `every=50`; always fresh: `every=1`.

    With a new batch for every step the student sees that batch, else images drawn at random from those kept.
    """

    warmup: int = 1
    """batches made before the student sees the first"""
    every: int = 1
    """student steps from one new batch to the next; 0: none after the warm-up"""
    keep: int = 1
    """batches kept; the oldest leave first"""
    show: int = 128
    """images shown per step, when they are drawn from those kept"""

    def __post_init__(self) -> None:
        at_least(1, warmup=self.warmup, keep=self.keep, show=self.show)
        at_least(0, every=self.every)

    def due(self, step: int) -> int:
        """Batches that must have been made when the student takes this step (counted from 0)."""
        return self.warmup + (step // self.every if self.every else 0)


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """The settings of a method: a frozen value that builds its synthesizer.

    Its fields are the paper's settings; `METHODS` holds the values that have names.
    """

    paper: ClassVar[str]
    """authors and year, and where to read it"""

    batch: int = 256
    """images made at a time"""

    def __post_init__(self) -> None:
        at_least(1, batch=self.batch)
        words_known(self)

    @property
    @abstractmethod
    def schedule(self) -> Schedule:
        """When the paper makes images; the default of a run."""

    @property
    @abstractmethod
    def passes(self) -> float:
        """Teacher passes, forward and backward, that one image costs."""

    @property
    def learning(self) -> int:
        """Batches that pass before one is worth keeping: a generator has to learn first."""
        return 0

    @property
    def adaptive(self) -> bool:
        """Whether it looks at a student."""
        return False

    @property
    def distillation(self) -> Mapping[str, Any]:
        """Settings of distillation that belong to the paper; the default of a run, where they differ from its own."""
        return {}

    @property
    def needs(self) -> tuple[str, ...]:
        """What a teacher must have, by the names that `doctor` reports."""
        return ()

    @abstractmethod
    def build(self, teacher: Classifier) -> "Synthesizer": ...


class Synthesizer(ABC):
    """Turns what a teacher knows into images: `objective` is the paper's equation, `synthesize` its algorithm box."""

    watch: Watch = silent
    """told about each step of a long descent"""

    @abstractmethod
    def synthesize(self, student: nn.Module | None = None) -> Batch:
        """Makes one batch. The student is looked at by adaptive methods and never changed."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user must know of this method on this teacher."""
        return ()

    @property
    def measured_from(self) -> Mapping[str, int]:
        """Real images that what it knows was measured from, by their source; the ledger of a run counts them."""
        return {}

    @property
    def rests_on(self) -> Mapping[str, str]:
        """Files and folders that it has read, and a hash of each: a run is only resumed if they are what they were."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """What is kept between batches, and so must be in a checkpoint."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027
        """The inverse of `state_dict`."""


class Stream:
    """Batches without end, made by a synthesizer when a schedule says so; a checkpoint can hold it.

    Args:
        synthesizer: Who makes them.
        student: At whom an adaptive synthesizer looks; None if there is none.
        schedule: When they are made, kept and shown.
        watch: Is told of each batch.
        numbers: The random numbers that synthesis draws from; torch's own if not given.
    """

    def __init__(
        self,
        synthesizer: Synthesizer,
        student: nn.Module | None,
        schedule: Schedule,
        watch: Watch = silent,
        numbers: RandomNumbers | None = None,
    ) -> None:
        self.synthesizer, self.student, self.schedule, self.watch = synthesizer, student, schedule, watch
        self.numbers = numbers
        synthesizer.watch = watch
        self.pool = Pool(schedule.keep)
        self.step = 0
        self.made = 0

    @classmethod
    def of(
        cls,
        method: Method,
        teacher: Classifier,
        student: nn.Module | None = None,
        schedule: Schedule | None = None,
        watch: Watch = silent,
    ) -> "Stream":
        """A stream of a method whose random numbers follow from `torch.manual_seed`, but are apart from torch's own.

        A student that learns from it draws the same numbers as one that learns from its images after they were kept.
        """
        numbers = RandomNumbers(torch.initial_seed())
        with numbers:
            synthesizer = method.build(teacher)
        return cls(synthesizer, student, schedule or method.schedule, watch, numbers)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        self.fill(self.schedule.due(self.step))
        self.step += 1
        return self.pool.newest if self.schedule.every == 1 else self.pool.draw(self.schedule.show)

    def fill(self, count: int) -> None:
        """Makes batches until this many have been made since the beginning."""
        while self.made < count:
            with self.numbers or nullcontext():
                batch = self.synthesizer.synthesize(self.student)
            self.pool.add(batch)
            self.made += 1
            self.watch.made(batch, self.made, count)

    def state_dict(self) -> dict[str, Any]:
        parts = {"pool": self.pool.state_dict(), "synthesizer": self.synthesizer.state_dict()}
        numbers = {"numbers": self.numbers.state_dict()} if self.numbers else {}
        rests_on = dict(self.synthesizer.rests_on)
        return {"step": self.step, "made": self.made, "rests on": rests_on, **parts, **numbers}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, digest in self.synthesizer.rests_on.items():
            same_as_before(name, digest, state.get("rests on", {}).get(name))
        self.step, self.made = state["step"], state["made"]
        self.pool.load_state_dict(state["pool"])
        self.synthesizer.load_state_dict(state["synthesizer"])
        if self.numbers:
            self.numbers.load_state_dict(state["numbers"])


def descend(terms: Terms, optimizer: torch.optim.Optimizer) -> Terms:
    """One step down the sum of the terms; returns them detached."""
    optimizer.zero_grad(set_to_none=True)
    total(terms).backward()
    optimizer.step()
    return {name: term.detach() for name, term in terms.items()}


def total(terms: Terms) -> Tensor:
    """The objective: the sum of its terms."""
    return torch.stack(tuple(terms.values())).sum()
