"""Signs of collapse in synthesized images, without labels and real images."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datafree.classifier import Classifier, batch_norms, frozen, record
from datafree.losses import batch_norm_moments, relative_distance, statistics_distance
from datafree.matching import resized_to
from datafree.types import Batch, Images, Targets

IMAGES = 256
"""images of a batch that are used, at most"""
DUPLICATE = 0.05
"""distance of two images, per square root of their dimension, below which they are near-duplicates"""


def health(teacher: Classifier, student: nn.Module | None, batch: Batch) -> dict[str, float]:
    r"""Measure signs of collapse in synthesized images, without labels and real images.

    No signal predicts the accuracy of the student: the teacher is confident on its own synthesized images whether they
    train a good student or not.

    Args:
        teacher: The teacher.
        student: The student; None if there is none yet.
        batch: Synthesized images; the first 256 are used.

    Returns:
        The signals by name.

        - `class_balance`: the entropy of the histogram of the teacher's predictions, divided by its maximum; in [0, 1].
        - `confidence`: the teacher's mean highest probability.
        - `diversity`: see the function `diversity`, of the images normalised by the teacher; about :math:`\sqrt 2` for
          independent training images.
        - `duplicates`: see the function `duplicates`, of the same images; in [0, 1].
        - `on_target`: the fraction of images, or of their labels, that the teacher predicts as their target. The targets of
          methods that choose no class before are the predictions themselves: 1.
        - `agreement`: the fraction of images on which student and teacher predict the same; only with a student.
        - `labels_per_image`: the mean number of predicted labels; only if multi-label. Near 0, the images are empty.
        - `statistics`: the distance to the running statistics of the teacher; only if it has batch norm.
        - `relative_statistics`: the mean distance over the layers, relative to the variance of each channel; see
          `relative_distance`. 0 if the statistics are equal; 1 if the means are one standard deviation apart.
    """
    images = batch.images[:IMAGES]
    with frozen(teacher, student), torch.no_grad():
        with record(*batch_norms(teacher), function=batch_norm_moments) as moments:
            logits = teacher(images)
        predictions = teacher.predict(logits)
        normalized = teacher.normalize(images)
        signals = {
            "class_balance": class_balance(teacher, predictions, logits.shape[1]),
            "confidence": teacher.decisions(logits).softmax(1).amax(1).mean().item(),
            "diversity": diversity(normalized),
            "duplicates": duplicates(normalized),
            "on_target": on_target(teacher, predictions, batch.targets[:IMAGES].to(predictions.device)),
        }
        if student is not None:
            student_logits = student(resized_to(images, student))
            signals["agreement"] = (teacher.predict(student_logits) == predictions).float().mean().item()
        if teacher.multi_label:
            signals["labels_per_image"] = predictions.sum(1).mean().item()
        if moments:
            signals["statistics"] = statistics_distance(moments).item()
            signals["relative_statistics"] = relative_distance(moments).item()
    return signals


def class_balance(teacher: Classifier, predictions: Tensor, classes: int) -> float:
    """Return the entropy of the histogram of predictions, divided by its maximum."""
    one_hot = predictions if teacher.multi_label else F.one_hot(predictions, classes).float()
    histogram = one_hot.sum(0) / one_hot.sum().clamp_min(1)
    max_entropy = math.log(classes) or 1.0  # avoid a division by zero for a single class
    return torch.special.entr(histogram).sum().item() / max_entropy


def on_target(teacher: Classifier, predictions: Tensor, targets: Targets) -> float:
    """Return the fraction of images, or of their labels, that are predicted as their target; of soft labels, the largest."""
    soft = targets.ndim == 2 and not teacher.multi_label
    return (predictions == (targets.argmax(1) if soft else targets)).float().mean().item()


def diversity(images: Images) -> float:
    r"""Compute the mean distance of two different images, per square root of their dimension.

    .. math:: \frac{2}{n (n - 1) \sqrt{d}} \sum_{i < j} \lVert x_i - x_j \rVert_2, \quad d = c h w

    Args:
        images: Of shape `(n, c, h, w)`, in any range.

    Returns:
        A non-negative number; 0 for a single image.
    """
    flat = images.flatten(1).float()
    return F.pdist(flat).mean().item() / flat.shape[1] ** 0.5 if len(flat) > 1 else 0.0


def duplicates(images: Images) -> float:
    r"""Compute the fraction of images that have a near-duplicate among the others.

    Two images are near-duplicates if :math:`\lVert x_i - x_j \rVert_2 < 0.05 \sqrt d, d = c h w`.

    Args:
        images: Of shape `(n, c, h, w)`, normalised.

    Returns:
        A number in [0, 1]; 0 for a single image.
    """
    flat = images.flatten(1).float()
    if len(flat) < 2:
        return 0.0
    distances = torch.cdist(flat, flat) / flat.shape[1] ** 0.5
    distances.fill_diagonal_(math.inf)
    return (distances.amin(1) < DUPLICATE).float().mean().item()
