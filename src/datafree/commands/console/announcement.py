"""The first line of a command: what it does with which networks, and where it writes; printed before torch is imported."""

import sys
from pathlib import Path

from datafree.commands import PROCESS
from datafree.commands.console.output import OPTIONS, current, print_event
from datafree.commands.options.table import Given
from datafree.errors import printable
from datafree.files.numbering import next_folder

LABELS = {
    "TABLE": "table",
    "IMAGES": "images",
    "NETWORK": "network",
    "CHECKPOINT": "checkpoint",
    "--network": "network",
    "--teacher": "teacher",
    "--student": "student",
    "--recipe": "recipe",
    "--method": "method",
    "--format": "format",
    "--new-data": "new data",
    "--data": "data",
    "RUN": "run",
    "--out": "output",
}
"""argument or option: what it is called in the first line; in this order"""
NUMBERED = ("demo", "distill", "extend", "amalgamate", "prune")
"""commands whose output is a numbered folder by default"""
SILENT = ("methods", "report", "demo")
"""commands without a first line: they only show something, or print a heading of their own"""


def announce(verb: str, words: list[str], given: Given) -> tuple[list[str], Path | None]:
    """Print the first line of a command.

    Args:
        verb: The command.
        words: Its arguments.
        given: What they say.

    Returns:
        The arguments with the output folder, which is created here if it is a numbered one; and this folder.

    Raises:
        InputError: If the folder cannot be created.
    """
    out = None
    if PROCESS > 0:  # one of several processes of a run; the first one prints
        return words, None
    if verb in NUMBERED and "--out" not in given.values:
        out = next_folder(verb)
        words = [*words, "--out", str(out)]
        given.values["--out"] = [str(out)]
        sys.argv += (
            ["--out", str(out)] if [word for word in sys.argv[2:] if word not in OPTIONS] == words[:-2] else []
        )  # other processes of a run start with these
    if current.mode == "json":
        shown = {label.replace(" ", "_"): given.values[name] for name, label in LABELS.items() if name in given.values}
        print_event(
            "start", verb=verb, **{label: values if len(values) > 1 else values[0] for label, values in shown.items()}
        )
    elif current.mode == "text" and verb not in SILENT and "--json" not in given.values:
        parts = [f"{label} {' '.join(given.values[name])}" for name, label in LABELS.items() if name in given.values]
        print(printable(f"{verb:<8} {', '.join(parts)}"), flush=True)
    return words, out
