"""The pool of stored images from which the batches of a student are drawn."""

from typing import Any

import torch
from torch import Tensor

from datafree.types import Batch


class Pool:
    """A ring buffer of single images that holds the last batches.

    Images stay float32. Rounding to 8 bits would remove detail that the teacher depends on. Memory grows with the stored
    images, by doubling.

    Args:
        capacity: Number of batches to hold.

    Attributes:
        keep_block_inputs: Whether the generated features of a batch are stored too. They take many times the memory of the
            images, and only the blockwise training of a TargetNet reads them.
        size: Number of images to hold: the capacity times the images of the first batch; 0 before that.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.keep_block_inputs = False
        self.buffers: dict[str, Tensor] = {}
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
        self.size = self.size or self.capacity * len(batch)
        positions = on_device(self._positions(self.written, len(batch)), batch.images.device)
        for name, tensor in tensors.items():
            self._reserve(name, tensor, min(self.written + len(batch), self.size))
            self.buffers[name][positions] = tensor
        self.written += len(batch)
        self.newest_size = len(batch)

    def _reserve(self, name: str, like: Tensor, count: int) -> None:
        """Make sure that a buffer has room for a number of images."""
        buffer = self.buffers.get(name, like.new_empty(0, *like.shape[1:]))
        if len(buffer) < count:
            larger = like.new_empty(min(max(count, 2 * len(buffer)), self.size), *like.shape[1:])
            larger[: len(buffer)] = buffer
            self.buffers[name] = larger

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

    def state_dict(self) -> dict[str, Any]:
        """Return the stored images, for a checkpoint."""
        tensors = {name: buffer[: len(self)] for name, buffer in self.buffers.items()}
        device = str(self.buffers["images"].device) if self.buffers else "cpu"
        counts = {"written": self.written, "newest_size": self.newest_size, "size": self.size}
        return {**counts, "device": device, "tensors": tensors}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state returned by `state_dict`."""
        self.written, self.newest_size, self.size = state["written"], state["newest_size"], state["size"]
        kind, device = torch.device(state["device"]).type, state["device"]
        if kind != "cpu" and not torch.get_device_module(kind).is_available():  # resumed on another machine
            device = "cpu"
        self.buffers = {name: tensor.to(device) for name, tensor in state["tensors"].items()}

    def _positions(self, start: int, count: int) -> Tensor:
        return torch.arange(start, start + count) % self.size

    def select(self, positions: Tensor) -> Batch:
        """Return the images at these positions of the buffer.

        Raises:
            IndexError: If the pool is empty.
        """
        if not self.buffers:
            raise IndexError("the pool is empty; add a batch first")
        positions = on_device(positions, self.buffers["images"].device)
        tensors = {name: buffer[positions] for name, buffer in self.buffers.items()}
        block_inputs = tuple(tensor for name, tensor in tensors.items() if name.startswith("block_inputs"))
        return Batch(tensors["images"], tensors["targets"], {}, tensors.get("teacher_logits"), block_inputs)


def on_device(indices: Tensor, device: torch.device) -> Tensor:
    """Return indices on a device; on a GPU without waiting for it."""
    return indices.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else indices.to(device)
