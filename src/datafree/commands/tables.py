"""`datafree demo`, `datafree bench`: how good the methods are; and the form of `datafree methods`, which has no options."""

from dataclasses import dataclass, field, make_dataclass
from typing import Annotated, Any, Literal

import tyro

from datafree.benchmarks import BENCHMARKS
from datafree.benchmarks.bench import Bench, bench
from datafree.benchmarks.demo import Demo, demo
from datafree.benchmarks.estimates import table as estimates
from datafree.benchmarks.estimates.bench import NAME as ESTIMATE
from datafree.benchmarks.estimates.bench import bench_estimates
from datafree.benchmarks.quantization import table as quantizations
from datafree.benchmarks.quantization.bench import NAME as QUANTIZATION
from datafree.benchmarks.quantization.bench import bench_quantization
from datafree.benchmarks.results import console_table
from datafree.commands.console.advice import Unfinished, unfinished
from datafree.commands.options.parsing import Flat, Form, Positional
from datafree.commands.runs import console, refuse_existing
from datafree.progress import emit
from datafree.runs.reporting.console import say


@dataclass(frozen=True)
class NoOptions:
    """No options."""


def bench_options() -> type[Any]:
    """Return the options of `datafree bench`: the table, and those of the benchmarks."""
    names = Literal[(*BENCHMARKS, ESTIMATE, QUANTIZATION)]  # type: ignore[valid-type]
    table = Annotated[Positional[names], tyro.conf.arg(help="the table to run")]
    return make_dataclass("Options", [("table", table), ("bench", Flat[Bench], field())], frozen=True, kw_only=True)


METHODS_FORM = Form(verb="methods", options=lambda: NoOptions)
DEMO = Form(verb="demo", options=lambda: Demo)
BENCH = Form(verb="bench", options=bench_options)
FORMS = (METHODS_FORM, DEMO, BENCH)


def run_demo(arguments: list[str]) -> None:
    """`datafree demo`."""
    options: Demo = DEMO.parse(arguments)
    if options.out:
        refuse_existing(options.out)
        unfinished.append(Unfinished(options.out, is_run=False))
    rows = demo(options, console)
    emit(console, "result", rows=rows)


def run_bench(arguments: list[str]) -> None:
    """`datafree bench TABLE`."""
    options = BENCH.parse(arguments)
    if options.table == ESTIMATE:
        result = bench_estimates(options.bench, console)
        console.print(estimates.console_table(result))
    elif options.table == QUANTIZATION:
        result = bench_quantization(options.bench, console)
        console.print(quantizations.console_table(result))
    else:
        result = bench(options.table, options.bench, console)
        console.print(console_table(result))
    for kind in ("md", "json", "svg"):
        say(console, kind, options.bench.results / f"{options.table}.{kind}")
    emit(console, "result", table=result)
