"""Pools on disk, by teacher, so that the next student of a teacher is estimated at once.

A pool lies in `pools/<key>/<family>.safetensors` below `$DATAFREE_CACHE`, `$XDG_CACHE_HOME/datafree` or
`~/.cache/datafree`. The key is a SHA-256 of the teacher and of the recipe. All pools together take at most `LIMIT` bytes:
those that were not used for the longest time are deleted first. Deleting the folder is always safe.

Synthesized images may reveal training data, so only their owner can read the folder. Its files are not trusted: what is not
exactly a pool of this teacher is synthesized again.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from datafree.classifier import Classifier, fingerprint
from datafree.estimation.pools import COPIES, Pool
from datafree.files import atomic_file, open_regular
from datafree.types import InputError
from datafree.weights.tensor_file import map_tensors, write_tensors

LIMIT = 2**30
"""bytes of all pools together"""
POOL_LIMIT = 2**28
"""bytes of one pool"""
RECIPE = 2
"""number of the recipe; pools of another recipe have another key"""
KEY = re.compile(r"[0-9a-f]{32}")
SUFFIX = ".safetensors"
TYPES = {"images": (torch.uint8, 4), "decisions": (torch.int64, 1), "kept": (torch.int64, 1)}
"""tensors of a pool, with their type and number of dimensions"""


def cache_folder() -> Path:
    """Return the folder of all pools. It need not exist."""
    if own := os.environ.get("DATAFREE_CACHE"):
        return Path(own) / "pools"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "datafree" / "pools"


@dataclass(frozen=True)
class Cache:
    """The pools of one teacher on disk.

    Attributes:
        folder: The folder of all pools.
        key: Names the teacher and the recipe; see `key_of`.
        limit: Bytes of all pools together.
    """

    folder: Path
    key: str
    limit: int = LIMIT

    def path(self, family: str) -> Path:
        """Return the file of a family."""
        return self.folder / self.key / f"{family}{SUFFIX}"

    def read(self, family: str, teacher: Classifier) -> Pool | None:
        """Return the pool of a family; None if there is none, or what is there is not a pool of this teacher."""
        path = self.path(family)
        try:
            with open_regular(path, POOL_LIMIT, root=self.folder) as file:
                tensors = {name: tensor.clone() for name, tensor in map_tensors(file, str(path)).items()}
                os.utime(file.fileno())  # the time of the last use
        except (InputError, OSError):
            return None
        return Pool(**tensors) if is_pool(tensors, teacher) else None

    def write(self, family: str, pool: Pool) -> bool:
        """Store the pool of a family, and delete the pools used longest ago if all together are too large.

        Returns:
            Whether it was stored: it is not if it is larger than `POOL_LIMIT`, or the folder cannot be written.
        """
        path = self.path(family)
        tensors = {"images": pool.images, "decisions": pool.decisions, "kept": pool.kept}
        if sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) > min(POOL_LIMIT, self.limit):
            return False
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if any(folder.is_symlink() for folder in (path.parent, self.folder)):
                return False
            with atomic_file(path) as new, new.open("wb") as file:
                write_tensors(tensors, file)
            self.tidy()
        except (InputError, OSError):
            return False
        return True

    def tidy(self) -> None:
        """Delete the pools used longest ago until all together are within the limit. Other files are left alone."""
        found = sorted(self.pools(), key=lambda item: item[1].st_mtime, reverse=True)
        total = 0
        for path, status in found:
            total += status.st_size
            if total > self.limit:
                with suppress(OSError):
                    path.unlink()
                    path.parent.rmdir()  # if it was the last one

    def pools(self) -> Iterator[tuple[Path, os.stat_result]]:
        """Yield the file of each pool of any teacher, with its status. Links are left out."""
        for folder in self.folder.iterdir():
            if KEY.fullmatch(folder.name) and folder.is_dir() and not folder.is_symlink():
                for path in folder.iterdir():
                    if path.suffix == SUFFIX and path.is_file() and not path.is_symlink():
                        yield path, path.stat()


def is_pool(tensors: dict[str, Tensor], teacher: Classifier) -> bool:
    """Return whether tensors are a pool of a teacher: their types, shapes and values."""
    if set(tensors) != set(TYPES) or any(
        tensors[name].dtype != dtype or tensors[name].ndim != dimensions for name, (dtype, dimensions) in TYPES.items()
    ):
        return False
    images, decisions, kept = (tensors[name] for name in TYPES)
    count = len(images)
    if (
        not count
        or count % COPIES
        or tuple(images.shape[1:]) != teacher.shape
        or len(decisions) != count
        or len(kept) != count
    ):
        return False
    return 0 <= int(decisions.min()) <= int(decisions.max()) < len(teacher.classes) and bool(
        ((kept >= 0) & (kept <= 10)).all()
    )


def key_of(teacher: Classifier, seed: int = 0) -> str:
    """Return the key of a teacher's pools: 32 digits of the SHA-256 of its weights, its pixels and its labels."""
    parts = (
        RECIPE,
        seed,
        fingerprint(teacher.model),
        teacher.shape,
        teacher.classes,
        teacher.mean.flatten().tolist(),
        teacher.std.flatten().tolist(),
        teacher.outputs,
        getattr(teacher, "gate", ""),
        sorted(teacher.dependencies.items()),
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]
