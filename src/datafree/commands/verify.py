"""`datafree verify`: what other networks say of synthesized images."""

from dataclasses import dataclass
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table

from datafree import processor, report, teachers
from datafree.classifier import Classifier
from datafree.commands.options import parse
from datafree.commands.runs import console
from datafree.evaluation import verify
from datafree.image_set import ImageSet, read
from datafree.types import Batch, InputError


@dataclass(frozen=True, kw_only=True)
class Verify:
    """Which images, and who looks at them."""

    images: Path
    """folder that `datafree synthesize` wrote"""
    verifier: tuple[str, ...]
    """classifiers of the same classes, the teacher itself for comparison: local-dir:FOLDER, or a timm name"""
    device: str = "cpu"
    """cpu, cuda, mps, or auto for the best there is"""
    threads: int = 1
    """on the CPU"""

    def __post_init__(self) -> None:
        if not self.verifier:
            raise InputError("verifier names nobody; give one or more classifiers of the same classes")


def verify_images(arguments: list[str]) -> None:
    """`datafree verify`."""
    options = parse(Verify, "verify", arguments)
    processor.use(options.threads)
    made = read(options.images)
    batches = [
        Batch(*parts, {}) for parts in zip(made.batch.images.split(512), made.batch.targets.split(512), strict=True)
    ]
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("verifier", overflow="fold")
    for column in ("recognised", "least, of class", f"score, 1 to {len(made.classes)}", "diversity", "images"):
        table.add_column(column, justify="right", no_wrap=True)
    for name in options.verifier:
        verifier = teachers.load(name)
        require_fit(verifier, name, made, options.images)
        processor.put(verifier, options.device)
        found = verify(verifier, batches)
        least, kind = min((part, kind) for kind, part in enumerate(found.per_class) if part is not None)
        table.add_row(
            name,
            report.percent(found.recognised),
            f"{report.percent(least)}, {made.classes[kind]}",
            f"{found.inception_score:.2f}",
            f"{found.diversity:.3f}",
            f"{found.images:,}",
        )
    console.print(table)


def require_fit(verifier: Classifier, name: str, made: ImageSet, folder: Path) -> None:
    """Refuses a verifier of other classes or channels, or of classes in another order.

    Raises:
        InputError: Naming them.
    """
    for what, theirs, ours in (
        ("classes", len(made.classes), len(verifier.classes)),
        ("channels", made.batch.images.shape[1], verifier.shape[0]),
    ):
        if theirs != ours:
            raise InputError(f"{folder} has {theirs} {what} and {name} {ours}; they must be equal")
    if set(made.classes) == set(verifier.classes) and made.classes != verifier.classes:
        raise InputError(
            f"{folder} and {name} have the same classes in another order; number one of them like the other"
        )
    if verifier.multi_label and made.batch.targets.ndim == 1:
        raise InputError(f"an image of {folder} has one label, but {name} gives an answer for each label")
