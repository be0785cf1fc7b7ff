"""`datafree evaluate`: a classifier on real images."""

from dataclasses import dataclass

from datafree import processor, report, teachers
from datafree.commands.options import parse
from datafree.commands.runs import console
from datafree.data import Ledger
from datafree.experiment import judge, open_task_data
from datafree.tasks import Task
from datafree.types import InputError, at_least


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
    """whom it should agree with; empty: itself"""
    data_root: str = ""
    """where data sets lie; empty: $DATAFREE_DATA, or ./data"""
    device: str = "cpu"
    """cpu, cuda, mps, or auto for the best there is"""
    threads: int = 1
    """on the CPU"""

    def __post_init__(self) -> None:
        at_least(1, threads=self.threads)


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
    rows = [{"model": options.model, "real": None, **judge(model, teacher, test, console)}]
    console.print(report.ladder(rows))
