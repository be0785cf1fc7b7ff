"""The pool of stored images from which the batches of a student are drawn."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from datafree.synthesis.storage import BORROWED, Borrowed, Repeated, Storage, Store
from datafree.synthesis.storage import on_device as on_device
from datafree.types import Batch


class Pool:
    """A ring buffer of single images that holds the last batches.

    Images stay float32. Rounding to 8 bits would remove detail that the teacher depends on.

    Args:
        capacity: Number of batches to hold.
        storage: Where the images are kept; in memory by default.

    Attributes:
        keep_block_inputs: Whether the generated features of a batch are stored too. They take many times the memory of the
            images, and only the blockwise training of a TargetNet reads them.
        size: Number of images to hold: the capacity times the images of the first batch; 0 before that.
        store: Holds the images; None before the first batch.
    """

    def __init__(self, capacity: int, storage: Storage | None = None) -> None:
        self.capacity = capacity
        self.storage = storage or Storage()
        self.keep_block_inputs = False
        self.store: Store | None = None
        self.size = 0
        self.written = 0
        self.newest_size = 0

    def __len__(self) -> int:
        """Return the number of stored images."""
        return min(self.written, self.size)

    def add(self, batch: Batch) -> None:
        """Store a batch. A full pool overwrites the oldest images."""
        tensors = {"images": batch.images, "targets": batch.targets}
        if batch.teacher_logits is not None:
            tensors["teacher_logits"] = batch.teacher_logits
        if self.keep_block_inputs:
            tensors |= {f"block_inputs {depth}": tensor for depth, tensor in enumerate(batch.block_inputs)}
        self.write(tensors)

    def write(self, tensors: Mapping[str, Tensor]) -> None:
        """Store the tensors of a batch by name, as `Store` keeps them."""
        count = len(tensors["images"])
        self.size = self.size or self.capacity * count
        if self.store is None:
            image = sum(tensor[0].nbytes for tensor in tensors.values())
            self.store = self.storage.store(self.size, self.size * image)
        self.store.write(tensors, self.written)
        self.written += count
        self.newest_size = count

    def borrow(self, images: Borrowed) -> None:
        """Store a batch of images that lie on disk and are read from there. Each batch of the pool has all of them."""
        self.size = self.capacity * len(images)
        self.store = Repeated(images, self.size)
        self.written += len(images)
        self.newest_size = len(images)

    @property
    def newest(self) -> Batch:
        """The batch that was added last."""
        return self.select(self._positions(self.written - self.newest_size, self.newest_size))

    def draw(self, count: int) -> Batch:
        """Return random images: without replacement from a small pool, with replacement from a large one.

        A pool is small if it holds fewer than `8 * count` images. If it holds fewer than `count`, all are returned.
        """
        return self.select(self.draw_positions(count, len(self)))

    @staticmethod
    def draw_positions(count: int, length: int, *, exact: bool = False) -> Tensor:
        """Return the positions of random images; see `draw`.

        Args:
            count: Number of images.
            length: Number of images in the pool.
            exact: Return `count` positions, with repetitions if the pool holds fewer.
        """
        if exact and length < count:
            return torch.randint(length, (count,))
        return torch.randperm(length)[:count] if length < 8 * count else torch.randint(length, (count,))

    def all(self) -> Batch:
        """Return all stored images, in the order of the buffer."""
        return self.select(torch.arange(len(self)))

    @property
    def targets(self) -> Tensor:
        """The targets of all stored images, in the order of the buffer."""
        return self._read(torch.arange(len(self)), ("targets",))["targets"]

    def state_dict(self) -> dict[str, Any]:
        """Return the stored images, for a checkpoint."""
        counts = {"written": self.written, "newest_size": self.newest_size, "size": self.size}
        return counts | ({} if self.store is None else {"store": self.store.state_dict()})

    def load_state_dict(self, state: dict[str, Any], borrowed: Borrowed | None = None) -> None:
        """Restore the state returned by `state_dict`, also by that of earlier versions.

        Args:
            state: The state.
            borrowed: The images that the pool has borrowed, if it has.
        """
        self.written, self.newest_size, self.size = state["written"], state["newest_size"], state["size"]
        self.store = None
        if borrowed is not None and BORROWED in state.get("store", {}):
            self.store = Repeated(borrowed, self.size)
        elif self.size:
            self.store = self.storage.reopen(self.size, state.get("store", state))

    def _positions(self, start: int, count: int) -> Tensor:
        return torch.arange(start, start + count) % self.size

    def select(self, positions: Tensor) -> Batch:
        """Return the images at these positions of the buffer.

        Raises:
            IndexError: If the pool is empty.
        """
        tensors = self._read(positions)
        block_inputs = tuple(tensor for name, tensor in tensors.items() if name.startswith("block_inputs"))
        return Batch(tensors["images"], tensors["targets"], {}, tensors.get("teacher_logits"), block_inputs)

    def _read(self, positions: Tensor, names: Sequence[str] = ()) -> dict[str, Tensor]:
        if self.store is None:
            raise IndexError("the pool is empty; add a batch first")
        return self.store.read(positions.cpu(), names)
