"""`datafree train`, `evaluate`, `statistics`: one network and real images."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from datafree import teachers
from datafree.commands.options.parsing import Flat, Form, Positional
from datafree.commands.runs import console, refuse_existing
from datafree.evaluation import class_places, score
from datafree.progress import emit
from datafree.real.feature_measuring import measure_real_images
from datafree.real.ledger import Ledger
from datafree.runs.experiment import assess
from datafree.runs.hardware import set_threads, to_device
from datafree.runs.reporting import report
from datafree.runs.reporting.console import plain, say
from datafree.runs.task_data import open_task_data
from datafree.runs.tasks import Task
from datafree.runs.training import TrainingConfig, example_teacher
from datafree.synthesis import features
from datafree.teachers.options import TeacherOptions, parse_arguments
from datafree.types import InputError, require_at_least, require_seed


@dataclass(frozen=True, kw_only=True)
class Train:
    """An example teacher."""

    network: Positional[str]
    """timm name of the network to train; the networks of the papers are included, such as lenet5"""
    data: str
    """real images: digits, mnist, cifar10 or folder:PATH"""
    out: Path
    """output folder, in timm's layout; must not exist"""
    data_root: str = ""
    """folder of the data sets (default: $DATAFREE_DATA, or ./data)"""
    input: tuple[int, ...] = ()
    """channels, height and width of the teacher's images, to which the real images are converted (default: those of the
    network)"""
    teacher_args: tuple[str, ...] = ()
    """further arguments of the network, as NAME=VALUE: patch_size=2 act_layer=gelu"""
    training: Flat[TrainingConfig] = field(default_factory=TrainingConfig)
    """settings of the training"""
    seed: int = 0
    """random seed"""
    device: str = "auto"
    """cpu, cuda, mps, ...; auto: an accelerator if available, else the CPU"""
    threads: int = 1
    """CPU threads"""


@dataclass(frozen=True, kw_only=True)
class Evaluate(TeacherOptions):
    """A network, evaluated on real images."""

    network: Positional[str]
    """the network to evaluate: a folder, a weights file, a timm name, torchvision:NAME, transformers:NAME, hf-hub:NAME, or
    FILE.py:FUNCTION"""
    data: str
    """real images, of which the test split is used: digits, mnist, cifar10 or folder:PATH; or unlabelled:PATH, for the
    agreement with --teacher"""
    teacher: str = ""
    """network to compare with, for the agreement of both, in any form that `inspect` takes, or NETWORK@WEIGHTS"""
    data_root: str = ""
    """folder of the data sets (default: $DATAFREE_DATA, or ./data)"""
    device: str = "auto"
    """cpu, cuda, mps, ...; auto: an accelerator if available, else the CPU"""
    threads: int = 1
    """CPU threads"""


@dataclass(frozen=True, kw_only=True)
class Statistics(TeacherOptions):
    """Which network's features are measured, on which images."""

    network: Positional[str]
    """the network to measure: a folder, a weights file, a timm name, torchvision:NAME, transformers:NAME, hf-hub:NAME, or
    FILE.py:FUNCTION"""
    data: str
    """real images, of which the train split is used: digits, mnist, cifar10 or folder:PATH; or unlabelled:PATH"""
    out: Path
    """output file, .safetensors; must not exist"""
    images: int = 1000
    """number of images, drawn at random; all if there are fewer"""
    data_root: str = ""
    """folder of the data sets (default: $DATAFREE_DATA, or ./data)"""
    seed: int = 0
    """random seed of the draw"""
    device: str = "auto"
    """cpu, cuda, mps, ...; auto: an accelerator if available, else the CPU"""
    threads: int = 1
    """CPU threads"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(2, images=self.images)
        require_seed(self.seed)


TRAIN = Form(verb="train", options=lambda: Train)
EVALUATE = Form(verb="evaluate", options=lambda: Evaluate)
STATISTICS = Form(verb="statistics", options=lambda: Statistics)
FORMS = (TRAIN, EVALUATE, STATISTICS)


def train_teacher(arguments: list[str]) -> None:
    """`datafree train`."""
    options: Train = TRAIN.parse(arguments)
    refuse_existing(options.out)
    settings: dict[str, Any] = {f.name: getattr(options, f.name) for f in fields(options)}
    further = parse_arguments(settings.pop("teacher_args"), "teacher-args")
    accuracy = example_teacher(**settings, arguments=further, console=console)
    say(console, "teacher", f"{options.out}  held-out {report.percent(accuracy)}")
    emit(console, "result", teacher=str(options.out), held_out=accuracy)


def evaluate_network(arguments: list[str]) -> None:
    """`datafree evaluate`."""
    options: Evaluate = EVALUATE.parse(arguments)
    set_threads(options.threads)
    if options.data.startswith("unlabelled:") and not options.teacher:
        raise InputError(
            f"{options.data} has no labels; name another network with --teacher, to measure their agreement"
        )
    network = options.load_network(options.network)
    teacher = teachers.load(options.teacher) if options.teacher else network
    class_places(teacher, network)  # refuses other classes
    for model in (network, teacher):
        to_device(model, options.device)
    task = Task(teacher=options.teacher, student=options.network, data=options.data, data_root=options.data_root)
    models = {options.network: network}
    if teacher is not network and len(teacher.classes) == len(network.classes):
        models = {options.teacher: teacher} | models
    tests = {name: open_task_data(task, "test", Ledger(), model) for name, model in models.items()}
    evaluations = {name: assess(model, teacher, tests[name], console) for name, model in models.items()}
    console.print(evaluation_table(evaluations, agreement=teacher is not network))
    for note in dict.fromkeys(note for source in (network, teacher, *tests.values()) for note in source.notes):
        say(console, "note", note)
    emit(console, "result", evaluations=evaluations)


def evaluation_table(evaluations: Mapping[str, Mapping[str, Any]], *, agreement: bool) -> Table:
    """Return the table of evaluations.

    Args:
        evaluations: By the name of the network.
        agreement: Whether to show the agreement with another network.
    """
    labelled = all("accuracy" in row for row in evaluations.values())
    cells: dict[str, Callable[[Mapping[str, Any]], str]] = {
        **({"held-out": lambda row: report.percent(score(row))} if labelled else {}),
        **({"agreement": lambda row: report.percent(row["agreement"])} if agreement else {}),
        **({"calibration\nerror": lambda row: report.percent(row["calibration_error"])} if labelled else {}),
        "parameters": lambda row: f"{row['parameters']:,}",
        "images": lambda row: f"{row['images']:,}",
    }
    if any(row.get("new_classes_accuracy") is not None for row in evaluations.values()):
        cells |= {
            "old\nclasses": lambda row: report.percent(row["old_classes_accuracy"]),
            "new\nclasses": lambda row: report.percent(row["new_classes_accuracy"]),
        }
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("network", overflow="fold")
    for column in cells:
        table.add_column(column, justify="right", no_wrap=True)
    for name, row in evaluations.items():
        table.add_row(plain(name), *(cell(row) for cell in cells.values()))
    return table


def measure_statistics(arguments: list[str]) -> None:
    """`datafree statistics`."""
    options: Statistics = STATISTICS.parse(arguments)
    refuse_existing(options.out)
    set_threads(options.threads)
    network = options.load_network(options.network)
    to_device(network, options.device)
    statistics = measure_real_images(network, options.data, options.images, options.seed, options.data_root)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    features.save(statistics, options.out)
    numbers = sum(2 * len(mean) for mean, _ in statistics.layers.values())
    layers = f"{len(statistics.layers)} layers, {numbers:,} numbers, from {statistics.images:,} real images"
    say(console, "measured", f"{options.out}  ({layers})")
    emit(console, "result", statistics=str(options.out), layers=len(statistics.layers), images=statistics.images)
