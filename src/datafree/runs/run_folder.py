"""The run directory: everything in it appears at once and complete, is verified before it is believed, and can be resumed.

Tensors are safetensors, the rest is JSON; there is no pickle. A checkpoint is a folder that is written beside its
place, synced, hashed and then renamed, so that a kill at any instant leaves the old one or the new one.
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

from datafree.files import TEMPORARY, replacing, sha256_of, write_json
from datafree.types import InputError

SCHEMA = 1
MANIFEST, TENSORS, TREE = "manifest.json", "state.safetensors", "state.json"


class RunFolder:
    """One run's directory, locked while it is open.

    Args:
        path: Where; made if it is not there.
        identity: What makes the run: a directory that holds another run is refused.
        resume: Go on from the newest checkpoint that is whole, if there is one.

    Raises:
        InputError: If it holds another run or is finished, another process has it, or it cannot be written.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any], *, resume: bool = False) -> None:
        self.path, self.checkpoints = path, path / "checkpoints"
        described = path / "experiment.json"
        made = not path.exists()
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(path / ".lock", timeout=0, fallback_to_soft=False)
            self._lock.acquire()
        except Timeout as fault:
            raise InputError(f"{path} is in use by another process; wait for it or give another --out") from fault
        except OSError as fault:
            raise InputError(f"{path} cannot be written ({fault.strerror}); give another --out") from fault
        try:
            self._enter(described, json.loads(json.dumps(identity)), resume)
        except BaseException:
            self._lock.release()
            if not described.is_file():
                (path / ".lock").unlink(missing_ok=True)
                if made:
                    path.rmdir()
            raise

    def _enter(self, described: Path, identity: Any, resume: bool) -> None:
        self._new = False
        others = [child.name for child in self.path.iterdir() if child.name != ".lock"]
        if not described.is_file():
            if others:
                raise InputError(f"{self.path} is not empty and holds no run; give another --out")
            write_json(described, {"schema": SCHEMA, **identity})
            self._new = True
        elif (self.path / "summary.json").is_file():
            raise InputError(f"{self.path} is a finished run; see `datafree report {self.path}`, or give another --out")
        elif not resume:
            raise InputError(
                f"{self.path} holds a run already; resume it with `datafree resume {self.path}` or give another --out"
            )
        elif read_description(self.path) != identity:
            raise InputError(f"{self.path} holds another run; give another --out")
        self.checkpoints.mkdir(exist_ok=True)
        for orphan in [*self.path.glob(f"{TEMPORARY}*"), *self.checkpoints.glob(f"{TEMPORARY}*")]:
            shutil.rmtree(orphan) if orphan.is_dir() else orphan.unlink()

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, kind: type[BaseException] | None = None, *_: object) -> None:
        if self._new and kind is not None and issubclass(kind, InputError) and not self._numbered():
            shutil.rmtree(self.path)  # it could never have begun
        self._lock.release()

    def commit(self, step: int, state: Mapping[str, Any]) -> None:
        """Saves a checkpoint, then lets go of all but the newest two."""
        number = 1 + max((int(folder.name) for folder in self._numbered()), default=0)
        with replacing(self.checkpoints / f"{number:08d}") as new:
            tensors: dict[str, Tensor] = {}
            tree = _plant(state, tensors)
            save_file(tensors, new / TENSORS)
            (new / TREE).write_text(json.dumps({"step": step, "tree": tree}))
            hashes = {name: sha256_of(new / name) for name in (TENSORS, TREE)}
            (new / MANIFEST).write_text(json.dumps({"schema": SCHEMA, "sha256": hashes}))
        for folder in self._numbered()[:-2]:
            shutil.rmtree(folder)

    def newest(self) -> tuple[int, Any] | None:
        """Step and state of the newest checkpoint whose hashes are right."""
        for folder in reversed(self._numbered()):
            try:
                hashes = json.loads((folder / MANIFEST).read_text())["sha256"]
                if any(sha256_of(folder / name) != hashes[name] for name in (TENSORS, TREE)):
                    continue
                saved = json.loads((folder / TREE).read_text())
                return saved["step"], _grow(saved["tree"], load_file(folder / TENSORS))
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return None

    def forget(self) -> None:
        """Lets go of all checkpoints: the run is finished, and they hold the images it kept."""
        shutil.rmtree(self.checkpoints)

    def _numbered(self) -> list[Path]:
        return sorted(folder for folder in self.checkpoints.glob("[0-9]*") if folder.name.isdigit())


def next_folder(kind: str) -> Path:
    """`runs/KIND-001`, or the first number after those that are taken."""
    taken = [int(path.name.rpartition("-")[2]) for path in Path("runs").glob(f"{kind}-[0-9][0-9][0-9]")]
    return Path("runs") / f"{kind}-{max(taken, default=0) + 1:03d}"


def read_description(path: Path) -> Any:
    """What `experiment.json` of a run says, without its schema.

    Raises:
        InputError: If there is none, or it is of a schema this version does not know.
    """
    try:
        found = json.loads((path / "experiment.json").read_text())
        schema = found.pop("schema")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as fault:
        raise InputError(
            f"{path} holds no run (its experiment.json is missing or damaged); give the folder of a run"
        ) from fault
    if schema != SCHEMA:
        raise InputError(
            f"{path} was written by another version (schema {schema}); resume it with that version of datafree"
        )
    return found


def _plant(value: Any, tensors: dict[str, Tensor]) -> Any:
    """A state as JSON; its tensors go aside under numbers."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        plain, held = (
            value.detach().cpu().contiguous(),
            {tensor.untyped_storage().data_ptr() for tensor in tensors.values()},
        )
        tensors[name] = plain.clone() if plain.untyped_storage().data_ptr() in held else plain
        return {"tensor": name, "channels_last": _is_channels_last(value)}
    if isinstance(value, Mapping):
        return {"map": [[key, _plant(item, tensors)] for key, item in value.items()]}
    if isinstance(value, (list, tuple)):
        return {"tuple" if isinstance(value, tuple) else "list": [_plant(item, tensors) for item in value]}
    if value is None or isinstance(value, (bool, int, float, str)):
        return {"value": value}
    raise TypeError(f"a checkpoint cannot hold {type(value).__name__}")


def _is_channels_last(value: Tensor) -> bool:
    return value.ndim == 4 and not value.is_contiguous() and value.is_contiguous(memory_format=torch.channels_last)


def _grow(node: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The inverse of `_plant`."""
    match node:
        case {"tensor": name, "channels_last": last}:
            return tensors[name].contiguous(memory_format=torch.channels_last) if last else tensors[name]
        case {"map": pairs}:
            return {key: _grow(item, tensors) for key, item in pairs}
        case {"list": items}:
            return [_grow(item, tensors) for item in items]
        case {"tuple": items}:
            return tuple(_grow(item, tensors) for item in items)
        case {"value": value}:
            return value
    raise ValueError("a checkpoint's tree is damaged")
