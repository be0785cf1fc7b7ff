"""Weights in several files: an index in JSON names the file of each tensor, as transformers and timm save large networks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from datafree.files import read_json
from datafree.files.validation import from_plain
from datafree.types import InputError, printable
from datafree.weights.containers import Checkpoint
from datafree.weights.tensor_file import MAX_TENSORS

ENDING = ".index.json"
"""end of the name of an index"""
INDICES = ("model.safetensors.index.json", "pytorch_model.safetensors.index.json", "pytorch_model.bin.index.json")
"""names of the index of a folder, in the order of preference"""
MAX_FILES = 1000


def is_index(path: str | Path) -> bool:
    """Return whether a file is an index, by its name."""
    return str(path).endswith(ENDING)


def files_in(path: str | Path) -> list[Path]:
    """Return the files that an index names, in the order in which it names them.

    Raises:
        InputError: If it is no index, or names a file outside its own folder.
    """
    plain = from_plain(dict[str, Any], read_json(Path(path), follow_links=True), str(path))
    places = plain.get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(file, str) for file in places.values()):
        raise InputError(f"{path} has no weight_map with the file of each tensor; copy the folder again")
    names = list(dict.fromkeys(places.values()))
    if len(places) > MAX_TENSORS or len(names) > MAX_FILES:
        raise InputError(
            f"{path} names more than {MAX_TENSORS:,} tensors or {MAX_FILES:,} files; copy the folder again"
        )
    for name in names:
        if Path(name).name != name or name in ("", ".", "..") or "\\" in name or is_index(name):
            raise InputError(
                f"{path} names {printable(name[:80])!r}, which is no file beside it; copy the folder again"
            )
    return [Path(path).parent / name for name in names]


def read_index(path: str | Path, read: Callable[[Path], Checkpoint]) -> Checkpoint:
    """Read the tensors of all files that an index names.

    Args:
        path: The index. Untrusted.
        read: Reads one file.

    Raises:
        InputError: If a file is missing or cannot be read, or two files have the same tensor.
    """
    parts = [read(file) for file in files_in(path)]
    tensors = {name: tensor for part in parts for name, tensor in part.tensors.items()}
    if len(tensors) < sum(len(part.tensors) for part in parts):
        raise InputError(f"two of the files that {path} names have the same tensor; copy the folder again")
    notes = tuple(note for part in parts for note in part.notes)
    return Checkpoint(tensors, notes, ordered=all(part.ordered for part in parts))
