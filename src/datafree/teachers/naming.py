"""How a network is named on the command line: `NETWORK`, or `NETWORK@WEIGHTS` with a file of its weights.

The second form serves where several networks are named, so that one option `--weights` would not say whose they are.
"""

import re
from pathlib import Path

from datafree.teachers.code import is_code
from datafree.teachers.folders import LOCAL
from datafree.teachers.libraries.transformers_networks import PREFIX as TRANSFORMERS

HUBS = ("hf-hub:", "hf_hub:", TRANSFORMERS)
"""prefixes of names of the Hugging Face hub; folders may have the last one too"""
WITH_WEIGHTS = re.compile(r"(?P<network>(?:.+?\.py:|[^\W\d][\w.]*:)?[^\W\d][\w.]*)@(?P<weights>.+)", re.DOTALL)
"""a name or code, and a path; revisions of the hub, as in `hf-hub:OWNER/NAME@REVISION`, are not meant"""


def divided(spec: str) -> tuple[str, str]:
    """Return the network and the weights file of a specification; the latter is empty if it names none.

    Args:
        spec: See `teachers.load`.
    """
    found = WITH_WEIGHTS.fullmatch(spec)
    if found is None or spec.startswith((LOCAL, *HUBS)) or Path(spec).exists():
        return spec, ""
    return found["network"], found["weights"]


def has_weights(spec: str) -> bool:
    """Return whether a specification says where the weights of its network are; a name or code alone does not."""
    if is_code(spec):
        return bool(divided(spec)[1])
    if spec.startswith((LOCAL, *HUBS)) or divided(spec)[1]:
        return True
    import timm

    import datafree.networks.zoo  # noqa: F401  registers networks in timm

    known = timm.is_model(spec.partition(".")[0])  # before a folder of the same name
    return bool(spec) and not known and (Path(spec).exists() or "/" in spec)
