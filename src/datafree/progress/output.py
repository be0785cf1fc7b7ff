"""The output of a command: text for a person, nothing, or one JSON object per line for a program."""

import json
import math
from typing import Any, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

Mode = Literal["text", "quiet", "json"]


class Output(Console):
    """A console that can be told to print nothing, or JSON.

    Attributes:
        mode: `text`: what a person reads; `quiet`: nothing; `json`: one object per line. Its key `event` names its kind.
        stream: Where JSON is written; None: standard output.
    """

    mode: Mode = "text"
    stream: Any = None

    def use(self, mode: Mode, stream: Any = None) -> None:
        """Print in this mode from now on."""
        self.mode, self.stream = mode, stream

    def print(self, *objects: Any, **settings: Any) -> None:
        """Print texts and tables; as JSON, a table is an event with its cells, everything else an event with its text."""
        if self.mode == "text":
            super().print(*objects, **settings)
        elif self.mode == "json":
            for item in objects:
                if isinstance(item, Table):
                    self.emit("table", **table_cells(item))
                else:
                    self.emit("text", text=item.plain if isinstance(item, Text) else str(item))

    def emit(self, event: str, **fields: Any) -> None:
        """Print one JSON object, if the mode is `json` and this is the process that prints."""
        if self.mode != "json" or self.quiet:
            return
        stream = self.stream or self.file
        stream.write(json.dumps({"event": event, **fields}, default=str, allow_nan=False) + "\n")
        stream.flush()


def emit(console: Console, event: str, **fields: Any) -> bool:
    """Print an event if a console prints JSON. Return whether it does, so that nothing else is to be printed."""
    if not isinstance(console, Output) or console.mode != "json":
        return False
    console.emit(event, **{name: finite(value) for name, value in fields.items()})
    return True


def finite(value: Any) -> Any:
    """Return a value for JSON, in which numbers that are not finite are null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(name): finite(item) for name, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, (list, tuple)) else value


def table_cells(table: Table) -> dict[str, Any]:
    """Return the headers of a table, and the text of its cells row by row."""

    def text(cell: Any) -> str:
        return " ".join((cell.plain if isinstance(cell, Text) else str(cell)).split())

    columns = [[text(cell) for cell in column.cells] for column in table.columns]
    headers = [text(column.header) for column in table.columns]
    return {"columns": headers, "rows": [list(row) for row in zip(*columns, strict=True)]}


def shows_bars(console: Console) -> bool:
    """Return whether a console can redraw its last lines. A notebook keeps what was printed, so it gets plain lines."""
    text = not isinstance(console, Output) or console.mode == "text"
    return text and console.is_terminal and not console.is_jupyter and not console.quiet
