"""What a result depends on besides the state in a checkpoint: settings, networks, versions.

A checkpoint holds these values. If one that decides the result has changed, the run is not resumed; if one changes only the
last bits, such as another version of torch, the run goes on and says so.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from datafree import __version__
from datafree.classifier import Classifier, fingerprint
from datafree.ensemble import Ensemble
from datafree.runs.serialization import flatten
from datafree.types import InputError

NOTED = ("datafree version", "torch version", "number of threads", "device")
"""what may change: it alters the last bits of the result, and is said"""
FREE = ("threads", "device", "checkpoint_interval", "evaluation_interval", "memory", "tensorboard", "trackers")
"""settings that do not decide the result, or that are compared as `NOTED`"""
PLACES = ("task.teacher", "task.weights", "task.class_names", "task.data_root")
"""settings that only say where something is; what is found there is compared instead"""


def dependencies_of(
    experiment: Mapping[str, Any], teacher: Classifier, student: Classifier, *, threads: int, device: str
) -> dict[str, Any]:
    """Return what the result of a run depends on, by name.

    Args:
        experiment: The settings as JSON.
        teacher: The teacher; its weights are hashed.
        student: The student; its weights are in the checkpoint and not hashed here.
        threads: Number of CPU threads.
        device: The device in use.

    Returns:
        Plain values, and SHA-256 of what is long.
    """
    settings = flatten(experiment)
    decisive = {name: value for name, value in settings.items() if name not in (*FREE, *PLACES)}
    members = teacher.teachers if isinstance(teacher, Ensemble) else [teacher]
    values: dict[str, Any] = {f"setting {name}": value for name, value in decisive.items()}
    for number, member in enumerate(members, 1):
        name = "the teacher" if len(members) == 1 else f"teacher {number}"
        values[name] = fingerprint(member.model)
        values |= {f"the file {file} of {name}": digest for file, digest in member.dependencies.items()}
        values |= {f"the {what} of {name}": value for what, value in _description(member)}
    values |= {f"the {what} of the student": value for what, value in _description(student)}
    values |= {f"the file {file} of the student": digest for file, digest in student.dependencies.items()}
    noted = (__version__, torch.__version__, threads, device)
    return {name: _short(value) for name, value in values.items()} | dict(zip(NOTED, noted, strict=True))


def _description(classifier: Classifier) -> Iterator[tuple[str, Any]]:
    """Yield what decides the function of a classifier besides its weights."""
    yield "mean", classifier.mean.flatten().tolist()
    yield "std", classifier.std.flatten().tolist()
    yield "input shape", list(classifier.shape)
    yield "list of labels", list(classifier.classes)
    yield "kind of labels", "multi-label" if classifier.multi_label else "single-label"
    for name, value in asdict(classifier.preprocessing).items():  # one by one: those added later are not compared
        yield f"preprocessing ({name})", value
    yield "architecture", _architecture(classifier.model)


def _architecture(model: nn.Module) -> list[Any]:
    """Return the name and the arguments of an architecture, and the class of each module."""
    config = getattr(model, "pretrained_cfg", {})
    modules = [(name, type(module).__name__) for name, module in model.named_modules()]
    return [config.get("architecture"), config.get("model_args"), modules]


def _short(value: Any) -> Any:
    """Return a value if it is a number or a short text, else its SHA-256."""
    if value is None or isinstance(value, (bool, int, float)) or (isinstance(value, str) and len(value) <= 64):
        return value
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def compare(saved: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """Compare what a run depends on with what is saved in its checkpoint.

    Returns:
        One sentence for each difference that changes at most the last bits of the result.

    Raises:
        InputError: If something has changed that decides the result.
    """
    notes = []
    for name, value in current.items():
        if name not in saved or saved[name] == value:
            continue
        if name not in NOTED:
            raise InputError(f"{name} has changed since this run was interrupted; restore it or start a new run")
        notes.append(
            f"this run was resumed with another {name} ({value}, before {saved[name]}): its result may differ from that of "
            "an uninterrupted run in the last bits"
        )
    return notes
