"""Digests of the weights of a network that do not depend on its classes and on the channels of its images."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence

COUNTER = "num_batches_tracked"
"""last part of the name of a counter of batch norm, which older files lack; it is not part of a digest"""

Shapes = Mapping[str, Sequence[int]]
"""shape of each tensor by its name, in the order in which the network registers them"""


def names_digest(shapes: Shapes) -> str:
    """Return a digest of the names and the output widths of the tensors, in any order.

    Widths of fully connected layers are left out: that of the last one is the number of classes.
    """
    rows = sorted(
        (name, shape[0] if len(shape) in (1, 4) and name.endswith("weight") else 0)
        for name, shape in shapes.items()
        if not name.endswith(COUNTER)
    )
    return _digest(f"{name} {width}" for name, width in rows)


def order_digest(shapes: Shapes) -> str:
    """Return a digest of the sequence of the shapes, whatever the names, without classes and channels.

    The classes are the outputs of the last layer, the channels the inputs of the first convolution.
    """
    return _digest(str(tuple(shape)) for shape in neutral_shapes(shapes))


def neutral_shapes(shapes: Shapes) -> list[tuple[int, ...]]:
    """Return the sequence of the shapes with 0 instead of the number of classes and of channels."""
    sequence = [tuple(shape) for name, shape in shapes.items() if not name.endswith(COUNTER)]
    first = next((index for index, shape in enumerate(sequence) if len(shape) == 4), None)
    if first is not None:
        sequence[first] = (sequence[first][0], 0, *sequence[first][2:])
    classes = sequence[-1][0] if sequence and sequence[-1] else 0
    for index in (-1, -2):
        if len(sequence) > 1 and sequence[index] and sequence[index][0] == classes:
            sequence[index] = (0, *sequence[index][1:])
    return sequence


def _digest(lines: Iterable[str]) -> str:
    return hashlib.blake2b("\n".join(lines).encode(errors="replace"), digest_size=6).hexdigest()
