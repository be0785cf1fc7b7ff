r"""What images should be predicted as: random classes, balanced ones, or the balanced ones nearest to the teacher.

.. math:: \max_y \sum_i \ln p_T(y_i \mid x_i) \quad \text{so that each class is given to} \;
    \lfloor n / k \rfloor \;\text{or}\; \lceil n / k \rceil \;\text{images}

An image that starts from a picture is already more like some classes than like others. With the nearest assignment the
optimization changes the pictures as little as balanced classes allow.

References:
    | On implementing 2D rectangular assignment algorithms (Crouse, 2016), the algorithm of SciPy
    | https://doi.org/10.1109/TAES.2016.140952
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from datafree import processes
from datafree.classifier import Classifier, frozen
from datafree.types import Images, Labels, Logits, Targets

TargetChoice = Literal["random", "balanced", "nearest"]


def sample_targets(teacher: Classifier, count: int, choice: TargetChoice, extra_label_probability: float) -> Targets:
    """Return targets that do not depend on the images.

    Args:
        teacher: Its classes; with `target_classes`, these only.
        count: Number of images.
        choice: `random` or `balanced`.
        extra_label_probability: If multi-label, the probability of each label besides the first.

    Returns:
        Class indices of shape `(count,)`; if multi-label, a multi-hot matrix of shape `(count, k)`.
    """
    if choice == "random":
        return teacher.sample_targets(count, extra_label_probability)
    allowed = allowed_classes(teacher)
    first = allowed[balanced_labels(count, len(allowed)).to(teacher.device)]
    extra = torch.rand(count, len(teacher.classes), device=teacher.device) < extra_label_probability
    return with_extra_labels(teacher, first, extra)


def nearest_targets(teacher: Classifier, images: Images) -> Targets:
    """Return the balanced targets to which the teacher gives the highest probability on the images.

    Args:
        teacher: Not changed; with `target_classes`, only these are targets.
        images: Pixels in [0, 1] of shape `(n, c, h, w)`.

    Returns:
        Class indices of shape `(n,)`; if multi-label, a multi-hot matrix of shape `(n, k)` with the labels that the teacher
        predicts as well.
    """
    with frozen(teacher), torch.no_grad():
        logits = torch.cat([teacher(part) for part in images.split(256)])
    logits = processes.gather(logits)
    allowed = allowed_classes(teacher)
    labels = nearest_balanced_labels(teacher.softmax_logits(logits)[:, allowed])
    return processes.part(with_extra_labels(teacher, allowed[labels.to(teacher.device)], logits > 0))


def allowed_classes(teacher: Classifier) -> Tensor:
    """Return the indices of the classes that may be targets."""
    return torch.tensor(teacher.target_classes or range(len(teacher.classes)), device=teacher.device)


def with_extra_labels(teacher: Classifier, first: Tensor, extra: Tensor) -> Tensor:
    """Return the first labels; if multi-label, a multi-hot matrix of these and of the allowed ones among others."""
    if not teacher.multi_label:
        return first
    allowed = F.one_hot(allowed_classes(teacher), len(teacher.classes)).sum(0).bool()
    return ((extra & allowed) | F.one_hot(first, len(teacher.classes)).bool()).float()


def balanced_labels(count: int, classes: int) -> Labels:
    """Return each class equally often in random order; where `count` is no multiple, random classes once more."""
    labels = torch.cat([torch.randperm(classes) for _ in range(-(-count // classes))])[:count]
    return labels[torch.randperm(count)]


def nearest_balanced_labels(logits: Logits) -> Tensor:
    """Return the balanced labels with the highest sum of log-probabilities. No random number is drawn.

    Args:
        logits: Of shape `(n, k)`.

    Returns:
        Class indices of shape `(n,)` on the CPU: each class for `n / k` images, rounded down or up.
    """
    from scipy.optimize import linear_sum_assignment

    count, classes = logits.shape
    cost = -logits.double().log_softmax(1).cpu()
    cost = cost.clamp_max(1e4)  # a class that the teacher rules out
    whole, rest = divmod(count, classes)
    columns = cost.repeat(1, whole + bool(rest))
    # Every class is given `whole` times before one is given once more: to leave such a column out costs more than anything.
    columns[:, : whole * classes] -= 2 * (cost.max() - cost.min() + 1) * count
    _, chosen = linear_sum_assignment(columns.numpy())
    return torch.from_numpy(chosen) % classes
