"""Matching the tensors of a file with those of a network, by their names or by their order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from datafree.weights.reading import matching_weights

Matching = Literal["names", "order"]
"""by names, with prefixes and known renamings; or by the order and the shapes of the tensors"""


@dataclass(frozen=True)
class Match:
    """The weights of a network."""

    weights: dict[str, Tensor]
    """by the names of the network, ready for `load_state_dict`"""
    notes: tuple[str, ...] = ()
    """sentences about entries that were dropped, added or renamed"""


def match(
    network: nn.Module,
    tensors: Mapping[str, Tensor],
    source: str,
    *,
    by: Matching = "names",
    keys: Sequence[str] = (),
    ordered: bool = True,
) -> Match:
    """Match the tensors of a file with those of a network, without using their values.

    Args:
        network: The network; it may be a blueprint on the meta device.
        tensors: `Checkpoint.tensors`.
        source: The file or network that they come from, for messages.
        by: Match the tensors by names or by order.
        keys: `Checkpoint.keys`, for the error message.
        ordered: `Checkpoint.ordered`.

    Raises:
        InputError: If the tensors do not match the network.
    """
    return Match(matching_weights(network, tensors, source))
