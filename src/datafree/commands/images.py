"""`datafree synthesize`, `crosscheck`: images that are kept."""

from dataclasses import dataclass, field, fields, make_dataclass
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table

from datafree import evaluation, teachers
from datafree.classifier import Classifier
from datafree.commands.experiments import CHOOSE, preset
from datafree.commands.options import Flat, parse
from datafree.commands.runs import console, refuse_existing
from datafree.runs import report, synthesis_job
from datafree.runs.hardware import set_threads, to_device
from datafree.sets.image_set import Format, ImageSet, read
from datafree.sets.saved import SavedConfig
from datafree.types import Batch, InputError


@dataclass(frozen=True, kw_only=True)
class Synthesize:
    """Images from a teacher."""

    teacher: str
    """local-dir:FOLDER, or a timm name"""
    out: Path
    """folder to write; must be new"""
    weights: str = ""
    """a file with the teacher's weights, with a timm name"""
    student: str = ""
    """at whom adaptive methods look: local-dir:FOLDER, or a timm name, untrained then; empty: at nobody"""
    images: int = 256
    """how many, at least; whole batches are made"""
    format: tuple[Format, ...] = ("folder",)
    """what is written beside the exact tensors: folder (PNG files by class), parquet (for Hugging Face's datasets)"""
    seed: int = 0
    """of everything random"""
    device: str = "cpu"
    """cpu, cuda, mps, or auto for the best there is"""
    threads: int = 1
    """on the CPU"""


def synthesize(arguments: list[str]) -> None:
    """`datafree synthesize`."""
    method, rest = preset(arguments, "deep-inversion")
    if method is None or isinstance(method, SavedConfig):
        raise InputError("real images and saved ones need not be synthesized; name a method")
    parts = [("task", Flat[Synthesize]), ("method", type(method), field(default=method))]
    kind = make_dataclass("Options", parts, kw_only=True)
    given = parse(kind, "synthesize", rest, more=f" {CHOOSE}")
    refuse_existing(given.task.out)
    pictures = synthesis_job.synthesize(
        given.method, console=console, **{f.name: getattr(given.task, f.name) for f in fields(Synthesize)}
    )
    console.print(f"images   {given.task.out}  ({pictures:,})", highlight=False, soft_wrap=True)


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


def crosscheck(arguments: list[str]) -> None:
    """`datafree crosscheck`."""
    options = parse(Verify, "crosscheck", arguments)
    set_threads(options.threads)
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
        to_device(verifier, options.device)
        found = evaluation.crosscheck(verifier, batches)
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
