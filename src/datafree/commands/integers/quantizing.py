"""`datafree quantize`: a network in integers, calibrated without data."""

from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import Any

from datafree.commands.mixtures import MixtureOptions, mixture_options, preset
from datafree.commands.options.parsing import Flat, Form, Positional
from datafree.commands.options.table import Selector
from datafree.commands.runs import console, refuse_existing
from datafree.methods import METHODS
from datafree.progress import emit
from datafree.quantization.choosing import QuantizationConfig
from datafree.runs.hardware import require_threads
from datafree.runs.quantizing.auto import CalibrationConfig
from datafree.runs.quantizing.card import portability, table_of
from datafree.runs.quantizing.job import FEWEST, Product, QuantizationJob, quantize_network
from datafree.runs.reporting.console import say
from datafree.sets.saved import SavedConfig
from datafree.synthesis import Method
from datafree.synthesis.mixture import Mixture
from datafree.teachers.options import TeacherOptions
from datafree.types import require_at_least, require_seed

SOURCES: dict[str, Method] = {"auto": CalibrationConfig(), **METHODS, "saved": SavedConfig()}
"""methods that calibrate"""


@dataclass(frozen=True, kw_only=True)
class Quantize(TeacherOptions):
    """Which network is quantised, and where it is written."""

    network: Positional[str]
    """the network to quantise: a folder, a weights file, a timm name, torchvision:NAME, transformers:NAME, hf-hub:NAME, or
    FILE.py:FUNCTION"""
    out: Path
    """output folder; must not exist"""
    images: int = 512
    """number of synthesized images: one half calibrates, the other half decides; at most 256 each"""
    data: str = ""
    """real images for one more row of the table, and for the accuracy: digits, mnist, cifar10, folder:PATH, or
    unlabelled:PATH; they do not touch the file that is written; default: none"""
    data_root: str = ""
    """folder of the data sets; default: $DATAFREE_DATA, else ./data"""
    seed: int = 0
    """random seed"""
    threads: int = 1
    """CPU threads"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(FEWEST, images=self.images)
        require_seed(self.seed)
        require_threads(self.threads)


def quantize_options(method: str) -> type[Any]:
    """Return the options of `datafree quantize`."""
    default = preset(method, SOURCES)
    settings = ("method", type(default), field(default=default))
    if isinstance(default, Mixture):
        kind = mixture_options(default, schedules=False)
        settings = ("method", kind, field(default_factory=kind))
    parts = [
        ("task", Flat[Quantize]),
        settings,
        ("config", Flat[QuantizationConfig], field(default_factory=QuantizationConfig)),
    ]
    return make_dataclass("Options", parts, frozen=True, kw_only=True)


QUANTIZE = Form(
    verb="quantize",
    options=quantize_options,
    selectors=[
        Selector(
            name="--method",
            help="how the images for calibration are synthesized: {}; auto draws pictures and refines some; saved reads a "
            "folder that `datafree synthesize` wrote; or a mixture with the share of each method, such as "
            "noise:0.7,deep-inversion:0.3",
            choices=tuple(SOURCES),
            default="auto",
            mixes=True,
        ),
    ],
)
FORMS = (QUANTIZE,)


def quantize_command(arguments: list[str]) -> None:
    """`datafree quantize`."""
    options = QUANTIZE.parse(arguments)
    task: Quantize = options.task
    refuse_existing(task.out)
    method = options.method.mixture() if isinstance(options.method, MixtureOptions) else options.method
    job = QuantizationJob(
        config=options.config,
        method=method,
        network=task.network,
        images=task.images,
        data=task.data,
        data_root=task.data_root,
        seed=task.seed,
        threads=task.threads,
    )
    classifier = task.load_network(task.network)
    show(quantize_network(job, classifier, task.out, console=console, weights=task.weights))


def show(product: Product) -> None:
    """Print the table of controls, and where the product is."""
    console.print(table_of(product.rows, product.other))
    say(console, "holds", portability(product.quantized))
    say(console, "written", f"{product.path}  ({product.quantized.bytes:,} bytes)")
    emit(console, "result", path=str(product.path), result=product.quantized.as_dict())
