"""Mixtures of methods on the command line, such as `procedural:0.7,deep-inversion:0.3`: reading them, and their options.

Each part has the settings of its method and of its schedule, with the prefix `--method.NAME.`. Imports nothing heavy.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from datafree.commands.options.proposals import closest
from datafree.errors import InputError

if TYPE_CHECKING:
    from datafree.commands.options.table import Option

SCHEDULE = ("--warmup-batches", "--refresh-every", "--pool-batches")
"""options of the schedule that each part has on its own"""
BATCH_SIZE = "images per student step, drawn from the parts in proportion to their shares"
DEFAULT_BATCH_SIZE = 128
EXAMPLE = "write NAME:SHARE,NAME:SHARE"
REAL, AUTO = "real", "auto"
FOLDERS = {"pictures": "images", "saved": "images"}
"""methods that read a folder, which may follow the name as in `pictures:FOLDER`: the setting that it becomes"""


class Share(NamedTuple):
    """A part of a mixture as it is written."""

    name: str
    share: float


def split_folders(word: str) -> tuple[str, list[str]]:
    """Split folders from the value of `--method`.

    Args:
        word: Such as `pictures:FOLDER` or `procedural:0.7,pictures:FOLDER:0.3`.

    Returns:
        The value without folders, `pictures` or `procedural:0.7,pictures:0.3`, and the options that name the folders.
    """
    parts = word.split(",")
    mixed = len(parts) > 1 and all(_ends_in_number(part) for part in parts)
    names, options = [], []
    for part in parts if mixed else [word]:
        name, _, rest = part.strip().partition(":")
        folder, _, share = rest.rpartition(":") if mixed else (rest, "", "")
        if name in FOLDERS:
            option = f"--method.{f'{name}.' if mixed else ''}{FOLDERS[name]}={folder}"
            options += [option] if folder else []
            part = f"{name}:{share}" if mixed else name
        names.append(part)
    return ",".join(names), options


def _ends_in_number(part: str) -> bool:
    try:
        float(part.rpartition(":")[2])
    except ValueError:
        return False
    return ":" in part


def is_mixture(word: str, choices: Sequence[str]) -> bool:
    """Return whether the value of `--method` is written as a mixture."""
    return word not in choices and ("," in word or ":" in word)


def parse_mixture(word: str, choices: Sequence[str]) -> list[Share]:
    """Return the parts of a mixture.

    Args:
        word: The mixture, such as `procedural:0.7,deep-inversion:0.3`.
        choices: The names of all methods.

    Raises:
        InputError: If a name is unknown, given twice or `real`, a share is missing or not above 0, or there is one part.
    """
    parts = [_parse_part(part.strip(), choices) for part in word.split(",")]
    if len(parts) == 1:
        raise InputError(f"a mixture needs two or more parts; use --method {parts[0].name} for one method")
    names = [part.name for part in parts]
    if twice := next((name for place, name in enumerate(names) if name in names[:place]), None):
        raise InputError(f"{twice} is twice in the mixture; give it once, with the sum of its shares")
    return parts


def _parse_part(text: str, choices: Sequence[str]) -> Share:
    name, colon, number = (piece.strip() for piece in text.rpartition(":"))
    name, number = (name, number) if colon else (number, "")
    if not name:
        raise InputError(f"the mixture has a part without a name; {EXAMPLE}")
    if name == REAL:
        raise InputError("real images cannot be part of a mixture; use --method real alone, for the ceiling")
    if name == AUTO and number not in ("", "race") and not _ends_in_number(text):
        raise InputError(f"unknown method {text!r}; did you mean {AUTO}:race?")
    if name.partition(":")[0] == AUTO:
        raise InputError(f"{AUTO} chooses a whole method and cannot be part of a mixture; name the methods")
    if name not in choices:
        near = closest(name, choices)
        parts = [choice for choice in choices if choice != REAL and not choice.startswith(AUTO)]
        hint = f"did you mean {near}?" if near else f"choose among {', '.join(parts)}"
        raise InputError(f"unknown method {name!r} in the mixture; {hint}")
    if not number:
        raise InputError(f"{name} has no share in the mixture; write {name}:SHARE, such as {name}:0.3")
    try:
        share = float(number)
    except ValueError as fault:
        raise InputError(f"the share of {name} is {number!r}, which is not a number; {EXAMPLE}") from fault
    if not 0 < share < math.inf:
        advice = "give another one, such as 0.3" if share else f"leave {name} out"
        raise InputError(f"the share of {name} is {share:g}, but it must be above 0 and finite; {advice}")
    return Share(name, share)


def mixed_options(parts: Sequence[Share], options: Mapping[str, Sequence["Option"]]) -> list["Option"]:
    """Return the options of a command whose method is a mixture.

    Options that belong to no part have the defaults that come with the part of the largest share.

    Args:
        parts: The parts of the mixture.
        options: The options of the command with a single method, by its name.
    """
    shared = options[max(parts, key=lambda part: part.share).name]
    size = next((option for option in shared if option.name == "--batch-size"), None)
    mixed = [option for part in parts for option in _options_of_part(part.name, options[part.name])]
    if size:
        mixed.append(replace(size, help=BATCH_SIZE, default=str(DEFAULT_BATCH_SIZE)))
    others = [option for option in shared if option is not size and not _belongs_to_a_part(option)]
    return [*others, *mixed]


def _belongs_to_a_part(option: "Option") -> bool:
    return option.name.startswith("--method.") or option.name in SCHEDULE


def _options_of_part(name: str, options: Sequence["Option"]) -> list["Option"]:
    own = [option for option in options if _belongs_to_a_part(option)]
    return [
        replace(option, name=f"--method.{name}.{option.name.removeprefix('--').removeprefix('method.')}")
        for option in own
    ]
