"""Writing: under a temporary name, synced to disk, then renamed, so that a file is complete or not there."""

import errno
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from datafree.errors import InputError
from datafree.files.reading import FLAGS, INVALID_PATH, NO_LINK, describe_fault, require_regular
from datafree.files.temporary import NEW, OLD, restore, temporary_folder

_UNWRITABLE = (*INVALID_PATH, errno.EEXIST, errno.EROFS)
"""faults that writing to another path avoids"""


def sync(path: Path) -> None:
    """Wait until a file or a folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Write a folder atomically, in a `with` block. The modes of its files follow the umask.

    Args:
        folder: The output folder; an existing one is replaced.

    Yields:
        A temporary folder to write to. It is renamed to `folder` when the block ends, or deleted if the block raises.

    Raises:
        InputError: If the folder cannot be created.
        OSError: If the disk fails or is full.
    """
    with _beside(folder) as temporary:
        new, old = temporary / NEW, temporary / OLD / folder.name
        new.mkdir()
        yield new
        for path in sorted(new.rglob("*"), reverse=True):
            _follow_umask(path, temporary)
            sync(path)
        sync(new)
        if folder.exists():
            old.parent.mkdir()
            folder.rename(old)
        try:
            new.rename(folder)
        finally:
            restore(temporary, folder.parent)
        sync(folder.parent)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Write a file atomically, in a `with` block. Its mode follows the umask.

    Args:
        path: The file to write; an existing one is replaced.

    Yields:
        A temporary path to write to. It is renamed to `path` when the block ends, or deleted if the block raises.

    Raises:
        InputError: If a file cannot be created in this folder.
        OSError: If the disk fails or is full.
    """
    with _beside(path) as temporary:
        new = temporary / path.name
        yield new
        _follow_umask(new, temporary)
        sync(new)
        new.replace(path)
        sync(path.parent)


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """Yield a temporary folder beside the target.

    Raises:
        InputError: If it cannot be created, for a reason that another path avoids.
        OSError: If the disk fails or is full.
    """
    with ExitStack() as stack:
        try:
            temporary = stack.enter_context(temporary_folder(target.parent))
        except (OSError, ValueError) as fault:
            raise unwritable(target, fault) from fault
        yield temporary


def _follow_umask(path: Path, folder: Path) -> None:
    """Give a file the mode that `open` gives, which the mode of a new folder shows; safetensors writes others."""
    if path.is_file() and not path.is_symlink():
        path.chmod(folder.stat().st_mode & 0o666)


def unwritable(path: Path, fault: OSError | ValueError, fix: str = "give another path") -> Exception:
    """Return the error to raise if a path cannot be written: an `InputError`, or the fault itself if the disk is at fault.

    Args:
        path: What could not be written.
        fault: What the system said.
        fix: The second half of the sentence.
    """
    if isinstance(fault, OSError) and fault.errno not in _UNWRITABLE:
        return fault
    reason = (fault.strerror if isinstance(fault, OSError) else None) or str(fault)
    return InputError(f"{path} cannot be written ({reason}); {fix}")


def append_text(descriptor: int, text: str) -> None:
    """Append a text to a file that was opened with `open_for_appending`.

    Raises:
        OSError: If the disk fails or is full.
    """
    data = text.encode()
    while data:
        data = data[os.write(descriptor, data) :]


def open_for_appending(path: Path) -> int:
    """Return the descriptor of a regular file, which is created if it does not exist; links are not followed.

    Raises:
        InputError: If it is no regular file, is behind a link, or may not be written.
        OSError: If the disk fails or is full.
    """
    flags = (FLAGS & ~os.O_RDONLY) | os.O_WRONLY | os.O_APPEND | os.O_CREAT | NO_LINK
    try:
        descriptor = os.open(path, flags, 0o666)
        try:
            require_regular(os.fstat(descriptor))
        except OSError:
            os.close(descriptor)
            raise
    except OSError as fault:
        if fault.errno not in INVALID_PATH:
            raise
        raise InputError(describe_fault(path, fault, "written")) from fault
    return descriptor


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_file(path) as new:
        new.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically.

    Raises:
        ValueError: If a number is not finite.
    """
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")
