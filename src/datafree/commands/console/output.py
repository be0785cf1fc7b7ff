"""How a command prints: text for a person, nothing (`--quiet`), or one JSON object per line (`--json`).

Every command has both options. They are removed from the command line before anything else reads it. With `--json`, nothing
but the objects is written to standard output: what a library prints goes to standard error.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any

from datafree.errors import InputError

OPTIONS = {
    "--quiet": "print nothing; errors go to standard error",
    "--json": "print one JSON object per line, see docs/runs.md; nothing else is written to standard output",
}
"""option: its description"""


class Current:
    """How the command that is running prints."""

    mode: str = "text"
    """text, quiet or json"""
    stream: Any = None
    """where JSON is written"""


current = Current()
"""set by `printing`"""


def take_options(words: Sequence[str], own: Sequence[str]) -> tuple[list[str], str]:
    """Return the arguments of a command without `--quiet` and `--json`, and the mode that they ask for.

    Args:
        words: The arguments.
        own: The options that the command has itself; they are left to it.

    Raises:
        InputError: If both are given.
    """
    given = [name for name in OPTIONS if name in words and name not in own]
    if len(given) > 1:
        raise InputError("--quiet and --json are given; leave one of them out")
    mode = given[0].removeprefix("--") if given else "text"
    return [word for word in words if word not in given], mode


@contextmanager
def printing(mode: str) -> Iterator[None]:
    """Print in a mode inside a `with` block."""
    current.mode, current.stream = mode, sys.stdout
    try:
        if mode == "json":
            with redirect_stdout(sys.stderr):
                yield
        else:
            yield
    finally:
        current.mode, current.stream = "text", None


def print_event(event: str, **fields: Any) -> None:
    """Print an event if the mode is `json`."""
    if current.mode == "json" and current.stream is not None:
        current.stream.write(json.dumps({"event": event, **fields}, default=str) + "\n")
        current.stream.flush()
