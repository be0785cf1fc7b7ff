"""The pool of stored images from which the batches of a student are drawn."""

from typing import Any

import torch
from torch import Tensor

from datafree.types import Batch


class Pool:
    """A ring buffer of single images that holds the last batches.

    Images stay float32. Rounding to 8 bits would remove detail that the teacher depends on.

    Args:
        capacity: Number of batches to hold.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.buffers: dict[str, Tensor] = {}
        self.written = 0
        self.newest_size = 0

    def __len__(self) -> int:
        """Return the number of stored images."""
        return min(self.written, len(self.buffers["images"])) if self.buffers else 0

    def add(self, batch: Batch) -> None:
        """Store a batch. A full pool overwrites the oldest images."""
        tensors = {"images": batch.images, "targets": batch.targets}
        if batch.teacher_logits is not None:
            tensors["teacher_logits"] = batch.teacher_logits
        tensors |= {f"block_inputs {depth}": tensor for depth, tensor in enumerate(batch.block_inputs)}
        for name, tensor in tensors.items():
            if name not in self.buffers:
                self.buffers[name] = tensor.new_empty(self.capacity * len(batch), *tensor.shape[1:])
            self.buffers[name][self._positions(self.written, len(batch))] = tensor
        self.written += len(batch)
        self.newest_size = len(batch)

    @property
    def newest(self) -> Batch:
        """The batch that was added last."""
        return self._select(self._positions(self.written - self.newest_size, self.newest_size))

    def draw(self, count: int) -> Batch:
        """Return random images: without replacement from a small pool, with replacement from a large one.

        A pool is small if it holds fewer than `8 * count` images. If it holds fewer than `count`, all are returned.
        """
        small = len(self) < 8 * count
        return self._select(torch.randperm(len(self))[:count] if small else torch.randint(len(self), (count,)))

    def all(self) -> Batch:
        """Return all stored images, in the order of the buffer."""
        return self._select(torch.arange(len(self)))

    def state_dict(self) -> dict[str, Any]:
        """Return the stored images, for a checkpoint."""
        tensors = {name: buffer[: len(self)] for name, buffer in self.buffers.items()}
        size = len(self.buffers["images"]) if self.buffers else 0
        device = str(self.buffers["images"].device) if self.buffers else "cpu"
        counts = {"written": self.written, "newest_size": self.newest_size, "size": size}
        return {**counts, "device": device, "tensors": tensors}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state returned by `state_dict`."""
        self.written, self.newest_size = state["written"], state["newest_size"]
        self.buffers = {}
        for name, tensor in state["tensors"].items():
            self.buffers[name] = tensor.new_empty(state["size"], *tensor.shape[1:], device=state["device"])
            self.buffers[name][: len(tensor)] = tensor

    def _positions(self, start: int, count: int) -> Tensor:
        return torch.arange(start, start + count) % len(self.buffers["images"])

    def _select(self, positions: Tensor) -> Batch:
        if not self.buffers:
            raise IndexError("the pool is empty; add a batch first")
        tensors = {name: buffer[positions.to(buffer.device)] for name, buffer in self.buffers.items()}
        block_inputs = tuple(tensor for name, tensor in tensors.items() if name.startswith("block_inputs"))
        return Batch(tensors["images"], tensors["targets"], {}, tensors.get("teacher_logits"), block_inputs)
