"""Runtime type checks of all annotations by beartype; an int is a float, as in static type checkers."""

from collections.abc import Callable
from typing import Any

from beartype import BeartypeConf, beartype

_check = beartype(conf=BeartypeConf(is_pep484_tower=True))


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """Check a function. The networks of the zoo are not checked, because they are traced with proxies instead of tensors."""
    return function if function.__module__ == "datafree.networks.zoo" else _check(function)
