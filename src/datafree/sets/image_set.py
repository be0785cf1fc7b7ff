"""Write image sets: exact tensors in shards, with optional PNG files by class and a parquet data set.

An image set is a folder. Its `set.json` holds the metadata and the SHA-256 of each shard.
`datafree.synthesis.image_sets` reads it, and `datafree.sets.saved` trains students on it.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from datafree.classifier import Classifier, frozen
from datafree.files import atomic_folder
from datafree.sets.arrays import ArrayLayout, bin_file, npz_file
from datafree.sets.contact_sheet import labels_of, sampled, sheet_of
from datafree.sets.pictures import ParquetWriter, write_folder
from datafree.sets.pieces import InMemory, Pieces
from datafree.sets.privacy import PRIVACY, literal
from datafree.sets.shard_writer import ShardWriter
from datafree.synthesis.image_sets import About as About
from datafree.synthesis.image_sets import ImageSet as ImageSet
from datafree.synthesis.image_sets import read as read
from datafree.synthesis.image_sets import reordered as reordered
from datafree.synthesis.image_sets.index import INDEX, Index, write_index
from datafree.synthesis.image_sets.stored import AT_ONCE
from datafree.types import Batch, Diverged, Images, Logits, printable

SHARD_BYTES = 2**28
"""maximum size of the images, targets and logits in one shard, unless a single image is larger"""

MAX_PIXELS = 2**22
"""maximum number of pixels per channel of the images that the teacher classifies at once: 83 images of 224 x 224"""
SHEET = 128
"""images of the contact sheet"""

Format = Literal["folder", "parquet", "npz", "bin"]


def write(
    image_set: ImageSet,
    teacher: Classifier,
    out: str | Path,
    format: Sequence[Format] = (),
    layout: ArrayLayout = ArrayLayout(),  # noqa: B008  frozen
) -> None:
    """Write an image set that is in memory; see `write_pieces`."""
    write_pieces(InMemory(image_set.batch), image_set, teacher, out, format, layout)


def write_pieces(
    images: Pieces,
    about: About,
    teacher: Classifier,
    out: str | Path,
    format: Sequence[Format] = (),
    layout: ArrayLayout = ArrayLayout(),  # noqa: B008  frozen
) -> None:
    """Write an image set piece by piece. The folder appears only when it is complete.

    Args:
        images: The images. If they come without the teacher's logits, these are computed.
        about: The metadata.
        teacher: The classifier the images were synthesized from.
        out: The output folder.
        format: Exports to write in addition to the exact shards.
        layout: What the input of the network is called in the exports `npz` and `bin`, and what it takes.

    Raises:
        Diverged: If a pixel is not finite; nothing is written.
    """
    with atomic_folder(Path(out)) as new:
        shards, labels, kept = ShardWriter(new, len(images), SHARD_BYTES), [], False
        with ExitStack() as stack:
            exports: list[Callable[[Piece], None]] = []
            for piece in in_order(images, about, teacher):
                if not piece.start:
                    shape = (len(images), *piece.batch.images.shape[1:])
                    exports = open_exports(stack, new, about, teacher, format, layout, shape)
                shards.add(piece.tensors)
                labels.append(labels_of(piece.batch).cpu())
                kept = piece.batch.teacher_logits is not None
                for export in exports:
                    export(piece)
        sheet_of(shards.images(sampled(torch.cat(labels), SHEET))).save(new / "grid.png")
        (new / "README.md").write_text(card(about, len(images), format), encoding="utf-8")
        index = Index(
            images=len(images),
            logits_kept=kept,
            classes=about.classes,
            teacher_sha256=about.teacher_sha256,
            made_by=printable(about.made_by),
            measured_images=dict(about.measured_images),
            seconds=about.seconds,
            parts=about.parts,
            shards=shards.hashes,
        )
        write_index(index, new)


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Images that are written together."""

    start: int
    """number of the first one"""
    batch: Batch
    """the images and their targets"""
    logits: Logits
    """the teacher's logits, those that the method kept or computed ones"""
    part_of: Tensor | None
    """for each image the index of its part of a mixture"""
    part_names: Sequence[str]
    """the name of the part of each image; empty without a mixture"""

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The tensors of the shards."""
        tensors = {"images": self.batch.images, "targets": self.batch.targets, "logits": self.logits}
        return tensors if self.part_of is None else {**tensors, "parts": self.part_of}


def in_order(images: Pieces, about: About, teacher: Classifier) -> Iterator[Piece]:
    """Yield all images in order, as many at a time as the teacher computes logits of.

    Raises:
        Diverged: If a pixel is not finite.
    """
    size = max(1, min(AT_ONCE, MAX_PIXELS // math.prod(teacher.shape[1:])))
    for start in range(0, len(images), size):
        batch = images.read(start, start + size)
        if not bool(batch.images.isfinite().all()):
            raise Diverged("some images have non-finite pixels; lower the learning rate of the method")
        logits = compute_logits(teacher, batch.images) if batch.teacher_logits is None else batch.teacher_logits
        part_of = None if about.part_of is None else about.part_of[start : start + size]
        names = [] if part_of is None else [about.parts[index] for index in part_of.tolist()]
        yield Piece(start=start, batch=batch, logits=logits, part_of=part_of, part_names=names)


def compute_logits(teacher: Classifier, images: Images) -> Logits:
    """Return the teacher's logits."""
    with frozen(teacher), torch.no_grad():
        return teacher(images.to(teacher.device))


def open_exports(
    stack: ExitStack,
    folder: Path,
    about: About,
    teacher: Classifier,
    format: Sequence[Format],
    layout: ArrayLayout,
    shape: tuple[int, ...],
) -> list[Callable[[Piece], None]]:
    """Return functions that write the pieces of a set, in order, in the formats that are asked for."""
    exports: list[Callable[[Piece], None]] = []
    if "folder" in format:
        exports.append(lambda piece: write_folder(piece.batch, folder / "png", piece.part_names, piece.start))
    if "parquet" in format:
        rows = stack.enter_context(ParquetWriter(about.classes, folder / "parquet", bool(about.parts)))
        exports.append(lambda piece: rows.add(piece.batch, teacher.probabilities(piece.logits), piece.part_names))
    if "npz" in format:
        npz = stack.enter_context(npz_file(shape, teacher, layout, folder / "npz"))
        exports.append(lambda piece: npz(piece.batch.images))
    if "bin" in format:
        raw = stack.enter_context(bin_file(shape, teacher, layout, folder / "bin"))
        exports.append(lambda piece: raw(piece.batch.images))
    return exports


def card(about: About, count: int, format: Sequence[Format]) -> str:
    """Return the data card. Its YAML header tells Hugging Face's `datasets` which files to load."""
    files = {"parquet": "parquet/*.parquet", "folder": "png/**"}
    data_files = next((files[name] for name in ("parquet", "folder") if name in format), "images-*.safetensors")
    class_list = "\n".join(f"- `{label:04d}`: {literal(name)}" for label, name in enumerate(about.classes))
    measured = "\n".join(
        f"The feature statistics used were measured on {count:,} real images of {literal(source)}."
        for source, count in about.measured_images.items()
    )
    return f"""---
tags: [synthetic, data-free, image-classification]
configs:
- config_name: default
  data_files:
  - split: train
    path: {data_files}
---
# {count:,} synthesized images

Synthesized by {literal(about.made_by)} from a teacher whose weights have SHA-256 {literal(about.teacher_sha256)}.
{measured or "No real image was used."}

{_parts(about)}The `images-*.safetensors` files hold
the exact tensors: `images`, float32 pixels in [0, 1]; `targets`, the class each image
was synthesized for, or soft labels; `logits`, the teacher's logits. `{INDEX}` lists the SHA-256 of each file. The optional
exports in `png` and `parquet` have 8 bits per channel, those in `npz` and `bin` are exact.

Train a student on them with `datafree distill --method saved --method.images FOLDER`.

Classes, with the names of their folders in `png`:

{class_list}

**Privacy.** {PRIVACY}
"""


def _parts(about: About) -> str:
    """Return the paragraph of a card about the parts of a mixture, with the empty line after it."""
    names = about.part_names
    if not names:
        return ""
    counts = ", ".join(f"{names.count(part):,} by {literal(part)}" for part in about.parts)
    return f"Parts of the mixture: {counts}. The tensor `parts` has the number of the part of each image, from 0.\n\n"
