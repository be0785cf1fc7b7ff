"""`datafree train`, `evaluate`, `statistics`: one network and real images."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from datafree import teachers
from datafree.commands.options import Flat, parse
from datafree.commands.runs import console, refuse_existing
from datafree.evaluation import score
from datafree.real.data import Ledger
from datafree.real.feature_measuring import measure_some
from datafree.runs import report
from datafree.runs.experiment import judge, open_task_data
from datafree.runs.hardware import set_threads, to_device
from datafree.runs.tasks import Task
from datafree.runs.training import TrainingConfig, example_teacher
from datafree.synthesis import features
from datafree.types import InputError, at_least, is_seed


@dataclass(frozen=True, kw_only=True)
class Train:
    """An example teacher."""

    network: str
    """a timm name, the papers' networks included"""
    data: str
    """real images: digits, mnist, cifar10 or folder:PATH"""
    out: Path
    """folder to write, in timm's layout; must be new"""
    data_root: str = ""
    """where data sets lie; empty: $DATAFREE_DATA, or ./data"""
    training: Flat[TrainingConfig] = field(default_factory=TrainingConfig)
    """how"""
    seed: int = 0
    """of everything random"""
    device: str = "auto"
    """cpu, cuda, mps, ...; auto: an accelerator if there is one"""
    threads: int = 1
    """on the CPU"""


def train_teacher(arguments: list[str]) -> None:
    """`datafree train`."""
    options = parse(Train, "train", arguments)
    refuse_existing(options.out)
    accuracy = example_teacher(**{f.name: getattr(options, f.name) for f in fields(options)}, console=console)
    console.print(f"teacher  {options.out}  held-out {report.percent(accuracy)}", highlight=False, soft_wrap=True)


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """A classifier, judged on real images."""

    model: str
    """local-dir:FOLDER, or a timm name"""
    data: str
    """real images: digits, mnist, cifar10 or folder:PATH"""
    weights: str = ""
    """a file of weights, with a timm name"""
    teacher: str = ""
    """whom it should agree with: local-dir:FOLDER, or a timm name; empty: nobody"""
    data_root: str = ""
    """where data sets lie; empty: $DATAFREE_DATA, or ./data"""
    device: str = "cpu"
    """cpu, cuda, mps, or auto for the best there is"""
    threads: int = 1
    """on the CPU"""


def evaluate_network(arguments: list[str]) -> None:
    """`datafree evaluate`."""
    options = parse(Evaluate, "evaluate", arguments)
    set_threads(options.threads)
    model = teachers.load(options.model, weights=options.weights)
    teacher = teachers.load(options.teacher) if options.teacher else model
    if set(teacher.classes) <= set(model.classes) and teacher.classes != model.classes[: len(teacher.classes)]:
        raise InputError(
            f"{options.teacher} counts the classes of {options.model} in another order; compare networks of one order"
        )
    for network in (model, teacher):
        to_device(network, options.device)
    task = Task(teacher=options.teacher, student=options.model, data=options.data, data_root=options.data_root)
    test = open_task_data(task, "test", Ledger(), model)
    judged = {options.model: model}
    if teacher is not model and len(teacher.classes) == len(model.classes):
        judged = {options.teacher: teacher} | judged
    found = {name: judge(network, teacher, test, console) for name, network in judged.items()}
    console.print(verdict(found, agreement=teacher is not model))


def verdict(found: Mapping[str, Mapping[str, Any]], *, agreement: bool) -> Table:
    """What was found of each network, the one figure first.

    Args:
        found: By its name.
        agreement: Whether somebody was named to agree with.
    """
    cells: dict[str, Callable[[Mapping[str, Any]], str]] = {
        "held-out": lambda row: report.percent(score(row)),
        **({"agreement": lambda row: report.percent(row["agreement"])} if agreement else {}),
        "calibration error": lambda row: report.percent(row["calibration_error"]),
        "parameters": lambda row: f"{row['parameters']:,}",
        "images": lambda row: f"{row['images']:,}",
    }
    if any(row["parts"] for row in found.values()):
        cells |= {
            f"{kind} classes": lambda row, place=place: report.percent(row["parts"][place])
            for place, kind in enumerate(("old", "new"))
        }
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("model", overflow="fold")
    for column in cells:
        table.add_column(column, justify="right", no_wrap=True)
    for name, row in found.items():
        table.add_row(name, *(cell(row) for cell in cells.values()))
    return table


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """What is measured, on which images."""

    teacher: str
    """local-dir:FOLDER, or a timm name"""
    data: str
    """real images, of their train split: digits, mnist, cifar10 or folder:PATH"""
    out: Path
    """file to write, .safetensors; must be new"""
    weights: str = ""
    """a file with the teacher's weights, with a timm name"""
    images: int = 1000
    """how many are looked at, chosen at random; all if there are fewer"""
    data_root: str = ""
    """where data sets lie; empty: $DATAFREE_DATA, or ./data"""
    seed: int = 0
    """of the choice"""
    device: str = "cpu"
    """cpu, cuda, mps, or auto for the best there is"""
    threads: int = 1
    """on the CPU"""

    def __post_init__(self) -> None:
        at_least(2, images=self.images)
        is_seed(self.seed)


def measure_statistics(arguments: list[str]) -> None:
    """`datafree statistics`."""
    options = parse(Statistics, "statistics", arguments)
    refuse_existing(options.out)
    set_threads(options.threads)
    teacher = teachers.load(options.teacher, weights=options.weights)
    to_device(teacher, options.device)
    found = measure_some(teacher, options.data, options.images, options.seed, options.data_root)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    features.save(found, options.out)
    numbers = sum(2 * len(mean) for mean, _ in found.layers.values())
    console.print(
        f"measured {options.out}  ({len(found.layers)} layers, {numbers:,} numbers, from {found.images:,} real images)",
        highlight=False,
        soft_wrap=True,
    )
