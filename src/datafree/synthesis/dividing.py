"""Batches that several processes divide: each synthesizes and stores its part, and images are drawn from the parts of all."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from datafree import processes
from datafree.processes.exchange import Exchange, wanted_by
from datafree.synthesis.method import Synthesizer
from datafree.synthesis.pool import Pool
from datafree.synthesis.storage import Borrowed
from datafree.types import Batch, InputError

SHOWN = 256
"""images of a batch on disk that are shown and whose health is checked"""


def synthesize_part(synthesizer: Synthesizer, student: nn.Module | None) -> tuple[Batch, bool]:
    """Return the part of this process of the next batch, and whether it is the whole batch, because it cannot be divided.

    A synthesizer that does not divide its batches makes whole ones in every process, all the same.
    """
    if processes.count() == 1 or synthesizer.divides:
        return synthesizer.synthesize(student), processes.count() == 1
    with processes.undivided():
        batch = synthesizer.synthesize(student)
    is_whole = bool(len(batch) % processes.count())
    return (batch if is_whole else part_of(batch)), is_whole


def part_of(batch: Batch) -> Batch:
    """Return the images of this process, of a batch that every process has as a whole.

    Raises:
        InputError: If the images cannot be divided.
    """
    return rows(batch, processes.part)


def rows(batch: Batch, function: Callable[[Tensor], Tensor]) -> Batch:
    """Return a batch with a function applied to all its tensors with one row per image."""
    logits = None if batch.teacher_logits is None else function(batch.teacher_logits)
    return replace(
        batch,
        images=function(batch.images),
        targets=function(batch.targets),
        teacher_logits=logits,
        block_inputs=tuple(map(function, batch.block_inputs)),
    )


class Whole(Synthesizer):
    """A synthesizer whose batches are divided among processes and put together again in each of them.

    Args:
        synthesizer: Makes the batches.
        group: The processes.
    """

    def __init__(self, synthesizer: Synthesizer, group: processes.Processes) -> None:
        self.synthesizer, self.group = synthesizer, group

    def synthesize(self, student: nn.Module | None = None) -> Batch:
        self.synthesizer.callback = self.callback
        with processes.divided(self.group):
            batch, is_whole = synthesize_part(self.synthesizer, student)
            return batch if is_whole else rows(batch, processes.gather)

    @property
    def notes(self) -> tuple[str, ...]:
        return self.synthesizer.notes

    @property
    def measured_images(self) -> Mapping[str, int]:
        return self.synthesizer.measured_images

    @property
    def dependencies(self) -> Mapping[str, str]:
        return self.synthesizer.dependencies


class DividedPool:
    """A pool of which each process stores its part of every batch; with one process, or whole batches, a pool as such.

    Args:
        pool: What this process stores.
    """

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.is_whole = False

    @property
    def length(self) -> int:
        """Number of images in the pools of all processes."""
        return len(self.pool) * (1 if self.is_whole else processes.count())

    def add(self, batch: Batch, *, is_whole: bool) -> None:
        """Store the part of a batch, or all of it if it is whole.

        Raises:
            InputError: If several processes divide batches of different sizes.
        """
        if processes.count() > 1 and self.pool.newest_size not in (0, len(batch)):
            raise InputError("batches of different sizes cannot be divided among processes; use --devices 1")
        self.is_whole = is_whole
        self.pool.add(batch)

    def borrow(self, images: Borrowed) -> Batch:
        """Store a batch of images that lie on disk, where every process reads all of them, and return some of them."""
        self.is_whole = True
        self.pool.borrow(images)
        count = min(SHOWN, len(images))
        return replace(self.pool.select(torch.arange(count) * len(images) // count), stands_for=len(images))

    @property
    def newest(self) -> Batch:
        """The part of this process of the batch that was added last."""
        return part_of(self.pool.newest) if self.is_whole else self.pool.newest

    def draw(self, count: int) -> Batch:
        """Return the part of this process of `count` random images of all pools; see `Pool.draw`."""
        if processes.count() == 1:
            return self.pool.draw(count)
        positions = self.pool.draw_positions(count, self.length)
        processes.share(len(positions))
        return self.take(positions, wanted_by(len(positions)))

    def take(self, positions: Tensor, wanted: Tensor) -> Batch:
        """Return the images that this process wants.

        Args:
            positions: Positions of images, as if one process stored all of them.
            wanted: The process that wants each of them.
        """
        if self.is_whole:
            return self.pool.select(positions[wanted == processes.rank()])
        size, count = self.pool.newest_size, processes.count()
        batch, row = positions // (size * count), positions % (size * count)
        exchange = Exchange.of(row // size, batch * size + row % size, wanted)
        return rows(self.pool.select(exchange.sent), exchange.move)


def draw_mixed(pools: Sequence[DividedPool], counts: Sequence[int], join: Callable[[Sequence[Batch]], Batch]) -> Batch:
    """Return the part of this process of a batch with images of several pools, in random order.

    Args:
        pools: The pools.
        counts: Number of images of each pool in the whole batch.
        join: Joins batches to one.
    """
    processes.share(sum(counts))
    drawn = [
        pool.pool.draw_positions(count, pool.length, exact=True) for pool, count in zip(pools, counts, strict=True)
    ]
    source = torch.cat([torch.full((count,), index) for index, count in enumerate(counts)])
    order = torch.randperm(sum(counts))
    positions, source, wanted = torch.cat(drawn)[order], source[order], wanted_by(len(order))
    batches = [
        pool.take(positions[source == index], wanted[source == index])
        for index, (pool, count) in enumerate(zip(pools, counts, strict=True))
        if count
    ]
    own = source[wanted == processes.rank()]
    places = own.argsort(stable=True).argsort()
    return rows(join(batches), lambda tensor: tensor[places.to(tensor.device)])
