"""Images that several rows of a table use: synthesized once for each seed, by the first row that needs them.

Training on a saved image set gives the same student as the live stream, bit for bit. Only images that do not depend on a
student are shared: those of methods that are not adaptive, and that are all synthesized in the warm-up.
"""

from dataclasses import replace
from pathlib import Path

from filelock import FileLock
from rich.console import Console

from datafree.benchmarks.table import Benchmark, Row
from datafree.runs.planning.fitting import parts_of
from datafree.runs.reading.described import describes
from datafree.runs.synthesizing.job import synthesize
from datafree.sets.image_set import read
from datafree.sets.saved import SavedConfig
from datafree.synthesis import Method
from datafree.synthesis.image_sets.index import INDEX
from datafree.synthesis.mixture import Mixture, Part
from datafree.types import InputError

Key = tuple[Method, tuple[str, ...], int]
"""method, network of the teacher with its arguments, and number of batches"""


def parts_with_same_images(table: Benchmark, row: Row) -> dict[str, str]:
    """Return the first row that uses the same images as this row, by the part of a mixture; a single method is one part.

    Parts whose images no other row uses are left out.
    """
    if table.teacher_data or len(table.extensions) > 1:
        return {}
    keys = {name: keys_of(other) for name, other in table.rows.items()}
    shared = {}
    for part, key in keys_of(row).items():
        names = [name for name, others in keys.items() if key and others.get(part) == key]
        if len(names) > 1:
            shared[part] = names[0]
    return shared


def keys_of(row: Row) -> dict[str, Key | None]:
    """Return what the images of each part of a row depend on besides the seed: method, teacher and number of batches.

    None if they cannot be shared, or cost nothing.
    """
    if row.method is None or row.reference or row.measured_images:
        return {}
    return {
        part.name: images_key(part, (row.teacher, *row.teacher_args)) for part in parts_of(row.method, row.schedule)
    }


def images_key(part: Part, teacher: tuple[str, ...]) -> Key | None:
    """Return the key of one part; see `keys_of`."""
    method, schedule = part.method, part.own_schedule
    if schedule.refresh_every or method.adaptive or method.burn_in or not method.passes:
        return None
    return method, teacher, schedule.warmup_batches


def with_shared_images(
    row: Row, name: str, teacher: Path, folder: Path, *, seed: int, device: str, threads: int, console: Console
) -> tuple[Row, float]:
    """Synthesize the images of a part of a row, unless they are there already.

    Args:
        row: The row.
        name: The part of its mixture, or `WHOLE`.
        teacher: Folder of the teacher.
        folder: Folder of the image set.
        seed: Random seed.
        device: Where they are synthesized.
        threads: CPU threads.
        console: Where progress is shown.

    Returns:
        The row with the image set as the method of this part, and the seconds that the synthesis took.

    Raises:
        InputError: If the folder has an image set with other settings.
    """
    whole = row.method
    assert whole is not None
    part = next(part for part in parts_of(whole, row.schedule) if part.name == name)
    method, schedule = part.method, part.own_schedule
    images = schedule.warmup_batches * method.batch_size
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
    described = image_set.made_by.removesuffix(f", seed {seed}")
    if described == image_set.made_by or len(image_set.batch) != images or not describes(described, method):
        raise InputError(f"{folder} holds images of other settings; remove it or give another --out")
    saved: Method = SavedConfig(images=str(folder), batch_size=method.batch_size)
    if isinstance(whole, Mixture):
        parts = (replace(each, method=saved, schedule=schedule) if each is part else each for each in whole.parts)
        saved = replace(whole, parts=tuple(parts))
    return replace(row, method=saved), image_set.seconds
