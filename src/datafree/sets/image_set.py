"""Write and read image sets: exact tensors in shards, with optional PNG files by class and a parquet data set.

An image set is a folder. Its `set.json` holds the metadata and the SHA-256 of each shard. `datafree.sets.saved` trains
students on it.
"""

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors
from safetensors.torch import save_file
from torch import Tensor

from datafree.classifier import Classifier, frozen
from datafree.files import atomic_folder, open_regular, sha256_of
from datafree.sets.contact_sheet import contact_sheet
from datafree.sets.index import INDEX, Index, read_index, write_index
from datafree.sets.pictures import write_folder, write_parquet
from datafree.types import Batch, InputError, Logits, printable

PRIVACY = (
    "Synthetic images are reconstructed from the teacher and may reveal its training data. Neither they nor the student "
    "are anonymised or differentially private. Treat both as you treat the training data; invert only models you may invert."
)

SHARD_BYTES = 2**28
"""maximum size of the images, targets and logits in one shard, unless a single image is larger"""
SHARD_LIMIT = 2**30
"""maximum size of a shard that is read"""

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
        (new / "README.md").write_text(card(image_set, format), encoding="utf-8")
        if "folder" in format:
            write_folder(batch, new / "png")
        if "parquet" in format:
            write_parquet(batch, teacher.probabilities(logits), image_set.classes, new / "parquet")
        index = Index(
            images=len(batch),
            logits_kept=batch.teacher_logits is not None,
            classes=image_set.classes,
            teacher_sha256=image_set.teacher_sha256,
            made_by=printable(image_set.made_by),
            measured_images=dict(image_set.measured_images),
            seconds=image_set.seconds,
            shards=shards,
        )
        write_index(index, new)


def compute_logits(teacher: Classifier, batch: Batch) -> Logits:
    """Return the teacher's logits for a whole image set."""
    with frozen(teacher), torch.no_grad():
        return torch.cat([teacher(images) for images in batch.images.split(512)])


def write_shards(batch: Batch, logits: Logits, folder: Path) -> dict[str, str]:
    """Write the tensors in order, in files of limited size, and return the SHA-256 of each file by name."""
    tensors = {"images": batch.images, "targets": batch.targets, "logits": logits}
    images_per_shard = max(1, SHARD_BYTES // sum(tensor[0].nbytes for tensor in tensors.values()))
    bounds = [*range(0, len(batch), images_per_shard), len(batch)]
    hashes = {}
    for number, (begin, end) in enumerate(pairwise(bounds), start=1):
        name = f"images-{number:05d}-of-{len(bounds) - 1:05d}.safetensors"
        save_file({key: tensor[begin:end].cpu().contiguous() for key, tensor in tensors.items()}, folder / name)
        hashes[name] = sha256_of(folder / name)
    return hashes


def read(folder: str | Path) -> ImageSet:
    """Read an image set. No link in the folder is followed.

    Args:
        folder: A folder written by `write`.

    Raises:
        InputError: If the folder is no image set, or a file is missing, damaged, a link, or belongs to another set.
    """
    folder = Path(folder)
    index = read_index(folder)
    tensors = read_shards(folder, index.shards)
    _require_valid(tensors, index, folder)
    return ImageSet(
        batch=Batch(tensors["images"], tensors["targets"], {}, tensors["logits"] if index.logits_kept else None),
        classes=index.classes,
        teacher_sha256=index.teacher_sha256,
        made_by=index.made_by,
        measured_images=index.measured_images,
        seconds=index.seconds,
    )


def read_shards(folder: Path, hashes: Mapping[str, str]) -> dict[str, Tensor]:
    """Read all shards and concatenate their tensors.

    Raises:
        InputError: If a shard is missing, damaged, a link, larger than `SHARD_LIMIT` or belongs to another set, or all
            shards together are larger than the memory of this machine.
    """
    shards, size = [], 0
    for name, digest in hashes.items():
        path = folder / name
        with open_regular(path, SHARD_LIMIT, root=folder) as file:
            size += os.fstat(file.fileno()).st_size
            if 2 * size > memory():
                raise InputError(f"{folder} is too large for the memory of this machine; use a smaller set")
            content = file.read(SHARD_LIMIT)
        if hashlib.sha256(content).hexdigest() != digest:
            raise InputError(f"{path} is damaged or belongs to another set; synthesize the set again")
        try:
            shards.append(parse_tensors(content))
        except (SafetensorError, ValueError, KeyError) as fault:
            raise InputError(f"{path} is not a safetensors file; synthesize the set again") from fault
    try:
        return {name: torch.cat([shard[name] for shard in shards]) for name in ("images", "targets", "logits")}
    except (KeyError, RuntimeError) as fault:
        raise InputError(f"the shards of {folder} do not fit together; synthesize the set again") from fault


def memory() -> int:
    """Return the size of this machine's memory in bytes; if it is unknown, no limit."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 2**63


def _require_valid(tensors: Mapping[str, Tensor], index: Index, folder: Path) -> None:
    """Check the types, shapes and values of an image set.

    Raises:
        InputError: Names the first tensor that is not as it should be.
    """
    images, targets, logits = (tensors[name] for name in ("images", "targets", "logits"))
    count, classes = index.images, len(index.classes)
    soft = targets.is_floating_point()
    valid = {
        "images": images.ndim == 4 and images.is_floating_point() and len(images) == count and images.numel() > 0,
        "targets": targets.shape == ((count, classes) if soft else (count,)) and (soft or targets.dtype == torch.int64),
        "logits": logits.shape == (count, classes) and logits.is_floating_point(),
    }
    for name, fits in valid.items():
        finite = fits and bool(torch.isfinite(tensors[name]).all())
        if not finite or (
            name == "targets" and not 0 <= targets.min() <= targets.max() <= (1 if soft else classes - 1)
        ):
            why = "have a wrong type or shape" if not fits else "have values out of range"
            raise InputError(f"the {name} of {folder} {why}; synthesize the set again")


def reordered(batch: Batch, order: Sequence[int]) -> Batch:
    """Return a batch whose classes are in another order.

    Args:
        batch: Images with targets and, possibly, the teacher's logits.
        order: For each class of the result, its index in the batch.
    """
    columns = torch.tensor(order)
    targets = columns.argsort()[batch.targets] if batch.targets.ndim == 1 else batch.targets[:, columns]
    logits = None if batch.teacher_logits is None else batch.teacher_logits[:, columns]
    return replace(batch, targets=targets, teacher_logits=logits)


def card(image_set: ImageSet, format: Sequence[Format]) -> str:
    """Return the data card. Its YAML header tells Hugging Face's `datasets` which files to load."""
    files = {"parquet": "parquet/*.parquet", "folder": "png/**"}
    data_files = next((files[name] for name in ("parquet", "folder") if name in format), "images-*.safetensors")
    class_list = "\n".join(f"- `{label:04d}`: {literal(name)}" for label, name in enumerate(image_set.classes))
    measured = "\n".join(
        f"The feature statistics used were measured on {count:,} real images of {literal(source)}."
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

Synthesized by {literal(image_set.made_by)} from a teacher whose weights have SHA-256 {literal(image_set.teacher_sha256)}.
{measured or "No real image was used."}

The `images-*.safetensors` files hold the exact tensors: `images`, float32 pixels in [0, 1]; `targets`, the class each image
was synthesized for, or soft labels; `logits`, the teacher's logits. `{INDEX}` lists the SHA-256 of each file. The optional
exports in `png` and `parquet` have 8 bits per channel.

Train a student on them with `datafree distill --method saved --method.images FOLDER`.

Classes, with the names of their folders in `png`:

{class_list}

**Privacy.** {PRIVACY}
"""


def literal(text: str) -> str:
    """Return a text as a code span of Markdown, in which no markup works, without control characters."""
    text = printable(text)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    space = " " if text.startswith(("`", " ")) or text.endswith(("`", " ")) or not text else ""
    return f"{fence}{space}{text}{space}{fence}"
