"""The interface of a method: its settings (`Method`) and the object that synthesizes images with them (`Synthesizer`)."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from datafree.callback import Callback, silent
from datafree.classifier import Classifier
from datafree.synthesis.schedule import Schedule
from datafree.types import Batch, Terms, require_at_least, require_choices


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """The settings of a method: an immutable dataclass that builds a synthesizer.

    The fields are the hyperparameters of the paper. `METHODS` holds the presets by name.
    """

    paper: ClassVar[str]
    """authors, year and arXiv identifier"""

    batch_size: int = 256
    """images synthesized at once"""

    def __post_init__(self) -> None:
        require_at_least(1, batch_size=self.batch_size)
        require_choices(self)

    @property
    @abstractmethod
    def schedule(self) -> Schedule:
        """The schedule of the paper, used by default."""

    @property
    @abstractmethod
    def passes(self) -> float:
        """Forward and backward passes through the teacher per image."""

    @property
    def burn_in(self) -> int:
        """Batches to discard before the images are good enough to store as a set, while a generator is still untrained."""
        return 0

    @property
    def adaptive(self) -> bool:
        """Whether the objective depends on the student."""
        return False

    @property
    def distillation(self) -> Mapping[str, Any]:
        """Settings of `DistillationConfig` that the paper prescribes, used by default."""
        return {}

    @property
    def needs(self) -> tuple[str, ...]:
        """Capabilities that the teacher must have; see `datafree.teachers.doctor`."""
        return ()

    @abstractmethod
    def build(self, teacher: Classifier) -> "Synthesizer":
        """Return a synthesizer for this teacher.

        Raises:
            InputError: If the method does not support the teacher.
        """


class Synthesizer(ABC):
    """Synthesizes images from a teacher: `objective` is the equation of the paper, `synthesize` its algorithm."""

    callback: Callback = silent
    """reports the progress of long optimizations"""

    @abstractmethod
    def synthesize(self, student: nn.Module | None = None) -> Batch:
        """Synthesize one batch.

        Args:
            student: The student as it is now. Only adaptive methods use it; it is not changed.

        Returns:
            Images in [0, 1] of shape `(n, c, h, w)`, their targets, and the terms of the objective at the last step.
        """

    @property
    def notes(self) -> tuple[str, ...]:
        """Messages for the user about this method on this teacher."""
        return ()

    @property
    def measured_images(self) -> Mapping[str, int]:
        """Number of real images that the statistics in use were measured on, by source; for the ledger of a run."""
        return {}

    @property
    def dependencies(self) -> Mapping[str, str]:
        """SHA-256 of each file or folder that was read, by path. A run resumes only if they are unchanged."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Return the state that is kept between batches, for a checkpoint."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Restore the state returned by `state_dict`."""


def descend(terms: Terms, optimizer: torch.optim.Optimizer) -> Terms:
    """Take one optimizer step on the sum of the terms, and return the terms detached."""
    optimizer.zero_grad(set_to_none=True)
    total(terms).backward()
    optimizer.step()
    return {name: term.detach() for name, term in terms.items()}


def total(terms: Terms) -> Tensor:
    """Return the objective, the sum of its terms."""
    return torch.stack(tuple(terms.values())).sum()


def half_cosine(lr: float, step: int, steps: int) -> float:
    r"""Return the learning rate :math:`\tfrac12 \eta (1 + \cos(\pi t / T))` at step `t` of `T`, counted from 0."""
    return lr * (1 + math.cos(math.pi * step / steps)) / 2
