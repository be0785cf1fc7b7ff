"""Settings as JSON and back, so that a run can be resumed and repeated."""

from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

from datafree.applications import APPLICATIONS
from datafree.files.validation import CONFIG, from_plain
from datafree.methods import METHODS
from datafree.methods.pictures import PicturesConfig
from datafree.runs.reading.flattening import flatten as flatten
from datafree.sets.saved import SavedConfig
from datafree.synthesis import Schedule
from datafree.synthesis.augmentation import Augmentation
from datafree.synthesis.mixture import Mixture, Part
from datafree.types import InputError

T = TypeVar("T")

CONFIGS: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        Schedule,
        Augmentation,
        SavedConfig,
        PicturesConfig,
        Mixture,
        Part,
        *map(type, METHODS.values()),
        *map(type, APPLICATIONS.values()),
    )
}
"""settings classes by name: a fixed table, so that a run folder cannot name other code"""
RENAMED = {("DeepInversionConfig", "spectrum"): ("start", {"white": "noise", "natural": "natural"})}
"""class and setting of earlier versions: the setting of today, and its value for each value of then"""
DEPTH = 8
"""nesting of settings, at most"""


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
    return from_plain(object, renamed(node), where, named=CONFIGS, fix=fix)


def renamed(node: Any, depth: int = 0) -> Any:
    """Return the JSON of settings with today's names for settings of earlier versions. What is not understood is kept."""
    if depth > DEPTH:
        return node
    if isinstance(node, list):
        return [renamed(item, depth + 1) for item in node]
    if not isinstance(node, dict):
        return node
    settings = {key: renamed(value, depth + 1) for key, value in node.items()}
    for (kind, old), (new, values) in RENAMED.items():
        if settings.get(CONFIG) == kind and new not in settings and str(settings.get(old)) in values:
            settings[new] = values[str(settings.pop(old))]
    return settings
