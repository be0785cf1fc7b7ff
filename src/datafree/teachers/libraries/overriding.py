"""What a user says of a network in place of what its folder says: a note tells which of it is used."""

from pathlib import Path
from typing import Any

from datafree.teachers.weights_files import Facts

WORDS = {"classes": "classes", "channels": "channels", "size": "image size", "mean": "mean", "std": "std"}
"""facts that a folder may say, as the note calls them"""


def overridden(given: Facts, theirs: Facts, path: Path) -> tuple[str, ...]:
    """Return a note if the user says something else than a file or folder.

    Args:
        given: What the user says.
        theirs: What the file or folder says.
        path: The file or folder, for the note.
    """
    changed = [word for name, word in WORDS.items() if _differ(getattr(given, name), getattr(theirs, name))]
    return (
        (f"the {' and '.join(changed)} given with the teacher are used instead of those in {path}",) if changed else ()
    )


def _differ(given: Any, theirs: Any) -> bool:
    """Return whether a user says something else than a folder, which says something.

    A number of classes agrees with as many names, and one value for all channels with equal ones for each.
    """
    if not given or not theirs:
        return False
    if isinstance(given, int) or isinstance(theirs, int):
        return given != (theirs if isinstance(theirs, int) else len(theirs))
    count = max(len(given), len(theirs))
    wide = [tuple(values) * (count if len(values) == 1 else 1) for values in (given, theirs)]
    return wide[0] != wide[1]
