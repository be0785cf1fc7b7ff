"""Names that become part of file names and of options: plain words."""

import re

from datafree.errors import InputError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
"""names of parts of a mixture: they are part of options and file names"""


def require_name(name: str) -> None:
    """Check the name of a part of a mixture.

    Raises:
        InputError: If it is no plain word.
    """
    if not NAME.fullmatch(name):
        raise InputError(f"a part of a mixture is called {name[:50]!r}; use letters, digits and dashes")
