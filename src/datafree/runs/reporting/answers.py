"""Teacher and student on the same images: counts, calibration, and pictures with the answer of each."""

import base64
import io
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from datafree.classifier import Classifier
from datafree.ensemble import Ensemble, whole_teacher
from datafree.evaluation import answers, class_places, count_macs
from datafree.runs.reading.answers import Answer, Answers, Bin, ClassAgreement, Comparison, PartAnswers, Picture
from datafree.sets.contact_sheet import displayable, labels_of
from datafree.synthesis import Stream
from datafree.synthesis.mixture import Mixed
from datafree.teachers.folders import architecture
from datafree.types import Batch, Images, InputError, Logits

IMAGES = 512
"""images that are compared, at most"""
FEWEST = 64
"""images that are compared in any case"""
OPERATIONS = 5e11
"""multiply-accumulate operations that a comparison may take"""
PICTURES = 8
"""pictures of each class, at most"""
ALL_PICTURES = 1024
"""pictures of all classes, at most"""
PAIRS = 400
"""pairs of classes in a confusion: all of twenty classes, the most frequent of more"""
BINS = 10
"""bins of confidence"""
SIDE, EXACT_SIDE = 96, 40
"""longer side of a picture in pixels, at most; and up to which it is kept exactly"""
PREDICTED = 5
"""predicted classes of an image with several labels that are stored"""


def compare(
    student: Classifier,
    teacher: Classifier,
    logits: Logits,
    teacher_logits: Float[Tensor, "n k_of_teacher"],
    truth: Tensor | None = None,
) -> Comparison:
    """Compare the answers of two classifiers on the same images.

    Args:
        student: The student.
        teacher: The teacher.
        logits: Of the student.
        teacher_logits: Of the teacher.
        truth: The true labels, in the classes of the student; None if they are not known.

    Returns:
        The comparison. Images of classes that the teacher does not know count for the calibration of the student only.
    """
    places = class_places(teacher, student)
    probabilities = student.probabilities(logits)
    if student.multi_label:
        return _compare_multi_label(student, teacher, logits, teacher_logits, truth, places)
    ours, theirs = logits.argmax(1), places[teacher.predict(teacher_logits)]
    correct = ours == (theirs if truth is None else truth)
    known = torch.ones_like(ours, dtype=torch.bool) if truth is None else torch.isin(truth, places)
    seen = teacher.probabilities(teacher_logits).amax(1)
    return Comparison(
        images=int(known.sum()),
        agreement=_mean((ours == theirs)[known]) or 0.0,
        labelled=truth is not None,
        classes=_by_class((ours == theirs)[known], theirs[known], len(student.classes)),
        confusion=_confusion(theirs[known], ours[known], len(student.classes)),
        student=calibration(probabilities.amax(1), correct),
        teacher=() if truth is None else calibration(seen[known], (theirs == truth)[known]),
    )


def _compare_multi_label(
    student: Classifier,
    teacher: Classifier,
    logits: Logits,
    teacher_logits: Float[Tensor, "n k_of_teacher"],
    truth: Tensor | None,
    places: Tensor,
) -> Comparison:
    """Compare networks with several labels per image; each label of each image counts as one prediction."""
    ours, theirs = student.predict(logits)[:, places], teacher.predict(teacher_logits)
    probabilities, seen = student.probabilities(logits)[:, places], teacher.probabilities(teacher_logits)
    target = theirs if truth is None else truth[:, places]
    return Comparison(
        images=len(logits),
        agreement=_mean(ours == theirs) or 0.0,
        labelled=truth is not None,
        student=calibration(probabilities.flatten(), target.flatten() > 0),
        teacher=() if truth is None else calibration(seen.flatten(), target.flatten() > 0),
    )


def _by_class(equal: Tensor, theirs: Tensor, classes: int) -> tuple[ClassAgreement, ...]:
    return tuple(ClassAgreement(int((theirs == i).sum()), _mean(equal[theirs == i])) for i in range(classes))


def _mean(correct: Tensor) -> float | None:
    return correct.float().mean().item() if correct.numel() else None


def _confusion(theirs: Tensor, ours: Tensor, classes: int) -> tuple[tuple[int, int, int], ...]:
    """Return pairs of answers with their counts; of many classes, only those in which the networks differ."""
    pairs, counts = torch.stack([theirs, ours], 1).unique(dim=0, return_counts=True)
    if classes**2 > PAIRS:
        differ = pairs[:, 0] != pairs[:, 1]
        pairs, counts = pairs[differ], counts[differ]
    order = counts.argsort(descending=True, stable=True)[:PAIRS]
    return tuple((t, s, n) for (t, s), n in zip(pairs[order].tolist(), counts[order].tolist(), strict=True))


def calibration(confidence: Float[Tensor, " n"], correct: Tensor) -> tuple[Bin, ...]:
    """Return the mean confidence and the fraction of correct predictions of each bin that has any.

    Args:
        confidence: The probability of each prediction, in [0, 1].
        correct: Whether each prediction is correct.
    """
    bins = (confidence * BINS).long().clamp(0, BINS - 1)
    chosen = [(confidence[bins == b], correct[bins == b].float()) for b in range(BINS)]
    return tuple(Bin(c.mean().item(), r.mean().item(), len(c)) for c, r in chosen if len(c))


def answers_of_run(
    stream: object, first_batches: Mapping[str, Batch], teacher: Classifier, student: Classifier
) -> Answers | None:
    """Ask both networks about images that the student has learned from.

    Args:
        stream: The stream of the run, whose pool is used, if it is one.
        first_batches: The first batch of each part of the mixture, used for parts without a pool.
        teacher: The teacher.
        student: The trained student.

    Returns:
        The answers; None if no images were synthesized. The size of the networks limits the number of images.
    """
    operations = count_macs(teacher) + count_macs(student)
    limit = max(FEWEST, min(IMAGES, int(OPERATIONS / max(operations, 1))))
    batches = sampled(stream if isinstance(stream, Stream) else None, first_batches, limit)
    if not batches:
        return None
    parts = [_answers_on(name, batch, teacher, student, len(batches)) for name, batch in batches.items()]
    height, width = size_of(next(iter(batches.values())).images)
    return Answers(width=width, height=height, parts=tuple(parts))


def sampled(stream: Stream | None, first_batches: Mapping[str, Batch], limit: int) -> dict[str, Batch]:
    """Return up to `limit` stored images of each part of a mixture, spread evenly over their targets."""
    streams = {"": stream} if stream else {}
    if stream and isinstance(stream.synthesizer, Mixed):
        streams = dict(stream.synthesizer.streams)
    batches: dict[str, Batch] = {}
    for part in dict.fromkeys([*streams, *first_batches]):
        pool = streams[part].pool if part in streams else None
        if pool and len(pool):
            batches[part] = pool.select(evenly(pool.targets, limit))
        elif part in first_batches:
            batch = first_batches[part]
            chosen = evenly(batch.targets, limit).to(batch.images.device)
            batches[part] = Batch(batch.images[chosen], batch.targets[chosen.to(batch.targets.device)], {})
    return batches


def evenly(targets: Tensor, limit: int) -> Tensor:
    """Return the positions of up to `limit` images, spread evenly over their targets, on the CPU."""
    labels = targets if targets.ndim == 1 else targets.argmax(1)
    order = labels.cpu().argsort(stable=True)
    return order[torch.linspace(0, len(order) - 1, min(limit, len(order))).long()]


def _answers_on(name: str, batch: Batch, teacher: Classifier, student: Classifier, parts: int) -> PartAnswers:
    chunks = [Batch(batch.images[i : i + 64], batch.targets[i : i + 64], {}) for i in range(0, len(batch.images), 64)]
    logits, teacher_logits, _ = answers(student, teacher, chunks)
    comparison = compare(student, teacher, logits, teacher_logits)
    places = class_places(teacher, student)
    ours = [_answer(student, row, torch.arange(logits.shape[1])) for row in logits]
    theirs = [_answer(teacher, row, places) for row in teacher_logits]
    targets = places[labels_of(batch).cpu()].tolist()
    chosen = worst(ours, theirs, ALL_PICTURES // parts)
    encoded = [encode(batch.images[index]) for index in chosen]
    pictures = [
        Picture(data, kind, targets[index], theirs[index], ours[index])
        for index, (data, kind) in zip(chosen, encoded, strict=True)
    ]
    return PartAnswers(name, comparison, tuple(pictures))


def _answer(network: Classifier, logits: Tensor, places: Tensor) -> Answer:
    probabilities = network.probabilities(logits[None])[0]
    if network.multi_label:
        count = int((logits > 0).sum())
        order = probabilities.argsort(descending=True, stable=True)[: min(count, PREDICTED)]
        return Answer(tuple(places[order].tolist()), round(probabilities.max().item(), 4))
    best = int(probabilities.argmax())
    return Answer((int(places[best]),), round(probabilities[best].item(), 4))


def worst(ours: list[Answer], theirs: list[Answer], limit: int) -> list[int]:
    """Return the images to show: of each class of the teacher those on which the student differs most confidently first."""

    def badness(index: int) -> float:
        differs = set(ours[index].classes) != set(theirs[index].classes)
        return ours[index].confidence if differs else -ours[index].confidence - 1

    by_class: dict[int, list[int]] = {}
    for index in sorted(range(len(ours)), key=badness, reverse=True):
        by_class.setdefault(theirs[index].classes[0] if theirs[index].classes else -1, []).append(index)
    each = max(1, min(PICTURES, limit // len(by_class))) if by_class else 0
    return [index for label in sorted(by_class) for index in by_class[label][:each]][:limit]


def size_of(images: Images) -> tuple[int, int]:
    """Return height and width of the small pictures."""
    height, width = images.shape[-2:]
    scale = min(1.0, SIDE / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def encode(image: Tensor) -> tuple[str, Any]:
    """Return an image as a small file in base64, and the kind of the file.

    Args:
        image: Of shape `(c, h, w)`, in [0, 1].
    """
    from PIL import Image

    pixels = (displayable(image[None].cpu())[0] * 255).round().byte().permute(1, 2, 0).numpy()
    picture = Image.fromarray(pixels)
    if bool((pixels == pixels[:, :, :1]).all()):
        picture = picture.convert("L")
    height, width = size_of(image[None])
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    if max(height, width) <= EXACT_SIDE:
        picture.save(file, "PNG", optimize=True)
        return base64.b64encode(file.getvalue()).decode(), "png"
    picture.save(file, "JPEG", quality=80)
    return base64.b64encode(file.getvalue()).decode(), "jpeg"


def to_plain(value: Answers | Comparison) -> dict[str, Any]:
    """Return answers or a comparison as JSON."""
    return asdict(value, dict_factory=lambda items: {name: as_lists(item) for name, item in items})


def as_lists(value: Any) -> Any:
    """Return nested sequences as lists, as JSON has them."""
    return [as_lists(item) for item in value] if isinstance(value, (list, tuple)) else value


def name_of(network: Classifier) -> str:
    """Return a short name of a network, for people: its architecture; of an ensemble, those of its teachers."""
    whole = whole_teacher(network)
    if not isinstance(whole, Ensemble):
        return _architecture(whole)
    names = [_architecture(member) for member in whole.teachers]
    counts = {name: names.count(name) for name in dict.fromkeys(names)}
    return " + ".join(name if count == 1 else f"{count} x {name}" for name, count in counts.items())


def _architecture(network: Classifier) -> str:
    try:
        return architecture(network.model)
    except InputError:  # the user's own code
        return type(network.model).__name__
