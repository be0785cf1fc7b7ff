"""The last layer of a network under another name.

People replace the last layer: `model.fc = nn.Sequential(nn.Dropout(), nn.Linear(512, 9))` is `fc.1` in the file and `fc` in
the network, and a program with `self.backbone` and `self.head` has it beside the rest.
"""

from collections.abc import Mapping

from torch import Tensor

Tensors = Mapping[str, Tensor]


def moved_head(expected: Tensors, unplaced: Tensors, missing: list[str]) -> dict[str, str]:
    """Return the names in a file of the tensors of the last layer, by the names of the network; empty if it is not clear.

    It is clear if only the last layer is missing, only one layer of the file has no place, and both take the same features.

    Args:
        expected: The state dict of the network.
        unplaced: Tensors of the file that have no place in it.
        missing: Names of the network that the file does not have.
    """
    matrices = [name for name, tensor in expected.items() if tensor.ndim == 2]
    ours, theirs = {_layer(name) for name in missing}, {_layer(name) for name in unplaced}
    if not matrices or ours != {_layer(matrices[-1])} or len(theirs) != 1:
        return {}
    (layer,) = theirs
    names = {name: f"{layer}.{_leaf(name)}" for name in missing}
    if sorted(names.values()) != sorted(unplaced):
        return {}
    same = all(
        unplaced[there].ndim == expected[here].ndim and unplaced[there].shape[1:] == expected[here].shape[1:]
        for here, there in names.items()
    )
    return names if same else {}


def head_note(names: Mapping[str, str], source: str) -> str:
    """Return the sentence about a last layer with another name."""
    here, there = next(iter(names.items()))
    return (
        f"the last layer is {_layer(there)} in {source} and {_layer(here)} in the network; what else is computed beside it, "
        "such as dropout or a softmax, is not in the file"
    )


def _layer(name: str) -> str:
    return name.rpartition(".")[0]


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]
