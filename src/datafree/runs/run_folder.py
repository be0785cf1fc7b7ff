"""Run folders: one experiment per folder, locked while it is in use, with checkpoints.

Files are written atomically and verified when read. Tensors are saved as safetensors and everything else as JSON; there is no
pickle. A run folder may come from elsewhere: links and special files in it are refused.
"""

import json
import secrets
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from datafree.files import read_text, unwritable, write_json, write_text
from datafree.files.numbering import is_reserved
from datafree.files.temporary import TEMPORARY, delete_leftovers
from datafree.runs import checkpoints
from datafree.runs.reading.layout import EXPERIMENT as EXPERIMENT
from datafree.runs.reading.layout import FOLDERS, LOCK, OWNER, POOL, SCHEMA
from datafree.runs.reading.layout import LOG as LOG
from datafree.runs.reading.layout import NAMES as NAMES
from datafree.runs.reading.layout import SUMMARY as SUMMARY
from datafree.runs.reading.layout import read_experiment as read_experiment
from datafree.runs.reading.layout import require_own_files as require_own_files
from datafree.sets.on_disk import SHARDS
from datafree.types import InputError


class RunFolder:
    """The folder of one run, locked while it is open.

    A lock does not help if the folder is removed and created again while a run lives. So the folder also names its owner,
    which is checked before anything is written.

    Args:
        path: The folder; created if it does not exist.
        experiment: The experiment as JSON. A folder with another experiment is refused.
        resume: Accept a folder with this experiment, to continue from its newest intact checkpoint.

    Attributes:
        skipped: One sentence for each damaged checkpoint that `newest` skipped.
        chosen: The name of the checkpoint that `newest` returned.
        has_worked: Whether work was done in the folder by this process.

    Raises:
        InputError: If the folder has another or a finished run, is in use by another process, has links, or cannot be
            written.
        OSError: If the disk fails or is full.
    """

    def __init__(self, path: Path, experiment: Mapping[str, Any], *, resume: bool = False) -> None:
        self.path, self.checkpoints, self.resume = path, path / "checkpoints", resume
        self.skipped: list[str] = []
        self.chosen = ""
        self._token, self._new, self.has_worked = secrets.token_hex(16), False, False
        try:
            self._created = _make(path)
            require_own_files(path)
            locked_before = (path / LOCK).exists()
            self._lock = FileLock(path / LOCK, timeout=0, fallback_to_soft=False)
            self._lock.acquire()
        except Timeout as fault:
            wait = "wait until it ends" if resume else "wait until it ends or choose another --out"
            raise InputError(f"{path} is in use by another process; {wait}") from fault
        except InputError:
            raise
        except (OSError, ValueError) as fault:
            raise unwritable(path, fault, "make it writable" if resume else "choose another --out") from fault
        try:
            self._open(json.loads(json.dumps(experiment)))
        except BaseException:
            if self._new:
                self._discard()
            elif not locked_before and not (path / EXPERIMENT).exists():
                (path / LOCK).unlink(missing_ok=True)
            self._lock.release()
            raise

    def _open(self, experiment: Any) -> None:
        """Write the experiment to a new folder, or check that the folder can be resumed."""
        path = self.path
        if not (path / EXPERIMENT).exists():
            self._require_empty()
            self._new = True
            delete_temporary(path)
            self._take()
            write_json(path / EXPERIMENT, {"schema": SCHEMA, **experiment})
        else:
            self._require_resumable(experiment)
            self._take()
        self.checkpoints.mkdir(exist_ok=True)
        for folder in (path, *(path / name for name in FOLDERS)):
            if folder.is_dir():
                delete_temporary(folder)

    def _require_empty(self) -> None:
        require_empty(self.path)

    def _require_resumable(self, experiment: Any) -> None:
        path, name = self.path, shlex.quote(str(self.path))
        if (path / SUMMARY).exists():
            other = "" if self.resume else " or choose another --out"
            raise InputError(f"{path} is a finished run; see it with `datafree report {name}`{other}")
        if not self.resume:
            raise InputError(
                f"{path} is an unfinished run; continue it with `datafree resume {name}` or choose another --out"
            )
        if read_experiment(path) != experiment:
            raise InputError(f"{path} is a run of another experiment; choose another --out")

    def _take(self) -> None:
        """Make this process the owner of the folder."""
        write_text(self.path / OWNER, self._token)

    def is_owner(self) -> bool:
        """Return whether no other process has taken the folder."""
        try:
            return read_text(self.path / OWNER, 100) == self._token
        except InputError:
            return False

    def require_owner(self) -> None:
        """Check that no other process has taken the folder, which is only possible if it was removed meanwhile.

        Raises:
            InputError: If this process is not the owner any more; then it must not write to the folder.
        """
        if not self.is_owner():
            raise InputError(
                f"{self.path} was removed or taken over by another process, so this process stopped writing to it; "
                "start a new run with another --out"
            )

    def decide(self, experiment: Mapping[str, Any]) -> None:
        """Replace the settings of a run, of which some were to be decided, by the decided ones."""
        self.require_owner()
        write_json(self.path / EXPERIMENT, {"schema": SCHEMA, **experiment})

    def keep(self) -> None:
        """Keep the folder from now on, whatever happens: work was done in it."""
        self.has_worked = True

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, kind: type[BaseException] | None = None, *_: object) -> None:
        owner = False
        with suppress(OSError):
            owner = self.is_owner()
        if owner:
            never_started = self._new and not self.has_worked and kind is not None and issubclass(kind, InputError)
            if never_started and not checkpoints.numbered(self.checkpoints):
                self._discard()
            else:
                (self.path / OWNER).unlink(missing_ok=True)
        self._lock.release()

    def _discard(self) -> None:
        """Delete what this process has written, and the folder if it did not exist before."""
        for path in (self.path / name for name in (*NAMES, *(entry.name for entry in self._temporary()))):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        if self._created:
            with suppress(OSError):  # something else is in it
                self.path.rmdir()

    def _temporary(self) -> Iterator[Path]:
        return self.path.glob(f"{TEMPORARY}*")

    def commit(self, step: int, state: Mapping[str, Any], parts: Sequence[Path] = ()) -> None:
        """Save a checkpoint, then delete all but the newest two; see `checkpoints.commit`."""
        self.require_owner()
        checkpoints.commit(self.checkpoints, SCHEMA, step, state, parts)
        delete_unused(self.path)

    def newest(self) -> tuple[int, Any] | None:
        """Return the step and the state of the newest intact checkpoint; None if there is no checkpoint at all.

        Raises:
            InputError: If all checkpoints are damaged, or one may not be read.
            OSError: If the disk fails.
        """
        damage: list[str] = []
        for folder in reversed(checkpoints.numbered(self.checkpoints)):
            try:
                checkpoint = checkpoints.read(folder, SCHEMA, self.path)
            except checkpoints.Damaged as fault:
                damage.append(f"checkpoint {folder.name} is damaged ({fault})")
                continue
            self.skipped = [f"{sentence}; continuing from {folder.name}" for sentence in damage]
            self.chosen = folder.name
            return checkpoint
        if damage:
            raise InputError(
                f"no checkpoint of {self.path} is intact: {damage[0]}; delete {self.checkpoints} to start the run from the "
                "beginning"
            )
        return None

    def delete_checkpoints(self) -> None:
        """Delete all checkpoints, which contain synthesized images, at the end of a run."""
        shutil.rmtree(self.checkpoints)


def has_checkpoint(run: Path) -> bool:
    """Return whether a run folder has a checkpoint."""
    return bool(checkpoints.numbered(run / "checkpoints"))


def delete_unused(run: Path) -> None:
    """Delete the images in the pools on disk that no checkpoint names. All processes of the run wait meanwhile."""
    shards = list((run / POOL).rglob(SHARDS))
    if not shards:
        return
    try:
        kept = checkpoints.named_files(run / "checkpoints")
    except (InputError, OSError):  # a damaged checkpoint is deleted by the second commit after it
        return
    for path in shards:
        if path.relative_to(run).as_posix() not in kept:
            path.unlink()


def _make(path: Path) -> bool:
    """Create a folder if it does not exist; return whether this process has created it."""
    if is_reserved(path):
        return True
    try:
        path.mkdir(parents=True)
    except FileExistsError:
        if not path.is_dir():
            raise
        return False
    return True


def require_unused(path: Path) -> None:
    """Check that a folder has no run and nothing else, before the settings of a new run are decided.

    Raises:
        InputError: If it has.
    """
    if (path / EXPERIMENT).exists():
        name = shlex.quote(str(path))
        raise InputError(f"{path} has a run; continue it with datafree resume {name}, or choose another --out")
    if path.is_dir():
        require_empty(path)


def require_empty(path: Path) -> None:
    """Check that a folder has nothing but the leftovers of a run that did not start.

    Raises:
        InputError: If it has.
    """
    names = {child.name for child in path.iterdir()}
    if any(name not in (LOCK, OWNER) and not name.startswith(TEMPORARY) for name in names):
        raise InputError(f"{path} is not empty and is not a run folder; choose another --out")


def delete_temporary(folder: Path) -> None:
    """Delete what killed processes have left in a folder that this process has locked."""
    delete_leftovers(folder)
    for leftover in folder.glob(f"{TEMPORARY}*"):
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()
