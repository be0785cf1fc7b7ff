"""Images that several rows of a table use: synthesized once for each seed, by the first row that needs them.

Training on a saved image set gives the same student as the live stream, bit for bit. Only images that do not depend on a
student are shared: those of methods that are not adaptive, and that are all synthesized in the warm-up.
"""

from dataclasses import replace
from pathlib import Path

from filelock import FileLock
from rich.console import Console

from datafree.benchmarks.table import Benchmark, Row
from datafree.runs.synthesis_job import origin_of, synthesize
from datafree.sets.image_set import read
from datafree.sets.saved import SavedConfig
from datafree.synthesis import Method
from datafree.synthesis.image_sets.index import INDEX
from datafree.types import InputError


def first_row_with_same_images(table: Benchmark, row: Row) -> str:
    """Return the name of the first row that uses the same images as this row; an empty string if no other row does."""
    if table.teacher_data or len(table.extensions) > 1:
        return ""
    key = images_key(row)
    names = [name for name, other in table.rows.items() if key and images_key(other) == key]
    return names[0] if len(names) > 1 else ""


def images_key(row: Row) -> tuple[Method, str, int] | None:
    """Return what the images of a row depend on besides the seed: method, teacher and number of batches.

    None if they cannot be shared, or cost nothing.
    """
    method = row.method
    if method is None or row.reference or row.measured_images or row.schedule.refresh_every:
        return None
    if method.adaptive or method.burn_in or not method.passes:
        return None
    return method, row.teacher, row.schedule.warmup_batches


def with_shared_images(
    row: Row, teacher: Path, folder: Path, *, seed: int, device: str, threads: int, console: Console
) -> tuple[Row, float]:
    """Synthesize the image set of a row, unless it is there already.

    Returns:
        The row with the image set as its method, and the seconds that the synthesis took.

    Raises:
        InputError: If the folder has an image set with other settings.
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
    image_set = read(folder)
    if (image_set.made_by, len(image_set.batch)) != (origin_of(method, seed), images):
        raise InputError(f"{folder} holds images of other settings; remove it or give another --out")
    return replace(row, method=SavedConfig(images=str(folder), batch_size=method.batch_size)), image_set.seconds
