"""What the methods that train a generator share: their settings, the networks and optimizer under training, and a remedy.

A generator that has collapsed draws the same image for every latent vector. If it does so at two checks in a row, it is
re-initialised, once. A generator that has not collapsed is never touched.
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from datafree import processes
from datafree.callback import Callback
from datafree.classifier import Classifier
from datafree.memory_format import use_channels_last
from datafree.synthesis.method import Method, Synthesizer, descend, loss_scaler
from datafree.types import Images, Terms, require_at_least

CHECK_EVERY = 50
"""generator steps between two checks for a collapse"""
GREY_LEVEL = 1 / 255
"""standard deviation of a pixel over a batch below which it counts as the same in all images"""


@dataclass(frozen=True, kw_only=True)
class GeneratorMethod(Method):
    """Settings of a method that trains a generator. Fields without a default have one in each method."""

    latent_size: int = 100
    """size of a latent vector"""
    lr: float
    """learning rate of the generator (Adam)"""
    one_hot: float = 1.0
    """weight of the one-hot loss"""
    activation: float
    """alpha, weight of the activation loss"""
    entropy: float
    """beta, weight of the information-entropy loss"""
    statistics: float = 0.0
    """weight of the distance to the batch-norm running statistics of the teacher, if it has any; not in the papers"""
    reset_every: int = 0
    """generator steps after which the generator is re-initialised; 0: never"""
    discard_first: int = 0
    """steps of a new generator whose images are discarded, at the start and after each reset"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(2, batch_size=self.batch_size)
        require_at_least(1, latent_size=self.latent_size)
        require_at_least(0, one_hot=self.one_hot, activation=self.activation, entropy=self.entropy)
        require_at_least(0, statistics=self.statistics, discard_first=self.discard_first)
        require_at_least(self.discard_first + 1 if self.reset_every else 0, reset_every=self.reset_every)
        require_at_least(1e-9, lr=self.lr)

    @property
    def steps_per_batch(self) -> float:
        """Generator steps per batch that is not discarded; those of a generator that is never reset are not counted."""
        return self.reset_every / (self.reset_every - self.discard_first) if self.reset_every else 1

    @property
    def needs(self) -> tuple[str, ...]:
        return ("gradients", "batch-norm statistics") if self.statistics else ("gradients",)


class GeneratorTraining:
    """A generator, networks trained with it, and their optimizer: Adam with averages 0.5 and 0.999.

    Args:
        config: The learning rate, and after how many steps `finished` is true.
        teacher: The teacher, whose precision decides whether the loss is scaled.
        networks: The networks to train, the generator among them, by their names in a checkpoint.
    """

    def __init__(self, config: GeneratorMethod, teacher: Classifier, **networks: nn.Module) -> None:
        self.config, self.networks, self.steps = config, networks, 0
        self.scaler = loss_scaler(teacher)
        for network in networks.values():
            use_channels_last(network)
        self.parameters = [parameter for network in networks.values() for parameter in network.parameters()]
        self.optimizer = torch.optim.Adam(self.parameters, lr=config.lr, betas=(0.5, 0.999), fused=True)

    @property
    def finished(self) -> bool:
        """Whether it is time to start over with a new generator."""
        return bool(self.config.reset_every) and self.steps >= self.config.reset_every

    def discard(self, step: Callable[[], object], callback: Callback) -> None:
        """Take the steps whose images are discarded because the generator is new.

        Args:
            step: Takes one step.
            callback: Shows the progress, and may save a checkpoint after each step.
        """
        if steps := range(self.steps, self.config.discard_first):
            for _ in callback.track(steps, "train the generator"):
                step()
                callback.on_step()

    def step(self, terms: Terms) -> Terms:
        """Take one step on the sum of the terms, and return them detached."""
        self.steps += 1
        return descend(terms, self.optimizer, self.scaler, self.parameters)

    def state_dict(self) -> dict[str, Any]:
        """Return the networks, the optimizer and the number of steps."""
        networks = {name: network.state_dict() for name, network in self.networks.items()}
        training = {"optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict(), "steps": self.steps}
        return {**networks, **training}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state returned by `state_dict`."""
        for name, network in self.networks.items():
            network.load_state_dict(state[name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.steps = state["steps"]


class GeneratorSynthesizer(Synthesizer):
    """A synthesizer with a generator, which is re-initialised once if it has collapsed. Its state says whether it was."""

    training: GeneratorTraining
    """the generator under training"""
    restarts: int = 0
    """number of times that a collapsed generator was re-initialised"""
    suspected: bool = False
    """whether the generator had collapsed at the last check"""

    @abstractmethod
    def reset(self) -> None:
        """Re-initialise the generator and its optimizer."""

    def remedy(self, images: Images) -> bool:
        """Re-initialise a generator that has collapsed at two checks in a row, once. Return whether this was done.

        Args:
            images: The images of its last step.
        """
        if self.restarts or self.training.steps % CHECK_EVERY:
            return False
        before, self.suspected = self.suspected, is_collapsed(images)
        if not (before and self.suspected):
            return False
        self.restarts += 1
        self.callback.note(
            f"the generator has collapsed after {self.training.steps} steps (it draws the same image for every latent "
            "vector): it was re-initialised, once"
        )
        self.reset()
        return True

    def state_dict(self) -> dict[str, Any]:
        return {**self.training.state_dict(), "restarts": self.restarts, "suspected": self.suspected}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.training.load_state_dict(state)
        self.restarts, self.suspected = (
            state.get("restarts", 0),
            state.get("suspected", False),
        )  # not in earlier versions


def is_collapsed(images: Images) -> bool:
    """Return whether all images of a batch are the same, to one grey level in every pixel; in no process they differ."""
    spread = images.detach().float().std(0, correction=0).amax() if len(images) > 1 else images.new_ones(())
    return bool(processes.largest(spread) < GREY_LEVEL)
