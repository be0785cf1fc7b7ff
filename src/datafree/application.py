"""What the images are for: the settings that every application has, and the shape that all of them share."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from datafree.classifier import Classifier


@dataclass(frozen=True, kw_only=True)
class Application(ABC):
    """The settings of an application: a frozen value that builds it."""

    steps: int = 2000
    """optimiser steps"""

    @abstractmethod
    def build(self) -> Callable[..., nn.Module]:
        """A function of the student, the teacher and the batches, watched, that returns a network; see `distill`."""

    def findings(self, student: Classifier, teacher: Classifier) -> Mapping[str, Any]:
        """What a run's summary says of the result besides its size and accuracy."""
        return {}
