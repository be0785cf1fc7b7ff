"""Synthesized images to keep: PNG files by class to look at, exact tensors to train on, a contact sheet, a data card."""

from collections.abc import Iterator
from pathlib import Path

import torch
from rich.console import Console
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torchvision.transforms.v2.functional import to_pil_image

from datafree import processor, report, teachers
from datafree.classifier import Classifier
from datafree.doctor import require
from datafree.logbook import Logbook
from datafree.store import replacing
from datafree.synthesis import Method, Schedule, Stream
from datafree.types import Batch, InputError, at_least

TENSORS = "images.safetensors"


def synthesize(
    method: Method,
    *,
    teacher: str,
    out: Path,
    weights: str = "",
    images: int = 256,
    seed: int = 0,
    threads: int = 1,
    console: Console | None = None,
) -> int:
    """Makes whole batches until there are so many images, and writes them; returns how many there are.

    Raises:
        InputError: If the teacher cannot be used.
    """
    at_least(1, images=images, threads=threads)
    processor.use(threads)
    torch.manual_seed(seed)
    classifier = teachers.load(teacher, weights=weights)
    require(classifier, method)
    count = -(-images // method.batch)
    made_by = f"{method!r}, seed {seed}"
    with Logbook(None, classifier, None, console=console) as logbook:
        if method.adaptive:
            logbook.note("there is no student to look at: the term that asks for its mistakes is off")
            made_by += ", without a student"
        stream = Stream(method.build(classifier), None, Schedule(warmup=count, every=0, keep=count), logbook)
        for batch in logbook.track(range(1, method.learning + count + 1), "make"):
            stream.fill(batch)
    everything = stream.pool.all()
    write(everything, classifier, out, made_by)
    return len(everything)


def write(batch: Batch, teacher: Classifier, out: Path, made_by: str) -> None:
    """Writes a set; the folder appears at once and complete."""
    with replacing(out) as new:
        save_file({"images": batch.images.cpu().contiguous(), "targets": batch.targets.cpu()}, new / TENSORS)
        report.contact_sheet(batch, teacher.classes).save(new / "grid.png")
        (new / "README.md").write_text(card(batch, teacher, made_by))
        labels = batch.targets if batch.targets.ndim == 1 else batch.targets.argmax(1)
        for place, (image, label) in enumerate(
            zip(report.displayable(batch.images.cpu()), labels.tolist(), strict=True)
        ):
            # A number first: a class may be called anything, a folder may not.
            folder = new / "png" / f"{label:04d}"
            folder.mkdir(parents=True, exist_ok=True)
            to_pil_image(image).save(folder / f"{place:06d}.png")


def card(batch: Batch, teacher: Classifier, made_by: str) -> str:
    """The data card."""
    names = "\n".join(f"- `png/{label:04d}`: {name}" for label, name in enumerate(teacher.classes))
    return f"""# {len(batch):,} synthesized images

Made by `{made_by}` from a teacher whose weights have SHA-256 `{teachers.fingerprint(teacher.model)}`. No real image was used.

`{TENSORS}` holds them exactly, as float32 pixels in [0, 1] with what they should be; `png` is for looking at, in eight bits.

{names}

**Privacy.** {report.PRIVACY}
"""


def read(folder: Path) -> Batch:
    """A set that was written.

    Raises:
        InputError: If there is none, or it is damaged.
    """
    path = folder / TENSORS
    try:
        tensors = load_file(path)
        return Batch(tensors["images"], tensors["targets"], {})
    except (OSError, SafetensorError, KeyError) as fault:
        raise InputError(f"{path} is missing or damaged; give a folder that `datafree synthesize` wrote") from fault


def draws(batch: Batch, count: int) -> Iterator[Batch]:
    """Random images of a set without end."""
    while True:
        chosen = torch.randint(len(batch), (count,))
        yield Batch(batch.images[chosen], batch.targets[chosen], {})
