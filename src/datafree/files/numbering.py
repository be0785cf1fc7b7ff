"""Numbered folders for runs without `--out`. Imports no torch, so that the first line of a run can name its folder."""

import re
from contextlib import suppress
from pathlib import Path

from datafree.errors import InputError
from datafree.files import unwritable

_reserved: set[Path] = set()
"""folders that `next_folder` has created in this process"""


def next_folder(command: str) -> Path:
    """Create `runs/COMMAND-NNN` with the number after the highest in use, from 001, so that no other process gets it.

    Raises:
        InputError: If the folder cannot be created.
    """
    name = re.compile(rf"{re.escape(command)}-([0-9]{{3,9}})")
    matches = [name.fullmatch(path.name) for path in Path("runs").glob(f"{command}-*")]
    number = max((int(match[1]) for match in matches if match), default=0)
    while True:
        number += 1
        path = Path("runs") / f"{command}-{number:03d}"
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            if path.parent.is_dir():
                continue
            raise InputError("runs is a file, but runs are written there; choose another --out") from None
        except OSError as fault:
            raise unwritable(path, fault, "choose another --out") from fault
        _reserved.add(path)
        return path


def is_reserved(path: Path) -> bool:
    """Return whether `next_folder` has created a folder in this process."""
    return path in _reserved


def release(path: Path) -> None:
    """Delete a folder that `next_folder` has created if nothing was written to it."""
    if path in _reserved:
        with suppress(OSError):
            path.rmdir()
        _reserved.discard(path)
