"""Standard output that never stops a command: a closed pipe, a full disk, an encoding without some characters."""

import codecs
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

REPLACEMENTS = {"·": "-", "→": "->", "…": "...", "–": "-", "—": "-", "²": "^2", "×": "x"}
"""what is printed for a character that the encoding of the terminal lacks; `?` for all others"""
ENCODING_ERRORS = "datafree.replace"


def _replace(fault: UnicodeError) -> tuple[str, int]:
    assert isinstance(fault, UnicodeEncodeError)
    text = fault.object[fault.start : fault.end]
    return "".join(REPLACEMENTS.get(character, "?") for character in text), fault.end


codecs.register_error(ENCODING_ERRORS, _replace)


class Output:
    """A text stream whose errors are kept instead of raised, so that a lost line does not lose a run.

    Attributes:
        fault: The first error; what is written after it is dropped. A closed pipe is no error: its reader has seen enough.
    """

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.fault: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Write a text, unless writing has failed before."""
        self._attempt(self.stream.write, text)
        return len(text)

    def flush(self) -> None:
        """Flush the stream, unless writing has failed before."""
        self._attempt(self.stream.flush)

    def _attempt(self, operation: Any, *arguments: Any) -> None:
        if self.fault is None:
            try:
                operation(*arguments)
            except OSError as fault:
                self.fault = fault
                self._discard()

    def _discard(self) -> None:
        """Send what is left in the buffer nowhere; else Python prints an error when it exits."""
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.stream.fileno())
            os.close(nowhere)


@contextmanager
def lenient_output() -> Iterator[list[Output]]:
    """Replace standard output and standard error by streams that keep their errors, in a `with` block."""
    before = sys.stdout, sys.stderr
    streams = [stream for stream in before if stream is not None]  # None: it was closed before Python started
    errors = [getattr(stream, "errors", None) for stream in streams]
    outputs = [Output(stream) for stream in streams]
    _reconfigure(streams, [ENCODING_ERRORS] * len(streams))
    wrapped = dict(zip(map(id, streams), outputs, strict=True))
    sys.stdout, sys.stderr = (wrapped.get(id(stream), stream) for stream in before)  # type: ignore[assignment]
    try:
        yield outputs
    finally:
        for output in outputs:
            output.flush()
        sys.stdout, sys.stderr = before
        _reconfigure(streams, errors)


def _reconfigure(streams: list[Any], errors: list[str | None]) -> None:
    for stream, setting in zip(streams, errors, strict=True):
        with suppress(OSError, ValueError, AttributeError):  # closed, or replaced by another kind of stream
            stream.reconfigure(errors=setting)


def lost_output(outputs: list[Output]) -> OSError | None:
    """Return why output was lost; None if it was not, or if the reader of a pipe has closed it."""
    faults = [output.fault for output in outputs if output.fault and not isinstance(output.fault, BrokenPipeError)]
    return faults[0] if faults else None
