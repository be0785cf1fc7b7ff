r"""Ensembles: several teachers as one classifier over the union of their labels, or over a choice of these labels.

A teacher is confident on any image, also on images of classes that it does not know. A *gate* decides how much each
teacher counts, from the logits :math:`z` of the teachers alone:

* `centred`: :math:`z - \bar z`, where :math:`\bar z` is the mean over the classes of the teacher. Under the common softmax,
  the teacher counts by :math:`\operatorname{logsumexp}_c(z_c - \bar z)`, which is higher on images like its training
  data. Training with a softmax leaves :math:`\bar z` undetermined, so it is removed.
* `energy`: :math:`z`; the teacher counts by :math:`\operatorname{logsumexp}_c z_c`, the negative energy of the paper below.
* `entropy`: :math:`\log p_m(y|x) - \lambda H(p_m(\cdot|x))`; a teacher with a lower entropy counts more.
* `even`: :math:`\log p_m(y|x)`; every teacher gets the same total probability, even on images that it does not know.

Multi-label teachers (sigmoid) need no gate: their labels are independent.

References:
    | Energy-based Out-of-distribution Detection (Liu et al., 2020), section 3
    | https://arxiv.org/abs/2010.03759
    | Data-Free Knowledge Amalgamation via Group-Stack Dual-GAN (Ye et al., 2020), Eq 10: the union
    | https://arxiv.org/abs/2003.09088
"""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from datafree.classifier import Classifier
from datafree.types import Images, InputError, Logits, require_one_of, suggestion

Gate = Literal["centred", "energy", "entropy", "even"]
EXCLUDED_LOGIT = -60_000.0
"""logit of a class that is ruled out: so low that its probability is 0 at any temperature in use, and finite in float16"""
ENTROPY_WEIGHT = 5.0
"""lambda of the gate `entropy`"""


class Ensemble(Classifier):
    """Several teachers as one classifier over the union of their labels, or over a choice of these labels.

    The logit of a label is the mean over the teachers that have a class of this name.

    Args:
        teachers: Classifiers of one input shape; each normalises pixels itself. The ensemble is multi-label if any of them is;
            the probability of a single-label teacher's class is then the sigmoid of its log-odds.
        labels: The labels of the ensemble, in order; all labels in the order of the teachers if empty.
        gate: How the teachers are weighed: `centred`, `energy`, `entropy` or `even`; see `datafree.ensemble`.

    Raises:
        InputError: If there are no teachers, a single-label teacher has one class, the input shapes differ, or a label or the
            gate is unknown.
    """

    def __init__(self, teachers: Sequence[Classifier], labels: Sequence[str] = (), gate: str = "centred") -> None:
        if not teachers:
            raise InputError("the ensemble has no teachers; give at least one")
        if len({teacher.shape for teacher in teachers}) > 1:
            shapes = ", ".join(str(teacher.shape) for teacher in teachers)
            raise InputError(f"the teachers have different input shapes ({shapes}); give teachers of one input shape")
        require_one_of(get_args(Gate), gate=gate)
        if any(len(teacher.classes) == 1 and not teacher.multi_label for teacher in teachers):
            raise InputError(
                "a teacher has a single class and always predicts it; give teachers of two or more classes"
            )
        first = teachers[0]
        super().__init__(
            nn.ModuleList(teachers),
            shape=first.shape,
            classes=chosen_labels(teachers, labels),
            mean=_average([teacher.mean for teacher in teachers], first.shape[0]),
            std=_average([teacher.std for teacher in teachers], first.shape[0]),
            multi_label=any(teacher.multi_label for teacher in teachers),
            preprocessing=first.preprocessing,
        )
        self.gate = gate
        self.register_buffer("label_weights", label_weights(teachers, self.classes), persistent=False)
        self.to(first.device)

    label_weights: Tensor

    @property
    def teachers(self) -> list[Classifier]:
        """The teachers, in order."""
        return list(self.model)  # type: ignore[arg-type]

    def feature_layers(self) -> list[nn.Linear]:
        """Return the feature layers of all teachers."""
        return [layer for teacher in self.teachers for layer in teacher.feature_layers()]

    def class_weights(self) -> Tensor | None:
        """Return the weights of the last linear layer, for the labels of the ensemble; None if there are several teachers."""
        weights = self.teachers[0].class_weights() if len(self.teachers) == 1 else None
        return None if weights is None else self.label_weights.T @ weights

    def shared_teachers(self) -> Tensor:
        """Return a boolean matrix of shape `(labels, labels)`: whether one teacher knows both labels."""
        sizes = [len(teacher.classes) for teacher in self.teachers]
        knows = torch.stack([weights.sum(0) > 0 for weights in self.label_weights.split(sizes)]).float()
        return knows.T @ knows > 0

    def merge(self, logits: Sequence[Tensor]) -> Logits:
        """Merge the logits of the teachers.

        Args:
            logits: Of each teacher, of shape `(n, number of its classes)`.

        Returns:
            Of shape `(n, labels)`.
        """
        gated = [self._gated(teacher, z) for teacher, z in zip(self.teachers, logits, strict=True)]
        return torch.cat(gated, 1) @ self.label_weights

    def _gated(self, teacher: Classifier, logits: Logits) -> Logits:
        if self.multi_label:
            return logits if teacher.multi_label else log_odds(logits)
        if self.gate == "energy" or len(self.teachers) == 1:
            return logits
        if self.gate == "centred":
            return logits - logits.mean(1, keepdim=True)
        log_p = logits.log_softmax(1)
        if self.gate == "even":
            return log_p
        # From log-probabilities: the derivative of p ln p is not a number where p underflows.
        return log_p + ENTROPY_WEIGHT * (log_p.exp() * log_p).sum(1, keepdim=True)

    def forward(self, images: Images) -> Logits:
        """Return the merged logits of pixels in [0, 1], of shape `(n, labels)`."""
        return self.merge([teacher(images) for teacher in self.teachers])


def whole_teacher(classifier: Classifier) -> Classifier:
    """Return the teacher of an ensemble of one, with all its classes; any other classifier is returned unchanged."""
    if isinstance(classifier, Ensemble) and len(classifier.teachers) == 1:
        return classifier.teachers[0]
    return classifier


def log_odds(logits: Logits) -> Logits:
    r"""Return the log-odds of each class against all others, :math:`\ln p_c - \ln (1 - p_c)` with :math:`p` the softmax."""
    log_p = logits.log_softmax(1)
    return log_p - torch.log1p(-log_p.exp().clamp_max(1 - 1e-6))


class SingleTeacher(Classifier):
    """One teacher over the labels of an ensemble; the labels it does not know are ruled out by `EXCLUDED_LOGIT`.

    Args:
        teacher: Its weights are shared, not copied.
        labels: All labels, in the order of the logits.
        multi_label: Whether the logits are independent; then those of a single-label teacher are its log-odds, else its
            log-probabilities. A multi-label teacher stays multi-label.
    """

    def __init__(self, teacher: Classifier, labels: Sequence[str], *, multi_label: bool = False) -> None:
        super().__init__(
            teacher.model,
            shape=teacher.shape,
            classes=labels,
            mean=teacher.mean.flatten().tolist(),
            std=teacher.std.flatten().tolist(),
            precision=teacher.precision,
            multi_label=multi_label or teacher.multi_label,
        )
        self.single_label, self.outputs = not teacher.multi_label, teacher.outputs
        self.takes_channels_last = teacher.takes_channels_last
        self.to(teacher.device)
        known = [name for name in teacher.classes if name in labels]
        columns = {
            "label_columns": [labels.index(name) for name in known],
            "class_columns": list(map(teacher.classes.index, known)),
        }
        for name, indices in columns.items():
            self.register_buffer(name, torch.tensor(indices), persistent=False)
        self.to(teacher.device)

    label_columns: Tensor
    """for each class that is a label, its column among the labels"""
    class_columns: Tensor
    """for each class that is a label, its column among the teacher's classes"""

    def forward(self, images: Images) -> Logits:
        """Return the logits of pixels in [0, 1], of shape `(n, labels)`."""
        teacher_logits = super().forward(images)
        if self.single_label:
            teacher_logits = log_odds(teacher_logits) if self.multi_label else teacher_logits.log_softmax(1)
        excluded = teacher_logits.new_full((len(teacher_logits), len(self.classes)), EXCLUDED_LOGIT)
        return excluded.index_copy(1, self.label_columns, teacher_logits.index_select(1, self.class_columns))


def exclude(logits: Logits, reference: Logits | None) -> Logits:
    """Rule out the labels that are ruled out in other logits of the same images; None rules out none."""
    if reference is None:
        return logits
    return logits.masked_fill(reference.to(logits.device) <= EXCLUDED_LOGIT, EXCLUDED_LOGIT)


def chosen_labels(teachers: Sequence[Classifier], labels: Sequence[str]) -> tuple[str, ...]:
    """Return the chosen labels, or the union of the labels of all teachers if none are chosen.

    Raises:
        InputError: If no teacher knows a label, or a label is chosen twice.
    """
    known = tuple(dict.fromkeys(name for teacher in teachers for name in teacher.classes))
    for label in labels:
        if label not in known:
            raise InputError(
                f"no teacher knows the label {label!r}{suggestion(label, known)}; choose among {', '.join(known)}"
            )
    if len(set(labels)) < len(labels):
        raise InputError("a label is given twice; give each label once")
    return tuple(labels) or known


def label_weights(teachers: Sequence[Classifier], labels: Sequence[str]) -> Tensor:
    """Return the matrix of shape `(classes of all teachers, labels)` that averages the logits of each label."""
    names = [name for teacher in teachers for name in teacher.classes]
    weights = torch.tensor([[float(name == label) for label in labels] for name in names])
    return weights / weights.sum(0).clamp_min(1)


def _average(values: Sequence[Tensor], channels: int) -> list[float]:
    return torch.stack([value.flatten().expand(channels) for value in values]).mean(0).tolist()
