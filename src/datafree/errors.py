"""The errors of the package, and how text from elsewhere is printed. A refusal is instant: nothing else is imported here."""

import unicodedata
from collections.abc import Iterable


class InputError(ValueError):
    """The input of the user is invalid. The message is one sentence that names the fault and the fix."""


class OutOfMemory(InputError):
    """The memory of the machine or of its accelerator is not sufficient. Files that were saved before are intact."""


class Diverged(RuntimeError):
    """A loss, an image or a weight is not finite. Files that were saved before are intact."""


class ProcessLost(RuntimeError):
    """Another process of the run has ended. Checkpoints are intact."""


def printable(text: str) -> str:
    """Return a text from elsewhere with every control character replaced: escapes, line breaks, marks of text direction."""
    if text.isprintable():
        return text
    return "".join("\ufffd" if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") else c for c in text)


def suggestion(word: str, choices: Iterable[str]) -> str:
    """Return "; did you mean X?" for the choice most similar to a word, or an empty string if none is similar."""
    from difflib import get_close_matches

    close = get_close_matches(word, list(choices), n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else ""
