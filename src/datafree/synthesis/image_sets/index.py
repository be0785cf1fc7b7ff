"""The index of an image set, `set.json`: its metadata, the SHA-256 of each shard, and the SHA-256 of all that."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from datafree.files import parse_json, read_text, write_text
from datafree.files.validation import from_plain
from datafree.types import InputError, require_at_least

INDEX, SCHEMA = "set.json", 3
OMITTED: dict[str, Any] = {"parts": (), "logits_stored": True}
"""values that are not in the file"""
SHARD_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""names of files in the folder itself"""


@dataclass(frozen=True, kw_only=True)
class Index:
    """The content of `set.json`."""

    images: int
    """number of images"""
    logits_kept: bool
    """whether the method kept the teacher's logits; else they were computed for the file"""
    logits_stored: bool = True
    """whether the shards have logits; not in the file if they have"""
    classes: tuple[str, ...]
    teacher_sha256: str
    made_by: str
    measured_images: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    parts: tuple[str, ...] = ()
    """names of the parts of a mixture; not in the file for other methods"""
    shards: Mapping[str, str]
    """SHA-256 of each shard by file name, in the order of the images"""

    def __post_init__(self) -> None:
        require_at_least(1, images=self.images, classes=len(self.classes), shards=len(self.shards))
        if self.logits_kept and not self.logits_stored:
            raise InputError("logits are kept, but not stored; synthesize the set again")
        require_at_least(0, seconds=self.seconds)
        require_at_least(0, measured_images=list(self.measured_images.values()) or 0)
        for name in self.shards:
            if not SHARD_NAME.fullmatch(name):
                raise InputError(f"a shard is called {name[:50]!r}, which is not a plain file name")


def write_index(index: Index, folder: Path) -> None:
    """Write `set.json`."""
    entries = {name: value for name, value in asdict(index).items() if value != OMITTED.get(name)}
    write_text(folder / INDEX, _text({"schema": SCHEMA, **entries}))


def _text(entries: Mapping[str, Any]) -> str:
    """Return the text of the file: the entries, and as the last one the SHA-256 of the others."""
    digest = hashlib.sha256(json.dumps(entries, allow_nan=False).encode()).hexdigest()
    return json.dumps({**entries, "sha256": digest}, indent=2, allow_nan=False) + "\n"


def read_index(folder: Path) -> Index:
    """Read `set.json`.

    Raises:
        InputError: If it is missing, reached through a link, or not exactly what `write_index` wrote.
    """
    path = folder / INDEX
    if not path.is_symlink() and not path.exists():
        raise InputError(
            f"{folder} is not an image set ({INDEX} is missing); give a folder written by `datafree synthesize`"
        )
    text = read_text(path, root=folder)
    entries = parse_json(text, str(path))
    if not isinstance(entries, dict) or "schema" not in entries:
        raise InputError(f"{path} is not the index of an image set; give a folder written by `datafree synthesize`")
    if entries["schema"] != SCHEMA:
        raise InputError(f"{folder} was written by another version of datafree; synthesize the set again")
    plain = {name: value for name, value in entries.items() if name not in ("schema", "sha256")}
    index = from_plain(Index, plain, str(path))
    if _text({"schema": SCHEMA, **plain}) != text:
        raise InputError(f"{path} is damaged or was edited: it differs from its own SHA-256; synthesize the set again")
    return index
