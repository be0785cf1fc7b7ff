"""Where the images of a set are until all of them are there: in memory, or on disk beside the set if they are too many."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datafree.sets.on_disk import SHARD_BYTES, SHARE_OF_MEMORY, DiskStore, in_words
from datafree.synthesis.storage import MemoryStore, Storage, Store


def no_index(*_: Any) -> None:
    """Write no index: the images become part of another set."""


class ReadOnce(DiskStore):
    """Images on disk that are read once, after the last one was written; a shard is deleted when all its images were read.

    Args:
        root: See `DiskStore`.
        folder: The folder of the shards, below it.
        size: Number of images of the ring.
        limit: Size of a shard in bytes, at most.
    """

    def __init__(self, root: Path, folder: Path, size: int, limit: int) -> None:
        super().__init__(root, folder, size, limit, no_index)
        self.unread: dict[int, int] = {}

    def read(self, positions: Tensor, names: Sequence[str] = ()) -> dict[str, Tensor]:
        results = super().read(positions, names)
        if not names:
            numbers = self.written - 1 - (self.written - 1 - positions) % self.size
            self.delete_read(numbers[numbers < self.flushed])
        return results

    def state_dict(self) -> dict[str, Any]:
        """Return which shards there are, the images in memory, and that shards are deleted."""
        return {**super().state_dict(), "read_once": True}

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
    """Keeps the images of a set until they are written: in memory, or in a folder if they are too many."""

    root: Path
    """the folder beside the set, which has the checkpoints too"""
    folder: Path
    """where the images are, below it"""
    memory: float
    """bytes that the images may take in memory"""
    note: Callable[[str], None]
    """says that images lie on disk"""

    def store(self, size: int, total: int) -> Store:
        if total <= self.memory:
            return MemoryStore(size)
        fits = shutil.disk_usage(self.root).free >= 2 * total
        tight = "" if fits else "; the disk is too small for both, so a kill while the set is written costs the images"
        self.note(
            f"the images take {in_words(total)}, more than the {in_words(self.memory)} of memory for them, and lie in "
            f"{self.root.name} beside the set until it is written{tight}"
        )
        return self.on_disk(size, fits=fits)

    def on_disk(self, size: int, *, fits: bool) -> DiskStore:
        """Return a new store on disk.

        Args:
            size: Number of images.
            fits: Whether the disk has room for the images and for the set.
        """
        limit = max(1, min(SHARD_BYTES, int(self.memory) // SHARE_OF_MEMORY))
        if not fits:
            return ReadOnce(self.root, self.folder, size, limit)
        return DiskStore(self.root, self.folder, size, limit, no_index)

    def reopen(self, size: int, state: Mapping[str, Any]) -> Store:
        if "shards" not in state:
            return super().reopen(size, state)
        store = self.on_disk(size, fits="read_once" not in state)
        store.load_state_dict(state)
        return store

    def of_part(self, name: str, parts: int) -> "Spool":
        return replace(self, folder=self.folder / name, memory=self.memory / parts)


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
        """Return nothing; a set of several processes has no checkpoints."""
        return {}


class Elsewhere(Storage):
    """Keeps no images; another process writes the set."""

    def store(self, size: int, total: int) -> Store:
        return Nowhere()
