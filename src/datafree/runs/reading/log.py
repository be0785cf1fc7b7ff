"""Reading the log of a run: one event a line."""

import json
import sys
from pathlib import Path
from typing import Any

from datafree.errors import printable
from datafree.files import open_regular
from datafree.runs.reading.layout import LOG

LOG_LIMIT = 2**28
"""bytes of a log that are read"""
PHASES = ("synthesis", "application", "evaluation")
"""what a line is about: a synthesized batch, a step of the student, an evaluation"""


def read_log(path: str | Path) -> list[dict[str, Any]]:
    """Read the log of a run folder. Lines that are no event are skipped, and their number is printed.

    Raises:
        InputError: If the folder has no log, or it is not a regular file.
    """
    events, skipped = [], 0
    with open_regular(Path(path) / LOG, root=path) as file:
        for line in file.read(LOG_LIMIT).splitlines():
            event = parse_event(line)
            if event is None:
                skipped += 1
            else:
                events.append(event)
    if skipped:
        count = "1 line that is no event" if skipped == 1 else f"{skipped} lines that are no events"
        print(printable(f"datafree: skipped {count} in {path}/{LOG}"), file=sys.stderr)
    return events


def parse_event(line: bytes) -> dict[str, Any] | None:
    """Return the event in a line of a log: a phase, a step, and finite numbers by name; None if the line has none."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict) or event.get("phase") not in PHASES or type(event.get("step")) is not int:
        return None
    numbers = {name: number for name, number in event.items() if type(number) in (int, float) and abs(number) < 1e300}
    required = {"step", "seconds", "accuracy"} if event["phase"] == "evaluation" else {"step"}
    return {"phase": event["phase"], **numbers} if required <= numbers.keys() else None
