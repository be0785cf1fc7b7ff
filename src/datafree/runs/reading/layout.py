"""The layout of a run folder, and its settings as JSON. A run folder may come from elsewhere: links and special files in it
are refused.
"""

import errno
import stat
from pathlib import Path
from typing import Any

from datafree.errors import InputError
from datafree.files import read_json
from datafree.real.ledger import LEDGER

SCHEMA = 2
"""version of the layout of a run folder"""
EXPERIMENT, SUMMARY, LOG = "experiment.json", "summary.json", "log.jsonl"
LOCK, OWNER = ".lock", ".owner"
POOL = "pool"
"""folder of the images of a run whose pool is larger than the memory for it"""
RACE = "race"
"""folder of the trials of a race, until it is decided"""
FOLDERS = ("checkpoints", "synthetic", "student", "tensorboard", POOL, RACE)
NAMES = (EXPERIMENT, SUMMARY, LOG, LEDGER, "report.html", LOCK, OWNER, *FOLDERS)
"""everything that a run writes to its folder"""


def require_own_files(folder: Path) -> None:
    """Check that what a run reads and writes in its folder are regular files and folders: no links, pipes or devices.

    Raises:
        InputError: Names the first other entry.
    """
    for name in NAMES:
        for path in (folder / name, *((folder / name).rglob("*") if name in FOLDERS else ())):
            try:
                mode = path.lstat().st_mode
            except FileNotFoundError:
                continue
            if stat.S_ISLNK(mode):
                raise InputError(
                    f"{path} is a symbolic link, which is not followed here; replace it with what it names"
                )
            if not (stat.S_ISDIR(mode) if path.parent == folder and name in FOLDERS else _is_plain(mode)):
                raise InputError(f"{path} is not a regular file; remove it")


def _is_plain(mode: int) -> bool:
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def read_experiment(path: str | Path) -> Any:
    """Read the experiment of a run folder as JSON, without the schema.

    Raises:
        InputError: If the folder has no readable `experiment.json`, has links, or was written by a version of datafree with
            another layout.
    """
    path = Path(path)
    try:
        require_own_files(path)
        experiment = read_json(path / EXPERIMENT, root=path)
    except (InputError, OSError) as fault:
        cause = fault if isinstance(fault, OSError) else fault.__cause__
        if isinstance(cause, OSError) and cause.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
            raise InputError(
                f"{path} is not a run folder (it has no {EXPERIMENT}); give the folder of a run"
            ) from fault
        raise
    if not isinstance(experiment, dict) or type(experiment.get("schema")) is not int:
        raise InputError(f"{path} is not a run folder (its {EXPERIMENT} has no schema); give the folder of a run")
    schema = experiment.pop("schema")
    if schema != SCHEMA:
        raise InputError(
            f"{path} was written by another version of datafree (layout {schema}, this version reads layout {SCHEMA}); "
            "use that version or start a new run"
        )
    return experiment
