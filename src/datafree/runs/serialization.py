"""Settings as JSON and back, so that a run can be resumed and repeated."""

from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

from datafree.applications import APPLICATIONS
from datafree.files.validation import CONFIG, from_plain
from datafree.methods import METHODS
from datafree.sets.saved import SavedConfig
from datafree.synthesis import Schedule
from datafree.synthesis.augmentation import Augmentation
from datafree.types import InputError

T = TypeVar("T")

CONFIGS: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (Schedule, Augmentation, SavedConfig, *map(type, METHODS.values()), *map(type, APPLICATIONS.values()))
}
"""settings classes by name: a fixed table, so that a run folder cannot name other code"""


def serializable(kind: type[T]) -> type[T]:
    """Register a settings class, so that `to_json` and `from_json` accept it. Use as a class decorator."""
    CONFIGS[kind.__name__] = kind
    return kind


def to_json(value: Any) -> Any:
    """Return settings as JSON: a dataclass becomes a dict with its class name under `config`, a tuple a list.

    Raises:
        InputError: If a settings class is not registered.
    """
    if type(value).__name__ in CONFIGS:
        return {CONFIG: type(value).__name__} | {f.name: to_json(getattr(value, f.name)) for f in fields(value)}
    if is_dataclass(value):
        kind = type(value).__name__
        raise InputError(f"{kind} cannot be saved as JSON; decorate it with datafree.runs.serialization.serializable")
    return [to_json(item) for item in value] if isinstance(value, tuple) else value


def from_json(node: Any, where: str = "the settings") -> Any:
    """Return the settings that `to_json` turned into JSON, after checking every value; see `from_plain`.

    Args:
        node: The JSON of a settings class. Untrusted.
        where: The file, for error messages.

    Raises:
        InputError: If a settings class or a setting is unknown, or a value has another type or is invalid.
    """
    fix = "restore it from a copy, or use the version of datafree that wrote it"
    if not isinstance(node, dict) or CONFIG not in node:
        raise InputError(f"{where}: its content has no entry {CONFIG!r}; {fix}")
    return from_plain(object, node, where, named=CONFIGS, fix=fix)


def flatten(node: Any, name: str = "") -> dict[str, Any]:
    """Return the JSON of settings as one dict, whose keys are paths such as `method.batch_size`."""
    if not isinstance(node, dict):
        return {name: node}
    rows: dict[str, Any] = {}
    for key, value in node.items():
        if key != CONFIG:
            rows |= flatten(value, f"{name}.{key}" if name else key)
        elif name:
            rows[name] = value
    return rows
