"""Reading: only regular files of a bounded size, so that a pipe or an endless file neither blocks nor fills the memory."""

import errno
import hashlib
import json
import math
import os
import stat
from collections.abc import Sequence
from io import BufferedReader
from pathlib import Path
from typing import Any

from datafree.errors import InputError

TEXT_LIMIT = 16 * 2**20
"""bytes: default size limit of a text file or a JSON file"""
INVALID_PATH = (
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ELOOP,
    errno.EACCES,
    errno.EPERM,
    errno.ENAMETOOLONG,
    errno.ENXIO,
    errno.EINVAL,
)
"""faults of a path or a file, as opposed to faults of the disk, which stay `OSError`"""


def sha256_of(path: str | Path, *, follow_links: bool = True, root: str | Path | None = None) -> str:
    """Return the SHA-256 of a regular file. Arguments and errors as for `open_regular`; here links are followed by default."""
    with open_regular(path, follow_links=follow_links, root=root) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_regular(
    path: str | Path, limit: int | None = None, *, follow_links: bool = False, root: str | Path | None = None
) -> BufferedReader:
    """Open a regular file for reading. Use in a `with` statement.

    Args:
        path: The file.
        limit: Maximum size in bytes; None for any size.
        follow_links: Whether the file may be a symbolic link to a regular file. Only model folders need this: a download
            cache consists of links.
        root: A trusted folder that contains `path`. If given and links are not followed, no folder between it and the file
            may be a link either.

    Raises:
        InputError: If there is no such file, it is not a regular file, it is larger than `limit`, it may not be read, or it
            is a link and links are not followed.
        OSError: If the disk fails.
    """
    path = Path(path)
    try:
        descriptor = _open_checked(path) if follow_links else _open_without_links(path, root)
    except InputError:
        raise
    except ValueError as fault:  # a null byte
        raise InputError(f"{str(path)!r} is not a path ({fault}); give another path") from fault
    except OSError as fault:
        if fault.errno not in INVALID_PATH:
            raise
        raise InputError(describe_fault(path, fault)) from fault
    try:
        if limit is not None and os.fstat(descriptor).st_size > limit:
            raise InputError(_too_large(path, limit))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


FLAGS = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))
"""a pipe without a writer does not block; flags that a platform lacks are left out"""
NO_LINK = getattr(os, "O_NOFOLLOW", 0)


def _open_checked(path: str | Path, folder: int | None = None, flags: int = 0) -> int:
    """Return the descriptor of a regular file. It is checked before too, because opening a device may have effects."""
    require_regular(os.stat(path, dir_fd=folder, follow_symlinks=not flags))
    descriptor = os.open(path, FLAGS | flags, dir_fd=folder)
    try:
        require_regular(os.fstat(descriptor))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def require_regular(status: os.stat_result) -> None:
    """Raise an `OSError` if an open file is a link, a folder, a pipe or a device."""
    if stat.S_ISLNK(status.st_mode):
        raise _link_fault()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file")


def _open_without_links(path: Path, root: str | Path | None) -> int:
    """Return the descriptor of a file that is reached without a symbolic link: from `root`, or from its own folder."""
    start = path.parent if root is None else Path(root)
    try:
        steps = path.relative_to(start).parts
    except ValueError:
        raise InputError(f"{path} is outside {start}; give a file inside this folder") from None
    if ".." in steps:
        raise InputError(f"{path} is outside {start}; give a file inside this folder")
    if not NO_LINK or os.open not in os.supports_dir_fd:  # Windows
        current = start
        for step in steps:
            current /= step
            if current.is_symlink():
                raise _link_fault()
        return _open_checked(path)
    folder = os.open(start, FLAGS | os.O_DIRECTORY)
    try:
        for step in steps[:-1]:
            if stat.S_ISLNK(os.stat(step, dir_fd=folder, follow_symlinks=False).st_mode):
                raise _link_fault()
            inner = os.open(step, FLAGS | os.O_DIRECTORY | NO_LINK, dir_fd=folder)
            os.close(folder)
            folder = inner
        return _open_checked(steps[-1] if steps else ".", folder, NO_LINK)
    finally:
        os.close(folder)


def _link_fault() -> OSError:
    return OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def describe_fault(path: Path, fault: OSError, use: str = "read") -> str:
    """Return the sentence for a path that cannot be read or written."""
    if fault.errno == errno.ENOENT:
        return f"{path} does not exist; give another path"
    if fault.errno == errno.ELOOP:
        return f"{path} is behind a symbolic link, which is not followed here; replace the link with what it names"
    return f"{path} cannot be {use} ({fault.strerror}); give a regular file that may be {use}"


def _too_large(path: Path, limit: int) -> str:
    size = f"{limit / 2**20:.0f} MiB" if limit >= 2**20 else f"{limit} bytes"
    return f"{path} is larger than {size}; give a smaller file"


def read_bytes(
    path: str | Path, limit: int = TEXT_LIMIT, *, follow_links: bool = False, root: str | Path | None = None
) -> bytes:
    """Read a regular file.

    Args:
        path: As for `open_regular`.
        limit: Maximum size in bytes; also of a file that grows while it is read.
        follow_links: As for `open_regular`.
        root: As for `open_regular`.

    Raises:
        InputError: As for `open_regular`.
        OSError: If the disk fails.
    """
    with open_regular(path, limit, follow_links=follow_links, root=root) as file:
        content = file.read(limit + 1) or b""
    if len(content) > limit:
        raise InputError(_too_large(Path(path), limit))
    return content


def read_text(
    path: str | Path, limit: int = TEXT_LIMIT, *, follow_links: bool = False, root: str | Path | None = None
) -> str:
    """Read a text file in UTF-8, whatever the locale. Arguments and errors as for `read_bytes`.

    Raises:
        InputError: Also if the file is not UTF-8.
    """
    try:
        return read_bytes(path, limit, follow_links=follow_links, root=root).decode()
    except UnicodeDecodeError as fault:
        raise InputError(f"{path} is not a text file in UTF-8 ({fault.reason}); restore it from a copy") from fault


def read_json(
    path: str | Path, limit: int = TEXT_LIMIT, *, follow_links: bool = False, root: str | Path | None = None
) -> Any:
    """Read a JSON file strictly: no duplicate keys, no NaN or infinity. Arguments and errors as for `read_bytes`.

    The types of the values are not checked here; see `datafree.validation.from_plain`.

    Raises:
        InputError: Also if the file is not JSON.
    """
    return parse_json(read_text(path, limit, follow_links=follow_links, root=root), str(path))


def parse_json(text: str, where: str) -> Any:
    """Return the value of a JSON text; see `read_json`.

    Args:
        text: The text.
        where: What an error message calls it, e.g. a path or a line of a file.

    Raises:
        InputError: If the text is not JSON, has a duplicate key or a number that is not finite, or is nested too deeply.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_float=_finite, parse_constant=_finite)
    except RecursionError:
        why = "it is nested too deeply"
    except ValueError as fault:
        why = str(fault)
    raise InputError(f"{where} is not valid JSON ({why}); restore it from a copy")


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    entries: dict[str, Any] = {}
    for key, value in pairs:
        if key in entries:
            raise ValueError(f"duplicate key {key[:50]!r}")
        entries[key] = value
    return entries


def _finite(number: str) -> float:
    if not math.isfinite(float(number)):
        raise ValueError(f"the number {number[:50]} is not finite")
    return float(number)
