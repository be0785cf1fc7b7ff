"""An experiment as JSON and back, so that a run can be repeated and resumed."""

from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

from datafree.applications import APPLICATIONS
from datafree.synthesis.augmentation import Augmentation
from datafree.methods import METHODS
from datafree.sets.saved import SavedConfig
from datafree.synthesis import Schedule
from datafree.types import InputError

T = TypeVar("T")

CONFIGS: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (Schedule, Augmentation, SavedConfig, *map(type, METHODS.values()), *map(type, APPLICATIONS.values()))
}
"""the settings a description may name: a fixed table, so that a run directory cannot name code"""


def serializable(kind: type[T]) -> type[T]:
    """Adds a class of settings to the table."""
    CONFIGS[kind.__name__] = kind
    return kind


def to_json(value: Any) -> Any:
    """Settings as what JSON can hold.

    Raises:
        InputError: If settings are of a class that is not in the table.
    """
    if type(value).__name__ in CONFIGS:
        return {"config": type(value).__name__} | {f.name: to_json(getattr(value, f.name)) for f in fields(value)}
    if is_dataclass(value):
        kind = type(value).__name__
        raise InputError(
            f"{kind} cannot be written down with a run; mark the class with datafree.runs.serialization.serializable"
        )
    return [to_json(item) for item in value] if isinstance(value, tuple) else value


def from_json(node: Any) -> Any:
    """The inverse of `to_json`.

    Raises:
        InputError: If it names settings that do not exist here.
    """
    if isinstance(node, dict):
        settings = dict(node)
        try:
            return CONFIGS[settings.pop("config")](**{name: from_json(value) for name, value in settings.items()})
        except (KeyError, TypeError) as fault:
            raise InputError(
                f"the run was described by another version ({fault}); resume it with that version"
            ) from fault
    return tuple(from_json(item) for item in node) if isinstance(node, list) else node
