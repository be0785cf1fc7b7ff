"""Synthesize an image set without training a student."""

import math
import shutil
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, replace
from pathlib import Path

import torch
from rich.console import Console

from datafree.classifier import Classifier, fingerprint
from datafree.matching import Resized, chosen_classes
from datafree.randomness import RandomNumbers
from datafree.runs.dependencies import dependencies_of
from datafree.runs.hardware import launch, place_sharded, plain_faults, return_freed_memory, set_threads, to_device
from datafree.runs.launching.lost import ending_together
from datafree.runs.launching.sharding import require_shardable, wants_shards, whole_again
from datafree.runs.launching.world import world_of
from datafree.runs.logger import RunLogger
from datafree.runs.planning.memory import pool_memory
from datafree.runs.planning.sizes import parse_size
from datafree.runs.reading.layout import POOL
from datafree.runs.synthesizing.unfinished import unfinished_set
from datafree.runs.tasks import create_student
from datafree.sets import image_set
from datafree.sets.arrays import ArrayLayout
from datafree.sets.collecting import Collected, Collection, Sources, Wanted
from datafree.sets.collecting import origin_of as origin_of
from datafree.sets.image_set import write_pieces
from datafree.sets.on_disk import in_words
from datafree.sets.pictures import require_pyarrow
from datafree.sets.spool import Elsewhere, Spool
from datafree.synthesis import Method
from datafree.teachers.inspection import require_capabilities
from datafree.teachers.options import TeacherOptions
from datafree.types import InputError, require_at_least, require_seed


def synthesize(
    method: Method,
    *,
    teacher: str,
    out: str | Path,
    options: TeacherOptions | None = None,
    student: str = "",
    images: int = 256,
    only: Sequence[str] = (),
    per_class: int = 0,
    format: Sequence[image_set.Format] = ("folder",),
    layout: ArrayLayout | None = None,
    memory: str = "",
    seed: int = 0,
    device: str = "cpu",
    devices: int = 1,
    shard_teacher: bool = False,
    threads: int = 1,
    console: Console | None = None,
) -> int:
    """Synthesize an image set and write it to a folder. After a kill, the same call continues it and writes the same set.

    Args:
        method: The synthesis method.
        teacher: See `teachers.load`.
        out: The output folder.
        options: How the teacher is loaded.
        student: Student for adaptive methods: a timm name (then untrained) or `local-dir:FOLDER`; default: none.
        images: Minimum number of images, rounded up to whole batches; exactly this number with `only` or a mixture.
        only: The only classes of the images, by name or index; default: all.
        per_class: Number of images of each class, instead of `images`; 0: classes are not counted.
        format: Exports in addition to the exact tensors: `folder` (PNG files by class), `parquet`, `npz`, `bin`.
        layout: What the input of the network is called in `npz` and `bin`, and what it takes.
        memory: Memory that the images may take until all of them are there, such as 8GB; more lie on disk beside `out`.
            Default: half of what is free.
        seed: Random seed.
        device: cpu, cuda, mps, or auto.
        devices: Number of processes with one device each, which divide every batch. The first one writes.
        shard_teacher: Whether the weights of the teacher are divided among the processes.
        threads: CPU threads.
        console: Where progress is shown; default: nowhere.

    Returns:
        The number of images.

    Raises:
        InputError: If a setting is invalid, or the teacher, the student or the device cannot be used.
        Diverged: If a pixel is not finite; nothing is written.
    """
    require_valid(images, per_class, seed, format)
    set_threads(threads)
    if shards := wants_shards(shard_teacher):
        require_shardable(world_of(devices).size)
        return_freed_memory()
    fabric = launch(device, devices=devices) if world_of(devices).size > 1 else None
    torch.manual_seed(seed)
    classifier = (options or TeacherOptions()).load_network(teacher)
    names = chosen_classes(classifier.classes, only, multi_label=True)  # one class may be enough
    wanted = Wanted(images=images, classes=tuple(map(classifier.classes.index, names)), per_class=per_class)
    require_disk(wanted, classifier, Path(out))
    learner = create_student(classifier, student).eval() if student else None
    settings = {
        "method": origin_of(method, seed, student),
        "teacher": teacher,
        "wanted": asdict(wanted) | {"classes": list(wanted.classes)},
        "devices": devices,
    }
    depends = dependencies_of(settings, classifier, learner or classifier, threads=threads, device=device)
    skeleton = place_sharded(classifier, "32-true", fabric) if fabric and shards else None
    for model in filter(None, (None if shards else classifier, learner)):
        fabric.to_device(model) if fabric else to_device(model, device)
    require_capabilities(classifier, method)
    writes = fabric is None or fabric.is_global_zero
    limit = pool_memory(parse_size(memory) if memory else 0, classifier.device, fabric.world_size if fabric else 1)
    with ExitStack() as stack:
        stack.enter_context(ending_together(fabric) if fabric else nullcontext())
        folder = stack.enter_context(unfinished_set(Path(out), settings)) if writes else None
        with (
            plain_faults(("--method.batch-size",)),
            RunLogger(None if fabric else folder, classifier, learner, console=console, dependencies=depends) as logger,
        ):
            storage = Spool(folder.path, folder.path / POOL, limit, logger.note) if folder else Elsewhere()
            sources = replace(sources_of(method, classifier, learner, logger), group=fabric, storage=storage)
            collected = collect_or_continue(Collection(method, sources, wanted), logger)
        about = about_of(collected, classifier, origin_of(method, seed, student), logger.seconds())
        whole = whole_again(classifier, skeleton, fabric) if skeleton and fabric else None
        if writes:
            write_pieces(collected.images, about, whole or classifier, out, format, layout or ArrayLayout())
    return len(collected.images)


def require_valid(images: int, per_class: int, seed: int, format: Sequence[image_set.Format]) -> None:
    """Check settings of a set before anything is loaded.

    Raises:
        InputError: If one is invalid, or a package for a format is not installed.
    """
    require_at_least(1, images=images)
    require_at_least(0, per_class=per_class)
    require_seed(seed)
    if "parquet" in format:
        require_pyarrow()


def collect_or_continue(collection: Collection, logger: RunLogger) -> Collected:
    """Synthesize images, from the newest checkpoint on if there is one, and say what is wrong with them."""
    logger.register(images=collection)
    collected = collection.collect()
    logger.warn_of_collapse()
    logger.warn_of_faults()
    return collected


def require_disk(wanted: Wanted, teacher: Classifier, out: Path) -> None:
    """Check that the images of a set may fit on the disk.

    Args:
        wanted: The images.
        teacher: Their teacher, with its shape and classes.
        out: The folder of the set.

    Raises:
        InputError: If they are larger than what is free.
    """
    size = wanted.total(teacher) * 4 * (math.prod(teacher.shape) + len(teacher.classes))
    existing = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(existing).free
    if size > free:
        option = "--per-class" if wanted.per_class else "--images"
        raise InputError(
            f"the images take {in_words(size)}, but {in_words(free)} are free in {existing}; lower {option} or give another "
            "--out"
        )


def about_of(collected: Collected, classifier: Classifier, made_by: str, seconds: float) -> image_set.About:
    """Return the metadata of collected images, which say which teacher and which method made them."""
    return image_set.About(
        classes=classifier.classes,
        teacher_sha256=fingerprint(classifier.model),
        made_by=made_by,
        measured_images=collected.measured_images,
        seconds=round(seconds, 2),
        parts=collected.parts,
        part_of=collected.part_of,
    )


def sources_of(method: Method, teacher: Classifier, student: Classifier | None, logger: RunLogger) -> Sources:
    """Return what the streams of a set share, after saying what is special about them."""
    for note in dict.fromkeys((*teacher.notes, *(student.notes if student else ()))):
        logger.note(note)
    if method.adaptive and student is None:
        logger.note("no student is given: the term that looks for the student's mistakes is off")
    visible = Resized(student) if student and student.shape != teacher.shape else student
    return Sources(
        teacher=teacher, student=visible, callback=logger, note=logger.note, numbers=RandomNumbers(torch.initial_seed())
    )
