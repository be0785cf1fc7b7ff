"""How good a student is (on real images, afterwards), and how a run looks while nobody may look at real images."""

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from datafree.classifier import Classifier, batch_norms, frozen, record
from datafree.ensemble import Ensemble
from datafree.losses import batch_norm_statistics
from datafree.types import Batch, Images, Labels, Logits


@dataclass(frozen=True)
class Evaluation:
    """What a classifier does on real images it was not trained on."""

    accuracy: float
    """part of the images answered right"""
    agreement: float | None
    """part of the images of classes the teacher knows that are answered as it does; None if there are none"""
    calibration_error: float
    """expected calibration error, 15 bins"""
    per_class: tuple[float | None, ...]
    """accuracy on the images of each class; None for a class without images"""
    images: int
    """how many were looked at"""
    average_precision: tuple[float | None, ...] = ()
    """of each label, where an image has several, None where no image has it; the other figures count each label as an
    answer of its own then"""
    right_teacher: float | None = None
    """part of the images answered with a class of a teacher that knows the right one, where there are several teachers"""
    parts: tuple[float | None, ...] = ()
    """accuracy on the classes that the teacher knows, and on those it does not; empty where it knows all of them"""

    @property
    def score(self) -> float:
        """The one figure for tables: accuracy; of several labels, the mean of their average precisions."""
        return score(vars(self))


def score(found: Mapping[str, Any]) -> float:
    """The one figure of an evaluation, from its fields."""
    precisions = [precision for precision in found.get("average_precision") or () if precision is not None]
    return sum(precisions) / len(precisions) if precisions else found["accuracy"]


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
            output = model(images)
            logits.append(output.cpu())
            answers.append(teacher.answer(output if teacher is model else teacher(images)).cpu())
            truths.append(batch.targets)
    said, truth, answer = torch.cat(logits), torch.cat(truths), torch.cat(answers)
    if model.multi_label:
        return _evaluate_labels(model, said, truth, answer)
    together = teacher.same_teacher().cpu() if isinstance(teacher, Ensemble) else None
    choice, known = said.argmax(1), truth < len(teacher.classes)
    right = (choice == truth).float()
    classes = max(len(model.classes), int(truth.max()) + 1)
    return Evaluation(
        accuracy=right.mean().item(),
        agreement=_part((choice == answer)[known]),
        calibration_error=calibration_error(said.softmax(1).amax(1), right),
        per_class=_by_class(right, truth, classes),
        images=len(truth),
        right_teacher=None if together is None else together[choice, truth].float().mean().item(),
        parts=() if known.all() else (_part(right[known]), _part(right[~known])),
    )


def _evaluate_labels(model: Classifier, said: Logits, truth: Tensor, answer: Tensor) -> Evaluation:
    """Every label is a question of its own."""
    from sklearn.metrics import average_precision_score

    probabilities, right = model.probabilities(said), (model.answer(said) == truth).float()
    labels = zip(truth.int().unbind(1), probabilities.unbind(1), strict=True)
    return Evaluation(
        accuracy=right.mean().item(),
        agreement=(model.answer(said) == answer).float().mean().item(),
        calibration_error=calibration_error(probabilities.flatten(), truth.float().flatten()),
        per_class=tuple(right.mean(0).tolist()),
        images=len(truth),
        average_precision=tuple(
            float(average_precision_score(true, probability)) if true.any() else None for true, probability in labels
        ),
    )


def calibration_error(confidence: Float[Tensor, " n"], right: Float[Tensor, " n"], bins: int = 15) -> float:
    r"""How far confidence is from the part of answers that are right, on average.

    .. math:: \text{ECE} = \sum_b \frac{n_b}{n} \, \lvert \text{acc}(b) - \text{conf}(b) \rvert

    Args:
        confidence: The probability that was given to each answer, from 0 to 1.
        right: 1 where the answer is right, else 0.
        bins: Of equal width, over confidence.

    Reference: On Calibration of Modern Neural Networks (Guo et al., 2017), section 2, https://arxiv.org/abs/1706.04599.
    """
    place = (confidence * bins).long().clamp_max(bins - 1)
    excess = torch.zeros(bins, dtype=confidence.dtype).index_add_(0, place, right - confidence)
    return (excess.abs().sum() / len(confidence)).item()


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
        `positives`: labels per image, where there are several: near none, all images are empty;
        `statistics`: distance to the teacher's batch-norm statistics, where it has any.
    """
    images = batch.images[:256]
    with frozen(teacher, student), torch.no_grad():
        with record(*batch_norms(teacher)) as calls:
            logits = teacher(images)
        answers, choices = teacher.answer(logits), teacher.decisions(logits)
        named = answers if teacher.multi_label else F.one_hot(answers, logits.shape[1]).float()
        histogram = named.sum(0) / named.sum().clamp_min(1)
        most = math.log(logits.shape[1]) or 1.0  # a single class has nothing to be even among
        found = {
            "classes": torch.special.entr(histogram).sum().item() / most,
            "confidence": choices.softmax(1).amax(1).mean().item(),
            "diversity": diversity(teacher.normalize(images)),
        }
        if student is not None:
            found["agreement"] = (teacher.answer(student(images)) == answers).float().mean().item()
        if teacher.multi_label:
            found["positives"] = answers.sum(1).mean().item()
        if calls:
            found["statistics"] = batch_norm_statistics(calls).item()
    return found


@dataclass(frozen=True)
class Crosscheck:
    """What a network that took no part in making them says of synthesized images."""

    recognised: float
    """part of the images that it answers as they were meant; of the answers, where an image has several labels"""
    per_class: tuple[float | None, ...]
    """the same of the images meant to be each class; None for a class without images"""
    inception_score: float
    """how sure and how various its answers are: 1 to the number of classes"""
    diversity: float
    """mean distance of two images, as in `health`; of up to 1,024 of them"""
    images: int
    """how many were looked at"""


def crosscheck(verifier: Classifier, batches: Iterable[Batch]) -> Crosscheck:
    """Whether synthesized images mean to another network what they were meant to be. No real image and no label is needed.

    References:
        | Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion (Yin et al., 2020), section 4.3: images that
        | were inverted from one network are recognised by others
        | https://arxiv.org/abs/1912.08795

    Args:
        verifier: Any classifier of the same classes. The teacher itself recognises nearly all, which says nothing.
        batches: Images with what they should be as targets; those of another size are resized.
    """
    logits, meant, some = [], [], []
    with frozen(verifier), torch.no_grad():
        for batch in batches:
            images = batch.images.to(verifier.device)
            if images.shape[2:] != verifier.shape[1:]:
                images = F.interpolate(images, verifier.shape[1:], mode="bilinear", antialias=True).clamp(0, 1)
            logits.append(verifier(images).cpu())
            one = verifier.multi_label or batch.targets.ndim == 1
            meant.append((batch.targets if one else batch.targets.argmax(1)).cpu())
            some.append(verifier.normalize(images).cpu())
    said, targets, shown = torch.cat(logits), torch.cat(meant), torch.cat(some)
    right = (verifier.answer(said) == targets).float()
    classes = len(verifier.classes)
    return Crosscheck(
        recognised=right.mean().item(),
        per_class=tuple(right.mean(0).tolist()) if verifier.multi_label else _by_class(right, targets, classes),
        inception_score=inception_score(verifier.votes(said)),
        diversity=diversity(shown[:: -(-len(shown) // 1024)]),
        images=len(targets),
    )


def inception_score(logits: Logits) -> float:
    r"""The exponential of the mutual information of images and answers, by any classifier at hand.

    .. math:: \exp \Bigl( \frac1n \sum_i \text{KL}(p_i \Vert \bar p) \Bigr), \quad \bar p = \frac1n \sum_i p_i

    References:
        | Improved Techniques for Training GANs (Salimans et al., 2016), section 4; by the Inception network there
        | https://arxiv.org/abs/1606.03498

    Args:
        logits: Of shape `(n, k)`.

    Returns:
        1 where all answers are alike, k where each is sure and all classes are as frequent.
    """
    p = logits.double().softmax(1)
    information = torch.special.entr(p.mean(0)).sum() - torch.special.entr(p).sum(1).mean()
    return information.exp().item()


def _by_class(right: Tensor, truth: Labels, classes: int) -> tuple[float | None, ...]:
    """The part that is right of each class."""
    return tuple(_part(right[truth == label]) for label in range(classes))


def _part(right: Tensor) -> float | None:
    """Which part of them is right; None if there are none."""
    return right.float().mean().item() if len(right) else None


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
