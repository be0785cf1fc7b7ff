"""Synthesized images to keep: exact tensors in shards, and beside them PNG files by class and a parquet data set.

A set is a folder. `set.json` says what is in it, and the hash of each shard; `datafree.sets.saved` hands it out again.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from datafree.classifier import Classifier, frozen
from datafree.files import replacing, sha256_of, write_json
from datafree.sets.contact_sheet import contact_sheet
from datafree.sets.pictures import write_folder, write_parquet
from datafree.types import Batch, InputError, Logits

PRIVACY = (
    "Synthetic images are reconstructed from the teacher and may reveal its training data. Neither they nor the student "
    "are anonymised or differentially private. Treat both as you treat the training data; invert only models you may invert."
)

INDEX, SCHEMA = "set.json", 1
SHARD = 2**28
"""bytes of pixels in one shard, at most"""

Format = Literal["folder", "parquet"]


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """Images that were synthesized, and what is known of them."""

    batch: Batch
    """answers are those the method kept; None if the teacher has to be asked again"""
    classes: tuple[str, ...]
    """names, in the order of the teacher's logits"""
    teacher: str
    """SHA-256 of the weights they come from"""
    made_by: str
    """the method's settings and the seed"""
    measured_from: Mapping[str, int] = field(default_factory=dict)
    """real images that statistics were measured from to make them, by their source"""
    seconds: float = 0.0
    """that it took to make them; 0: not known"""


def write(made: ImageSet, teacher: Classifier, out: Path, format: Sequence[Format] = ()) -> None:
    """Writes a set; the folder appears at once and complete.

    Args:
        made: The images; where the method kept no answers the teacher is asked for them.
        teacher: Who answers.
        out: The folder.
        format: What is written beside the exact shards.
    """
    answers = ask(teacher, made.batch) if made.batch.answers is None else made.batch.answers
    with replacing(out) as new:
        shards = write_shards(made.batch, answers, new)
        contact_sheet(made.batch, made.classes).save(new / "grid.png")
        (new / "README.md").write_text(card(made, format))
        if "folder" in format:
            write_folder(made.batch, new / "png")
        if "parquet" in format:
            write_parquet(made.batch, teacher.probabilities(answers), made.classes, new / "parquet")
        told = {name: value for name, value in vars(made).items() if name != "batch"}
        counts = {"images": len(made.batch), "answers kept": made.batch.answers is not None}
        write_json(new / INDEX, {"schema": SCHEMA, **counts, **told, "shards": shards})


def ask(teacher: Classifier, batch: Batch) -> Logits:
    """The teacher's logits on a whole set."""
    with frozen(teacher), torch.no_grad():
        return torch.cat([teacher(images) for images in batch.images.split(512)])


def write_shards(batch: Batch, answers: Logits, folder: Path) -> dict[str, str]:
    """Tensors in order, in files that are not too large; returns the hash of each."""
    parts = {"images": batch.images, "targets": batch.targets, "answers": answers}
    each = max(1, SHARD // batch.images[0].nbytes)
    bounds = [*range(0, len(batch), each), len(batch)]
    hashes = {}
    for number, (begin, end) in enumerate(pairwise(bounds), start=1):
        name = f"images-{number:05d}-of-{len(bounds) - 1:05d}.safetensors"
        save_file({key: part[begin:end].cpu().contiguous() for key, part in parts.items()}, folder / name)
        hashes[name] = sha256_of(folder / name)
    return hashes


def read(folder: Path) -> ImageSet:
    """A set that was written.

    Raises:
        InputError: If there is none, or a shard is missing, damaged or of another set.
    """
    try:
        told: dict[str, Any] = json.loads((folder / INDEX).read_text())
        if told.pop("schema") != SCHEMA:
            raise InputError(f"{folder} was written by another version; read it with that version of datafree")
        shards, count, kept = told.pop("shards"), told.pop("images"), told.pop("answers kept")
        parts = read_shards(folder, shards)
        if {len(part) for part in parts.values()} != {count}:
            raise ValueError
        batch = Batch(parts["images"], parts["targets"], {}, parts["answers"] if kept else None)
        made = ImageSet(batch=batch, **{**told, "classes": tuple(told["classes"])})
        texts = (made.teacher, made.made_by, *made.classes, *made.measured_from)
        if not all(isinstance(text, str) for text in texts) or not isinstance(told["classes"], list):
            raise ValueError
        if not all(type(count) is int for count in made.measured_from.values()) or not 0 <= made.seconds < math.inf:
            raise ValueError
        return made
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as fault:
        raise InputError(
            f"{folder} holds no set of images (its {INDEX} is missing or damaged); give a folder that "
            "`datafree synthesize` wrote"
        ) from fault


def read_shards(folder: Path, hashes: Mapping[str, str]) -> dict[str, Tensor]:
    """All shards as one."""
    shards = []
    for name, digest in hashes.items():
        try:
            if Path(name).name != name or sha256_of(folder / name) != digest:
                raise InputError(f"{folder / name} is damaged or of another set; synthesize the set again")
            shards.append(load_file(folder / name))
        except (OSError, SafetensorError) as fault:
            raise InputError(f"{folder / name} is missing or no shard; synthesize the set again") from fault
    return {name: torch.cat([shard[name] for shard in shards]) for name in ("images", "targets", "answers")}


def card(made: ImageSet, format: Sequence[Format]) -> str:
    """The data card; its head tells Hugging Face's `datasets` which files to load."""
    files = {"parquet": "parquet/*.parquet", "folder": "png/**"}
    shown = next((files[name] for name in ("parquet", "folder") if name in format), "images-*.safetensors")
    names = "\n".join(f"- `{label:04d}`: {name}" for label, name in enumerate(made.classes))
    measured = "\n".join(
        f"Statistics of the teacher's features were measured on {count:,} real images of `{source}` to make them."
        for source, count in made.measured_from.items()
    )
    return f"""---
tags: [synthetic, data-free, image-classification]
configs:
- config_name: default
  data_files:
  - split: train
    path: {shown}
---
# {len(made.batch):,} synthesized images

Made by `{made.made_by}` from a teacher whose weights have SHA-256 `{made.teacher}`.
{measured or "No real image was used."}

The `images-*.safetensors` hold them exactly: `images`, float32 pixels in [0, 1]; `targets`, what they should be; `answers`,
the teacher's logits. `{INDEX}` has the hash of each. Files in `png` and `parquet`, if there are any, are in eight bits.

Students learn from it with `datafree distill --method saved --method.images FOLDER`.

Classes, which are the folders in `png`:

{names}

**Privacy.** {PRIVACY}
"""
