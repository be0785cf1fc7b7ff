"""Rows of tensors in safetensors files, read one by one, so that a set may be larger than the memory.

Rows are read at their positions in the files, not through a mapping of the files into memory: the pages of a mapping count as
memory of the process, and a fault of the disk would end it. What was read before comes from the page cache in both cases.
"""

import hashlib
import math
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, TypeAlias
from weakref import finalize

import torch
from torch import Tensor

from datafree.files import open_regular, parse_json
from datafree.types import InputError

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
}
"""types of images, targets and logits, by their names in the format"""
HEADER_LIMIT = 2**20
"""bytes"""
MAX_DIMENSIONS = 8
OPEN_FILES = 64
"""files that are open at the same time"""
AHEAD = 2**14
"""bytes of a row from which the disk is told what will be read next"""


@dataclass(frozen=True)
class Rows:
    """Where the rows of a tensor lie in a file."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    """of the whole tensor"""
    begin: int
    """of the first row, in bytes from the start of the file"""

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    def empty(self, count: int) -> Tensor:
        """Return memory for some rows."""
        return torch.empty(count, *self.shape[1:], dtype=self.dtype)


def read_header(file: BufferedReader, where: str) -> dict[str, Rows]:
    """Return the tensors of a safetensors file, after checking that all of their bytes are in it.

    Args:
        file: The file.
        where: What an error message calls it.

    Raises:
        InputError: If the file is no safetensors file or has other types than those of an image set.
    """
    total = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= min(HEADER_LIMIT, total - 8):
        raise InputError(f"{where} is not a safetensors file; synthesize the set again")
    text = file.read(length).decode("utf-8", errors="replace")
    entries = parse_json(text, f"the header of {where}")
    if not isinstance(entries, dict):
        raise InputError(f"{where} is not a safetensors file; synthesize the set again")
    return {name: _rows(entry, 8 + length, total, where) for name, entry in entries.items() if name != "__metadata__"}


def _rows(entry: Any, begin: int, total: int, where: str) -> Rows:
    """Return where the rows of one tensor lie.

    Raises:
        InputError: If the entry of the header is not that of a tensor in the file.
    """
    match entry:
        case {"dtype": str(dtype), "shape": [int(), *_] as shape, "data_offsets": [int(first), int(last)]} if (
            dtype in DTYPES
            and len(shape) <= MAX_DIMENSIONS
            and all(type(size) is int and 0 <= size < 2**40 for size in shape)
            and 0 <= first <= last <= total - begin
            and last - first == math.prod(shape) * DTYPES[dtype].itemsize
        ):
            return Rows(DTYPES[dtype], tuple(shape), begin + first)
    raise InputError(f"{where} has a tensor of another kind than those of an image set; synthesize the set again")


Opened: TypeAlias = tuple[Any, dict[str, Rows]]
"""a file and its header"""


class Shards:
    """Reads rows of files in one folder. No link is followed.

    Args:
        folder: The folder.
        root: A folder that contains it, from which no link is followed; default: the folder itself.
    """

    def __init__(self, folder: Path, root: Path | None = None) -> None:
        self.folder, self.root = folder, root or folder
        self.open: OrderedDict[str, Opened] = OrderedDict()
        self.checked: dict[str, tuple[int, ...]] = {}
        finalize(self, close_all, self.open)

    def digest(self, file: str, limit: int) -> str:
        """Return the SHA-256 of a file, which must not change from then on.

        Args:
            file: The name of the file.
            limit: Its maximum size in bytes.

        Raises:
            InputError: If there is no such file, or it is a link or too large.
        """
        with open_regular(self.folder / file, limit, root=self.root) as opened:
            self.checked[file] = identity(opened.fileno())
            return hashlib.file_digest(opened, "sha256").hexdigest()

    def header(self, file: str) -> dict[str, Rows]:
        """Return the tensors of a file."""
        return self._opened(file)[1]

    def close(self) -> None:
        """Close all files."""
        close_all(self.open)

    def forget(self, file: str) -> None:
        """Close a file that will not be read any more."""
        if file in self.open:
            self.open.pop(file)[0].close()

    def _opened(self, file: str) -> Opened:
        """Return a file and its header. The file that was used least recently is closed if there are too many.

        Raises:
            InputError: If there is no such file, or it is not as it should be.
        """
        if file in self.open:
            self.open.move_to_end(file)
            return self.open[file]
        opened = open_regular(self.folder / file, root=self.root)
        try:
            if self.checked.get(file, found := identity(opened.fileno())) != found:
                raise InputError(f"{self.folder / file} has changed while it was in use; start again")
            header = read_header(opened, str(self.folder / file))
        except BaseException:
            opened.close()
            raise
        entry = opened.detach(), header  # without a buffer, which would lie between those of large tensors
        self.open[file] = entry
        if len(self.open) > OPEN_FILES:
            self.open.popitem(last=False)[1][0].close()
        return entry

    def read(self, file: str, rows: Tensor, outputs: Mapping[str, Tensor], places: Tensor) -> None:
        """Read rows of a file into rows of tensors.

        Args:
            file: The name of the file.
            rows: Indices of the rows in the file.
            outputs: For the name of each tensor of the file, the tensor to write to; contiguous and on the CPU.
            places: Indices of the rows to write to.

        Raises:
            InputError: If the file has no such tensor or row, or is too short.
            OSError: If the disk fails.
        """
        opened, header = self._opened(file)
        runs = consecutive(rows.tolist(), places.tolist())
        for name, output in outputs.items():
            stored = header.get(name)
            if stored is None or stored.dtype != output.dtype or stored.shape[1:] != tuple(output.shape[1:]):
                raise InputError(f"{self.folder / file} does not fit the other files of its set; synthesize it again")
            if max((row + count for row, _, count in runs), default=0) > stored.shape[0]:
                raise InputError(f"{self.folder / file} has fewer images than its set says; synthesize it again")
            read_runs(opened, stored, runs, output, str(self.folder / file))

    def gather(
        self,
        files: Callable[[int], str],
        owners: Tensor,
        rows: Tensor,
        outputs: Mapping[str, Tensor],
        places: Tensor,
    ) -> None:
        """Read rows of several files; see `read`.

        Args:
            files: Returns the name of a file by its number.
            owners: For each row, the number of its file.
            rows: Indices of the rows in their files.
            outputs: As for `read`.
            places: As for `read`.
        """
        for owner in map(int, owners.unique()):
            wanted = owners == owner
            self.read(files(owner), rows[wanted], outputs, places[wanted])


def identity(descriptor: int) -> tuple[int, ...]:
    """Return what changes if an open file is replaced or written to."""
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def close_all(files: OrderedDict[str, Opened]) -> None:
    """Close files."""
    while files:
        files.popitem()[1][0].close()


def consecutive(rows: Sequence[int], places: Sequence[int]) -> list[tuple[int, int, int]]:
    """Return runs of rows that follow each other both in the file and in the output: row, place and count of each."""
    runs: list[list[int]] = []
    for row, place in sorted(zip(rows, places, strict=True)):
        if runs and row == runs[-1][0] + runs[-1][2] and place == runs[-1][1] + runs[-1][2]:
            runs[-1][2] += 1
        else:
            runs.append([row, place, 1])
    return [(row, place, count) for row, place, count in runs]


def read_runs(file: Any, stored: Rows, runs: Sequence[tuple[int, int, int]], output: Tensor, where: str) -> None:
    """Read runs of rows of one tensor; see `consecutive`.

    Raises:
        InputError: If the file is too short.
        OSError: If the disk fails.
    """
    size = stored.row_bytes
    if not size or not len(output):
        return
    memory = output.view(-1).view(torch.uint8).numpy().data
    if size >= AHEAD and hasattr(os, "posix_fadvise"):
        for row, _, count in runs:  # the disk reads all of them while the first ones are copied
            os.posix_fadvise(file.fileno(), stored.begin + row * size, count * size, os.POSIX_FADV_WILLNEED)
    for row, place, count in runs:
        target = memory[place * size : (place + count) * size]
        file.seek(stored.begin + row * size)
        while target:
            done = file.readinto(target)
            if not done:
                raise InputError(f"{where} is too short; synthesize the set again")
            target = target[done:]
