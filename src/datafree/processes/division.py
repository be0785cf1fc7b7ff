r"""Which rows of a batch this process has.

A batch of :math:`n` images is divided among :math:`R` processes, in order: process :math:`r` has the images
:math:`r n / R, \dots, (r + 1) n / R - 1`. If several batches are joined, each of them is divided.

- Inside `divided`, a tensor with one row per image holds the rows of this process only.
- Random numbers are drawn for the whole batch by every process, from the same random state, and sliced. So an image is the
  same on whatever number of processes.
- A loss is a number per process, and its mean over the processes is the loss of the whole batch.

Outside of `divided`, and with one process, every function here returns what it is given.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from datafree.errors import InputError


@runtime_checkable
class Processes(Protocol):
    """What is used of Lightning's `Fabric` here."""

    @property
    def world_size(self) -> int:
        """The number of processes."""
        ...

    @property
    def global_rank(self) -> int:
        """The number of this process among all."""
        ...


@dataclass(frozen=True)
class Division:
    """How batches are divided now."""

    rank: int = 0
    """number of this process"""
    count: int = 1
    """number of processes"""
    blocks: tuple[int, ...] = ()
    """rows of this process in each of the batches that were joined; empty: one batch"""


_divisions: list[Division] = [Division()]
"""the division of each `with` block that is running, the innermost last"""


@contextmanager
def _in_force(division: Division) -> Iterator[None]:
    _divisions.append(division)
    try:
        yield
    finally:
        _divisions.pop()


def divided(processes: Processes) -> Any:
    """Divide batches among processes inside a `with` block. All processes must run the same code with equal random states.

    Args:
        processes: The processes; torch's default process group must connect them if there are several.
    """
    return _in_force(Division(processes.global_rank, processes.world_size))


def undivided() -> Any:
    """Let every process compute whole batches inside a `with` block, each the same ones, without waiting for the others."""
    return _in_force(Division())


def arranged(*blocks: int) -> Any:
    """Say inside a `with` block that tensors hold the rows of several batches, one after the other.

    Args:
        blocks: The rows of this process in each of the batches.
    """
    current = _divisions[-1]
    return _in_force(Division(current.rank, current.count, tuple(filter(None, blocks))))


def count() -> int:
    """Return the number of processes that divide batches; 1 if batches are not divided."""
    return _divisions[-1].count


def rank() -> int:
    """Return the number of this process."""
    return _divisions[-1].rank


def layout(rows: int) -> tuple[int, ...]:
    """Return the rows of this process in each of the batches that a tensor of this process consists of."""
    blocks = _divisions[-1].blocks
    return blocks if sum(blocks) == rows else (rows,)


def share(images: int) -> int:
    """Return how many images of a batch this process has.

    Raises:
        InputError: If the number of images is no multiple of the number of processes.
    """
    if images % count():
        fit = max(1, round(images / count())) * count()
        raise InputError(
            f"a batch of {images} images cannot be divided among {count()} processes; use a batch size of {fit}, or another "
            "number of processes"
        )
    return images // count()


def rows_of(process: int, rows: int) -> Tensor:
    """Return which rows of the whole batch a process has, as indices.

    Args:
        process: Its number.
        rows: Number of its rows.
    """
    parts, start = [], 0
    for block in layout(rows):
        first = start * count() + process * block
        parts.append(torch.arange(first, first + block))
        start += block
    return torch.cat(parts)


def part(whole: Tensor, dim: int = 0) -> Tensor:
    """Return the rows of this process of a tensor with the rows of the whole batch.

    Args:
        whole: The tensor, the same in every process.
        dim: The dimension of the images.

    Raises:
        InputError: If the rows cannot be divided.
    """
    if count() == 1:
        return whole
    rows = share(whole.shape[dim])
    if len(layout(rows)) == 1:
        return whole.narrow(dim, rank() * rows, rows).clone()
    return whole.index_select(dim, rows_of(rank(), rows).to(whole.device))


def draw_rows(draw: Callable[..., Tensor], size: Sequence[int], dim: int = 0, **arguments: Any) -> Tensor:
    """Return random numbers for the images of this process: those that one process would draw for them.

    Args:
        draw: Draws a tensor of a size, such as `torch.rand`.
        size: The size of the result.
        dim: The dimension of the images.
        arguments: Further arguments of `draw`.
    """
    whole = list(size)
    whole[dim] *= count()
    return part(draw(tuple(whole), **arguments), dim)
