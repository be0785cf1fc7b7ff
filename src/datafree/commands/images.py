"""`datafree synthesize`, `crosscheck`: sets of synthesized images."""

from dataclasses import asdict, dataclass, field, fields, make_dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from datafree import evaluation, teachers
from datafree.classifier import Classifier
from datafree.commands import PROCESS
from datafree.commands.mixtures import MixtureOptions, mixture_options, preset
from datafree.commands.options.parsing import Flat, Form, Positional
from datafree.commands.options.table import Selector, check
from datafree.commands.runs import console, refuse_existing, upload
from datafree.export.hub import require_repository
from datafree.matching import ClassMatch, match_classes
from datafree.methods import METHODS
from datafree.progress import emit
from datafree.runs.hardware import set_threads, to_device
from datafree.runs.planning.sizes import parse_size
from datafree.runs.reporting import report
from datafree.runs.reporting.console import plain, say
from datafree.runs.synthesizing import job
from datafree.sets.arrays import ArrayLayout
from datafree.sets.image_set import Format, reordered
from datafree.synthesis.image_sets import StoredSet
from datafree.synthesis.mixture import Mixture
from datafree.teachers.options import TeacherOptions
from datafree.types import InputError


@dataclass(frozen=True, kw_only=True)
class Synthesize(TeacherOptions):
    """Images from a teacher."""

    teacher: str
    """teacher: a folder, a weights file, an ONNX file, a timm name, torchvision:NAME, transformers:NAME, hf-hub:NAME, or
    FILE.py:FUNCTION"""
    out: Path
    """output folder; must not exist"""
    student: str = ""
    """network for the competition term of adaptive methods: a timm name (untrained), or a network with weights"""
    images: int = 256
    """number of images, rounded up to whole batches unless --only or a mixture is given"""
    only: tuple[str, ...] = ()
    """the only classes of the images, by name or by index; default: all classes"""
    per_class: int = 0
    """number of images of each class, used in place of --images; 0: classes are not counted"""
    format: tuple[Format, ...] = ("folder",)
    """formats besides the exact tensors: folder (PNG files by class), parquet (for the library datasets), npz (an array by the
    name of the input, for ModelOpt and others), bin (raw float32, for trtexec)"""
    layout: Flat[ArrayLayout] = field(default_factory=ArrayLayout)
    """of the formats npz and bin"""
    memory: str = ""
    """memory that the images may take until all of them are there, such as 8GB; more lie on disk beside the output folder, and
    the set is the same; default: half of the memory that is free"""
    push_to_hub: str = ""
    """repository of the Hugging Face hub that the folder is uploaded to at the end, as a data set; it is created as a private
    one"""
    seed: int = 0
    """random seed"""
    device: str = "auto"
    """cpu, cuda, mps, ...; auto: an accelerator if available, else the CPU"""
    devices: int = 1
    """number of processes with one device each, which divide every batch"""
    shard_teacher: bool = False
    """divide the weights of the teacher among the processes; a layer is gathered when it is used"""
    threads: int = 1
    """CPU threads"""

    def __post_init__(self) -> None:
        if self.memory:
            parse_size(self.memory)


def synthesize_options(method: str) -> type[Any]:
    """Return the options of `datafree synthesize`."""
    default = preset(method, METHODS)
    settings = ("method", type(default), field(default=default))
    if isinstance(default, Mixture):
        kind = mixture_options(default, schedules=False)
        settings = ("method", kind, field(default_factory=kind))
    parts = [("task", Flat[Synthesize]), settings]
    return make_dataclass("Options", parts, frozen=True, kw_only=True)


@dataclass(frozen=True, kw_only=True)
class Crosscheck:
    """Which images, and which networks classify them."""

    images: Positional[Path]
    """folder that `datafree synthesize` wrote"""
    networks: Positional[tuple[str, ...]]
    """networks with the same classes as the images' teacher, one or more, in any form that `inspect` takes; NETWORK@WEIGHTS
    names a network and its weights file; for other options make a folder with `datafree import`"""
    device: str = "auto"
    """cpu, cuda, mps, ...; auto: an accelerator if available, else the CPU"""
    threads: int = 1
    """CPU threads"""


SYNTHESIZE = Form(
    verb="synthesize",
    options=synthesize_options,
    selectors=[
        Selector(
            name="--method",
            help="how images are synthesized: {}; or a mixture with the share of each method, such as "
            "noise:0.7,deep-inversion:0.3",
            choices=tuple(METHODS),
            default="deep-inversion",
            mixes=True,
        ),
    ],
)
CROSSCHECK = Form(verb="crosscheck", options=lambda: Crosscheck)
FORMS = (SYNTHESIZE, CROSSCHECK)


def synthesize(arguments: list[str]) -> None:
    """`datafree synthesize`."""
    options = SYNTHESIZE.parse(arguments)
    if {"--images", "--per-class"} <= set(check("synthesize", arguments).values):
        raise InputError(
            "--per-class counts the images of each class, but --images is given too; leave one of them out"
        )
    refuse_existing(options.task.out)
    repository = options.task.push_to_hub
    if repository:
        require_repository(repository)
    others = {option.name for option in fields(TeacherOptions)} | {"push_to_hub"}
    own = [f.name for f in fields(Synthesize) if f.name not in others]
    settings = {name: getattr(options.task, name) for name in own} | {"options": options.task}
    method = options.method.mixture() if isinstance(options.method, MixtureOptions) else options.method
    count = job.synthesize(method, console=console, **settings)
    say(console, "images", f"{options.task.out}  ({count:,})")
    if not PROCESS:
        upload(options.task.out, repository, "dataset")
    emit(console, "result", images=str(options.task.out), count=count)


def crosscheck(arguments: list[str]) -> None:
    """`datafree crosscheck`."""
    options: Crosscheck = CROSSCHECK.parse(arguments)
    set_threads(options.threads)
    stored = StoredSet(options.images)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("network", overflow="fold")
    table.add_column("recognised", justify="right", no_wrap=True)
    table.add_column("worst class", justify="right", max_width=14, overflow="fold")
    for column in (f"score,\n1 to {len(stored.index.classes)}", "diversity", "images"):
        table.add_column(column, justify="right", no_wrap=True)
    notes: list[str] = []
    results: dict[str, Any] = {}
    for name in options.networks:
        network = teachers.load(name)
        match = require_fit(network, name, stored, options.images)
        notes += [*network.notes, match.note]
        to_device(network, options.device)
        batches = (reordered(batch, match.order) for batch in stored.batches())
        result = evaluation.crosscheck(network, batches, len(stored))
        results[name] = asdict(result)
        shares = zip(result.per_class, match.order, strict=True)
        least, label = min((share, label) for share, label in shares if share is not None)
        table.add_row(
            plain(name),
            report.percent(result.recognised),
            plain(f"{report.percent(least)}, {stored.index.classes[label]}"),
            f"{result.inception_score:.2f}",
            f"{result.diversity:.3f}",
            f"{result.images:,}",
        )
    console.print(table)
    for note in filter(None, dict.fromkeys(notes)):
        say(console, "note", note)
    emit(console, "result", networks=results)


def require_fit(network: Classifier, name: str, stored: StoredSet, folder: Path) -> ClassMatch:
    """Require that a network has the classes of an image set, in any order, and its channels. Return how they match.

    Raises:
        InputError: If it has not.
    """
    channels = stored.shape[0]
    if channels != network.shape[0]:
        raise InputError(
            f"{folder} has {channels} channels but {name} has {network.shape[0]}; the numbers must be equal"
        )
    if network.multi_label and not stored.soft:
        raise InputError(f"the images of {folder} have one label each, but {name} is a multi-label network")
    return match_classes(network.classes, stored.index.classes, name, str(folder))
