"""Printing for the user. Text from elsewhere (paths, class names, notes, messages) is shown as it is, and controls nothing."""

from rich.console import Console
from rich.text import Text

from datafree.errors import printable
from datafree.progress import emit


def plain(text: object) -> Text:
    """Return a text for rich, such as a cell of a table, without markup, emoji codes and control characters."""
    return Text(printable(str(text)))


def say(console: Console, label: str, text: object) -> None:
    """Print a text on one line behind a label of up to eight letters."""
    if not emit(console, "line", label=label, text=printable(str(text))):
        console.print(plain(f"{label:<8} {text}"), soft_wrap=True)
