"""The header of a model card in the vocabulary of the Hugging Face hub, and what a card says about the licence."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from datafree.sets.privacy import literal
from datafree.teachers.origins import UNKNOWN, Origin
from datafree.types import printable

Relation = Literal["", "finetune", "merge", "quantized"]
"""how a network relates to its base models; the hub knows no other word that fits"""
TASK = "image-classification"
"""the hub's name of what the networks do"""
PLAIN = re.compile(r"[A-Za-z][A-Za-z_-]*")
KEYWORDS = ("true", "false", "yes", "no", "on", "off", "y", "n", "null")
"""words that are no texts in YAML"""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A number that was measured on labelled real images."""

    metric: str
    """accuracy or mean_average_precision"""
    value: float
    """from 0 to 1"""
    data: str
    """name of the images"""


@dataclass(frozen=True, kw_only=True)
class Header:
    """What the header of a model card says."""

    name: str
    """name of the network"""
    library: str
    """library that loads the network, by its name on the hub"""
    tags: Sequence[str] = ()
    """words by which it is found, besides the task"""
    origins: Sequence[Origin] = ()
    """where the weights of its teachers come from"""
    source: str = "teacher"
    """what the network was made from; empty if it was trained on real images"""
    relation: Relation = ""
    """how it relates to them"""
    measured: Sequence[Measured] = ()
    """what was measured; an estimate is no measurement"""

    @property
    def repositories(self) -> list[str]:
        """Repositories of the teachers on the hub."""
        return list(dict.fromkeys(origin.repository for origin in self.origins if origin.repository))

    @property
    def licence(self) -> str:
        """The licence that all teachers have; `unknown` if there is none."""
        licences = {origin.licence for origin in self.origins}
        return licences.pop() if len(licences) == 1 else UNKNOWN

    def text(self) -> str:
        """Return the header, with the lines that enclose it. JSON is YAML, so that quoted texts are plain values."""
        lines: dict[str, Any] = {
            "library_name": self.library,
            "license": self.licence,
            "pipeline_tag": TASK,
            "tags": [TASK, *self.tags],
        }
        bases = self.repositories
        if bases:
            lines["base_model"] = bases[0] if len(bases) == 1 else bases
        if bases and self.relation:
            lines["base_model_relation"] = self.relation
        if self.measured:
            lines["metrics"] = list(dict.fromkeys(row.metric for row in self.measured))
            lines["model-index"] = [{"name": self.name, "results": [self._result(row) for row in self.measured]}]
        return "\n".join(["---", *(f"{key}: {_yaml(value)}" for key, value in lines.items()), "---"])

    def _result(self, row: Measured) -> dict[str, Any]:
        return {
            "task": {"type": TASK},
            "dataset": {"name": row.data, "type": row.data},
            "metrics": [{"type": row.metric, "value": round(row.value, 6)}],
        }

    @property
    def licence_sentence(self) -> str:
        """What the card says about the licence: that of what the network was made from, or a warning."""
        if not self.source:
            return "**Licence.** Not chosen: correct the entry `license` above before you publish this network."
        count = f"{self.source}s" if len(self.origins) > 1 else self.source
        if self.licence != UNKNOWN:
            return f"**Licence.** {literal(self.licence)}, that of the {count}."
        known = ", ".join(f"{literal(origin.spec)}: {origin.licence}" for origin in self.origins)
        listed = f" ({known})" if known else ""
        return (
            f"**Licence.** Unknown: the licence of the {count}{listed} applies to a network that was made from it. Look it up "
            "before you publish this network, and correct the entry `license` above."
        )


def _yaml(value: Any) -> str:
    """Return a value as YAML in one line: words as they are, everything else as JSON."""
    if isinstance(value, str) and PLAIN.fullmatch(value) and value not in KEYWORDS:
        return value
    return printable(json.dumps(value, ensure_ascii=True))
