"""`datafree bench quantization`: networks are trained, quantised on the images of each row, and compared."""

from pathlib import Path
from typing import Any

from rich.console import Console

from datafree.benchmarks.quantization.cases import CASES, NOTHING
from datafree.benchmarks.quantization.measuring import Bench, measure_row
from datafree.benchmarks.quantization.table import collect, console_table, markdown, plot, with_earlier_networks
from datafree.benchmarks.rows import stored_teacher, train_network
from datafree.files import write_json, write_text
from datafree.quantization.graphs import require_engine
from datafree.runs.hardware import set_threads
from datafree.types import InputError, suggestion

NAME = "quantization"


def bench_quantization(options: Any, console: Console) -> dict[str, Any]:
    """Measure the rows that are not there yet, and write the table as JSON, Markdown and SVG after each.

    Args:
        options: The options of `datafree bench`; `rows` are networks.
        console: Where progress is shown.

    Returns:
        The content of the JSON file.

    Raises:
        InputError: If a row is unknown, or a package, a data set or a file is missing.
    """
    set_threads(options.threads)
    require_engine()
    names = chosen_cases(options)
    out = options.out or Path("runs") / f"bench-{NAME}"
    benches = {name: prepared_bench(name, out, options, console) for name in names}
    cases: dict[str, dict[str, Any]] = {
        name: {
            "title": bench.case.title,
            "float": bench.floating(),
            "labelled": bench.case.labelled,
            "rows": {row: [] for row in bench.case.rows},
        }
        for name, bench in benches.items()
    }
    result: dict[str, Any] = {}
    for seed in options.seeds:  # the first seed of all networks comes first
        for name, bench in benches.items():
            for row in bench.case.rows:
                if row == NOTHING and seed != options.seeds[0]:
                    continue
                found = measure_row(bench, row, seed)
                cases[name]["rows"][row].append(found)
                agreements = ", ".join(f"{bits} {100 * each['agreement']:.2f} %" for bits, each in found.items())
                console.print(f"{name}, {row}, seed {seed}: agreement {agreements}", highlight=False)
            result = collect(cases, command=options.command, seeds=options.seeds, threads=options.threads)
            if options.rows:
                result = with_earlier_networks(result, options.results / f"{NAME}.json", tuple(CASES))
            write(result, options.results)
    return result


def prepared_bench(name: str, out: Path, options: Any, console: Console) -> Bench:
    """Train a network, unless it is there already or comes with the tables, and return what measures its rows."""
    case = CASES[name]
    table, folder = case.table, out / f"teacher-{name}"
    if table is not None:
        if table.stored_teacher and (options.teachers / table.stored_teacher).is_dir():
            folder = stored_teacher(table, options.teachers)
        else:
            train_network(table, case.network, case.data, folder, 0, options, console)
    return Bench(case, case.load(folder, options.data_root), out / name, options.data_root)


def chosen_cases(options: Any) -> tuple[str, ...]:
    """Return the names of the networks.

    Raises:
        InputError: If one is unknown.
    """
    names = options.rows or tuple(CASES)
    for name in names:
        if name not in CASES:
            raise InputError(f"row {name!r} is unknown{suggestion(name, CASES)}; choose among: {'; '.join(CASES)}")
    return tuple(names)


def write(result: dict[str, Any], folder: Path) -> None:
    """Write the table as JSON, Markdown and SVG."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / f"{NAME}.json", result)
    write_text(folder / f"{NAME}.md", markdown(result))
    write_text(folder / f"{NAME}.svg", plot(result))


__all__ = ["NAME", "bench_quantization", "console_table"]
