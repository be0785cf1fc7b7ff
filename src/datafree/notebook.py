"""A network in a notebook: a small table, as HTML without scripts. Nothing in it is loaded from elsewhere."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from torch import Tensor, nn

from datafree.errors import printable
from datafree.functions import count_parameters

NAMED, LONGEST = 10, 40
"""class names that are listed, and characters of each text"""
CELL = "text-align:left;vertical-align:top;padding:0 1.2rem 0 0;overflow-wrap:anywhere"
TABLE = "font-family:system-ui,sans-serif;border-left:4px solid #8a857d;display:block;padding-left:1rem"


def html_table(rows: Mapping[str, str]) -> str:
    """Return a table of two columns. All texts are escaped, and control characters are replaced.

    Args:
        rows: The second column by the first one. Untrusted.
    """
    body = "".join(
        f'<tr><th style="{CELL};font-weight:600">{shown(name)}</th><td style="{CELL}">{shown(text)}</td></tr>'
        for name, text in rows.items()
    )
    return f'<table style="{TABLE}"><tbody>{body}</tbody></table>'


def shown(text: str) -> str:
    """Return a text from elsewhere as HTML that has no markup of its own."""
    return escape(printable(text))


def short(text: str) -> str:
    """Return a text of at most `LONGEST` characters."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


class InNotebook:
    """Shows a classifier as a table, when it is the last value of a notebook's cell."""

    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    mean: Tensor
    std: Tensor
    multi_label: bool
    notes: tuple[str, ...]
    model: nn.Module

    def _repr_html_(self) -> str:
        """Return the network, its input, its classes and what to know about it, as HTML."""
        channels, height, width = self.shape
        rows = {
            "network": short(self.network_name),
            "parameters": f"{count_parameters(self.model):,}",
            "image": f"{channels} x {height} x {width}, pixels in [0, 1]",
            "mean, std": f"{figures(self.mean)}; {figures(self.std)}",
            "classes": f"{len(self.classes):,}{', several per image' if self.multi_label else ''}: {listed(self.classes)}",
        }
        if self.notes:
            rows["notes"] = "; ".join(self.notes)
        return html_table(rows)

    @property
    def network_name(self) -> str:
        """The architecture by its timm name, else its class; of several teachers, how many there are."""
        if isinstance(self.model, nn.ModuleList):
            return f"{type(self).__name__} of {len(self.model)}"
        config: Any = getattr(self.model, "pretrained_cfg", None)
        found = config.get("architecture") if isinstance(config, Mapping) else None
        return str(found or type(self.model).__name__)


def figures(values: Tensor) -> str:
    """Return the mean or the standard deviation of the channels."""
    return ", ".join(f"{value:.4g}" for value in values.flatten().tolist()[:NAMED])


def listed(names: Sequence[str]) -> str:
    """Return the first class names, and how many more there are."""
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(map(short, names[:NAMED])) + more
