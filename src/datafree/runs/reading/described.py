"""Settings that a file names as text, such as `NoiseConfig(batch_size=64, spectrum='white')`, compared with those of today.

A setting that was added later is absent from the text of an earlier version. It has its default, as in every file of a run.
"""

import ast
from dataclasses import dataclass
from typing import Any

from datafree.files.validation import CONFIG
from datafree.runs.serialization import from_json
from datafree.types import InputError

LONGEST = 20_000
"""characters of a text, at most"""


@dataclass(frozen=True)
class _Unreadable(Exception):
    """A part of a text is no setting."""

    what: str


def describes(text: str, settings: Any) -> bool:
    """Return whether a text describes settings, apart from settings that were added since it was written.

    The text is parsed and never run. What is not understood describes nothing.

    Args:
        text: What `repr` returned for the settings. Untrusted.
        settings: Settings of today, of a class that `runs.serialization` knows.
    """
    return text == repr(settings) or settings_in(text) == settings


def settings_in(text: str) -> Any:
    """Return the settings that a text describes, with the defaults of today for those that it lacks; None if there are none.

    The text is parsed and never run.

    Args:
        text: What `repr` returned for settings. Untrusted.
    """
    if len(text) > LONGEST:
        return None
    try:
        return from_json(_plain(ast.parse(text, mode="eval").body), "the text")
    except (InputError, MemoryError, RecursionError, SyntaxError, ValueError, _Unreadable):
        return None


def _plain(node: ast.expr) -> Any:
    """Return settings as JSON, from their syntax tree: the JSON of `runs.serialization.to_json`.

    Raises:
        _Unreadable: If it contains something else than settings classes and constants.
    """
    match node:
        case ast.Call(func=ast.Name(id=str(kind)), args=[], keywords=list(keywords)):
            return {CONFIG: kind} | {keyword.arg or "**": _plain(keyword.value) for keyword in keywords}
        case ast.Tuple(elts=list(items)) | ast.List(elts=list(items)):
            return [_plain(item) for item in items]
        case ast.Constant(value=None | bool() | int() | float() | str() as value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
    raise _Unreadable(type(node).__name__)
