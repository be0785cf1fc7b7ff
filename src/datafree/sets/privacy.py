"""What synthesized images reveal, and how cards quote text from elsewhere."""

import re

from datafree.errors import printable

PRIVACY = (
    "Synthetic images are reconstructed from the teacher and may reveal its training data. Neither they nor the student "
    "are anonymised or differentially private. Treat both as you treat the training data; invert only models you may invert."
)


def literal(text: str) -> str:
    """Return a text as a code span of Markdown, in which no markup works, without control characters."""
    text = printable(text)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    space = " " if text.startswith(("`", " ")) or text.endswith(("`", " ")) or not text else ""
    return f"{fence}{space}{text}{space}{fence}"
