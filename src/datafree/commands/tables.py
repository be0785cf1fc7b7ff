"""`datafree methods`, `datafree demo`, `datafree bench`: which methods exist, and how good they are."""

from dataclasses import dataclass, field, make_dataclass
from typing import Annotated, Any, Literal

import tyro
from rich.table import Table
from rich.text import Text

from datafree.benchmarks import BENCHMARKS
from datafree.benchmarks.bench import Bench, bench
from datafree.benchmarks.demo import Demo, demo
from datafree.commands.advice import Unfinished, unfinished
from datafree.commands.options.parsing import Flat, Form, Positional
from datafree.commands.runs import console, refuse_existing
from datafree.methods import METHODS


@dataclass(frozen=True)
class NoOptions:
    """No options."""


def bench_options() -> type[Any]:
    """Return the options of `datafree bench`: the table, and those of the benchmarks."""
    names = Literal[tuple(BENCHMARKS)]  # type: ignore[valid-type]
    table = Annotated[Positional[names], tyro.conf.arg(help="the table to run")]
    return make_dataclass("Options", [("table", table), ("bench", Flat[Bench], field())], frozen=True, kw_only=True)


METHODS_FORM = Form(verb="methods", options=lambda: NoOptions)
DEMO = Form(verb="demo", options=lambda: Demo)
BENCH = Form(verb="bench", options=bench_options)
FORMS = (METHODS_FORM, DEMO, BENCH)


def show_methods(_: list[str]) -> None:
    """`datafree methods`."""
    table = Table()
    for column in ("method", "paper", "the teacher must have", "passes per image"):
        table.add_column(column)
    for name, method in METHODS.items():
        table.add_row(name, method.paper, ", ".join(method.needs) or "-", f"{method.passes:,.0f}")
    console.print(table)


def run_demo(arguments: list[str]) -> None:
    """`datafree demo`."""
    options: Demo = DEMO.parse(arguments)
    if options.out:
        refuse_existing(options.out)
        unfinished.append(Unfinished(options.out, is_run=False))
    demo(options, console)


def run_bench(arguments: list[str]) -> None:
    """`datafree bench TABLE`."""
    options = BENCH.parse(arguments)
    bench(options.table, options.bench, console)
    markdown = (options.bench.results / f"{options.table}.md").read_text(encoding="utf-8")
    console.print(Text(markdown), soft_wrap=True)
