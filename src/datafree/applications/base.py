"""The interface of an application, and the settings that applications share."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from inspect import signature
from typing import Any, ClassVar

from torch import nn
from torch.optim import Optimizer

from datafree.classifier import Classifier
from datafree.synthesis.augmentation import Augmentation
from datafree.types import InputError, require_at_least, require_at_most, suggestion

PASSES = 4.0
"""passes for an image of a plain step: one forward of each network, and the student's backward pass, which counts twice"""


@dataclass(frozen=True, kw_only=True)
class Application(ABC):
    """Settings of an application: a frozen value that builds it."""

    steps: int = 2000
    """optimizer steps"""

    @abstractmethod
    def build(self) -> Callable[..., nn.Module]:
        """Return a function that trains a student and returns it; see `distill` for its arguments."""

    @property
    def needs_images(self) -> bool:
        """Whether the application uses synthesized images; if not, the teacher need not meet the method's requirements."""
        return True

    @property
    def passes(self) -> float:
        """Passes per image that the student learns from: forward ones of both networks, backward ones of the student twice."""
        return PASSES

    def label(self, method: str) -> str:
        """Return the name in result tables of a student trained with this method."""
        return method

    def summarize(self, student: Classifier, teacher: Classifier) -> Mapping[str, Any]:
        """Return the entries that the application adds to the summary of a run, as JSON values."""
        return {}


@dataclass(frozen=True, kw_only=True)
class Learning(Application):
    """An application that trains its student with an optimizer and a learning-rate schedule."""

    optimizer: str = "adamw"
    """name of any optimizer in timm"""
    lr: float = 2e-3
    """peak learning rate"""
    lr_warmup: float = 0.05
    """fraction of the steps in which the learning rate rises linearly; afterwards it falls to 0 along a half cosine"""
    weight_decay: float = 1e-4
    """weight decay; biases and normalisation layers have none"""
    temperature: float = 4.0
    """tau, divides the logits of student and teacher in the distillation loss"""

    min_steps: ClassVar[int] = 1

    def __post_init__(self) -> None:
        require_at_least(self.min_steps, steps=self.steps)
        require_at_least(1e-9, lr=self.lr, temperature=self.temperature)
        require_at_least(0, weight_decay=self.weight_decay, lr_warmup=self.lr_warmup)
        require_at_most(1, lr_warmup=self.lr_warmup)

    def create_optimizer(self, model: nn.Module) -> Optimizer:
        """Return the optimizer for the parameters of a model.

        Raises:
            InputError: If timm has no optimizer of this name.
        """
        from timm.optim import create_optimizer_v2, get_optimizer_class, list_optimizers

        try:
            arguments = signature(get_optimizer_class(self.optimizer, bind_defaults=False)).parameters
        except (ValueError, AssertionError) as fault:
            hint = suggestion(self.optimizer, map(str, list_optimizers()))
            raise InputError(
                f"optimizer {self.optimizer!r} is unknown{hint}; see timm.optim.list_optimizers()"
            ) from fault
        settings: dict[str, Any] = {"lr": self.lr, "weight_decay": self.weight_decay}
        if "fused" in arguments:
            settings["fused"] = True  # halves the time of a step
        return create_optimizer_v2(model, opt=self.optimizer, **settings)

    def lr_factor(self, step: int) -> float:
        """Return the learning rate at a step, counted from 0, as a fraction of its peak."""
        warmup = self.lr_warmup * self.steps
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return cosine_factor(step - warmup, max(1.0, self.steps - warmup))


@dataclass(frozen=True, kw_only=True)
class AugmentedLearning(Learning):
    """Settings of an application that augments the images of each step."""

    augment: Augmentation = field(default_factory=Augmentation)
    """random augmentation of the images before student and teacher see them"""


def cosine_factor(step: float, steps: float) -> float:
    """Return a factor that falls from 1 at step 0 to 0 at `steps` along a half cosine."""
    return (1 + math.cos(math.pi * step / steps)) / 2


def require_fraction(**values: float) -> None:
    """Check that settings are at least 0 and below 1.

    Args:
        values: The settings by name.

    Raises:
        InputError: Names the setting and its value.
    """
    for name, value in values.items():
        if not 0 <= value < 1:
            raise InputError(f"{name.replace('_', '-')} is {value}, but it must be at least 0 and below 1")
