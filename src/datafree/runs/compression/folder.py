"""The folder of a compression: its settings, one process at a time, and which steps are finished."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from datafree.files import read_json, unwritable, write_json
from datafree.files.temporary import delete_leftovers
from datafree.files.validation import from_plain
from datafree.runs.serialization import from_json
from datafree.types import InputError

SETTINGS, PLAN, RESULT, LOCK = "compression.json", "plan.json", "result.json", ".lock"
SCHEMA = 1


@contextmanager
def compression_folder(path: Path, settings: Mapping[str, Any]) -> Iterator[None]:
    """Own the folder of a compression inside a `with` block. A folder with equal settings is continued.

    Args:
        path: The folder; created if it does not exist.
        settings: All settings, as JSON values.

    Raises:
        InputError: If the folder holds something else, has other settings, is in use, or cannot be written.
    """
    expected = json.loads(json.dumps({"schema": SCHEMA, **settings}))
    try:
        path.mkdir(parents=True, exist_ok=True)
        if path.is_symlink():
            raise InputError(f"{path} is a symbolic link; give another --out")
        known = (path / SETTINGS).exists()
        if not known and any(entry.name != LOCK for entry in path.iterdir()):
            raise InputError(f"{path} already exists and is no compression; give another --out")
        lock = FileLock(path / LOCK, timeout=0, fallback_to_soft=False)
        lock.acquire()
    except Timeout as fault:
        raise InputError(f"{path} is in use by another process; wait until it ends or give another --out") from fault
    except InputError:
        raise
    except (OSError, ValueError) as fault:
        raise unwritable(path, fault, "give another --out") from fault
    try:
        if not known:
            write_json(path / SETTINGS, expected)
        elif not same_settings(from_plain(dict[str, Any], read_json(path / SETTINGS), str(path / SETTINGS)), expected):
            raise InputError(f"{path} is a compression with other settings; repeat them, or give another --out")
        delete_leftovers(path)
        yield
    except InputError:
        if not known and not (path / PLAN).exists():  # refused before anything was made
            _remove_empty(path)
        raise
    finally:
        lock.release()


def _remove_empty(path: Path) -> None:
    """Remove a folder that holds only settings, so that the command can be repeated with others."""
    with suppress(OSError):
        for name in (SETTINGS, LOCK):
            (path / name).unlink(missing_ok=True)
        path.rmdir()


def same_settings(found: Mapping[str, Any], expected: Mapping[str, Any]) -> bool:
    """Return whether stored settings equal those of today. A setting that was added since then has its default."""
    if found == expected:
        return True
    try:
        first, second = (from_json({k: v for k, v in each.items() if k != "schema"}) for each in (found, expected))
    except InputError:  # a setting that is not known today
        return False
    return found.get("schema") == expected["schema"] and first == second
