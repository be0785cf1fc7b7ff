"""Atomic writing of files and folders: written under a temporary name, synced to disk, then renamed."""

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from datafree.types import InputError

TEMPORARY = ".tmp-"
"""prefix of temporary names; what an interrupted process leaves under them can be deleted"""


def sync(path: Path) -> None:
    """Wait until a file or a folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Write a folder atomically, in a `with` block.

    Args:
        folder: The output folder; an existing one is replaced.

    Yields:
        A temporary folder to write to. It is renamed to `folder` when the block ends, or deleted if the block raises.

    Raises:
        InputError: If the folder cannot be created.
    """
    new, old = (folder.with_name(f"{TEMPORARY}{secrets.token_hex(8)}") for _ in range(2))
    try:
        new.mkdir(parents=True)
    except OSError as fault:
        raise InputError(f"{folder} cannot be written ({fault.strerror}); give another path") from fault
    try:
        yield new
        for path in sorted(new.rglob("*"), reverse=True):
            sync(path)
        sync(new)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
        sync(folder.parent)
    finally:
        if old.exists() and not folder.exists():
            old.rename(folder)
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Write a file atomically, in a `with` block.

    Args:
        path: The file to write; an existing one is replaced.

    Yields:
        A temporary path to write to. It is renamed to `path` when the block ends, or deleted if the block raises.
    """
    new = path.with_name(f"{TEMPORARY}{secrets.token_hex(8)}")
    try:
        yield new
        sync(new)
        new.replace(path)
        sync(path.parent)
    finally:
        new.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_file(path) as new:
        new.write_text(text)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically.

    Raises:
        ValueError: If a number is not finite.
    """
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
