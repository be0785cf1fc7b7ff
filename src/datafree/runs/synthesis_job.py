"""Synthesize an image set without training a student."""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from datafree import teachers
from datafree.classifier import Classifier, fingerprint
from datafree.matching import Resized
from datafree.runs.hardware import plain_faults, require_memory, set_threads, to_device
from datafree.runs.logger import RunLogger
from datafree.runs.tasks import create_student
from datafree.sets import image_set
from datafree.sets.pictures import require_pyarrow
from datafree.synthesis import Method, Schedule, Stream
from datafree.teachers.inspection import require_capabilities
from datafree.types import Diverged, require_at_least, require_seed


def synthesize(
    method: Method,
    *,
    teacher: str,
    out: str | Path,
    weights: str = "",
    student: str = "",
    images: int = 256,
    format: Sequence[image_set.Format] = ("folder",),
    seed: int = 0,
    device: str = "cpu",
    threads: int = 1,
    console: Console | None = None,
) -> int:
    """Synthesize an image set and write it to a folder.

    Args:
        method: The synthesis method.
        teacher: A timm name or `local-dir:FOLDER`.
        out: The output folder.
        weights: File with the teacher's weights, with a timm name.
        student: Student for adaptive methods: a timm name (then untrained) or `local-dir:FOLDER`; default: none.
        images: Minimum number of images; rounded up to whole batches.
        format: Exports in addition to the exact tensors: `folder` (PNG files by class), `parquet`.
        seed: Random seed.
        device: cpu, cuda, mps, or auto.
        threads: CPU threads.
        console: Where progress is shown; default: nowhere.

    Returns:
        The number of images.

    Raises:
        InputError: If a setting is invalid, or the teacher, the student or the device cannot be used.
        Diverged: If a pixel is not finite; nothing is written.
    """
    require_at_least(1, images=images)
    require_seed(seed)
    if "parquet" in format:
        require_pyarrow()
    set_threads(threads)
    torch.manual_seed(seed)
    classifier = teachers.load(teacher, weights=weights)
    require_memory(4 * images * math.prod(classifier.shape), "the images", "lower --images")
    learner = create_student(classifier, student).eval() if student else None
    for model in filter(None, (classifier, learner)):
        to_device(model, device)
    require_capabilities(classifier, method)
    with (
        plain_faults(("--method.batch-size",)),
        RunLogger(None, classifier, learner, console=console) as logger,
    ):
        for note in dict.fromkeys((*classifier.notes, *(learner.notes if learner else ()))):
            logger.note(note)
        stream = fill_stream(method, classifier, learner, -(-images // method.batch_size), logger)
    batch = stream.pool.all()
    if not bool(batch.images.isfinite().all()):
        raise Diverged("some images have non-finite pixels; lower the learning rate of the method")
    synthesized = image_set.ImageSet(
        batch=batch,
        classes=classifier.classes,
        teacher_sha256=fingerprint(classifier.model),
        made_by=origin_of(method, seed, student),
        measured_images=stream.synthesizer.measured_images,
        seconds=round(logger.seconds(), 2),
    )
    image_set.write(synthesized, classifier, Path(out), format)
    return len(batch)


def fill_stream(
    method: Method, teacher: Classifier, student: Classifier | None, count: int, logger: RunLogger
) -> Stream:
    """Return a stream whose pool holds `count` batches, after those that a generator is trained with."""
    if method.adaptive and student is None:
        logger.note("no student is given: the term that looks for the student's mistakes is off")
    schedule = Schedule(warmup_batches=count, refresh_every=0, pool_batches=count)
    visible = Resized(student) if student and student.shape != teacher.shape else student
    stream = Stream.of(method, teacher, visible, schedule, logger)
    for note in stream.synthesizer.notes:
        logger.note(note)
    for number in logger.track(range(1, method.burn_in + count + 1), "synthesize"):
        stream.synthesize_until(number)
    logger.warn_of_collapse()
    return stream


def origin_of(method: Method, seed: int, student: str = "") -> str:
    """Return the text by which an image set names its method, seed and, for adaptive methods, its student."""
    text = f"{method!r}, seed {seed}"
    if not method.adaptive:
        return text
    return f"{text}, student {student}" if student else f"{text}, without a student"
