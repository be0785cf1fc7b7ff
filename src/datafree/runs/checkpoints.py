"""Checkpoints: the state of a run as safetensors and JSON, with hashes that are verified before a tensor is used."""

import errno
import json
import math
import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from datafree.files import atomic_folder, read_json, sha256_of
from datafree.files.stored import StoredFile
from datafree.files.validation import from_plain
from datafree.types import InputError, Stateful

MANIFEST, TENSORS, TREE = "manifest.json", "state.safetensors", "state.json"
TREE_LIMIT = 2**28
"""bytes: size limit of `state.json`"""
KEPT = 2
"""number of checkpoints that are kept"""
_NUMBER = re.compile("[0-9]{1,18}")
PART = "part-{}"
"""folder with the part of a process, counted from 1, in the folder of a checkpoint"""
_PART = re.compile("part-[0-9]{1,9}/manifest[.]json")


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The content of `manifest.json`."""

    schema: int
    """version of the layout"""
    sha256: Mapping[str, str]
    """hash of each other file"""
    stored: Mapping[str, str] = field(default_factory=dict)
    """hash of each file of the run that the state names, by its path in the run folder"""


class Damaged(Exception):
    """A checkpoint cannot be used; the message says why in a few words."""


def numbered(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, the oldest first. Other names are ignored."""
    return sorted((path for path in folder.glob("[0-9]*") if _NUMBER.fullmatch(path.name)), key=lambda p: int(p.name))


def parts_of(checkpoint: Path) -> list[Path]:
    """Return the parts of the second and further processes in a checkpoint, in order."""
    found = [path for path in checkpoint.glob("part-*") if _PART.fullmatch(f"{path.name}/{MANIFEST}")]
    return sorted(found, key=lambda path: int(path.name.removeprefix("part-")))


def write(folder: Path, schema: int, step: int, state: Mapping[str, Any]) -> None:
    """Write a state to a folder; see `commit`."""
    with atomic_folder(folder) as new:
        _fill(new, schema, step, state)


def _fill(new: Path, schema: int, step: int, state: Mapping[str, Any], parts: Sequence[Path] = ()) -> None:
    tensors: dict[str, Tensor] = {}
    tree = encode(state, tensors)
    save_file(tensors, new / TENSORS)
    (new / TREE).write_text(json.dumps({"step": step, "tree": tree}, allow_nan=False), encoding="utf-8")
    for part in parts:
        part.rename(new / part.name)
    names = (TENSORS, TREE, *(f"{part.name}/{MANIFEST}" for part in parts))
    hashes = {name: sha256_of(new / name) for name in names}
    manifest = {"schema": schema, "sha256": hashes, "stored": stored_in(tree)}
    (new / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


def stored_in(tree: Any) -> dict[str, str]:
    """Return the files of the run that an encoded state names, with their hashes."""
    match tree:
        case {"stored": str(path), "sha256": str(digest)}:
            return {path: digest}
        case dict():
            return stored_in(list(tree.values()))
        case list():
            return {path: digest for node in tree for path, digest in stored_in(node).items()}
        case _:
            return {}


def commit(folder: Path, schema: int, step: int, state: Mapping[str, Any], parts: Sequence[Path] = ()) -> None:
    """Save a checkpoint, then delete all but the newest two.

    Args:
        folder: The folder of all checkpoints.
        schema: Version of the layout.
        step: The training step that the state belongs to.
        state: Nested mappings, lists and tuples of tensors, stored files, numbers, strings, booleans and None.
        parts: Folders with the parts of other processes, which are moved into the checkpoint.

    Raises:
        TypeError: If the state contains anything else.
    """
    number = 1 + max((int(path.name) for path in numbered(folder)), default=0)
    with atomic_folder(folder / f"{number:08d}") as new:
        _fill(new, schema, step, state, parts)
    for path in numbered(folder)[:-KEPT]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def named_files(folder: Path) -> set[str]:
    """Return the files of the run that the checkpoints in a folder name.

    Raises:
        InputError: If a manifest cannot be read.
    """
    names: set[str] = set()
    for checkpoint in numbered(folder):
        for place in (checkpoint, *parts_of(checkpoint)):
            manifest = from_plain(Manifest, read_json(place / MANIFEST, TREE_LIMIT, root=folder), MANIFEST)
            names |= manifest.stored.keys()
    return names


def read(folder: Path, schema: int, run: Path | None = None) -> tuple[int, Any]:
    """Return the step and the state of one checkpoint.

    Args:
        folder: The checkpoint.
        schema: Version of the layout.
        run: The run folder, whose files that the state names are verified; None: they are not needed.

    Raises:
        Damaged: If a file is missing, damaged or of another layout.
        InputError: If a file may not be read.
        OSError: If the disk fails.
    """
    try:
        manifest = from_plain(Manifest, read_json(folder / MANIFEST, TREE_LIMIT, root=folder.parent), MANIFEST)
        if manifest.schema != schema:
            raise Damaged(f"layout {manifest.schema} in {MANIFEST}")
        for name in (TENSORS, TREE, *filter(_PART.fullmatch, manifest.sha256)):
            if sha256_of(folder / name, follow_links=False, root=folder.parent) != manifest.sha256.get(name):
                raise Damaged(f"sha256 of {name} differs")
        if run:
            require_stored(manifest, run)
        saved = read_json(folder / TREE, TREE_LIMIT, root=folder.parent)
        if not isinstance(saved, dict) or type(saved.get("step")) is not int or saved["step"] < 0:
            raise Damaged(f"{TREE} has no step")
        return saved["step"], decode(saved.get("tree"), load_file(folder / TENSORS))
    except InputError as fault:
        raise Damaged(_why(fault, folder)) from fault
    except (SafetensorError, RecursionError) as fault:
        raise Damaged(f"{TENSORS} or {TREE} cannot be read") from fault


def require_stored(manifest: Manifest, run: Path) -> None:
    """Check the files of the run that a state names.

    Raises:
        Damaged: If one is not as it was.
        InputError: If one is missing or may not be read.
    """
    for file in (StoredFile(*entry) for entry in manifest.stored.items()):
        if sha256_of(run / file.path, follow_links=False, root=run) != file.sha256:
            raise Damaged(f"sha256 of {file.path} differs")


def _why(fault: InputError, folder: Path) -> str:
    """Return what is wrong with a file in a few words, or raise the error if the file may be intact.

    Raises:
        InputError: If a file may not be read.
    """
    cause = fault.__cause__
    if isinstance(cause, OSError) and cause.errno in (errno.EACCES, errno.EPERM):
        path = cause.filename or folder
        raise InputError(
            f"checkpoint {folder} cannot be read ({path}: {cause.strerror}); allow reading it and repeat the command"
        ) from fault
    if isinstance(cause, OSError) and cause.errno == errno.ENOENT:
        return "a file is missing"
    return str(fault).partition(";")[0].replace(f"{folder}/", "")


def encode(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Return a state as JSON; its tensors are added to `tensors` under numbers.

    Raises:
        TypeError: If the state contains anything but tensors, numbers, strings, booleans, None and collections of them.
    """
    if isinstance(value, Tensor):
        name = str(len(tensors))
        plain = value.detach().cpu().contiguous()
        storages = {tensor.untyped_storage().data_ptr() for tensor in tensors.values()}
        tensors[name] = plain.clone() if plain.untyped_storage().data_ptr() in storages else plain
        return {"tensor": name, "channels_last": _is_channels_last(value)}
    if isinstance(value, Mapping):
        return {"map": [[key, encode(item, tensors)] for key, item in value.items()]}
    if isinstance(value, (list, tuple)):
        return {"tuple" if isinstance(value, tuple) else "list": [encode(item, tensors) for item in value]}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    if isinstance(value, StoredFile):
        return {"stored": value.path, "sha256": value.sha256}
    if value is None or isinstance(value, (bool, int, float, str)):
        return {"value": value}
    raise TypeError(f"a checkpoint cannot hold {type(value).__name__}")


def _is_channels_last(value: Tensor) -> bool:
    return value.ndim == 4 and not value.is_contiguous() and value.is_contiguous(memory_format=torch.channels_last)


def decode(node: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Return the state that `encode` turned into JSON.

    Raises:
        Damaged: If the JSON is not that of a state.
    """
    match node:
        case {"tensor": str(name), "channels_last": bool(last)} if name in tensors and (
            not last or tensors[name].ndim == 4
        ):
            return tensors[name].contiguous(memory_format=torch.channels_last) if last else tensors[name]
        case {"map": list(pairs)}:
            return dict(_decode_pair(pair, tensors) for pair in pairs)
        case {"list": list(items)}:
            return [decode(item, tensors) for item in items]
        case {"tuple": list(items)}:
            return tuple(decode(item, tensors) for item in items)
        case {"float": "inf" | "-inf" | "nan" as number}:
            return float(number)
        case {"stored": str(path), "sha256": str(digest)}:
            return StoredFile(path, digest)
        case {"value": None | bool() | int() | float() | str() as value}:
            return value
    raise Damaged(f"{TREE} is not that of a state")


def _decode_pair(pair: Any, tensors: Mapping[str, Tensor]) -> tuple[Any, Any]:
    match pair:
        case [None | bool() | int() | float() | str() as key, node]:
            return key, decode(node, tensors)
    raise Damaged(f"{TREE} is not that of a state")


def restore(name: str, stateful: Stateful, state: Any) -> None:
    """Load a saved state into an object, after comparing the kinds of its values with those of the current state.

    Raises:
        InputError: If the state is not that of such an object, or a file that the object depends on has changed.
    """
    current = None
    with suppress(AttributeError):  # some objects have no state before their first step
        current = stateful.state_dict()
    try:
        _require_like(current, state, name)
        stateful.load_state_dict(state)
    except InputError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as fault:
        why = str(fault).splitlines()[0] if str(fault) else type(fault).__name__
        raise InputError(f"the checkpoint does not fit this run ({name}: {why}); start a new run") from fault


def _require_like(current: Any, saved: Any, where: str) -> None:
    """Check that two states have values of the same kinds; what is None or empty in one of them may be anything.

    Raises:
        TypeError: Names the first difference.
    """
    if current is None or saved is None:
        return
    if _kind(current) != _kind(saved):
        raise TypeError(f"{where} is {_kind(saved)}, not {_kind(current)}")
    if isinstance(current, Tensor) and current.dtype != saved.dtype:
        raise TypeError(f"{where} is {saved.dtype}, not {current.dtype}")
    if isinstance(current, Mapping):
        for key in current.keys() & saved.keys():
            _require_like(current[key], saved[key], f"{where}.{key}")
    if isinstance(current, (list, tuple)):
        for index, pair in enumerate(zip(current, saved, strict=False)):
            _require_like(*pair, f"{where}[{index}]")


def _kind(value: Any) -> str:
    for kind, name in ((Tensor, "a tensor"), (Mapping, "a mapping"), ((list, tuple), "a list"), (str, "a text")):
        if isinstance(value, kind):
            return name
    return "a number" if isinstance(value, (bool, int, float)) else type(value).__name__
