"""Images that several rows of a table learn from: made once for each seed, by the first row that needs them.

A student of a set is that of the live stream, bit for bit, so that rows are what they would be if each made its own. Only
images that depend on no student are shared: those of methods that look at none and make all of theirs first.
"""

from dataclasses import replace
from pathlib import Path

from filelock import FileLock
from rich.console import Console

from datafree.benchmarks.table import Benchmark, Row
from datafree.runs.synthesis_job import made_by, synthesize
from datafree.sets.image_set import INDEX, read
from datafree.sets.saved import SavedConfig
from datafree.synthesis import Method
from datafree.types import InputError


def owner(table: Benchmark, row: Row) -> str:
    """The first of the rows that learn from the same images as this one; empty if there is no other."""
    if table.members or len(table.extensions) > 1:
        return ""
    images = images_of(row)
    alike = [name for name, other in table.rows.items() if images and images_of(other) == images]
    return alike[0] if len(alike) > 1 else ""


def images_of(row: Row) -> tuple[Method, str, int] | None:
    """What decides the images of a row besides the seed: method, teacher, batches; None if more than that does."""
    method = row.method
    if method is None or row.known or row.measured or row.schedule.refresh_every:
        return None
    if method.adaptive or method.learning or not method.passes:
        return None
    return method, row.teacher, row.schedule.warmup_batches


def sharing(
    row: Row, teacher: Path, folder: Path, *, seed: int, device: str, threads: int, console: Console
) -> tuple[Row, float]:
    """The row as it learns from a set, which is made if it is not there; and the seconds that making it took.

    Raises:
        InputError: If another set lies in its place.
    """
    method = row.method
    assert method is not None
    images = row.schedule.warmup_batches * method.batch_size
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not (folder / INDEX).is_file():
            synthesize(
                method,
                teacher=f"local-dir:{teacher}",
                out=folder,
                images=images,
                format=(),
                seed=seed,
                device=device,
                threads=threads,
                console=console,
            )
    made = read(folder)
    if (made.made_by, len(made.batch)) != (made_by(method, seed), images):
        raise InputError(f"{folder} was made with other settings; remove it or give another --out")
    return replace(row, method=SavedConfig(images=str(folder), batch_size=method.batch_size)), made.seconds
