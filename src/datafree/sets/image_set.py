"""Write and read image sets: exact tensors in shards, with optional PNG files by class and a parquet data set.

An image set is a folder. Its `set.json` holds the metadata and the SHA-256 of each shard. `datafree.sets.saved` trains
students on it.
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
from datafree.files import atomic_folder, sha256_of, write_json
from datafree.sets.contact_sheet import contact_sheet
from datafree.sets.pictures import write_folder, write_parquet
from datafree.types import Batch, InputError, Logits

PRIVACY = (
    "Synthetic images are reconstructed from the teacher and may reveal its training data. Neither they nor the student "
    "are anonymised or differentially private. Treat both as you treat the training data; invert only models you may invert."
)

INDEX, SCHEMA = "set.json", 2
SHARD_BYTES = 2**28
"""maximum size of the pixels in one shard"""

Format = Literal["folder", "parquet"]


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """Synthesized images and their metadata."""

    batch: Batch
    """the images, targets and, if the method kept them, the teacher's logits"""
    classes: tuple[str, ...]
    """class names, in the order of the teacher's logits"""
    teacher_sha256: str
    """SHA-256 of the teacher's weights"""
    made_by: str
    """method settings and seed"""
    measured_images: Mapping[str, int] = field(default_factory=dict)
    """number of real images, by source, on which the feature statistics used were measured"""
    seconds: float = 0.0
    """synthesis time; 0 if unknown"""


def write(image_set: ImageSet, teacher: Classifier, out: str | Path, format: Sequence[Format] = ()) -> None:
    """Write an image set. The folder appears only when it is complete.

    Args:
        image_set: The images. If they come without the teacher's logits, these are computed.
        teacher: The classifier the images were synthesized from.
        out: The output folder.
        format: Exports to write in addition to the exact shards.
    """
    batch = image_set.batch
    logits = compute_logits(teacher, batch) if batch.teacher_logits is None else batch.teacher_logits
    with atomic_folder(Path(out)) as new:
        shards = write_shards(batch, logits, new)
        contact_sheet(batch).save(new / "grid.png")
        (new / "README.md").write_text(card(image_set, format))
        if "folder" in format:
            write_folder(batch, new / "png")
        if "parquet" in format:
            write_parquet(batch, teacher.probabilities(logits), image_set.classes, new / "parquet")
        metadata = {name: value for name, value in vars(image_set).items() if name != "batch"}
        counts = {"images": len(batch), "logits_kept": batch.teacher_logits is not None}
        write_json(new / INDEX, {"schema": SCHEMA, **counts, **metadata, "shards": shards})


def compute_logits(teacher: Classifier, batch: Batch) -> Logits:
    """Return the teacher's logits for a whole image set."""
    with frozen(teacher), torch.no_grad():
        return torch.cat([teacher(images) for images in batch.images.split(512)])


def write_shards(batch: Batch, logits: Logits, folder: Path) -> dict[str, str]:
    """Write the tensors in order, in files of limited size, and return the SHA-256 of each file by name."""
    tensors = {"images": batch.images, "targets": batch.targets, "logits": logits}
    images_per_shard = max(1, SHARD_BYTES // batch.images[0].nbytes)
    bounds = [*range(0, len(batch), images_per_shard), len(batch)]
    hashes = {}
    for number, (begin, end) in enumerate(pairwise(bounds), start=1):
        name = f"images-{number:05d}-of-{len(bounds) - 1:05d}.safetensors"
        save_file({key: tensor[begin:end].cpu().contiguous() for key, tensor in tensors.items()}, folder / name)
        hashes[name] = sha256_of(folder / name)
    return hashes


def read(folder: str | Path) -> ImageSet:
    """Read an image set.

    Args:
        folder: A folder written by `write`.

    Raises:
        InputError: If the folder is no image set, or a shard is missing, damaged or belongs to another set.
    """
    folder = Path(folder)
    try:
        metadata: dict[str, Any] = json.loads((folder / INDEX).read_text())
        if metadata.pop("schema") != SCHEMA:
            raise InputError(f"{folder} was written by another version of datafree; synthesize the set again")
        return _assemble(folder, metadata)
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise InputError(
            f"{folder} is not an image set ({INDEX} is missing or damaged); give a folder written by "
            "`datafree synthesize`"
        ) from error


def _assemble(folder: Path, metadata: dict[str, Any]) -> ImageSet:
    """Build the set from the content of `set.json`; any exception means that this file is damaged."""
    shards, count, logits_kept = (metadata.pop(key) for key in ("shards", "images", "logits_kept"))
    tensors = read_shards(folder, shards)
    if {len(tensor) for tensor in tensors.values()} != {count}:
        raise ValueError
    batch = Batch(tensors["images"], tensors["targets"], {}, tensors["logits"] if logits_kept else None)
    image_set = ImageSet(batch=batch, **{**metadata, "classes": tuple(metadata["classes"])})
    texts = (image_set.teacher_sha256, image_set.made_by, *image_set.classes, *image_set.measured_images)
    if not all(isinstance(text, str) for text in texts) or not isinstance(metadata["classes"], list):
        raise ValueError
    counts_valid = all(type(count) is int for count in image_set.measured_images.values())
    if not counts_valid or not 0 <= image_set.seconds < math.inf:
        raise ValueError
    return image_set


def read_shards(folder: Path, hashes: Mapping[str, str]) -> dict[str, Tensor]:
    """Read all shards and concatenate their tensors.

    Raises:
        InputError: If a shard is missing, damaged or belongs to another set.
    """
    shards = []
    for name, digest in hashes.items():
        try:
            if Path(name).name != name or sha256_of(folder / name) != digest:
                raise InputError(f"{folder / name} is damaged or belongs to another set; synthesize the set again")
            shards.append(load_file(folder / name))
        except (OSError, SafetensorError) as error:
            raise InputError(f"{folder / name} is missing or not a shard; synthesize the set again") from error
    return {name: torch.cat([shard[name] for shard in shards]) for name in ("images", "targets", "logits")}


def card(image_set: ImageSet, format: Sequence[Format]) -> str:
    """Return the data card. Its YAML header tells Hugging Face's `datasets` which files to load."""
    files = {"parquet": "parquet/*.parquet", "folder": "png/**"}
    data_files = next((files[name] for name in ("parquet", "folder") if name in format), "images-*.safetensors")
    class_list = "\n".join(f"- `{label:04d}`: {name}" for label, name in enumerate(image_set.classes))
    measured = "\n".join(
        f"The feature statistics used were measured on {count:,} real images of `{source}`."
        for source, count in image_set.measured_images.items()
    )
    return f"""---
tags: [synthetic, data-free, image-classification]
configs:
- config_name: default
  data_files:
  - split: train
    path: {data_files}
---
# {len(image_set.batch):,} synthesized images

Synthesized by `{image_set.made_by}` from a teacher whose weights have SHA-256 `{image_set.teacher_sha256}`.
{measured or "No real image was used."}

The `images-*.safetensors` files hold the exact tensors: `images`, float32 pixels in [0, 1]; `targets`, the class each image
was synthesized for, or soft labels; `logits`, the teacher's logits. `{INDEX}` lists the SHA-256 of each file. The optional
exports in `png` and `parquet` have 8 bits per channel.

Train a student on them with `datafree distill --method saved --method.images FOLDER`.

Classes, with the names of their folders in `png`:

{class_list}

**Privacy.** {PRIVACY}
"""
