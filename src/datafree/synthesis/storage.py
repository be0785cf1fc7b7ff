"""Where a pool keeps its images: in memory, or wherever a `Storage` of another room puts them."""

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor


class Store(ABC):
    """Holds the tensors of a ring buffer of images, one row per image.

    Image number :math:`i`, counted from the first one that was written, is at position :math:`i \\bmod s` of a ring of
    :math:`s` images.
    """

    @abstractmethod
    def write(self, tensors: Mapping[str, Tensor], start: int) -> None:
        """Store images. They replace those at the same positions.

        Args:
            tensors: Tensors with one row per image, by name; the names are the same in every call.
            start: Number of the first image; that after the last image of the call before.
        """

    @abstractmethod
    def read(self, positions: Tensor, names: Sequence[str] = ()) -> dict[str, Tensor]:
        """Return the rows at some positions, in their order.

        Args:
            positions: Indices on the CPU.
            names: The tensors to return; all if empty.
        """

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """Names of the tensors; empty before the first image."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Return what is stored, for a checkpoint."""


class MemoryStore(Store):
    """Images in memory. It grows with them: each new block is as large as all before it, so nothing is copied.

    Args:
        size: Number of images of the ring.
        blocks: Images that are there already, in the order of their positions.
    """

    def __init__(self, size: int, blocks: Sequence[Mapping[str, Tensor]] = ()) -> None:
        self.size = size
        self.blocks: list[dict[str, Tensor]] = [dict(block) for block in blocks]
        self.ends: list[int] = []
        for block in self.blocks:
            self.ends.append((self.ends[-1] if self.ends else 0) + len(block["images"]))
        self.filled = self.ends[-1] if self.ends else 0

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.blocks[0]) if self.blocks else ()

    def write(self, tensors: Mapping[str, Tensor], start: int) -> None:
        count = len(tensors["images"])
        self._reserve(tensors, min(start + count, self.size))
        positions = torch.arange(start, start + count) % self.size
        self.filled = max(self.filled, min(start + count, self.size))
        for block, rows, places in self._divided(positions):
            for name, tensor in tensors.items():
                device = tensor.device
                source = tensor if len(places) == count else tensor[on_device(places, device)]
                self.blocks[block][name][on_device(rows, device)] = source

    def _reserve(self, like: Mapping[str, Tensor], count: int) -> None:
        """Make room for a number of images."""
        room = self.ends[-1] if self.ends else 0
        if room < count:
            rows = min(max(count - room, room), self.size - room)
            self.blocks.append({name: tensor.new_empty(rows, *tensor.shape[1:]) for name, tensor in like.items()})
            self.ends.append(room + rows)

    def _divided(self, positions: Tensor) -> list[tuple[int, Tensor, Tensor]]:
        """Return for each block that has some of the positions: its index, the rows in it, and their places in the order."""
        if len(self.blocks) == 1:
            return [(0, positions, torch.arange(len(positions)))]
        owner = torch.bucketize(positions, torch.tensor(self.ends), right=True)
        parts = []
        for block in owner.unique().tolist():
            places = (owner == block).nonzero()[:, 0]
            first = self.ends[block] - len(self.blocks[block]["images"])
            parts.append((block, positions[places] - first, places))
        return parts

    def read(self, positions: Tensor, names: Sequence[str] = ()) -> dict[str, Tensor]:
        parts = self._divided(positions)
        names = names or self.names
        if len(parts) == 1:
            block, rows, _ = parts[0]
            return {name: take(self.blocks[block][name], rows) for name in names}
        result = {}
        for name in names:
            like = self.blocks[0][name]
            result[name] = like.new_empty(len(positions), *like.shape[1:])
            for block, rows, places in parts:
                result[name][on_device(places, like.device)] = take(self.blocks[block][name], rows)
        return result

    def state_dict(self) -> dict[str, Any]:
        """Return the blocks, the last one as far as it is filled."""
        starts = [0, *self.ends[:-1]]
        filled = [
            {name: tensor[: self.filled - start] for name, tensor in block.items()}
            for start, block in zip(starts, self.blocks, strict=True)
            if self.filled > start
        ]
        return {"blocks": filled, "device": str(self.blocks[0]["images"].device) if self.blocks else "cpu"}


class Repeated(Store):
    """Images that lie on disk already, and are only read: the same ones again and again, as if they were written each time.

    Args:
        images: The images.
        size: Number of images of the ring, a multiple of that of the images.
    """

    def __init__(self, images: "Borrowed", size: int) -> None:
        self.images, self.size = images, size

    @property
    def names(self) -> tuple[str, ...]:
        return self.images.names

    def write(self, tensors: Mapping[str, Tensor], start: int) -> None:
        raise NotImplementedError("these images are only read")

    def read(self, positions: Tensor, names: Sequence[str] = ()) -> dict[str, Tensor]:
        return self.images.rows(positions % len(self.images), names)

    def state_dict(self) -> dict[str, Any]:
        """Return that the images are borrowed; the synthesizer names their files among its dependencies."""
        return {BORROWED: True}


BORROWED = "borrowed"
"""entry of the state of a pool whose images lie elsewhere"""


@runtime_checkable
class Borrowed(Protocol):
    """Images of an image set, as a pool reads them."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the tensors."""
        ...

    @property
    def image_bytes(self) -> int:
        """Bytes of an image with its other tensors."""
        ...

    def __len__(self) -> int: ...

    def rows(self, positions: Tensor, names: Sequence[str] = ()) -> dict[str, Tensor]:
        """Return the rows at some positions; see `Store.read`."""
        ...


class Storage:
    """Decides where the pools of a run keep their images: here in memory."""

    def borrows(self, size: int) -> bool:
        """Return whether images that lie on disk already are read there each time, because they are too many for the memory.

        Args:
            size: Their size in bytes.
        """
        return 2 * size > memory()

    def store(self, size: int, total: int) -> Store:
        """Return a new store.

        Args:
            size: Number of images.
            total: Their size in bytes.
        """
        return MemoryStore(size)

    def reopen(self, size: int, state: Mapping[str, Any]) -> Store:
        """Return a store with the images of an earlier one.

        Args:
            size: Number of images.
            state: What the earlier store returned as its state.
        """
        device = usable(state["device"])
        blocks = state["blocks"] if "blocks" in state else [state["tensors"]] if state["tensors"] else []
        return MemoryStore(size, [{name: tensor.to(device) for name, tensor in block.items()} for block in blocks])

    def finish(self) -> Sequence[Path]:
        """Complete what lies elsewhere than in memory, at the end of a run; return the image sets."""
        return ()

    def of_part(self, name: str, parts: int) -> "Storage":
        """Return the storage of one part of a mixture.

        Args:
            name: Of the part.
            parts: Number of parts.
        """
        return self


def memory() -> int:
    """Return the size of this machine's memory in bytes; if it is unknown, no limit."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 2**63


def usable(device: str) -> str:
    """Return a device by its name, or the CPU if this machine has none of its kind."""
    kind = torch.device(device).type
    return device if kind == "cpu" or torch.get_device_module(kind).is_available() else "cpu"


def take(tensor: Tensor, rows: Tensor) -> Tensor:
    """Return rows of a tensor, given by indices on the CPU."""
    return tensor[on_device(rows, tensor.device)]


def on_device(indices: Tensor, device: torch.device) -> Tensor:
    """Return indices on a device; on a GPU without waiting for it."""
    return indices.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else indices.to(device)
