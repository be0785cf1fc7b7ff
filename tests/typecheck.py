"""The checker of every annotation while tests run: beartype, for which an int is a float as it is for every other checker."""

from collections.abc import Callable
from typing import Any

from beartype import BeartypeConf, beartype

_check = beartype(conf=BeartypeConf(is_pep484_tower=True))


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """Networks are left alone: a tracer shows them what is no tensor."""
    return function if function.__module__ == "datafree.networks.zoo" else _check(function)
