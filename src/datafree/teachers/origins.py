"""Where the weights of a network come from, in the vocabulary of the Hugging Face hub: the repository and the licence."""

import re
from dataclasses import dataclass
from pathlib import Path

from datafree.files.reading import read_bytes
from datafree.teachers.folders import LOCAL
from datafree.teachers.libraries.transformers_networks import PREFIX as TRANSFORMERS
from datafree.types import InputError

HUBS = ("hf-hub:", "hf_hub:", TRANSFORMERS)
"""prefixes of names of the hub"""
CARD, CARD_LIMIT = "README.md", 2**20
"""the model card of a folder, and the bytes of it that are read at most"""
IDENTIFIER = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
"""a repository of the hub"""
LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,63}")
"""an identifier of a licence"""
UNKNOWN = "unknown"
"""the hub's identifier of a licence that is not known"""


@dataclass(frozen=True)
class Origin:
    """Where the weights of a network come from."""

    spec: str
    """how the network was named"""
    repository: str = ""
    """repository of the Hugging Face hub; empty if the weights are from elsewhere"""
    licence: str = UNKNOWN
    """licence of the weights, by its identifier on the hub"""


def origin_of(spec: str, weights: str = "") -> Origin:
    """Return where the weights of a network come from. No request is made.

    Args:
        spec: The network, see `teachers.load`.
        weights: The weights file that was named with it; then nothing else is known about them.
    """
    if weights:
        return Origin(spec, licence=licence_beside(Path(weights).parent))
    name = next((spec.removeprefix(prefix) for prefix in HUBS if spec.startswith(prefix)), "")
    path = Path(spec.removeprefix(LOCAL)) if spec.startswith(LOCAL) else Path(name or spec)
    if path.exists():
        return Origin(spec, licence=licence_beside(path if path.is_dir() else path.parent))
    if name:
        repository = name.partition("@")[0]
        return Origin(spec, repository if IDENTIFIER.fullmatch(repository) else "", licence_on_hub(name))
    return timm_origin(spec)


def timm_origin(name: str) -> Origin:
    """Return the origin of the weights that timm provides for a network; nothing is known about another name."""
    import timm

    if ":" in name or not timm.is_model(name.partition(".")[0]):
        return Origin(name)
    cfg = timm.get_pretrained_cfg(name, allow_unregistered=True)
    if cfg is None or not cfg.hf_hub_id:
        return Origin(name)
    repository = cfg.hf_hub_id.partition("@")[0]
    licence = str(cfg.license or "").lower()
    return Origin(
        name,
        repository if IDENTIFIER.fullmatch(repository) else "",
        licence if LICENCE.fullmatch(licence) else UNKNOWN,
    )


def licence_beside(folder: Path) -> str:
    """Return the licence in the model card of a folder."""
    try:
        text = read_bytes(folder / CARD, CARD_LIMIT, follow_links=True).decode("utf-8", "replace")
    except (InputError, OSError):
        return UNKNOWN
    return licence_in(text)


def licence_on_hub(name: str) -> str:
    """Return the licence in the model card of a repository, if the card is on this machine."""
    from huggingface_hub import try_to_load_from_cache

    repository, _, revision = name.partition("@")
    try:
        card = try_to_load_from_cache(repository, CARD, revision=revision or None)
    except Exception:  # such as a name that is no repository
        return UNKNOWN
    return licence_beside(Path(card).parent) if isinstance(card, str) else UNKNOWN


def licence_in(card: str) -> str:
    """Return the entry `license` in the header of a model card."""
    header = re.match(r"\s*---\s*\n(.*?)\n---", card, re.DOTALL)
    found = re.search(r"^license:\s*[\"']?([^\s\"'#]+)[\"']?\s*$", header[1], re.MULTILINE) if header else None
    licence = found[1].lower() if found else ""
    return licence if LICENCE.fullmatch(licence) else UNKNOWN
