"""How good a student is (on real images, afterwards), and how a run looks while nobody may look at real images."""

import time
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torchmetrics.functional.classification import multiclass_calibration_error

from datafree.classifier import Classifier, batch_norms, frozen, record
from datafree.losses import batch_norm_statistics
from datafree.types import Batch, Images


@dataclass(frozen=True)
class Evaluation:
    """What a classifier does on real images it was not trained on."""

    accuracy: float
    """part of the images answered right"""
    agreement: float
    """part of the images of classes the teacher knows that are answered as it does"""
    calibration_error: float
    """expected calibration error, 15 bins"""
    per_class: tuple[float, ...]
    """accuracy on the images of each class"""
    images: int
    """how many were looked at"""
    parts: tuple[float, ...] = ()
    """accuracy on the classes that the teacher knows, and on those it does not; empty where it knows all of them"""


def evaluate(model: Classifier, teacher: Classifier, batches: Iterable[Batch]) -> Evaluation:
    """Looks at every image once; selects nothing.

    Args:
        model: Whom to judge.
        teacher: Whom it should agree with; itself for the teacher's own row.
        batches: Images with their true classes as targets; classes that the teacher does not know come after its own.
    """
    logits, truths, answers = [], [], []
    with frozen(model, teacher), torch.no_grad():
        for batch in batches:
            images = batch.images.to(model.device)
            logits.append(model(images).cpu())
            answers.append(teacher(images).argmax(1).cpu())
            truths.append(batch.targets)
    said, truth, answer = torch.cat(logits), torch.cat(truths), torch.cat(answers)
    right = (said.argmax(1) == truth).float()
    classes = max(len(model.classes), int(truth.max()) + 1)
    predicted = F.pad(said.softmax(1), (0, classes - said.shape[1]))  # what a network does not know it gives nothing
    known = truth < len(teacher.classes)
    return Evaluation(
        accuracy=right.mean().item(),
        agreement=(said.argmax(1) == answer)[known].float().mean().item(),
        calibration_error=multiclass_calibration_error(predicted, truth, num_classes=classes, n_bins=15).item(),
        per_class=tuple(
            right[truth == label].mean().item() if (truth == label).any() else float("nan") for label in range(classes)
        ),
        images=len(truth),
        parts=() if known.all() else (right[known].mean().item(), right[~known].mean().item()),
    )


def health(teacher: Classifier, student: Classifier | None, batch: Batch) -> dict[str, float]:
    """Signals that need no label and no real image.

    None of them predicts accuracy alone: a teacher answers its own synthetic images with full confidence whether the
    student will be good or bad. They show collapse.

    Returns:
        `classes`: entropy of the histogram of the teacher's answers, as a part of the highest possible;
        `confidence`: the teacher's mean highest probability;
        `diversity`: mean distance of two images in the normalised space, per square root of its dimension; two
        independent images of the training data have about sqrt(2);
        `agreement`: part of the images that student and teacher answer alike;
        `statistics`: distance to the teacher's batch-norm statistics, where it has any.
    """
    images = batch.images[:256]
    with frozen(teacher, student), torch.no_grad():
        with record(*batch_norms(teacher)) as visits:
            logits = teacher(images)
        answers = logits.argmax(1)
        histogram = torch.bincount(answers, minlength=logits.shape[1]).float() / len(answers)
        found = {
            "classes": (torch.special.entr(histogram).sum() / torch.tensor(float(logits.shape[1])).log()).item(),
            "confidence": logits.softmax(1).amax(1).mean().item(),
            "diversity": diversity(teacher.normalize(images)),
        }
        if student is not None:
            found["agreement"] = (student(images).argmax(1) == answers).float().mean().item()
        if visits:
            found["statistics"] = batch_norm_statistics(visits).item()
    return found


def diversity(images: Images) -> float:
    """Mean Euclidean distance of two different images, per square root of their dimension; 0 for one image."""
    flat = images.flatten(1).float()
    return F.pdist(flat).mean().item() / flat.shape[1] ** 0.5 if len(flat) > 1 else 0.0


@dataclass(frozen=True)
class Size:
    """What a network costs."""

    parameters: int
    macs: int
    """multiplications with addition for one image"""
    bytes: int
    """of its weights and statistics"""
    milliseconds: float
    """one image on this machine, median of 30; shared machines are noisy"""


def measure(model: Classifier) -> Size:
    """Counts and times a classifier on one image."""
    from torch.utils.flop_counter import FlopCounterMode

    image = torch.full((1, *model.shape), 0.5, device=model.device)
    with frozen(model), torch.no_grad():
        with FlopCounterMode(display=False) as counter:
            model(image)
        times = sorted(_seconds(model, image) for _ in range(30))
    return Size(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        macs=counter.get_total_flops() // 2,
        bytes=sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values()),
        milliseconds=1e3 * times[len(times) // 2],
    )


def _seconds(model: nn.Module, image: Images) -> float:
    begin = time.perf_counter()
    model(image).sum().item()
    return time.perf_counter() - begin
