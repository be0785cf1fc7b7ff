"""What the methods that train a generator share: their settings, and the networks and optimizer under training."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from datafree.synthesis.method import Method, descend
from datafree.types import Terms, require_at_least


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
    """weight of the distance to the batch-norm running statistics of the teacher; not in the paper"""
    reset_every: int = 0
    """generator steps after which the generator is re-initialised; 0: never"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(2, batch_size=self.batch_size)
        require_at_least(1, latent_size=self.latent_size)
        require_at_least(0, one_hot=self.one_hot, activation=self.activation, entropy=self.entropy)
        require_at_least(0, statistics=self.statistics, reset_every=self.reset_every)
        require_at_least(1e-9, lr=self.lr)

    @property
    def needs(self) -> tuple[str, ...]:
        return ("batch-norm statistics",) if self.statistics else ()


class GeneratorTraining:
    """A generator, networks trained with it, and their optimizer: Adam with averages 0.5 and 0.999.

    Args:
        config: The learning rate, and after how many steps `finished` is true.
        networks: The networks to train, the generator among them, by their names in a checkpoint.
    """

    def __init__(self, config: GeneratorMethod, **networks: nn.Module) -> None:
        self.config, self.networks, self.steps = config, networks, 0
        for network in networks.values():
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        parameters = [parameter for network in networks.values() for parameter in network.parameters()]
        self.optimizer = torch.optim.Adam(parameters, lr=config.lr, betas=(0.5, 0.999), fused=True)

    @property
    def finished(self) -> bool:
        """Whether it is time to start over with a new generator."""
        return bool(self.config.reset_every) and self.steps >= self.config.reset_every

    def step(self, terms: Terms) -> Terms:
        """Take one step on the sum of the terms, and return them detached."""
        self.steps += 1
        return descend(terms, self.optimizer)

    def state_dict(self) -> dict[str, Any]:
        """Return the networks, the optimizer and the number of steps."""
        networks = {name: network.state_dict() for name, network in self.networks.items()}
        return {**networks, "optimizer": self.optimizer.state_dict(), "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state returned by `state_dict`."""
        for name, network in self.networks.items():
            network.load_state_dict(state[name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.steps = state["steps"]
