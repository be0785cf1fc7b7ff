"""`datafree evaluate`: a classifier on real images."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from datafree import processor, report, teachers
from datafree.commands.options import parse
from datafree.commands.runs import console
from datafree.data import Ledger
from datafree.evaluation import score
from datafree.experiment import judge, open_task_data
from datafree.tasks import Task
from datafree.types import InputError


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


def evaluate_model(arguments: list[str]) -> None:
    """`datafree evaluate`."""
    options = parse(Evaluate, "evaluate", arguments)
    processor.use(options.threads)
    model = teachers.load(options.model, weights=options.weights)
    teacher = teachers.load(options.teacher) if options.teacher else model
    if set(teacher.classes) <= set(model.classes) and teacher.classes != model.classes[: len(teacher.classes)]:
        raise InputError(
            f"{options.teacher} counts the classes of {options.model} in another order; compare networks of one order"
        )
    for network in (model, teacher):
        processor.put(network, options.device)
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
