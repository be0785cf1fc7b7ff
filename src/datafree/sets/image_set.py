"""Write image sets: exact tensors in shards, with optional PNG files by class and a parquet data set.

An image set is a folder. Its `set.json` holds the metadata and the SHA-256 of each shard.
`datafree.synthesis.image_sets` reads it, and `datafree.sets.saved` trains students on it.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save_file
from torch import Tensor

from datafree.classifier import Classifier, frozen
from datafree.files import atomic_folder, sha256_of
from datafree.sets.arrays import ArrayLayout, write_bin, write_npz
from datafree.sets.contact_sheet import contact_sheet
from datafree.sets.pictures import write_folder, write_parquet
from datafree.sets.privacy import PRIVACY, literal
from datafree.synthesis.image_sets import ImageSet as ImageSet
from datafree.synthesis.image_sets import read as read
from datafree.synthesis.image_sets import reordered as reordered
from datafree.synthesis.image_sets.index import INDEX, Index, write_index
from datafree.types import Batch, Logits, printable

SHARD_BYTES = 2**28
"""maximum size of the images, targets and logits in one shard, unless a single image is larger"""

Format = Literal["folder", "parquet", "npz", "bin"]


def write(
    image_set: ImageSet,
    teacher: Classifier,
    out: str | Path,
    format: Sequence[Format] = (),
    layout: ArrayLayout = ArrayLayout(),  # noqa: B008  frozen
) -> None:
    """Write an image set. The folder appears only when it is complete.

    Args:
        image_set: The images. If they come without the teacher's logits, these are computed.
        teacher: The classifier the images were synthesized from.
        out: The output folder.
        format: Exports to write in addition to the exact shards.
        layout: What the input of the network is called in the exports `npz` and `bin`, and what it takes.
    """
    batch = image_set.batch
    logits = compute_logits(teacher, batch) if batch.teacher_logits is None else batch.teacher_logits
    with atomic_folder(Path(out)) as new:
        shards = write_shards(batch, logits, new, image_set.part_of)
        contact_sheet(batch).save(new / "grid.png")
        (new / "README.md").write_text(card(image_set, format), encoding="utf-8")
        if "folder" in format:
            write_folder(batch, new / "png", image_set.part_names)
        if "parquet" in format:
            soft_labels = teacher.probabilities(logits)
            write_parquet(batch, soft_labels, image_set.classes, new / "parquet", image_set.part_names)
        for name, write_arrays in (("npz", write_npz), ("bin", write_bin)):
            if name in format:
                write_arrays(batch.images, teacher, layout, new / name)
        index = Index(
            images=len(batch),
            logits_kept=batch.teacher_logits is not None,
            classes=image_set.classes,
            teacher_sha256=image_set.teacher_sha256,
            made_by=printable(image_set.made_by),
            measured_images=dict(image_set.measured_images),
            seconds=image_set.seconds,
            parts=image_set.parts,
            shards=shards,
        )
        write_index(index, new)


def compute_logits(teacher: Classifier, batch: Batch) -> Logits:
    """Return the teacher's logits for a whole image set."""
    with frozen(teacher), torch.no_grad():
        return torch.cat([teacher(images) for images in batch.images.split(512)])


def write_shards(batch: Batch, logits: Logits, folder: Path, part_of: Tensor | None = None) -> dict[str, str]:
    """Write the tensors in order, in files of limited size, and return the SHA-256 of each file by name."""
    tensors = {"images": batch.images, "targets": batch.targets, "logits": logits}
    if part_of is not None:
        tensors["parts"] = part_of
    images_per_shard = max(1, SHARD_BYTES // sum(tensor[0].nbytes for tensor in tensors.values()))
    bounds = [*range(0, len(batch), images_per_shard), len(batch)]
    hashes = {}
    for number, (begin, end) in enumerate(pairwise(bounds), start=1):
        name = f"images-{number:05d}-of-{len(bounds) - 1:05d}.safetensors"
        save_file({key: tensor[begin:end].cpu().contiguous() for key, tensor in tensors.items()}, folder / name)
        hashes[name] = sha256_of(folder / name)
    return hashes


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

{_parts(image_set)}The `images-*.safetensors` files hold
the exact tensors: `images`, float32 pixels in [0, 1]; `targets`, the class each image
was synthesized for, or soft labels; `logits`, the teacher's logits. `{INDEX}` lists the SHA-256 of each file. The optional
exports in `png` and `parquet` have 8 bits per channel, those in `npz` and `bin` are exact.

Train a student on them with `datafree distill --method saved --method.images FOLDER`.

Classes, with the names of their folders in `png`:

{class_list}

**Privacy.** {PRIVACY}
"""


def _parts(image_set: ImageSet) -> str:
    """Return the paragraph of a card about the parts of a mixture, with the empty line after it."""
    names = image_set.part_names
    if not names:
        return ""
    counts = ", ".join(f"{names.count(part):,} by {literal(part)}" for part in image_set.parts)
    return f"Parts of the mixture: {counts}. The tensor `parts` has the number of the part of each image, from 0.\n\n"
