"""The interface of a method: its settings (`Method`) and the object that synthesizes images with them (`Synthesizer`)."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from datafree import processes
from datafree.callback import Callback, silent
from datafree.classifier import Classifier, batch_norms
from datafree.synthesis.outputs import inspect_teachers
from datafree.synthesis.schedule import Schedule
from datafree.synthesis.storage import Borrowed, Storage
from datafree.types import Batch, InputError, Terms, require_at_least, require_choices


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """The settings of a method: an immutable dataclass that builds a synthesizer.

    The fields are the hyperparameters of the paper. `METHODS` holds the presets by name.
    """

    paper: ClassVar[str]
    """authors, year and arXiv identifier"""

    batch_size: int = 256
    """images synthesized at once"""

    def __init_subclass__(cls, **arguments: Any) -> None:
        """Check what a teacher has before `build`, also for methods defined elsewhere."""
        super().__init_subclass__(**arguments)
        if "build" in vars(cls):
            cls.build = _after_check(cls.build)

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
    def images_per_batch(self) -> int:
        """Images in one batch for the student."""
        return self.batch_size

    @property
    def burn_in(self) -> int:
        """Batches to discard before the images are good enough to store as a set, while a generator is still untrained."""
        return 0

    @property
    def adaptive(self) -> bool:
        """Whether the objective depends on the student."""
        return False

    @property
    def aims(self) -> bool:
        """Whether each image is synthesized for a class that is chosen before; see `Classifier.target_classes`."""
        return False

    @property
    def distillation(self) -> Mapping[str, Any]:
        """Settings of `DistillationConfig` that the paper prescribes, used by default."""
        return {}

    @property
    def needs(self) -> tuple[str, ...]:
        """Capabilities that the teacher must have; see `capabilities`. `build` refuses a teacher without them."""
        return ()

    @abstractmethod
    def build(self, teacher: Classifier) -> "Synthesizer":
        """Return a synthesizer for this teacher.

        Raises:
            InputError: If the teacher lacks what the method `needs`, or the method does not support it.
        """

    def missing(self, teacher: Classifier) -> list[str]:
        """Return what the method needs and the teacher does not have."""
        available = capabilities(teacher) if self.needs else ()
        return [need for need in self.needs if need not in available]


def _after_check(build: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(build)
    def checked(self: Method, teacher: Classifier) -> Any:
        inspect_teachers(teacher)
        if missing := self.missing(teacher):
            raise InputError(f"the teacher has no {' and no '.join(missing)}; use a method that needs none")
        return build(self, teacher)

    return checked


def capabilities(teacher: Classifier) -> frozenset[str]:
    """Return what a teacher offers, in the words of `Method.needs`.

    - `gradients`: gradients flow from its logits to the images; they do not in a forward-only network.
    - `batch-norm statistics`: a batch-norm layer whose running statistics are not the initial mean 0 and variance 1.
    - `last layer`: the logits come from a fully connected layer with one output per class, and exactly one class is
      correct.
    """
    available = {
        "gradients": teacher.differentiable,
        "batch-norm statistics": any(not is_untrained(norm) for norm in batch_norms(teacher)),
        "last layer": teacher.class_weights() is not None and not teacher.multi_label,
    }
    return frozenset(name for name, is_available in available.items() if is_available)


def is_untrained(norm: nn.Module) -> bool:
    """Return whether a batch-norm layer has its initial running statistics: mean 0 and variance 1."""
    return bool((norm.running_mean == 0).all() and (norm.running_var == 1).all())  # type: ignore[union-attr]


class Synthesizer(ABC):
    """Synthesizes images from a teacher: `objective` is the equation of the paper, `synthesize` its algorithm."""

    callback: Callback = silent
    """reports the progress of long optimizations"""
    batches_per_step: int = 1
    """batches that the application takes for each step of the student"""
    divides: ClassVar[bool] = False
    """whether `synthesize` makes only the part of this process, where several divide a batch; otherwise each makes it all"""
    reports_batches: ClassVar[bool] = True
    """whether the stream reports each batch to its callback; not if it was drawn from images that were reported before"""

    @property
    def stored_images(self) -> Borrowed | None:
        """The images of every batch, if they lie on disk already and every batch has all of them; None otherwise."""
        return None

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

    def keep_pools_in(self, storage: Storage) -> None:  # noqa: B027
        """Keep the pools of images that it has, if it has any, where a run keeps them."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state that is kept between batches, for a checkpoint."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Restore the state returned by `state_dict`."""


def descend(
    terms: Terms,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler | None = None,
    shared: Iterable[Tensor] = (),
) -> Terms:
    """Take one optimizer step on the sum of the terms, and return the terms detached.

    With several processes, the objective is the mean of their sums. What is optimized belongs to one process, as images do,
    unless it is `shared`.

    Args:
        terms: The terms.
        optimizer: The optimizer.
        scaler: Multiplies the sum before the backward pass, and divides the gradients; see `loss_scaler`.
        shared: Parameters that every process has, as those of a generator. They get the gradients of all images.
    """
    scaler = scaler or torch.amp.GradScaler("cpu", enabled=False)
    optimizer.zero_grad(set_to_none=True)
    shared = list(shared)
    scaler.scale(total(terms) / (1 if shared else processes.count())).backward()
    processes.average_gradients(shared)
    if scaler.is_enabled():
        processes.overflow_together(group["params"] for group in optimizer.param_groups)
    scaler.step(optimizer)
    scaler.update()
    return {name: term.detach() for name, term in terms.items()}


def loss_scaler(teacher: Classifier) -> torch.amp.GradScaler:
    """Return a scaler of the loss, which does something only if a teacher computes in float16.

    The gradients of pixels are small: a mean over the batch and its pixels. In float16 many of them become 0. The loss is
    therefore multiplied by a power of two. If a gradient overflows, the step is skipped and the factor halved.
    """
    half = any(isinstance(module, Classifier) and module.precision == torch.float16 for module in teacher.modules())
    return torch.amp.GradScaler(teacher.device.type, init_scale=2.0**12, enabled=half)


def total(terms: Terms) -> Tensor:
    """Return the objective, the sum of its terms."""
    return torch.stack(tuple(terms.values())).sum()


def half_cosine(lr: float, step: int, steps: int) -> float:
    r"""Return the learning rate :math:`\tfrac12 \eta (1 + \cos(\pi t / T))` at step `t` of `T`, counted from 0."""
    return lr * (1 + math.cos(math.pi * step / steps)) / 2
