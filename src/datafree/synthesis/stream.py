"""Who makes images (`Synthesizer`), when they are made, kept and shown (`Schedule`, `Stream`), and one step of descent."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from datafree.callback import Callback, silent
from datafree.classifier import Classifier
from datafree.randomness import RandomNumbers
from datafree.synthesis.pool import Pool
from datafree.types import Batch, Terms, at_least, same_as_before, words_known


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """When images are made, kept and shown.

    All first: `refresh_every=0`; alternating: `refresh_every=50`; always fresh: `refresh_every=1`.

    With a new batch for every step the student sees that batch, else images drawn at random from those kept.
    """

    warmup_batches: int = 1
    """batches made before the student sees the first"""
    refresh_every: int = 1
    """student steps from one new batch to the next; 0: none after the warm-up"""
    pool_batches: int = 1
    """batches kept; the oldest leave first"""
    batch_size: int = 128
    """images shown per step, when they are drawn from those kept"""

    def __post_init__(self) -> None:
        at_least(1, warmup_batches=self.warmup_batches, pool_batches=self.pool_batches, batch_size=self.batch_size)
        at_least(0, refresh_every=self.refresh_every)

    def due(self, step: int) -> int:
        """Batches that must have been made when the student takes this step (counted from 0)."""
        return self.warmup_batches + (step // self.refresh_every if self.refresh_every else 0)


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """The settings of a method: a frozen value that builds its synthesizer.

    Its fields are the paper's settings; `METHODS` holds the values that have names.
    """

    paper: ClassVar[str]
    """authors and year, and where to read it"""

    batch_size: int = 256
    """images made at a time"""

    def __post_init__(self) -> None:
        at_least(1, batch_size=self.batch_size)
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

    callback: Callback = silent
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
        callback: Is told of each batch.
        numbers: The random numbers that synthesis draws from; torch's own if not given.
    """

    def __init__(
        self,
        synthesizer: Synthesizer,
        student: nn.Module | None,
        schedule: Schedule,
        callback: Callback = silent,
        numbers: RandomNumbers | None = None,
    ) -> None:
        self.synthesizer, self.student, self.schedule, self.callback = synthesizer, student, schedule, callback
        self.numbers = numbers
        synthesizer.callback = callback
        self.pool = Pool(schedule.pool_batches)
        self.step = 0
        self.made = 0

    @classmethod
    def of(
        cls,
        method: Method,
        teacher: Classifier,
        student: nn.Module | None = None,
        schedule: Schedule | None = None,
        callback: Callback = silent,
    ) -> "Stream":
        """A stream of a method whose random numbers follow from `torch.manual_seed`, but are apart from torch's own.

        A student that learns from it draws the same numbers as one that learns from its images after they were kept.
        """
        numbers = RandomNumbers(torch.initial_seed())
        with numbers:
            synthesizer = method.build(teacher)
        return cls(synthesizer, student, schedule or method.schedule, callback, numbers)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        self.fill(self.schedule.due(self.step))
        self.step += 1
        return self.pool.newest if self.schedule.refresh_every == 1 else self.pool.draw(self.schedule.batch_size)

    def fill(self, count: int) -> None:
        """Makes batches until this many have been made since the beginning."""
        while self.made < count:
            with self.numbers or nullcontext():
                batch = self.synthesizer.synthesize(self.student)
            self.pool.add(batch)
            self.made += 1
            self.callback.on_batch(batch, self.made, count)

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
