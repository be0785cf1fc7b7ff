"""Checking plain values, as JSON has them, against the types of a dataclass: one reader for every file from elsewhere."""

import math
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, Union, cast, get_args, get_origin, overload

from datafree.errors import InputError, suggestion

T = TypeVar("T")

MAX_ITEMS = 1_000_000
"""maximum number of entries of a list or an object, and of characters of a text"""
MAX_DEPTH = 32
"""maximum nesting of a value without a declared type"""
CONFIG = "config"
"""entry of an object that names its dataclass; see `from_plain`"""
RESTORE = "restore it from a copy"
MAX_INTEGER = 2**63 - 1
"""maximum magnitude of an integer"""


class _Options(NamedTuple):
    """How a value is read."""

    ignore_unknown: bool
    named: Mapping[str, type[Any]]


class _Fault(Exception):
    """A value does not match its type: the key path to it, and what is wrong."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(path, why)
        self.path, self.why = path, why


@overload
def from_plain(
    kind: type[T],
    value: Any,
    where: str,
    *,
    ignore_unknown: bool = False,
    named: Mapping[str, type[Any]] | None = None,
    fix: str = RESTORE,
) -> T: ...
@overload
def from_plain(
    kind: Any,
    value: Any,
    where: str,
    *,
    ignore_unknown: bool = False,
    named: Mapping[str, type[Any]] | None = None,
    fix: str = RESTORE,
) -> Any: ...
def from_plain(
    kind: Any,
    value: Any,
    where: str,
    *,
    ignore_unknown: bool = False,
    named: Mapping[str, type[Any]] | None = None,
    fix: str = RESTORE,
) -> Any:
    """Return a plain value as the given type, after checking every part of it.

    Types: dataclasses (from an object with one entry per field; fields with a default may be missing), `bool`, `int`,
    `float` (also from an integer), `str`, `None`, `Literal`, unions, `tuple`, `list`, `Sequence` (a tuple), `Mapping` and
    `dict` with text keys, `Path`, and `Any` (any JSON value of bounded depth). A boolean is not an integer. Numbers are
    finite, integers have 64 bits, texts can be encoded in UTF-8.

    Args:
        kind: The type, e.g. a dataclass or `tuple[int, ...]`.
        value: What `files.read_json` returned. Untrusted.
        where: The file, for the error message.
        ignore_unknown: Ignore entries that are no fields of a dataclass, instead of refusing them.
        named: Dataclasses by name. If given, the object of a dataclass must name its class in the entry `config`; where a type
            is a base class, it may name a subclass.
        fix: The second half of the error message.

    Returns:
        A value of type `kind`.

    Raises:
        InputError: If a part of the value has another type, a field is missing or unknown, or a dataclass refuses its
            values. The message names the file and the key path, e.g. `experiment.json: method.steps[1] is true, but must
            be an integer`.
        TypeError: If `kind` is not supported.
    """
    try:
        return _convert(kind, value, "", _Options(ignore_unknown, named or {}))
    except _Fault as fault:
        raise InputError(f"{where}: {fault.path or 'its content'} {fault.why}; {fix}") from None
    except RecursionError:
        raise InputError(f"{where}: its content is nested too deeply; {fix}") from None


def _convert(kind: Any, value: Any, path: str, options: _Options) -> Any:
    origin = get_origin(kind)
    if options.named and isinstance(value, dict) and CONFIG in value:
        return _named(kind, value, path, options)
    if origin is typing.Annotated:
        return _convert(get_args(kind)[0], value, path, options)
    if origin in (Union, types.UnionType):
        return _union(get_args(kind), value, path, options)
    if origin is Literal:
        return _literal(get_args(kind), value, path)
    if kind in _SCALARS:
        return _SCALARS[kind](value, path)
    if options.named and isinstance(kind, type) and kind in _bases(options.named):
        raise _Fault(path, f"is {_shown(value)}, but must be an object with the entry {CONFIG!r}")
    if is_dataclass(kind):
        return _dataclass(cast(type, kind), value, path, options)
    base = origin or kind
    if base in (tuple, list, Sequence):
        return _sequence(base, get_args(kind), value, path, options)
    if base in (dict, Mapping):
        return _mapping(get_args(kind), value, path, options)
    raise TypeError(f"values of type {kind} cannot be read from a file")


def _boolean(value: Any, path: str) -> bool:
    return value if isinstance(value, bool) else _refuse(path, value, "true or false")


def _integer(value: Any, path: str) -> int:
    if type(value) is not int:
        _refuse(path, value, "an integer")
    if abs(value) > MAX_INTEGER:
        raise _Fault(path, f"is an integer of more than 64 bits, but must be at most {MAX_INTEGER}")
    return value


def _number(value: Any, path: str) -> float:
    if type(value) not in (int, float) or (isinstance(value, float) and not math.isfinite(value)):
        _refuse(path, value, "a finite number")
    return float(_integer(value, path)) if isinstance(value, int) else value


def _text(value: Any, path: str) -> str:
    if not isinstance(value, str):
        _refuse(path, value, "a text")
    if len(value) > MAX_ITEMS:
        raise _Fault(path, f"has more than {MAX_ITEMS} characters")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise _Fault(path, "has a character that cannot be encoded in UTF-8")
    return value


def _path(value: Any, path: str) -> Path:
    text = _text(value, path)
    return _refuse(path, text, "a path") if "\0" in text else Path(text)


def _none(value: Any, path: str) -> None:
    if value is not None:
        _refuse(path, value, "null")


def _plain(value: Any, path: str, depth: int = 0) -> Any:
    """Return a JSON value without a declared type."""
    if depth > MAX_DEPTH:
        raise _Fault(path, f"is nested more than {MAX_DEPTH} times")
    if isinstance(value, dict):
        return {key: _plain(value[key], inner, depth + 1) for key, inner in _entries(value, path)}
    if isinstance(value, (list, tuple)):
        _require_length(value, path)
        return [_plain(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(value)]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value, path)
    return _integer(value, path) if isinstance(value, int) else _number(value, path)


_SCALARS: dict[Any, Any] = {
    bool: _boolean,
    int: _integer,
    float: _number,
    str: _text,
    Path: _path,
    type(None): _none,
    None: _none,
    Any: _plain,
    object: _plain,
}


def _literal(choices: Sequence[Any], value: Any, path: str) -> Any:
    for choice in choices:
        if type(choice) is type(value) and choice == value:
            return choice
    similar = suggestion(value, [c for c in choices if isinstance(c, str)]) if isinstance(value, str) else ""
    listed = ", ".join(str(choice) or "an empty text" for choice in choices)
    raise _Fault(path, f"is {_shown(value)}{similar}, but must be one of {listed}")


def _union(kinds: Sequence[Any], value: Any, path: str, options: _Options) -> Any:
    """Return the value as the first type that it matches; an integer stays an integer if that is among the types."""
    if type(value) in kinds:
        kinds = [type(value)]
    candidates = [kind for kind in kinds if value is None or kind not in (None, type(None))]
    faults = []
    for kind in candidates:
        try:
            return _convert(kind, value, path, options)
        except _Fault as fault:
            faults.append(fault)
    deepest = max(faults, key=lambda fault: len(fault.path))
    if len(candidates) == 1 or len(deepest.path) > len(path):
        raise deepest
    raise _Fault(path, f"is {_shown(value)}, but must be {' or '.join(dict.fromkeys(map(_kind_name, kinds)))}")


def _bases(named: Mapping[str, type[Any]]) -> set[type[Any]]:
    return {base for kind in named.values() for base in kind.__mro__} - {object}


def _named(kind: Any, value: dict[str, Any], path: str, options: _Options) -> Any:
    """Return the dataclass that an object names, if it is of the given type."""
    name = value[CONFIG]
    if not isinstance(name, str) or name not in options.named:
        raise _Fault(f"{path}.{CONFIG}" if path else CONFIG, f"is {_shown(name)}, which is unknown")
    found = options.named[name]
    kinds = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    if not any(isinstance(candidate, type) and issubclass(found, candidate) for candidate in kinds):
        raise _Fault(path, f"is of the kind {name}, but must be {' or '.join(_kind_name(kind) for kind in kinds)}")
    settings = {key: inner for key, inner in value.items() if key != CONFIG}
    return _dataclass(found, settings, path, options)


def _dataclass(kind: type, value: Any, path: str, options: _Options) -> Any:
    known = {field.name: field for field in fields(kind) if field.init}
    given = {key: inner for key, inner in _entries(value, path) if key in known or not options.ignore_unknown}
    for key in given:
        if key not in known:
            raise _Fault(f"{path}.{key[:50]!r}" if path else repr(key[:50]), f"is unknown{suggestion(key[:50], known)}")
    for name, field in known.items():
        if name not in given and _required(field):
            raise _Fault(f"{path}.{name}" if path else name, "is missing")
    hints = typing.get_type_hints(kind, include_extras=True)
    settings = {name: _convert(hints[name], value[name], inner, options) for name, inner in given.items()}
    try:
        return kind(**settings)
    except (ValueError, TypeError, OverflowError) as fault:  # raised by the checks in `__post_init__`
        raise _Fault(
            path, f"is invalid: {str(fault).splitlines()[0] if str(fault) else type(fault).__name__}"
        ) from None


def _required(field: "Field[Any]") -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _sequence(base: Any, kinds: tuple[Any, ...], value: Any, path: str, options: _Options) -> Any:
    if not isinstance(value, (list, tuple)):
        _refuse(path, value, "a list")
    _require_length(value, path)
    if base is tuple and kinds and Ellipsis not in kinds:
        kinds = () if kinds == ((),) else kinds
        if len(value) != len(kinds):
            raise _Fault(path, f"has {len(value)} entries, but must have {len(kinds)}")
    else:
        kinds = (kinds[0] if kinds else Any,) * len(value)
    items = [
        _convert(kind, item, f"{path}[{index}]", options)
        for index, (kind, item) in enumerate(zip(kinds, value, strict=True))
    ]
    return items if base is list else tuple(items)


def _mapping(kinds: tuple[Any, ...], value: Any, path: str, options: _Options) -> dict[str, Any]:
    if kinds and kinds[0] is not str:
        raise TypeError(f"keys of type {kinds[0]} cannot be read from a file")
    kind = kinds[1] if kinds else Any
    return {key: _convert(kind, value[key], inner, options) for key, inner in _entries(value, path)}


def _entries(value: Any, path: str) -> list[tuple[str, str]]:
    """Return the keys of an object, each with its key path."""
    if not isinstance(value, dict):
        _refuse(path, value, "an object")
    _require_length(value, path)
    for key in value:
        _text(key, f"a key in {path}" if path else "a key")
    return [(key, f"{path}.{key[:50]}" if path else key[:50]) for key in value]


def _require_length(value: Any, path: str) -> None:
    if len(value) > MAX_ITEMS:
        raise _Fault(path, f"has more than {MAX_ITEMS} entries")


def _refuse(path: str, value: Any, expected: str) -> Any:
    raise _Fault(path, f"is {_shown(value)}, but must be {expected}")


def _shown(value: Any) -> str:
    """A value as a short piece of JSON."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (dict, list, tuple)):
        return "an object" if isinstance(value, dict) else "a list"
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        return "an integer of more than 64 bits"
    text = repr(value[:50] if isinstance(value, str) else value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _kind_name(kind: Any) -> str:
    names: dict[Any, str] = {bool: "true or false", int: "an integer", float: "a number", str: "a text"}
    names |= {None: "null", type(None): "null", Path: "a path", Any: "any value"}
    base = get_origin(kind) or kind
    if base is Literal:
        return _listed(get_args(kind))
    return names.get(base, "a list" if base in (tuple, list, Sequence) else "an object")


def _listed(choices: Iterable[Any]) -> str:
    return "one of " + ", ".join(map(str, choices))
