"""`datafree methods`, `datafree demo`, `datafree bench`: what there is, and how good it is."""

from dataclasses import dataclass

from rich.table import Table

from datafree.benchmarks import BENCHMARKS
from datafree.benchmarks.bench import Bench, bench
from datafree.benchmarks.demo import Demo, demo
from datafree.commands.options import parse
from datafree.commands.runs import console, refuse_existing
from datafree.methods import METHODS
from datafree.types import InputError


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
