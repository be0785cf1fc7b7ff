"""Pools on disk: the images of a run that are too many for the memory, as an image set that grows while the run goes on.

Complete shards are never changed. What is not a whole shard yet is in memory, and in the checkpoints, which name the shards
that they need and their hashes. So a killed run continues with the images that it had.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from datafree.files import atomic_file, sha256_of
from datafree.files.stored import StoredFile
from datafree.synthesis.image_sets.index import INDEX, Index, read_index, write_index
from datafree.synthesis.image_sets.shards import Shards
from datafree.synthesis.storage import MemoryStore, Storage, Store, usable
from datafree.types import printable

SHARD_BYTES = 2**28
"""size of a shard, unless a single image is larger"""
SHARDS = "images-*.safetensors"
"""names of shards, as a pattern"""
SHARE_OF_MEMORY = 4
"""a shard, which is in memory until it is complete, takes at most one part in this number of the memory for pools"""
UNITS = {9: "GB", 6: "MB", 3: "kB", 0: "bytes"}
NAMES = {"teacher_logits": "logits"}
"""names of tensors in the shards, where they are others than in a pool"""


def in_words(size: float) -> str:
    """Return a size in bytes with its unit, such as `2.5 GB`."""
    power = next((power for power in (9, 6, 3) if size >= 10**power), 0)
    return f"{size / 10**power:,.3g} {UNITS[power]}"


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What the index of a set says about all images of a run."""

    classes: tuple[str, ...]
    teacher_sha256: str
    made_by: Callable[[str], str]
    """returns the method and the seed, given the name of a part of a mixture, or an empty text"""
    measured_images: Mapping[str, int] = field(default_factory=dict)


class DiskStore(Store):
    """Images in shards on disk, the last ones in memory.

    Args:
        root: The run folder; the shards are named relative to it.
        folder: The folder of the shards, below it.
        size: Number of images of the ring.
        limit: Size of a shard in bytes, at most.
        index: Writes the index of the set, given its shards, their hashes, and the names of the tensors.
    """

    def __init__(self, root: Path, folder: Path, size: int, limit: int, index: Callable[..., None]) -> None:
        self.root, self.folder, self.size, self.limit, self.index = root, folder, size, limit, index
        self.files = Shards(root)
        self.shards: dict[int, StoredFile] = {}
        self.published: set[int] = set()
        self.tail: dict[str, Tensor] = {}
        self.rows = self.origin = self.written = self.flushed = 0
        self.device = "cpu"

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.tail)

    def write(self, tensors: Mapping[str, Tensor], start: int) -> None:
        if not self.tail:
            self.device = str(tensors["images"].device)
            self.rows = max(1, self.limit // sum(tensor[0].nbytes for tensor in tensors.values()))
            self.tail = {
                name: torch.empty(self.rows, *tensor.shape[1:], dtype=tensor.dtype) for name, tensor in tensors.items()
            }
            self.origin = self.written = self.flushed = start
        count, done = len(tensors["images"]), 0
        while done < count:
            filled = self.written - self.flushed
            more = min(self.rows - filled, count - done)
            for name, tensor in tensors.items():
                self.tail[name][filled : filled + more] = tensor[done : done + more].detach()
            self.written, done = self.written + more, done + more
            if self.written - self.flushed == self.rows:
                self.flush()

    def flush(self) -> None:
        """Write what is in memory as a shard, then forget the shards whose images are all replaced."""
        count, number = self.written - self.flushed, (self.flushed - self.origin) // self.rows
        if count:
            path = self.folder / f"images-{number:08d}.safetensors"
            with atomic_file(path) as new:
                save_file({NAMES.get(name, name): tensor[:count] for name, tensor in self.tail.items()}, new)
                digest = sha256_of(new)
            self.shards[number] = StoredFile(path.relative_to(self.root).as_posix(), digest)
            self.flushed = self.written
        self.forget()
        self.write_index()

    def forget(self) -> None:
        """Forget shards whose images are all replaced, and delete them unless a checkpoint names them."""
        for number in list(self.shards):
            if self.origin + (number + 1) * self.rows <= self.written - self.size:
                path = self.root / self.shards.pop(number).path
                if number not in self.published:
                    self.files.forget(path.relative_to(self.root).as_posix())
                    path.unlink(missing_ok=True)

    def write_index(self) -> None:
        """Write the index of the shards, if there is one."""
        if self.shards:
            first = min(self.shards)
            images = self.flushed - self.origin - first * self.rows
            self.index(self.folder, images, {Path(s.path).name: s.sha256 for s in self.shards.values()}, self.names)

    def read(self, positions: Tensor, names: Sequence[str] = ()) -> dict[str, Tensor]:
        numbers = self.written - 1 - (self.written - 1 - positions) % self.size
        results = {name: self._empty(name, len(positions)) for name in names or self.names}
        stored = numbers < self.flushed
        places = torch.arange(len(positions))
        if bool(stored.any()):
            rows = numbers[stored] - self.origin
            outputs = {NAMES.get(name, name): result for name, result in results.items()}
            owners = torch.div(rows, self.rows, rounding_mode="floor")
            self.files.gather(lambda n: self.shards[n].path, owners, rows % self.rows, outputs, places[stored])
        if not bool(stored.all()):
            for name, result in results.items():
                result[places[~stored]] = self.tail[name][numbers[~stored] - self.flushed]
        return {name: result.to(self.device, non_blocking=True) for name, result in results.items()}

    def _empty(self, name: str, count: int) -> Tensor:
        like = self.tail[name]
        return torch.empty(count, *like.shape[1:], dtype=like.dtype, pin_memory=self.device.startswith("cuda"))

    def state_dict(self) -> dict[str, Any]:
        """Return which shards there are, and the images that are in memory."""
        self.published = set(self.shards)
        return {
            "shards": dict(self.shards),
            "rows": self.rows,
            "origin": self.origin,
            "written": self.written,
            "flushed": self.flushed,
            "device": self.device,
            "shapes": {name: list(tensor.shape[1:]) for name, tensor in self.tail.items()},
            "tail": {name: tensor[: self.written - self.flushed] for name, tensor in self.tail.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state returned by `state_dict`. The shards are there; a checkpoint is read only if they are intact."""
        self.shards, self.published = dict(state["shards"]), set(state["shards"])
        self.rows, self.origin = state["rows"], state["origin"]
        self.written, self.flushed, self.device = state["written"], state["flushed"], usable(state["device"])
        self.tail = {}
        for name, tensor in state["tail"].items():
            self.tail[name] = torch.empty(self.rows, *state["shapes"][name], dtype=tensor.dtype)
            self.tail[name][: self.written - self.flushed] = tensor


@dataclass
class DiskStorage(Storage):
    """Keeps pools in memory if they are small enough, and else in a folder of the run."""

    root: Path
    """the run folder"""
    folder: Path
    """where the images are, below it"""
    memory: float
    """bytes that the pools may take in memory"""
    origin: Origin
    note: Callable[[str], None]
    """says that a pool lies on disk"""
    part: str = ""
    """name of the part of a mixture"""
    opened: list[DiskStore] = field(default_factory=list)
    """pools on disk, also those of the parts of a mixture"""

    def borrows(self, size: int) -> bool:
        return size > self.memory

    def store(self, size: int, total: int) -> Store:
        if total <= self.memory:
            return MemoryStore(size)
        where = self.folder.relative_to(self.root).as_posix()
        self.note(
            f"the pool may grow to {in_words(total)}, more than the {in_words(self.memory)} of memory for it, and lies on "
            f"disk in the folder {where} of the run"
        )
        return self._new(size)

    def _new(self, size: int) -> DiskStore:
        limit = max(1, min(SHARD_BYTES, int(self.memory) // SHARE_OF_MEMORY))
        store = DiskStore(self.root, self.folder, size, limit, self.write_index)
        self.opened.append(store)
        return store

    def reopen(self, size: int, state: Mapping[str, Any]) -> Store:
        if "divide" in state:
            return self.divided(size, state)
        if "shards" not in state:
            return super().reopen(size, state)
        store = self._new(size)
        store.load_state_dict(state)
        store.write_index()
        return store

    def reader(self, pool: Mapping[str, Any]) -> Store:
        """Return a store from which the images of an earlier pool are only read."""
        size, state = pool["size"], pool["store"]
        if "shards" not in state:
            return super().reopen(size, state)
        store = DiskStore(self.root, self.folder, size, 1, self.write_index)
        store.load_state_dict(state)
        return store

    def divided(self, size: int, state: Mapping[str, Any]) -> Store:
        """Return a store with the share of one process of the images of all processes before.

        Args:
            size: Number of images of the share.
            state: Pools of the processes before as `divide`, and the number of this process and of all processes.
        """
        pools, rank, count = state["divide"], state["rank"], state["count"]
        before = [self.reader(pool) for pool in pools]
        batch, written, held = (pools[0][name] for name in ("newest_size", "written", "size"))
        share = batch * len(pools) // count
        store: Store | None = None
        for start in range(max(0, written - held), written, batch):
            positions = torch.arange(start, start + batch) % held
            rows = [old.read(positions) for old in before]
            own = {name: torch.cat([row[name] for row in rows])[rank * share : (rank + 1) * share] for name in rows[0]}
            image = sum(tensor[0].nbytes for tensor in own.values())
            store = store or self.store(size, size * image)
            store.write(own, start // batch * share)
        assert store is not None
        return store

    def of_part(self, name: str, parts: int) -> "DiskStorage":
        return replace(self, folder=self.folder / name, memory=self.memory / parts, part=name)

    def write_index(self, folder: Path, images: int, shards: Mapping[str, str], names: Sequence[str]) -> None:
        """Write the index of an image set; see `DiskStore`."""
        logits = "teacher_logits" in names
        index = Index(
            images=images,
            logits_kept=logits,
            logits_stored=logits,
            classes=self.origin.classes,
            teacher_sha256=self.origin.teacher_sha256,
            made_by=printable(self.origin.made_by(self.part)),
            measured_images=dict(self.origin.measured_images),
            shards=shards,
        )
        write_index(index, folder)

    def finish(self) -> Sequence[Path]:
        """Write what is still in memory to the sets on disk; `delete_unlisted` deletes what only a checkpoint needs."""
        for store in self.opened:
            store.flush()
        return [store.folder for store in self.opened]


def delete_unlisted(pool: Path) -> None:
    """Delete shards that are no part of their set, when no checkpoint needs them any more.

    Args:
        pool: A folder with image sets, at any depth.
    """
    for path in pool.rglob(INDEX):
        listed = read_index(path.parent).shards
        for shard in path.parent.glob(SHARDS):
            if shard.name not in listed:
                shard.unlink()
