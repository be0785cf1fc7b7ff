"""Files that appear complete or not at all: written beside their place, synced, then renamed."""

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


def sync(path: Path) -> None:
    """Waits until a file or a directory entry is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """A new folder that takes this place when the block ends well, and vanishes when it does not."""
    new, old = (folder.with_name(f"{TEMPORARY}{secrets.token_hex(8)}") for _ in range(2))
    try:
        new.mkdir(parents=True)
    except OSError as fault:
        raise InputError(f"{folder} cannot be written ({fault.strerror}); give another place") from fault
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
def new_file(path: Path) -> Iterator[Path]:
    """A new file that takes this place when the block ends well, and vanishes when it does not."""
    new = path.with_name(f"{TEMPORARY}{secrets.token_hex(8)}")
    try:
        yield new
        sync(new)
        new.replace(path)
        sync(path.parent)
    finally:
        new.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a file that is never seen half-written."""
    with new_file(path) as new:
        new.write_text(text)


def write_json(path: Path, value: Any) -> None:
    """Writes JSON, likewise."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def sha256_of(path: Path) -> str:
    """The hash of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
