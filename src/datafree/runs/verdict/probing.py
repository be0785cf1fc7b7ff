"""What is measured of a finished student on images that it was trained on. Nothing is changed, and nothing is drawn."""

from collections.abc import Iterator
from copy import deepcopy

import torch
from torch import Tensor, nn

from datafree.classifier import Classifier, batch_norms, frozen
from datafree.synthesis import Stream

IMAGES = 256
"""images that are used, at most"""
LEAST_IMAGES = 16
"""images below which the statistics of a batch say nothing about those of the training"""


def probe(batches: Iterator[object], teacher: Classifier, student: nn.Module) -> dict[str, float]:
    """Measure a finished student on images of the pool that it was trained on.

    Args:
        batches: The stream of the run; nothing is measured if the images are real or there are none.
        teacher: The teacher.
        student: The student, with the image size and the classes of the teacher.

    Returns:
        The values by name.

        - `agreement`: fraction of images, or of their labels, on which student and teacher predict the same.
        - `settled`: fraction on which the student predicts the same with its running statistics and with those of the
          images; only if it has batch norm.
    """
    images = images_of(batches)
    if images is None:
        return {}
    with frozen(teacher, student), torch.no_grad():
        images = images.to(teacher.device)
        own = teacher.predict(student(images))
        values = {"agreement": same(own, teacher.predict(teacher(images)))}
        if len(images) >= LEAST_IMAGES and batch_norms(student):
            copy = deepcopy(student)
            for norm in batch_norms(copy):
                norm.training = True
            values["settled"] = same(own, teacher.predict(copy(images)))
    return {name: round(value, 6) for name, value in values.items()}


def images_of(batches: Iterator[object]) -> Tensor | None:
    """Return images from all over the pool of a stream, the same in a resumed run; None if there is none."""
    pool = batches.pool if isinstance(batches, Stream) else None
    if not pool:
        return None
    return pool.select(torch.linspace(0, len(pool) - 1, min(IMAGES, len(pool))).round().long()).images


def same(predictions: Tensor, others: Tensor) -> float:
    """Return the fraction of equal predictions."""
    return (predictions == others).float().mean().item()
