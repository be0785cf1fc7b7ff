"""`datafree compress`: several steps from a checkpoint to a file for a device, on images that are made once."""

from dataclasses import dataclass
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table

from datafree.commands.console.advice import Unfinished, unfinished
from datafree.commands.options.parsing import Form, Positional
from datafree.commands.runs import console
from datafree.progress import emit
from datafree.runs.compression.pipeline import CompressionConfig, StepRow, compress
from datafree.runs.reporting.console import plain, say
from datafree.teachers.options import TeacherOptions
from datafree.types import require_at_least


@dataclass(frozen=True, kw_only=True)
class Compress(TeacherOptions):
    """What is compressed, in which steps."""

    checkpoint: Positional[str]
    """the network to compress: a folder, a weights file, a timm name, torchvision:NAME, transformers:NAME, hf-hub:NAME, or
    FILE.py:FUNCTION"""
    steps: str
    """the steps, in order: distill:NETWORK, prune:RATIO or prune:macs:0.5, quantize:BITS, export:FORMAT; such as
    distill:resnet18,prune:0.5,quantize:w8a8,export:onnx"""
    out: Path
    """output folder; if it holds the same compression, that is continued"""
    budget: str = "30m"
    """time for everything, such as 10m or 2h; it is divided over the images and the steps"""
    method: str = "auto"
    """how the images are synthesized, once for all steps: the name of a method, or auto"""
    images: int = 0
    """number of images; 0: as many as a quarter of the budget allows"""
    data: str = ""
    """real images for the accuracy of each step: digits, mnist, cifar10 or folder:PATH; default: none"""
    data_root: str = ""
    """folder of the data sets; default: $DATAFREE_DATA, else ./data"""
    seed: int = 0
    """random seed"""
    device: str = "auto"
    """cpu, cuda, mps, ...; auto: an accelerator if available, else the CPU"""
    threads: int = 1
    """CPU threads"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(0, images=self.images)


COMPRESS = Form(verb="compress", options=lambda: Compress)
FORMS = (COMPRESS,)


def compress_network(arguments: list[str]) -> None:
    """`datafree compress`."""
    given: Compress = COMPRESS.parse(arguments)
    names = list(TeacherOptions.__dataclass_fields__)
    config = CompressionConfig(
        checkpoint=given.checkpoint,
        options=TeacherOptions(**{name: getattr(given, name) for name in names}),
        steps=given.steps,
        budget=given.budget,
        method=given.method,
        images=given.images,
        data=given.data,
        data_root=given.data_root,
        seed=given.seed,
        device=given.device,
        threads=given.threads,
    )
    unfinished.append(Unfinished(given.out, is_run=False, repeats=True))
    rows = compress(config, given.out, console)
    console.print(table_of(rows))
    say(console, "written", given.out)
    emit(console, "result", path=str(given.out), rows=[vars(row) for row in rows])


def table_of(rows: list[StepRow]) -> Table:
    """Return the table of all steps for a terminal."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("step", overflow="fold")
    for column in ("bytes", "ms", "agreement", "estimate", "held-out"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            plain(row.step),
            f"{row.bytes:,}",
            f"{row.milliseconds:.3f}",
            percent(row.agreement),
            percent(row.estimate),
            percent(row.accuracy),
        )
    return table


def percent(value: float | None) -> str:
    """Return a fraction in percent; "-" for None."""
    return "-" if value is None else f"{100 * value:.2f} %"
