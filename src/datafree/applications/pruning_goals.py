"""What pruning aims at: a fraction of the multiplications or of the parameters, or a time per image on this machine."""

import math
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch

from datafree.classifier import Classifier, frozen
from datafree.evaluation import count_macs, count_parameters
from datafree.networks.pruning_order import Cut, selected
from datafree.networks.pruning_surgery import Channels
from datafree.types import InputError

WARM_UP, TIMED, SECONDS = 3, 10, 0.3
"""runs of one image before the latency is measured, and the fewest runs and the time of its measurement"""
FORMS = "macs:0.5, params:0.3 or latency:5ms"
"""what a goal may be"""


@dataclass(frozen=True)
class Goal:
    """What the pruned network may cost at most."""

    text: str
    """as the user gives it"""
    measure: str
    """macs, params or latency"""
    bound: float
    """fraction of the unpruned network, or milliseconds"""

    @classmethod
    def parse(cls, text: str) -> "Goal":
        """Return the goal that a text gives: `macs:0.5`, `params:0.3` or `latency:5ms`.

        Raises:
            InputError: If it is something else, or a fraction is not above 0 and below 1.
        """
        measure, _, number = text.partition(":")
        in_time = measure == "latency"
        if in_time and not number.endswith("ms"):
            raise InputError(f"target is {text!r}, but a latency is in milliseconds; write for example latency:5ms")
        try:
            bound = float(number.removesuffix("ms") if in_time else number)
        except ValueError:
            bound = math.nan
        if measure not in ("macs", "params", "latency") or not 0 < bound < (math.inf if in_time else 1):
            raise InputError(f"target is {text!r}; give a fraction above 0 and below 1 or a time, such as {FORMS}")
        return cls(text, measure, bound)

    def cost(self, network: Classifier) -> float:
        """Return what a network costs: multiply-accumulate operations, parameters, or milliseconds for one image."""
        if self.measure == "latency":
            return milliseconds(network)
        return float(count_macs(network) if self.measure == "macs" else count_parameters(network.model))

    def limit(self, initial: float) -> float:
        """Return the highest cost that meets the goal.

        Args:
            initial: Cost of the unpruned network.
        """
        return self.bound if self.measure == "latency" else self.bound * initial

    def shown(self, cost: float, initial: float, *, rounded_up: bool = False) -> str:
        """Return a cost in the form of the goal, to three decimals; rounded up, it is a goal that the cost meets."""
        value = cost if self.measure == "latency" else cost / initial
        value = math.ceil(1000 * value) / 1000 if rounded_up else value
        return f"latency:{value:.3f}ms" if self.measure == "latency" else f"{self.measure}:{value:.3f}"

    def require_possible(self, least: float, initial: float) -> None:
        """Check that the goal is neither met already nor out of reach.

        Args:
            least: Cost of the network with the smallest widths.
            initial: Cost of the unpruned network.

        Raises:
            InputError: If it is; with the least that is possible.
        """
        if initial <= self.limit(initial):
            raise InputError(
                f"target {self.text} is met before pruning, at {self.shown(initial, initial)}; give a lower one"
            )
        if least > self.limit(initial):
            raise InputError(
                f"target {self.text} cannot be reached: with every layer as narrow as min-kept and multiple allow, it is "
                f"{self.shown(least, initial, rounded_up=True)}; give at least that"
            )


def milliseconds(network: Classifier) -> float:
    """Return the time of one image on the device of the network: the shortest of several, which other load hardly affects."""
    image = torch.zeros(1, *network.shape, device=network.device)
    times: list[float] = []
    with frozen(network), torch.no_grad():
        for _ in range(WARM_UP):
            network(image).sum().item()
        start = time.perf_counter()
        while len(times) < TIMED or time.perf_counter() - start < SECONDS:
            before = time.perf_counter()
            network(image).sum().item()
            times.append(time.perf_counter() - before)
    return 1000 * min(times)


def cost_after(goal: Goal, network: Classifier, cuts: Sequence[Cut]) -> float:
    """Return what a network would cost after cuts. It is not changed."""
    copy = deepcopy(network)
    channels = Channels(copy.model, copy.shape)
    for group, indices in zip(channels.groups, selected(cuts, len(channels.groups)), strict=True):
        if indices:
            channels.remove(group, indices)
    return goal.cost(copy)


def fewest_cuts(count: int, cost: Callable[[int], float], limit: float) -> int:
    """Return how many of the first cuts bring the cost to a limit, by bisection; all of them if they do not.

    Args:
        count: Number of cuts, at least 1.
        cost: Returns the cost after a number of cuts.
        limit: The highest cost that is allowed.
    """
    low, high = 0, count  # more than `low` cuts are needed
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if cost(middle) <= limit else (middle, high)
    return high
