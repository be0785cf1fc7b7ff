"""Where the images of a set are until all of them are there: in memory, or on disk beside the set if they are too many."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datafree.files.temporary import temporary_folder
from datafree.sets.on_disk import SHARD_BYTES, SHARE_OF_MEMORY, DiskStore, in_words
from datafree.synthesis.storage import MemoryStore, Storage, Store


class ReadOnce(DiskStore):
    """Images on disk that are read once, after the last one was written; a shard is deleted when all its images were read.

    Args:
        folder: The folder, for nothing else.
        size: Number of images of the ring.
        limit: Size of a shard in bytes, at most.
    """

    def __init__(self, folder: Path, size: int, limit: int) -> None:
        super().__init__(folder, folder / "images", size, limit, lambda *_: None)
        self.unread: dict[int, int] = {}

    def read(self, positions: Tensor, names: Sequence[str] = ()) -> dict[str, Tensor]:
        results = super().read(positions, names)
        if not names:
            numbers = self.written - 1 - (self.written - 1 - positions) % self.size
            self.delete_read(numbers[numbers < self.flushed])
        return results

    def delete_read(self, numbers: Tensor) -> None:
        """Delete the shards of which no image is left to read.

        Args:
            numbers: Numbers of the images that were read, counted from the first one that was written.
        """
        owners, counts = torch.div(numbers - self.origin, self.rows, rounding_mode="floor").unique(return_counts=True)
        for owner, count in zip(owners.tolist(), counts.tolist(), strict=True):
            if owner not in self.unread:
                first = self.origin + owner * self.rows
                self.unread[owner] = min(first + self.rows, self.flushed) - max(first, self.written - self.size)
            self.unread[owner] -= count
            if not self.unread[owner]:
                path = self.shards.pop(owner).path
                self.files.forget(path)
                (self.root / path).unlink()


@dataclass
class Spool(Storage):
    """Keeps the images of a set until they are written, in memory or in temporary folders, which are deleted at the end.

    Use it in a `with` statement.
    """

    parent: Path
    """where temporary folders are created: that of the set"""
    memory: float
    """bytes that the images may take in memory"""
    note: Callable[[str], None]
    """says that images lie on disk"""
    stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, *fault: Any) -> None:
        self.stack.close()

    def store(self, size: int, total: int) -> Store:
        if total <= self.memory:
            return MemoryStore(size)
        self.note(
            f"the images take {in_words(total)}, more than the {in_words(self.memory)} of memory for them, and lie in a "
            "temporary folder beside the set until it is written"
        )
        folder = self.stack.enter_context(temporary_folder(self.parent))
        return ReadOnce(folder, size, max(1, min(SHARD_BYTES, int(self.memory) // SHARE_OF_MEMORY)))

    def of_part(self, name: str, parts: int) -> "Spool":
        return Spool(self.parent, self.memory / parts, self.note, self.stack)


class Nowhere(Store):
    """Keeps no images: those of a process beside the one that writes the set."""

    def write(self, tensors: Mapping[str, Tensor], start: int) -> None:
        pass

    def read(self, positions: Tensor, names: Sequence[str] = ()) -> dict[str, Tensor]:
        raise NotImplementedError("another process has the images")

    @property
    def names(self) -> tuple[str, ...]:
        return ()

    def state_dict(self) -> dict[str, Any]:
        """Return nothing; there are no checkpoints of a set."""
        return {}


class Elsewhere(Storage):
    """Keeps no images; another process writes the set."""

    def store(self, size: int, total: int) -> Store:
        return Nowhere()
