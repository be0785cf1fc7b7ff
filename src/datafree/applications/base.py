"""What the images are for: the settings that every application has, and the shape that all of them share."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import signature
from typing import Any, ClassVar

from torch import nn
from torch.optim import Optimizer

from datafree.classifier import Classifier
from datafree.types import InputError, at_least, nearest


@dataclass(frozen=True, kw_only=True)
class Application(ABC):
    """The settings of an application: a frozen value that builds it."""

    steps: int = 2000
    """optimiser steps"""

    @abstractmethod
    def build(self) -> Callable[..., nn.Module]:
        """A function of the student, the teacher and the batches, watched, that returns a network; see `distill`."""

    @property
    def replays(self) -> bool:
        """Whether images of the method are shown; where they are not, the teacher need not have what the method needs."""
        return True

    def called(self, method: str) -> str:
        """What tables call a student made by a method of this name."""
        return method

    def findings(self, student: Classifier, teacher: Classifier) -> Mapping[str, Any]:
        """What a run's summary says of the result besides its size and accuracy."""
        return {}


@dataclass(frozen=True, kw_only=True)
class Learning(Application):
    """An application whose student learns by descent: the optimiser, and the course of its learning rate."""

    optimizer: str = "adamw"
    """any optimiser that timm knows by name"""
    lr: float = 2e-3
    """learning rate at its highest"""
    lr_warmup: float = 0.05
    """part of the steps in which the learning rate rises; then it falls to zero along a half cosine"""
    weight_decay: float = 1e-4
    """of weights, not of biases and normalisation"""

    fewest: ClassVar[int] = 1
    """steps without which there is nothing to do"""

    def __post_init__(self) -> None:
        at_least(self.fewest, steps=self.steps)
        at_least(1e-9, lr=self.lr)
        at_least(0, weight_decay=self.weight_decay, lr_warmup=self.lr_warmup)
        if not self.lr_warmup <= 1:
            raise InputError("lr-warmup is a part of the steps and must not be over 1")

    def optimizer_of(self, student: nn.Module) -> Optimizer:
        """The optimiser of a student.

        Raises:
            InputError: If timm knows none of this name.
        """
        from timm.optim import create_optimizer_v2, get_optimizer_class, list_optimizers

        try:
            known = signature(get_optimizer_class(self.optimizer, bind_defaults=False)).parameters
        except (ValueError, AssertionError) as fault:
            near = nearest(self.optimizer, map(str, list_optimizers()))
            raise InputError(
                f"optimizer {self.optimizer!r} is unknown{near}; see timm.optim.list_optimizers()"
            ) from fault
        settings: dict[str, Any] = {"lr": self.lr, "weight_decay": self.weight_decay}
        if "fused" in known:
            settings["fused"] = True  # half the time of a step
        return create_optimizer_v2(student, opt=self.optimizer, **settings)

    def lr_factor(self, step: int) -> float:
        """The learning rate at a step (counted from 0), as a part of the highest."""
        rise = self.lr_warmup * self.steps
        if step < rise:
            return (step + 1) / (rise + 1)
        return (1 + math.cos(math.pi * (step - rise) / max(1.0, self.steps - rise))) / 2
