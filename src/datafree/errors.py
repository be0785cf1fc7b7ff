"""The errors of the package, and how text from elsewhere is printed. A refusal is instant: nothing else is imported here."""

import unicodedata


class InputError(ValueError):
    """The input of the user is invalid. The message is one sentence that names the fault and the fix."""


class Diverged(RuntimeError):
    """A loss, an image or a weight is not finite. Files that were saved before are intact."""


def printable(text: str) -> str:
    """Return a text from elsewhere with every control character replaced: escapes, line breaks, marks of text direction."""
    return "".join("\ufffd" if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") else c for c in text)
