"""Images that are read in order, some at a time, so that a set that is written may be larger than the memory."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Protocol, runtime_checkable

import torch

from datafree.classifier import Classifier
from datafree.synthesis.mixture import join, soft_targets
from datafree.synthesis.pool import Pool
from datafree.types import Batch


@runtime_checkable
class Pieces(Protocol):
    """Images that are read in order, each once."""

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def read(self, start: int, stop: int) -> Batch:
        """Return the images from number `start` to before number `stop`, or to the last one."""
        ...


class InMemory:
    """The images of a batch.

    Args:
        batch: The images.
    """

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def __len__(self) -> int:
        return len(self.batch)

    def read(self, start: int, stop: int) -> Batch:
        """Return some images; see `Pieces`."""
        batch = self.batch
        logits = None if batch.teacher_logits is None else batch.teacher_logits[start:stop]
        return Batch(batch.images[start:stop], batch.targets[start:stop], {}, logits)


class FromPools:
    """The images of one or more pools, one pool after the other.

    Targets of different kinds become soft labels. The teacher's logits are kept if all pools have them.

    Args:
        pools: The pools, with all their images.
        teacher: Its classes are those of the targets.
    """

    def __init__(self, pools: Sequence[Pool], teacher: Classifier) -> None:
        self.pools, self.teacher = pools, teacher
        self.starts = [0, *accumulate(map(len, pools))]
        self.kinds: set[int] = set()
        self.keeps_logits = True

    def __len__(self) -> int:
        return self.starts[-1]

    def look(self) -> None:
        """Learn what all pools have in common."""
        for pool in self.pools:
            assert pool.store is not None
            first = pool.store.read(torch.tensor([0]), ("targets",))["targets"]
            self.kinds.add(first.ndim)
            self.keeps_logits = self.keeps_logits and "teacher_logits" in pool.store.names

    def read(self, start: int, stop: int) -> Batch:
        """Return some images; see `Pieces`."""
        if not self.kinds:
            self.look()
        batches = []
        for pool, first in zip(self.pools, self.starts, strict=False):
            begin, end = max(start - first, 0), min(stop - first, len(pool))
            if begin < end:
                batches.append(self.alike(pool.select(torch.arange(begin, end))))
        return join(batches, self.teacher)

    def alike(self, batch: Batch) -> Batch:
        """Return images as those of all pools."""
        targets = batch.targets if len(self.kinds) == 1 else soft_targets(batch.targets, len(self.teacher.classes))
        return Batch(batch.images, targets, {}, batch.teacher_logits if self.keeps_logits else None)
