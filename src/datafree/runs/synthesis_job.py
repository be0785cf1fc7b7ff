"""Images that are made to be kept, with nobody who learns from them meanwhile."""

from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from datafree import teachers

from datafree.sets import image_set

from datafree.runs.hardware import set_threads, to_device
from datafree.classifier import fingerprint
from datafree.teachers.doctor import require
from datafree.runs.logger import RunLogger
from datafree.sets.pictures import require_pyarrow
from datafree.synthesis import Method, Schedule, Stream
from datafree.runs.tasks import student_of
from datafree.types import Diverged, at_least, is_seed


def synthesize(
    method: Method,
    *,
    teacher: str,
    out: Path,
    weights: str = "",
    student: str = "",
    images: int = 256,
    format: Sequence[image_set.Format] = ("folder",),
    seed: int = 0,
    device: str = "cpu",
    threads: int = 1,
    console: Console | None = None,
) -> int:
    """Makes whole batches until there are so many images, and writes them; returns how many there are.

    Raises:
        InputError: If the teacher, the student or the device cannot be used.
        Diverged: If pixels are not finite; nothing is written.
    """
    at_least(1, images=images)
    is_seed(seed)
    if "parquet" in format:
        require_pyarrow()
    set_threads(threads)
    torch.manual_seed(seed)
    classifier = teachers.load(teacher, weights=weights)
    learner = student_of(classifier, student).eval() if student else None
    for model in filter(None, (classifier, learner)):
        to_device(model, device)
    require(classifier, method)
    count = -(-images // method.batch_size)
    by = made_by(method, seed) + (f", student {student}" if student and method.adaptive else "")
    with RunLogger(None, classifier, learner, console=console) as logger:
        if method.adaptive and learner is None:
            logger.note("there is no student to look at: the term that asks for its mistakes is off")
            by += ", without a student"
        stream = Stream.of(method, classifier, learner, Schedule(warmup_batches=count, refresh_every=0, pool_batches=count), logger)
        for note in stream.synthesizer.notes:
            logger.note(note)
        for batch in logger.track(range(1, method.learning + count + 1), "make"):
            stream.fill(batch)
        logger.warn_of_collapse()
    kept = stream.pool.all()
    if not bool(kept.images.isfinite().all()):
        raise Diverged("some images have pixels that are not finite; lower the learning rate of the method")
    made = image_set.ImageSet(
        batch=kept,
        classes=classifier.classes,
        teacher=fingerprint(classifier.model),
        made_by=by,
        measured_from=stream.synthesizer.measured_from,
        seconds=round(logger.seconds(), 2),
    )
    image_set.write(made, classifier, out, format)
    return len(made.batch)


def made_by(method: Method, seed: int) -> str:
    """What a set says of its origin."""
    return f"{method!r}, seed {seed}"
