"""Temporary folders beside what is written: locked while their process lives, deleted later if it was killed."""

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

TEMPORARY = ".tmp-"
"""prefix of temporary names"""
NEW, OLD = "new", "old"
"""in a temporary folder: the folder that is being written, and the one that it replaces, under its name"""
_NAME = re.compile(re.escape(TEMPORARY) + "datafree-[0-9a-f]{16}")


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """Create a temporary folder, in a `with` block; it is deleted when the block ends.

    The folder is locked until then. What processes that are gone have left in `parent` is deleted first.

    Args:
        parent: Created if it does not exist.

    Raises:
        OSError: If the folder cannot be created.
    """
    parent.mkdir(parents=True, exist_ok=True)
    delete_leftovers(parent)
    folder, lock = _create(parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def delete_leftovers(parent: Path) -> None:
    """Delete the temporary folders of processes that were killed. Those of living processes are locked."""
    with os.scandir(parent) as entries:
        names = [entry.name for entry in entries if _NAME.fullmatch(entry.name)]
    for folder in (parent / name for name in names):
        try:
            lock = _lock(folder)
        except OSError:  # in use, a link, or deleted by another process
            continue
        if lock is not None:
            restore(folder, parent)
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def restore(temporary: Path, parent: Path) -> None:
    """Put a folder back that was moved to a temporary folder, if the new one did not get to its place."""
    for old in (temporary / OLD).glob("*"):
        if not os.path.lexists(parent / old.name):
            old.rename(parent / old.name)


def _create(parent: Path) -> tuple[Path, int | None]:
    """Create a folder and lock it. Until it is locked, another process may take it for a leftover and delete it."""
    while True:
        folder = parent / f"{TEMPORARY}datafree-{secrets.token_hex(8)}"
        folder.mkdir()
        try:
            lock = _lock(folder)
        except (FileNotFoundError, BlockingIOError):
            continue
        if folder.is_dir():
            return folder, lock
        if lock is not None:
            os.close(lock)


def _lock(folder: Path) -> int | None:
    """Lock a folder until the returned descriptor is closed; None if the file system has no such locks.

    Raises:
        BlockingIOError: If another process has the lock.
        OSError: If the folder cannot be opened.
    """
    if fcntl is None:
        return None
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as fault:
        os.close(descriptor)
        if isinstance(fault, BlockingIOError):
            raise
        return None
    return descriptor
