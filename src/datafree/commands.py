"""What each verb of the command does: its options are dataclasses, its errors one sentence."""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, make_dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from datafree import image_set, report, teachers
from datafree.applications import Application
from datafree.applications.distillation import DistillationConfig
from datafree.bench import BENCHMARKS, Bench, bench
from datafree.data import Ledger
from datafree.demo import Demo, demo
from datafree.experiment import Experiment, Machine, Result, Task, judge, open_task_data, resume, run
from datafree.methods import METHODS
from datafree.options import Flat, parse, take
from datafree.store import next_folder
from datafree.synthesis import Method, Schedule
from datafree.training import TrainingConfig, example_teacher
from datafree.types import Diverged, InputError, nearest
from datafree.verbs import DIVERGED, INTERRUPTED

console = Console(quiet=int(os.environ.get("LOCAL_RANK", "0")) > 0)  # of several processes one speaks


def carry_out(verb: str, arguments: Sequence[str]) -> int:
    """Runs a verb and turns what a user can cause into one sentence and an exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a job that is ended says how to go on, too
    try:
        COMMANDS[verb](list(arguments))
    except InputError as fault:
        return _fail(str(fault), 2)
    except Diverged as fault:
        return _fail(str(fault), DIVERGED)
    except KeyboardInterrupt:
        return _fail(_resumable(), INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()
    return 0


_open_run: list[Path] = []
"""the run that an interrupt would leave behind"""


def _resumable() -> str:
    return f"interrupted; go on with: datafree resume {_open_run[-1]}" if _open_run else "interrupted; start it again"


def _fail(message: str, code: int) -> int:
    printable = "".join(character if character.isprintable() else " " for character in message)
    print(f"datafree: {' '.join(printable.split())}", file=sys.stderr)
    return code


def method_named(name: str) -> Method | None:
    """A preset by its name; `real` is the ceiling.

    Raises:
        InputError: If there is none.
    """
    if name == "real":
        return None
    if name not in METHODS:
        raise InputError(f"method {name!r} is unknown{nearest(name, METHODS)}; `datafree methods` lists them")
    return METHODS[name]


def preset(arguments: Sequence[str], default: str) -> tuple[Method | None, list[str]]:
    """The method that `--method` names, whose settings are then options of their own."""
    name, rest = take(list(arguments), "--method", default)
    return method_named(name), rest


def distill(arguments: list[str]) -> None:
    """`datafree distill`."""
    method, rest = preset(arguments, "adi")
    learning = DistillationConfig(**method.distillation) if method else DistillationConfig()
    experiment, out = parse_experiment("distill", method, learning, rest)
    finish(start(experiment, out))


def parse_experiment(
    verb: str, method: Method | None, application: Application, arguments: Sequence[str]
) -> tuple[Experiment, Path]:
    """An experiment from options: the task's and the machine's without a prefix, all others by the part they belong to."""
    where = Annotated[Path | None, tyro.conf.arg(help="folder to write; runs/VERB-NNN if not given")]
    kind = make_dataclass(
        verb,
        [
            ("task", Flat[Task]),
            ("out", where, field(default=None)),
            *([("method", type(method), field(default=method))] if method else []),
            ("schedule", Schedule, field(default=method.schedule if method else Schedule())),
            ("application", type(application), field(default=application)),
            ("machine", Flat[Machine], field(default=Machine())),
        ],
        frozen=True,
        kw_only=True,
    )
    given = parse(kind, verb, arguments, more=f" {CHOOSE}")
    settings = {name: getattr(given, name) for name in ("task", "schedule", "application")}
    machine = {f.name: getattr(given.machine, f.name) for f in fields(Machine)}
    experiment = Experiment(method=getattr(given, "method", None), **settings, **machine)
    return experiment, given.out or next_folder(verb)


CHOOSE = (
    f"--method NAME chooses among {', '.join(METHODS)}, and real (the ceiling); its settings are the options below."
)


def start(experiment: Experiment, out: Path) -> Result:
    """Runs an experiment; until it is done, an interrupt says how to go on with it."""
    _open_run.append(out)
    result = run(experiment, out, console=console)
    _open_run.pop()
    return result


def finish(result: Result) -> None:
    """Says what came out and where it lies."""
    console.print(report.ladder(report.rows_of(result.summary)))
    console.print(f"student  {result.path / 'student'}", highlight=False, soft_wrap=True)
    console.print(f"report   {result.path / 'report.html'}", highlight=False, soft_wrap=True)


@dataclass(frozen=True, kw_only=True)
class Named:
    """A run."""

    run: tyro.conf.Positional[Path]
    """its folder"""


def resume_run(arguments: list[str]) -> None:
    """`datafree resume`."""
    path = parse(Named, "resume", arguments).run
    _open_run.append(path)
    finish(resume(path, console))


def show_report(arguments: list[str]) -> None:
    """`datafree report`."""
    path = parse(Named, "report", arguments).run
    summary = report.read_summary(path)
    report.rewrite(path, summary)
    console.print(report.ladder(report.rows_of(summary)))
    console.print(f"report   {path / 'report.html'}", highlight=False, soft_wrap=True)


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
    training: TrainingConfig = field(default_factory=TrainingConfig)
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
    """whom it should agree with; empty: itself"""
    data_root: str = ""
    """where data sets lie; empty: $DATAFREE_DATA, or ./data"""


def evaluate_model(arguments: list[str]) -> None:
    """`datafree evaluate`."""
    options = parse(Evaluate, "evaluate", arguments)
    model = teachers.load(options.model, weights=options.weights)
    teacher = teachers.load(options.teacher) if options.teacher else model
    task = Task(teacher=options.teacher, student=options.model, data=options.data, data_root=options.data_root)
    test = open_task_data(task, "test", Ledger(), model)
    rows = [{"model": options.model, "real": None, **judge(model, teacher, test)}]
    console.print(report.ladder(rows))


@dataclass(frozen=True, kw_only=True)
class Synthesize:
    """Images from a teacher."""

    teacher: str
    """local-dir:FOLDER, or a timm name"""
    out: Path
    """folder to write; must be new"""
    weights: str = ""
    """a file with the teacher's weights, with a timm name"""
    images: int = 256
    """how many, at least; whole batches are made"""
    seed: int = 0
    """of everything random"""
    threads: int = 1
    """on the CPU"""


def synthesize(arguments: list[str]) -> None:
    """`datafree synthesize`."""
    method, rest = preset(arguments, "deep-inversion")
    if method is None:
        raise InputError("real images need not be synthesized; name a method")
    parts = [("task", Flat[Synthesize]), ("method", type(method), field(default=method))]
    kind = make_dataclass("Options", parts, kw_only=True)
    given = parse(kind, "synthesize", rest, more=f" {CHOOSE}")
    refuse_existing(given.task.out)
    pictures = image_set.synthesize(
        given.method, console=console, **{f.name: getattr(given.task, f.name) for f in fields(Synthesize)}
    )
    console.print(f"images   {given.task.out}  ({pictures:,})", highlight=False, soft_wrap=True)


def show_methods(arguments: list[str]) -> None:
    """`datafree methods`."""
    if arguments:
        parse(Nothing, "methods", arguments)
    table = Table()
    for column in ("method", "paper", "the teacher must have", "passes per image"):
        table.add_column(column)
    for name, method in METHODS.items():
        table.add_row(name, method.paper, ", ".join(method.needs) or "-", f"{method.passes:,.0f}")
    console.print(table)


@dataclass(frozen=True)
class Nothing:
    """No options."""


def run_demo(arguments: list[str]) -> None:
    """`datafree demo`."""
    options = parse(Demo, "demo", arguments)
    if options.out:
        refuse_existing(options.out)
    demo(options, console)


def run_bench(arguments: list[str]) -> None:
    """`datafree bench TABLE`."""
    if arguments and arguments[0] in ("-h", "--help"):
        parse(Bench, "bench", arguments)
    if not arguments or arguments[0].startswith("-"):
        raise InputError(f"name a table: {', '.join(BENCHMARKS)}")
    table, options = arguments[0], parse(Bench, "bench", arguments[1:])
    bench(table, options, console)
    console.print((options.results / f"{table}.md").read_text(), highlight=False, soft_wrap=True)


def refuse_existing(out: Path) -> None:
    """A folder that is written as a whole must be new, and there must be room for it.

    Raises:
        InputError: If it exists, or the folder it would be in cannot be written.
    """
    if out.exists():
        raise InputError(f"{out} exists already; give another --out")
    nearest_there = next(parent for parent in out.absolute().parents if parent.exists())
    if not nearest_there.is_dir() or not os.access(nearest_there, os.W_OK):
        raise InputError(f"{out} cannot be written, since {nearest_there} cannot; give another --out")


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "demo": run_demo,
    "distill": distill,
    "synthesize": synthesize,
    "train": train_teacher,
    "evaluate": evaluate_model,
    "bench": run_bench,
    "methods": show_methods,
    "report": show_report,
    "resume": resume_run,
}
