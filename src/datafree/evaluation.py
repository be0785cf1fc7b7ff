"""Quality of a student on held-out real images, of images for other networks, and the cost of a network."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from datafree.classifier import Classifier, frozen
from datafree.ensemble import Ensemble
from datafree.functions import count_parameters as count_parameters
from datafree.matching import match_classes, resized_to
from datafree.signals import diversity as diversity
from datafree.signals import health as health
from datafree.types import Batch, Images, Labels, Logits


@dataclass(frozen=True)
class Evaluation:
    """The results of a classifier on held-out real images.

    If images have several labels, `accuracy`, `agreement`, `per_class` and `calibration_error` count each label of each image
    as one prediction.
    """

    accuracy: float
    """fraction of correct predictions"""
    agreement: float | None
    """fraction of predictions equal to the teacher's, on images of classes the teacher knows; None if there are none"""
    calibration_error: float
    """expected calibration error, 15 bins"""
    per_class: tuple[float | None, ...]
    """accuracy on the images of each class; None for a class without images"""
    images: int
    """number of images"""
    average_precision: tuple[float | None, ...] = ()
    """average precision of each label, None for a label without images; empty if images have one label"""
    routing_accuracy: float | None = None
    """fraction of images whose predicted class belongs to a teacher that knows the true class; None without an ensemble"""
    old_classes_accuracy: float | None = None
    """accuracy on the classes the teacher knows; None if it knows all classes, or if there are no such images"""
    new_classes_accuracy: float | None = None
    """accuracy on the classes the teacher does not know; None if it knows all classes"""

    @property
    def score(self) -> float:
        """The mean average precision if images have several labels, else the accuracy."""
        return score(vars(self))


def score(evaluation: Mapping[str, Any]) -> float:
    """Return the mean average precision if images have several labels, else the accuracy.

    Args:
        evaluation: The fields of an `Evaluation`.
    """
    precisions = [precision for precision in evaluation.get("average_precision") or () if precision is not None]
    return sum(precisions) / len(precisions) if precisions else evaluation["accuracy"]


def evaluate(model: Classifier, teacher: Classifier, batches: Iterable[Batch]) -> Evaluation:
    """Evaluate a classifier on real images. Each image is used once.

    Images are resized to each network. The predictions of the teacher are matched with the classes of the model by name; by
    position if one of both has only numbers for names.

    Args:
        model: The classifier to evaluate.
        teacher: The classifier that agreement is measured with; may be `model` itself. If `model` has more classes than the
            teacher and not all of its names, the classes of the teacher come first.
        batches: Images in [0, 1] with their true classes as targets, in the order of the classes of `model`. If a batch has
            the teacher's logits, they are used.

    Raises:
        InputError: If both have as many classes but different class names.
    """
    class_places(teacher, model)  # refuses other classes before any image is read
    return evaluate_answers(model, teacher, *answers(model, teacher, batches))


def evaluate_answers(
    model: Classifier,
    teacher: Classifier,
    logits: Logits,
    teacher_logits: Float[Tensor, "n k_of_teacher"],
    truth: Tensor,
) -> Evaluation:
    """Evaluate a classifier whose answers are known; see `evaluate` and `answers`."""
    places = class_places(teacher, model)
    predictions = teacher.predict(teacher_logits)
    evaluate_logits = _evaluate_multi_label if model.multi_label else _evaluate_single_label
    return evaluate_logits(model, teacher, logits, truth, predictions, places)


def agreement(model: Classifier, teacher: Classifier, batches: Iterable[Batch]) -> tuple[float, int]:
    """Measure how often two classifiers predict the same, on real images whose labels are not known.

    Images are resized to each network, and classes are matched as by `evaluate`. If images have several labels, each label of
    each image counts as one prediction.

    Args:
        model: The one classifier.
        teacher: The other.
        batches: Images in [0, 1]; their targets are not used.

    Returns:
        The fraction of equal predictions, and the number of images.

    Raises:
        InputError: If both have as many classes but different class names.
    """
    class_places(teacher, model)  # refuses other classes before any image is read
    logits, teacher_logits, _ = answers(model, teacher, batches)
    return agreement_of(model, teacher, logits, teacher_logits), len(logits)


def agreement_of(
    model: Classifier, teacher: Classifier, logits: Logits, teacher_logits: Float[Tensor, "n k_of_teacher"]
) -> float:
    """Return the fraction of equal predictions of two classifiers whose answers are known; see `agreement`."""
    places = class_places(teacher, model)
    ours, theirs = model.predict(logits), teacher.predict(teacher_logits)
    equal = ours[:, places] == theirs if model.multi_label else ours == places[theirs]
    return equal.float().mean().item()


def answers(model: Classifier, teacher: Classifier, batches: Iterable[Batch]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the logits of a classifier and of its teacher on the same images, and the targets of these images."""
    logits, truth, teacher_logits = [], [], []
    with frozen(model, teacher), torch.no_grad():
        for batch in batches:
            images = batch.images.to(model.device)
            batch_logits = model(resized_to(images, model))
            logits.append(batch_logits.cpu())
            truth.append(batch.targets)
            if batch.teacher_logits is not None:
                teacher_logits.append(batch.teacher_logits.cpu())
            else:
                teacher_logits.append(logits[-1] if teacher is model else teacher(resized_to(images, teacher)).cpu())
    return torch.cat(logits), torch.cat(teacher_logits), torch.cat(truth)


def class_places(teacher: Classifier, model: Classifier) -> Tensor:
    """Return, for each class of the teacher, the index of the same class among those of the model.

    Raises:
        InputError: If both have as many classes but different class names.
    """
    known = {name: place for place, name in enumerate(model.classes)}
    if len(known) == len(model.classes) > len(teacher.classes) and set(teacher.classes) <= set(known):
        return torch.tensor([known[name] for name in teacher.classes])
    if len(teacher.classes) == len(model.classes):
        return torch.tensor(match_classes(teacher.classes, model.classes, "the teacher", "the network").order)
    return torch.arange(len(teacher.classes))


def _evaluate_single_label(
    model: Classifier, teacher: Classifier, logits: Logits, truth: Labels, teacher_predictions: Labels, places: Tensor
) -> Evaluation:
    predictions, known = logits.argmax(1), torch.isin(truth, places)
    correct, teacher_predictions = (predictions == truth).float(), places[teacher_predictions]
    shared = None
    if isinstance(teacher, Ensemble) and len(teacher.teachers) > 1:
        order = places.argsort()
        shared = teacher.shared_teachers().cpu()[order][:, order]
    return Evaluation(
        accuracy=correct.mean().item(),
        agreement=_mean((predictions == teacher_predictions)[known]),
        calibration_error=calibration_error(logits.softmax(1).amax(1), correct),
        per_class=_mean_by_class(correct, truth, max(len(model.classes), int(truth.max()) + 1)),
        images=len(truth),
        routing_accuracy=None if shared is None else shared[predictions, truth].float().mean().item(),
        old_classes_accuracy=None if known.all() else _mean(correct[known]),
        new_classes_accuracy=_mean(correct[~known]),
    )


def _evaluate_multi_label(
    model: Classifier, teacher: Classifier, logits: Logits, truth: Tensor, teacher_predictions: Tensor, places: Tensor
) -> Evaluation:
    from sklearn.metrics import average_precision_score

    predictions, probabilities = model.predict(logits), model.probabilities(logits)
    teacher_predictions = teacher_predictions[:, places.argsort()]
    correct = (predictions == truth).float()
    labels = zip(truth.int().unbind(1), probabilities.unbind(1), strict=True)
    return Evaluation(
        accuracy=correct.mean().item(),
        agreement=(predictions == teacher_predictions).float().mean().item(),
        calibration_error=calibration_error(probabilities.flatten(), truth.float().flatten()),
        per_class=tuple(correct.mean(0).tolist()),
        images=len(truth),
        average_precision=tuple(
            float(average_precision_score(true, probability)) if true.any() else None for true, probability in labels
        ),
    )


def calibration_error(confidence: Float[Tensor, " n"], correct: Float[Tensor, " n"], bins: int = 15) -> float:
    r"""Compute the expected calibration error: the mean gap between confidence and accuracy.

    .. math:: \text{ECE} = \sum_b \frac{n_b}{n} \, \lvert \text{acc}(b) - \text{conf}(b) \rvert

    References:
        | On Calibration of Modern Neural Networks (Guo et al., 2017), section 2
        | https://arxiv.org/abs/1706.04599

    Args:
        confidence: The probability of each prediction, in [0, 1].
        correct: 1 if the prediction is correct, else 0.
        bins: Number of equal bins :math:`b` of confidence.

    Returns:
        A number in [0, 1].
    """
    places = (confidence * bins).long().clamp_max(bins - 1)
    gaps = torch.zeros(bins, dtype=confidence.dtype).index_add_(0, places, correct - confidence)
    return (gaps.abs().sum() / len(confidence)).item()


@dataclass(frozen=True)
class Crosscheck:
    """How a network that was not used for synthesis classifies synthesized images."""

    recognised: float
    """fraction of images that the network classifies as their target; if multi-label, fraction of labels"""
    per_class: tuple[float | None, ...]
    """the same for the images of each target class; None for a class without images"""
    inception_score: float
    """see `inception_score`; from 1 to the number of classes"""
    diversity: float
    """see `diversity`; of at most 1,024 of the images, normalised by the network"""
    images: int
    """number of images"""


DIVERSE = 1024
"""images of which the diversity of a set is measured, at most"""


def crosscheck(network: Classifier, batches: Iterable[Batch], count: int = 0) -> Crosscheck:
    """Check whether another network recognises synthesized images. No real images or labels are needed.

    References:
        | Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion (Yin et al., 2020), section 4.3
        | https://arxiv.org/abs/1912.08795

    Args:
        network: A classifier of the same classes. Do not use the teacher: it recognises nearly all of its own images.
        batches: Synthesized images in [0, 1] and their targets; images of another size are resized.
        count: Number of all images, if it is known: only those of which the diversity is measured are then kept in memory.
    """
    logits, targets, normalized, seen, every = [], [], [], 0, -(-count // DIVERSE) or 1
    with frozen(network), torch.no_grad():
        for batch in batches:
            images = resized_to(batch.images.to(network.device), network)
            soft = batch.targets.ndim == 2 and not network.multi_label
            logits.append(network(images).cpu())
            targets.append((batch.targets.argmax(1) if soft else batch.targets).cpu())
            normalized.append(network.normalize(images[-seen % every :: every]).cpu())
            seen += len(images)
    return _crosscheck_logits(network, torch.cat(logits), torch.cat(targets), torch.cat(normalized))


def _crosscheck_logits(network: Classifier, logits: Logits, targets: Tensor, normalized: Images) -> Crosscheck:
    correct = (network.predict(logits) == targets).float()
    by_class = correct.mean(0).tolist() if network.multi_label else _mean_by_class(correct, targets, logits.shape[1])
    every = -(-len(normalized) // DIVERSE)
    return Crosscheck(
        recognised=correct.mean().item(),
        per_class=tuple(by_class),
        inception_score=inception_score(network.softmax_logits(logits)),
        diversity=diversity(normalized[::every]),
        images=len(targets),
    )


def inception_score(logits: Logits) -> float:
    r"""Compute the inception score of images from the logits of any classifier.

    .. math:: \exp \Bigl( \frac1n \sum_i \text{KL}(p_i \Vert \bar p) \Bigr), \quad \bar p = \frac1n \sum_i p_i

    References:
        | Improved Techniques for Training GANs (Salimans et al., 2016), section 4, with the Inception network
        | https://arxiv.org/abs/1606.03498

    Args:
        logits: Of shape `(n, k)`; :math:`p_i` is the softmax of row :math:`i`.

    Returns:
        A number in [1, k]; 1 if all predictions are equal, k if each is certain and all classes are equally frequent.
    """
    p = logits.double().softmax(1)
    information = torch.special.entr(p.mean(0)).sum() - torch.special.entr(p).sum(1).mean()
    return information.exp().item()


def _mean_by_class(correct: Tensor, truth: Labels, classes: int) -> tuple[float | None, ...]:
    return tuple(_mean(correct[truth == label]) for label in range(classes))


def _mean(correct: Tensor) -> float | None:
    return correct.float().mean().item() if len(correct) else None


@dataclass(frozen=True)
class Cost:
    """Size and speed of a network."""

    parameters: int
    """number of parameters"""
    macs: int | None
    """multiply-accumulate operations for one image; None if they cannot be counted, as in a network that torch does not run"""
    bytes: int
    """memory of parameters and buffers"""
    milliseconds: float
    """latency of one image on this machine; median of 30"""


def measure(model: Classifier) -> Cost:
    """Measure size and speed of a classifier on one image."""
    image = torch.full((1, *model.shape), 0.5, device=model.device)
    macs = count_macs(model) or None
    with frozen(model), torch.no_grad():
        times = sorted(_seconds(model, image) for _ in range(30))
    return Cost(
        parameters=count_parameters(model),
        macs=macs,
        bytes=sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values()),
        milliseconds=1e3 * times[len(times) // 2],
    )


def count_macs(model: Classifier) -> int:
    """Return the multiply-accumulate operations of a classifier for one image; 0 if torch does not run it."""
    from torch.utils.flop_counter import FlopCounterMode

    image = torch.full((1, *model.shape), 0.5, device=model.device)
    with frozen(model), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(image)
    return counter.get_total_flops() // 2


def _seconds(model: nn.Module, image: Images) -> float:
    start = time.perf_counter()
    model(image).sum().item()
    return time.perf_counter() - start
