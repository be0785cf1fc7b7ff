r"""Several teachers as one: their answers side by side, over any choice of the labels they know.

Each teacher answers with confidence whatever it is shown, also what it has never seen. Which of them to believe is the
heart of the matter; a *gate* says it, from the teachers' own answers:

* `centred`: each teacher's logits less their mean stand side by side under one softmax, so that it counts by its
  :math:`\operatorname{logsumexp}_c(z_c - \bar z)`, which is higher on images such as it was trained on. The mean of its
  logits is nothing a teacher was ever asked for: its softmax does not depend on it.
* `energy`: the same of logits as they are, the energy of the paper below.
* `entropy`: :math:`\log p_m(y|x) - \lambda H(p_m(\cdot|x))`, the teacher that is less in doubt.
* `even`: :math:`\log p_m(y|x)`, as much probability for each teacher. The surer one answers, but half a student's lesson
  is what the other makes of an image it does not know.

With labels that are questions of their own (sigmoid) there is no choice to make, and no gate.

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
from datafree.types import Images, InputError, Logits, nearest, one_of

Gate = Literal["centred", "energy", "entropy", "even"]
NEVER = -20.0
"""logit of what is known not to be"""
DOUBT = 5.0
"""lambda, what one nat of entropy costs a teacher under the gate `entropy`"""


class Ensemble(Classifier):
    """Teachers that answer together, as one classifier over the union of their labels or a choice of it.

    A label that several teachers know by the same name is one label: its logit is the mean of theirs. So it is with bare
    numbers, of which the command asks what they mean.

    Args:
        teachers: Of equal input shape; each normalises pixels in its own way.
        labels: The names wanted, in the order wanted; all, in the order of the teachers, if not given.
        gate: Whom to believe, where one class is the answer.

    Raises:
        InputError: If there are no teachers, one of them knows a single class, their inputs differ, or a label or the
            gate is unknown.
    """

    def __init__(self, teachers: Sequence[Classifier], labels: Sequence[str] = (), gate: str = "centred") -> None:
        if not teachers:
            raise InputError("a ensemble has no teachers; name at least one")
        if len({teacher.shape for teacher in teachers}) > 1:
            shapes = ", ".join(str(teacher.shape) for teacher in teachers)
            raise InputError(
                f"the teachers take images of different shapes ({shapes}); amalgamate teachers of one shape"
            )
        one_of(get_args(Gate), gate=gate)
        if any(len(teacher.classes) == 1 and not teacher.multi_label for teacher in teachers):
            raise InputError("a teacher has one class and always answers it; give teachers of two classes or more")
        first = teachers[0]
        super().__init__(
            nn.ModuleList(teachers),
            shape=first.shape,
            classes=chosen_labels(teachers, labels),
            mean=_average([teacher.mean for teacher in teachers], first.shape[0]),
            std=_average([teacher.std for teacher in teachers], first.shape[0]),
            multi_label=any(teacher.multi_label for teacher in teachers),
            view=first.view,
        )
        self.gate = gate
        self.register_buffer("places", label_places(teachers, self.classes), persistent=False)
        self.to(first.device)

    places: Tensor

    @property
    def teachers(self) -> list[Classifier]:
        return list(self.model)  # type: ignore[arg-type]

    def feature_layers(self) -> list[nn.Linear]:
        return [layer for teacher in self.teachers for layer in teacher.feature_layers()]

    def class_weights(self) -> Tensor | None:
        """Those of a single teacher, for the labels that are wanted; those of several do not compare."""
        weights = self.teachers[0].class_weights() if len(self.teachers) == 1 else None
        return None if weights is None else self.places.T @ weights

    def same_teacher(self) -> Tensor:
        """Which labels some teacher knows both of, a table of shape `(labels, labels)`."""
        sizes = [len(teacher.classes) for teacher in self.teachers]
        knows = torch.stack([places.sum(0) > 0 for places in self.places.split(sizes)]).float()
        return knows.T @ knows > 0

    def unite(self, answers: Sequence[Tensor]) -> Logits:
        """The union of the teachers' logits, each of shape `(n, its classes)`."""
        united = torch.cat([self._weigh(teacher, z) for teacher, z in zip(self.teachers, answers, strict=True)], 1)
        return united @ self.places

    def _weigh(self, teacher: Classifier, logits: Logits) -> Logits:
        if self.multi_label:
            return logits if teacher.multi_label else odds(logits)
        if self.gate == "energy" or len(self.teachers) == 1:  # nobody to choose between: it answers as it does
            return logits
        if self.gate == "centred":
            return logits - logits.mean(1, keepdim=True)
        log_p = logits.log_softmax(1)
        doubt = DOUBT * torch.special.entr(log_p.exp()).sum(1, keepdim=True) if self.gate == "entropy" else 0
        return log_p - doubt

    def forward(self, images: Images) -> Logits:
        return self.unite([teacher(images) for teacher in self.teachers])


def odds(logits: Logits) -> Logits:
    """Of each class against all others: what a question about it is answered with, where one class is the answer."""
    log_p = logits.log_softmax(1)
    return log_p - torch.log1p(-log_p.exp().clamp_max(1 - 1e-6))


class SingleTeacher(Classifier):
    """One teacher among the labels of several: what it does not know is ruled out.

    Args:
        teacher: Its weights are shared.
        labels: All labels, in the order of the answer.
        multi_label: Whether every label is a question of its own, be the teacher's one answer or not.
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
        self.one_answer = not teacher.multi_label
        self.to(teacher.device)
        pairs = [(labels.index(name), place) for place, name in enumerate(teacher.classes) if name in labels]
        self.columns, self.places = [list(one) for one in zip(*pairs, strict=True)]

    def forward(self, images: Images) -> Logits:
        said = super().forward(images)
        if self.one_answer:
            said = odds(said) if self.multi_label else said.log_softmax(1)
        answer = said.new_full((len(said), len(self.classes)), NEVER)
        answer[:, self.columns] = said[:, self.places]
        return answer


def chosen_labels(teachers: Sequence[Classifier], wanted: Sequence[str]) -> tuple[str, ...]:
    """The labels of the union, each once; or those wanted.

    Raises:
        InputError: If a label is wanted that nobody knows, or twice.
    """
    known = tuple(dict.fromkeys(name for teacher in teachers for name in teacher.classes))
    for label in wanted:
        if label not in known:
            raise InputError(
                f"no teacher knows the label {label!r}{nearest(label, known)}; they know {', '.join(known)}"
            )
    if len(set(wanted)) < len(wanted):
        raise InputError("a label is wanted twice; name each once")
    return tuple(wanted) or known


def label_places(teachers: Sequence[Classifier], labels: Sequence[str]) -> Tensor:
    """Where each teacher's answer goes: of shape `(sum of their classes, labels)`, each column a mean."""
    names = [name for teacher in teachers for name in teacher.classes]
    places = torch.tensor([[float(name == label) for label in labels] for name in names])
    return places / places.sum(0).clamp_min(1)


def _average(values: Sequence[Tensor], channels: int) -> list[float]:
    return torch.stack([value.flatten().expand(channels) for value in values]).mean(0).tolist()
