"""Run folders: files and checkpoints that are written atomically and verified when read.

Tensors are saved as safetensors and everything else as JSON; there is no pickle. A checkpoint is a folder that is written
under a temporary name, synced, hashed and then renamed, so a kill at any time leaves the old or the new one.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors.torch import load_file, save_file
from torch import Tensor

from datafree.files import TEMPORARY, atomic_folder, sha256_of, write_json
from datafree.types import InputError

SCHEMA = 2
"""version of the layout of a run folder"""
MANIFEST, TENSORS, TREE = "manifest.json", "state.safetensors", "state.json"


class RunFolder:
    """The folder of one run, locked while it is open.

    Args:
        path: The folder; created if it does not exist.
        experiment: The experiment as JSON. A folder with another experiment is refused.
        resume: Accept a folder with this experiment, to continue from its newest intact checkpoint.

    Raises:
        InputError: If the folder has another or a finished run, is in use by another process, or cannot be written.
    """

    def __init__(self, path: Path, experiment: Mapping[str, Any], *, resume: bool = False) -> None:
        self.path, self.checkpoints = path, path / "checkpoints"
        self._file = path / "experiment.json"
        created = not path.exists()
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(path / ".lock", timeout=0, fallback_to_soft=False)
            self._lock.acquire()
        except Timeout as fault:
            raise InputError(f"{path} is in use by another process; wait for it or choose another --out") from fault
        except OSError as fault:
            raise InputError(f"{path} cannot be written ({fault.strerror}); choose another --out") from fault
        try:
            self._open(json.loads(json.dumps(experiment)), resume)
        except BaseException:
            self._lock.release()
            if not self._file.is_file():
                (path / ".lock").unlink(missing_ok=True)
                if created:
                    path.rmdir()
            raise

    def _open(self, experiment: Any, resume: bool) -> None:
        """Write the experiment to a new folder, or check that the folder can be resumed."""
        self._new = not self._file.is_file()
        if self._new:
            if any(child.name != ".lock" for child in self.path.iterdir()):
                raise InputError(f"{self.path} is not empty and is not a run folder; choose another --out")
            write_json(self._file, {"schema": SCHEMA, **experiment})
        elif (self.path / "summary.json").is_file():
            raise InputError(
                f"{self.path} is a finished run; see it with `datafree report {self.path}` or choose another --out"
            )
        elif not resume:
            raise InputError(
                f"{self.path} is an unfinished run; continue it with `datafree resume {self.path}` "
                "or choose another --out"
            )
        elif read_experiment(self.path) != experiment:
            raise InputError(f"{self.path} is a run of another experiment; choose another --out")
        self.checkpoints.mkdir(exist_ok=True)
        for leftover in [*self.path.glob(f"{TEMPORARY}*"), *self.checkpoints.glob(f"{TEMPORARY}*")]:
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, kind: type[BaseException] | None = None, *_: object) -> None:
        if self._new and kind is not None and issubclass(kind, InputError) and not self._numbered():
            shutil.rmtree(self.path)  # invalid input: the run could not start
        self._lock.release()

    def commit(self, step: int, state: Mapping[str, Any]) -> None:
        """Save a checkpoint, then delete all but the newest two.

        Args:
            step: The training step that the state belongs to.
            state: Nested mappings, lists and tuples of tensors, numbers, strings, booleans and None.

        Raises:
            TypeError: If the state contains anything else.
        """
        number = 1 + max((int(folder.name) for folder in self._numbered()), default=0)
        with atomic_folder(self.checkpoints / f"{number:08d}") as new:
            tensors: dict[str, Tensor] = {}
            tree = _encode(state, tensors)
            save_file(tensors, new / TENSORS)
            (new / TREE).write_text(json.dumps({"step": step, "tree": tree}))
            hashes = {name: sha256_of(new / name) for name in (TENSORS, TREE)}
            (new / MANIFEST).write_text(json.dumps({"schema": SCHEMA, "sha256": hashes}))
        for folder in self._numbered()[:-2]:
            shutil.rmtree(folder)

    def newest(self) -> tuple[int, Any] | None:
        """Return the step and the state of the newest checkpoint whose hashes match; None if there is none."""
        for folder in reversed(self._numbered()):
            try:
                hashes = json.loads((folder / MANIFEST).read_text())["sha256"]
                if any(sha256_of(folder / name) != hashes[name] for name in (TENSORS, TREE)):
                    continue
                saved = json.loads((folder / TREE).read_text())
                return saved["step"], _decode(saved["tree"], load_file(folder / TENSORS))
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return None

    def delete_checkpoints(self) -> None:
        """Delete all checkpoints, which contain synthesized images, at the end of a run."""
        shutil.rmtree(self.checkpoints)

    def _numbered(self) -> list[Path]:
        return sorted(folder for folder in self.checkpoints.glob("[0-9]*") if folder.name.isdigit())


def next_folder(command: str) -> Path:
    """Return `runs/COMMAND-NNN` with the number after the highest in use, from 001."""
    numbers = [int(path.name.rpartition("-")[2]) for path in Path("runs").glob(f"{command}-[0-9][0-9][0-9]")]
    return Path("runs") / f"{command}-{max(numbers, default=0) + 1:03d}"


def read_experiment(path: str | Path) -> Any:
    """Read the experiment of a run folder as JSON, without the schema.

    Raises:
        InputError: If the folder has no readable `experiment.json`, or was written by a version of datafree with
            another layout.
    """
    try:
        experiment = json.loads((Path(path) / "experiment.json").read_text())
        schema = experiment.pop("schema")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as fault:
        raise InputError(
            f"{path} is not a run folder (its experiment.json is missing or damaged); give the folder of a run"
        ) from fault
    if schema != SCHEMA:
        raise InputError(
            f"{path} was written by another version of datafree (layout {schema}, this version reads layout {SCHEMA}); "
            "use that version or start a new run"
        )
    return experiment


def _encode(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Return a state as JSON; its tensors are added to `tensors` under numbers."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        plain = value.detach().cpu().contiguous()
        storages = {tensor.untyped_storage().data_ptr() for tensor in tensors.values()}
        tensors[name] = plain.clone() if plain.untyped_storage().data_ptr() in storages else plain
        return {"tensor": name, "channels_last": _is_channels_last(value)}
    if isinstance(value, Mapping):
        return {"map": [[key, _encode(item, tensors)] for key, item in value.items()]}
    if isinstance(value, (list, tuple)):
        return {"tuple" if isinstance(value, tuple) else "list": [_encode(item, tensors) for item in value]}
    if value is None or isinstance(value, (bool, int, float, str)):
        return {"value": value}
    raise TypeError(f"a checkpoint cannot hold {type(value).__name__}")


def _is_channels_last(value: Tensor) -> bool:
    return value.ndim == 4 and not value.is_contiguous() and value.is_contiguous(memory_format=torch.channels_last)


def _decode(node: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Return the state that `_encode` turned into JSON."""
    match node:
        case {"tensor": name, "channels_last": last}:
            return tensors[name].contiguous(memory_format=torch.channels_last) if last else tensors[name]
        case {"map": pairs}:
            return {key: _decode(item, tensors) for key, item in pairs}
        case {"list": items}:
            return [_decode(item, tensors) for item in items]
        case {"tuple": items}:
            return tuple(_decode(item, tensors) for item in items)
        case {"value": value}:
            return value
    raise ValueError("the state of a checkpoint is damaged")
