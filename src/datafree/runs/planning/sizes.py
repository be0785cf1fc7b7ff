"""Sizes of memory, such as `8GB`."""

import re

from datafree.types import InputError

UNITS = {"B": 1}
UNITS |= {f"{prefix}B": 1000**power for power, prefix in enumerate("KMGT", 1)}
UNITS |= {f"{prefix}IB": 1024**power for power, prefix in enumerate("KMGT", 1)}
"""bytes of each unit, in upper case"""
LARGEST = 10**18
"""bytes, to catch typing errors"""
EXAMPLE = "write it as 500MB, 8GB or 8GiB"


def parse_size(text: str) -> int:
    """Read a size: a number and a unit, one of B, kB, MB, GB, TB, KiB, MiB, GiB or TiB.

    Returns:
        The bytes.

    Raises:
        InputError: If there is no unit, or the number is not positive or too large.
    """
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([a-z]*)\s*", text, re.IGNORECASE)
    if not match or len(text) > 40:
        raise InputError(f"memory {text[:40]!r} is not a size; {EXAMPLE}")
    if not match[2]:
        raise InputError(f"memory {text!r} has no unit; {EXAMPLE}")
    unit = match[2].upper()
    if unit not in UNITS:
        raise InputError(f"memory {text!r} has the unknown unit {match[2]!r}; {EXAMPLE}")
    size = int(float(match[1]) * UNITS[unit])
    if not 1 <= size <= LARGEST:
        raise InputError(f"memory {text!r} is {'too large' if size else 'less than a byte'}; {EXAMPLE}")
    return size
