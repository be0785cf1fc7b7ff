"""The bounds of settings, read from the checks of their dataclasses, so that the table of options has them too."""

import ast
import inspect
import sys
from dataclasses import fields, is_dataclass
from functools import cache
from textwrap import dedent
from typing import Any

from datafree.runs.hardware import MAX_THREADS

Bounds = tuple[float | None, float | None]
"""smallest and largest valid value; None if there is no such bound"""
CHECKS: dict[str, Bounds] = {"require_seed": (0, 2**63 - 1), "require_threads": (1, MAX_THREADS)}
"""function that checks one setting: the bounds that it requires"""


@cache
def bounds_of(kind: type[Any]) -> dict[str, Bounds]:
    """Return the bounds of a dataclass's fields by name.

    They are those of the calls in `__post_init__` that always apply, such as `require_at_least(1, steps=self.steps)`. Bounds
    that depend on other settings are left to the dataclass itself.
    """
    bounds: dict[str, Bounds] = {}
    for base in _checked(kind):
        module = sys.modules[base.__module__]
        body = ast.parse(_check_of(base)).body[0].body  # pyright: ignore[reportAttributeAccessIssue]
        for call in (node.value for node in body if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
            for name, low, high in _required(call, kind, module):
                before = bounds.get(name, (None, None))
                bounds[name] = (low if before[0] is None else before[0], high if before[1] is None else before[1])
    return bounds


def _checked(kind: type[Any]) -> list[type[Any]]:
    """Return the dataclasses whose `__post_init__` runs for an instance, following `super`."""
    bases = [base for base in kind.__mro__ if is_dataclass(base) and "__post_init__" in vars(base)]
    for count, base in enumerate(bases, 1):
        if "super().__post_init__()" not in _check_of(base):
            return bases[:count]
    return bases


def _check_of(kind: type[Any]) -> str:
    """Return the source of a dataclass's `__post_init__`."""
    return dedent(inspect.getsource(vars(kind)["__post_init__"]))


def _required(call: ast.Call, kind: type[Any], module: Any) -> list[tuple[str, float | None, float | None]]:
    """Return the fields that a call checks, with their bounds."""
    function = ast.unparse(call.func)
    if function in CHECKS:
        return [(name, *CHECKS[function]) for argument in call.args if (name := _field(argument))]
    if function not in ("require_at_least", "require_at_most"):
        return []
    bound = _value(call.args[0], kind, module)
    names = [word.arg for word in call.keywords if word.arg and _field(word.value) == word.arg]
    if bound is None:
        return []
    return [(name, bound, None) if function == "require_at_least" else (name, None, bound) for name in names]


def _field(node: ast.expr) -> str:
    """Return the name of a field of `self`; empty if it is another expression."""
    text = ast.unparse(node).removeprefix("self.")
    return text if text.isidentifier() and isinstance(node, ast.Attribute) else ""


def _value(node: ast.expr, kind: type[Any], module: Any) -> float | None:
    """Return a bound: a number, a constant of the module, or of the class; None if it is another expression."""
    if isinstance(node, ast.Name):
        return getattr(module, node.id, None)
    if name := _field(node):  # a field may have any value
        return None if name in {f.name for f in fields(kind)} else getattr(kind, name, None)
    try:
        value = ast.literal_eval(node)
    except ValueError:
        return None
    return value if isinstance(value, int | float) else None
