"""Synthesize an image set without training a student."""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console

from datafree.classifier import Classifier, fingerprint
from datafree.matching import Resized, chosen_classes
from datafree.randomness import RandomNumbers
from datafree.runs.hardware import launch, plain_faults, require_memory, set_threads, to_device
from datafree.runs.launching.lost import ending_together
from datafree.runs.launching.world import world_of
from datafree.runs.logger import RunLogger
from datafree.runs.tasks import create_student
from datafree.sets import image_set
from datafree.sets.arrays import ArrayLayout
from datafree.sets.collecting import Collected, Sources, Wanted, collect
from datafree.sets.pictures import require_pyarrow
from datafree.synthesis import Method
from datafree.teachers.inspection import require_capabilities
from datafree.teachers.options import TeacherOptions
from datafree.types import Diverged, require_at_least, require_seed


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
    seed: int = 0,
    device: str = "cpu",
    devices: int = 1,
    threads: int = 1,
    console: Console | None = None,
) -> int:
    """Synthesize an image set and write it to a folder.

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
        seed: Random seed.
        device: cpu, cuda, mps, or auto.
        devices: Number of processes with one device each, which divide every batch. The first one writes.
        threads: CPU threads.
        console: Where progress is shown; default: nowhere.

    Returns:
        The number of images.

    Raises:
        InputError: If a setting is invalid, or the teacher, the student or the device cannot be used.
        Diverged: If a pixel is not finite; nothing is written.
    """
    require_at_least(1, images=images)
    require_at_least(0, per_class=per_class)
    require_seed(seed)
    if "parquet" in format:
        require_pyarrow()
    set_threads(threads)
    fabric = launch(device, devices=devices) if world_of(devices).size > 1 else None
    torch.manual_seed(seed)
    classifier = (options or TeacherOptions()).load_network(teacher)
    names = chosen_classes(classifier.classes, only, multi_label=True)  # one class may be enough
    wanted = Wanted(images=images, classes=tuple(map(classifier.classes.index, names)), per_class=per_class)
    count, option = wanted.total(classifier), "--per-class" if per_class else "--images"
    require_memory(4 * count * math.prod(classifier.shape), "the images", f"lower {option}")
    learner = create_student(classifier, student).eval() if student else None
    for model in filter(None, (classifier, learner)):
        fabric.to_device(model) if fabric else to_device(model, device)
    require_capabilities(classifier, method)
    with (
        ending_together(fabric) if fabric else nullcontext(),
        plain_faults(("--method.batch-size",)),
        RunLogger(None, classifier, learner, console=console) as logger,
    ):
        for note in dict.fromkeys((*classifier.notes, *(learner.notes if learner else ()))):
            logger.note(note)
        sources = replace(sources_of(method, classifier, learner, logger), group=fabric)
        collected = collect(method, sources, wanted)
        logger.warn_of_collapse()
        logger.warn_of_faults()
    if not bool(collected.batch.images.isfinite().all()):
        raise Diverged("some images have non-finite pixels; lower the learning rate of the method")
    if fabric is None or fabric.is_global_zero:
        synthesized = image_set_of(collected, classifier, origin_of(method, seed, student), logger.seconds())
        image_set.write(synthesized, classifier, Path(out), format, layout or ArrayLayout())
    return len(collected.batch)


def image_set_of(collected: Collected, classifier: Classifier, made_by: str, seconds: float) -> image_set.ImageSet:
    """Return collected images as an image set that says which teacher and which method made them."""
    return image_set.ImageSet(
        batch=collected.batch,
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
    if method.adaptive and student is None:
        logger.note("no student is given: the term that looks for the student's mistakes is off")
    visible = Resized(student) if student and student.shape != teacher.shape else student
    return Sources(
        teacher=teacher, student=visible, callback=logger, note=logger.note, numbers=RandomNumbers(torch.initial_seed())
    )


def origin_of(method: Method, seed: int, student: str = "") -> str:
    """Return the text by which an image set names its method, seed and, for adaptive methods, its student."""
    text = f"{method!r}, seed {seed}"
    if not method.adaptive:
        return text
    return f"{text}, student {student}" if student else f"{text}, without a student"
