"""`datafree bench estimate`: students are trained, estimated without data, and compared with their held-out accuracy."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from datafree.benchmarks.estimates.measuring import Measured, add_disagreement, measure
from datafree.benchmarks.estimates.quantized import quantized_students
from datafree.benchmarks.estimates.students import FAMILIES
from datafree.benchmarks.estimates.table import collect, markdown, mean_shares, percent, plot
from datafree.benchmarks.estimates.training import (
    Student,
    held_out_batches,
    load_teacher,
    train_students,
    train_teacher,
)
from datafree.estimation.stability import REAL_SHARES
from datafree.files import write_json, write_text
from datafree.runs.hardware import set_threads
from datafree.types import InputError, suggestion

NAME = "estimate"


def bench_estimates(options: Any, console: Console) -> dict[str, Any]:
    """Train the students that are not there yet, estimate all, and write the table as JSON, Markdown and SVG.

    Args:
        options: The options of `datafree bench`; `rows` are teachers.
        console: Where progress is shown.

    Returns:
        The content of the JSON file.

    Raises:
        InputError: If a row is unknown, or the data set is missing.
    """
    set_threads(options.threads)
    out = options.out or Path("runs") / f"bench-{NAME}"
    names = chosen_families(options)
    folders = {name: train_teacher(name, FAMILIES[name], out, options, console) for name in names}
    students: dict[str, list[Student]] = {name: [] for name in names}
    for student in trained(names, folders, out, options):
        students[student.teacher].append(student)
        console.print(
            f"{student.teacher}, {student.recipe}, seed {student.seed}, {student.steps} steps: "
            f"retention {percent(student.retention)}",
            highlight=False,
        )
    measured = {}
    for name in names:
        teacher = load_teacher(FAMILIES[name], folders[name])
        measured[name] = Measured(teacher, out / "pools", held_out_batches(FAMILIES[name], teacher, options.data_root))
    shares = {name: measured[name].shares for name in names}
    usual = {name: shares[name] for name in names if is_usual(measured[name]) and not FAMILIES[name].parts}
    rows: list[dict[str, Any]] = []
    for name in names:
        weights = mean_shares(usual, name) if len(usual) > 1 else REAL_SHARES
        found = [measure(student, out, measured[name], weights) for student in students[name]]
        add_disagreement([row for row, _ in found], [logits for _, logits in found])
        rows += [row for row, _ in found]
    result = collect(rows, shares, options.command, options.threads)
    options.results.mkdir(parents=True, exist_ok=True)
    write_json(options.results / f"{NAME}.json", result)
    write_text(options.results / f"{NAME}.md", markdown(result))
    write_text(options.results / f"{NAME}.svg", plot(result))
    return result


def is_usual(measured: Measured) -> bool:
    """Return whether the stability of real images of a teacher counts for others: as for `REAL_SHARES`, of grey images."""
    return not measured.fragile and measured.teacher.shape[0] == 1


def chosen_families(options: Any) -> tuple[str, ...]:
    """Return the names of the teachers.

    Raises:
        InputError: If one is unknown.
    """
    names = options.rows or tuple(FAMILIES)
    for name in names:
        if name not in FAMILIES:
            raise InputError(
                f"row {name!r} is unknown{suggestion(name, FAMILIES)}; choose among: {'; '.join(FAMILIES)}"
            )
    return tuple(names)


def trained(names: tuple[str, ...], folders: dict[str, Path], out: Path, options: Any) -> Iterator[Student]:
    """Yield all students; those that are not there yet are made, the first seed of all teachers first."""
    for seed in options.seeds[:2]:
        for name in names:
            for recipe in FAMILIES[name].recipes:
                yield from train_students(name, recipe, seed, folders[name], out, options)
            for recipe in FAMILIES[name].quantizations:
                yield from quantized_students(name, recipe, seed, folders[name], out, options)
