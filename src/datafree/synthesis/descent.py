"""The optimization of the images of one batch, which a checkpoint can hold between two of its steps."""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from datafree import processes
from datafree.callback import Callback
from datafree.classifier import Classifier
from datafree.synthesis.method import Synthesizer, descend, loss_scaler
from datafree.types import Targets, Terms


class Descent:
    """A batch in progress: what is optimized, its targets, its optimizer, and the steps that were taken.

    Args:
        parameters: What is optimized.
        targets: What the images should be predicted as.
        teacher: The teacher, whose precision decides whether the loss is scaled.
        create_optimizer: Returns the optimizer of parameters. Each stage has a new one.

    Attributes:
        terms: The terms of the last step, detached.
    """

    def __init__(
        self,
        parameters: Tensor,
        targets: Targets,
        teacher: Classifier,
        create_optimizer: Callable[[list[Tensor]], torch.optim.Optimizer],
    ) -> None:
        self.parameters, self.targets, self.create_optimizer = parameters.requires_grad_(), targets, create_optimizer
        self.optimizer = create_optimizer([self.parameters])
        self.scaler = loss_scaler(teacher)
        self.stage = self.step = 0
        self.terms: Terms = {}

    def track(self, callback: Callback, steps: int, stage: int = 0) -> Iterator[int]:
        """Yield the steps of a stage that are left, counted from 0, and report the end of each.

        Args:
            callback: Shows the progress, and may save a checkpoint after each step.
            steps: Number of steps of the stage.
            stage: Number of the stage, counted from 0. Nothing is yielded for a stage that is complete.
        """
        if stage > self.stage:
            self.stage, self.step = stage, 0
            self.optimizer = self.create_optimizer([self.parameters])
        if stage < self.stage:
            return
        for step in callback.track(range(self.step, steps), "invert"):
            yield step
            self.step = step + 1
            callback.on_step()

    def take_step(self, terms: Terms) -> None:
        """Take one optimizer step on the sum of the terms."""
        self.terms = descend(terms, self.optimizer, self.scaler)

    @property
    def last_terms(self) -> Terms:
        """The terms of the last step; with several processes, those of the whole batch."""
        return processes.mean_terms(self.terms)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the next step depends on besides the networks and the random numbers."""
        return {
            "parameters": self.parameters.detach(),
            "targets": self.targets,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "stage": self.stage,
            "step": self.step,
            "terms": dict(self.terms),
        }

    @classmethod
    def restored(
        cls,
        state: dict[str, Any] | None,
        teacher: Classifier,
        create_optimizer: Callable[[list[Tensor]], torch.optim.Optimizer],
    ) -> "Descent | None":
        """Return the batch in progress with this state; None if there was none."""
        if state is None:
            return None
        parameters, targets = (state[name].to(teacher.device) for name in ("parameters", "targets"))
        descent = cls(parameters, targets, teacher, create_optimizer)
        descent.optimizer.load_state_dict(state["optimizer"])
        descent.scaler.load_state_dict(state["scaler"])
        descent.stage, descent.step = state["stage"], state["step"]
        descent.terms = {name: term.to(teacher.device) for name, term in state["terms"].items()}
        return descent


class DescentSynthesizer(Synthesizer):
    """A synthesizer that optimizes the images of each batch; its state includes a batch in progress."""

    teacher: Classifier
    """the teacher"""
    descent: Descent | None = None
    """the batch in progress; None between two batches"""

    @abstractmethod
    def create_optimizer(self, parameters: list[Tensor]) -> torch.optim.Optimizer:
        """Return the optimizer of a stage."""

    def state_dict(self) -> dict[str, Any]:
        return {"descent": self.descent and self.descent.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.descent = Descent.restored(state.get("descent"), self.teacher, self.create_optimizer)
