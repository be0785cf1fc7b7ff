"""Methods whose batches come from several synthesizers in turn: one for each teacher, or for some classes and for the others.

The turns are in proportion to weights. No random number decides.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datafree.classifier import Classifier, ClassSubset, frozen
from datafree.ensemble import Ensemble, SingleTeacher
from datafree.synthesis.dividing import part_of, synthesize_part
from datafree.synthesis.method import Method, Synthesizer
from datafree.synthesis.schedule import Schedule
from datafree.types import Batch, Targets, require_at_least, require_below_one


@dataclass(frozen=True, kw_only=True)
class PerTeacher(Method):
    """A method applied to one teacher of an ensemble at a time. With a single teacher it is the method itself."""

    paper: ClassVar[str] = "that of the method"

    method: Method
    """the method that synthesizes the images of each teacher"""
    origin: bool = False
    """label each image by the teacher it was synthesized from only; otherwise by the ensemble"""

    @property
    def schedule(self) -> Schedule:
        return self.method.schedule

    @property
    def passes(self) -> float:
        return self.method.passes

    @property
    def burn_in(self) -> int:
        return self.method.burn_in

    @property
    def adaptive(self) -> bool:
        return self.method.adaptive

    @property
    def distillation(self) -> Mapping[str, Any]:
        return self.method.distillation

    def missing(self, teacher: Classifier) -> list[str]:
        """Return what the method needs and any of the teachers does not have."""
        members = members_of(teacher) if isinstance(teacher, Ensemble) else [teacher]
        return list(dict.fromkeys(need for member in members for need in self.method.missing(member)))

    def build(self, teacher: Classifier) -> Synthesizer:
        if not isinstance(teacher, Ensemble):
            return self.method.build(teacher)
        return PerTeacherSynthesizer(teacher, self.method, origin=self.origin)


@dataclass(frozen=True, kw_only=True)
class WithOthers(Method):
    """A method for some of a teacher's classes, in which a share of the batches shows the teacher's other classes.

    The teacher is an `Ensemble` of one teacher over the chosen labels. With all labels it is the method itself.
    """

    paper: ClassVar[str] = "that of the method"

    method: Method
    """the method that synthesizes the images of the chosen and of the other classes"""
    others: float
    """share of the batches with images of other classes, at least 0 and below 1"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(0, others=self.others)
        require_below_one(others=self.others)

    @property
    def schedule(self) -> Schedule:
        return self.method.schedule

    @property
    def passes(self) -> float:
        return self.method.passes

    @property
    def burn_in(self) -> int:
        return self.method.burn_in

    @property
    def adaptive(self) -> bool:
        return self.method.adaptive

    @property
    def distillation(self) -> Mapping[str, Any]:
        return self.method.distillation

    @property
    def needs(self) -> tuple[str, ...]:
        return self.method.needs

    def missing(self, teacher: Classifier) -> list[str]:
        return self.method.missing(teacher)

    def build(self, teacher: Classifier) -> Synthesizer:
        others = other_classes(teacher) if isinstance(teacher, Ensemble) and self.others else None
        if others is None:
            return self.method.build(teacher)
        assert isinstance(teacher, Ensemble)
        return WithOthersSynthesizer(teacher, others, self.method, self.others)


def members_of(ensemble: Ensemble) -> list[Ensemble]:
    """Return one ensemble for each teacher that knows a label of the ensemble, over the labels that it knows."""
    return [
        Ensemble([teacher], labels)
        for teacher in ensemble.teachers
        if (labels := [label for label in ensemble.classes if label in teacher.classes])
    ]


def other_classes(ensemble: Ensemble) -> Ensemble | None:
    """Return the teacher of an ensemble of one, over the classes that are no labels of the ensemble; None if there are none.

    A single class that is left makes no classifier; then all classes of the teacher are returned.
    """
    teacher = ensemble.teachers[0]
    labels = [name for name in teacher.classes if name not in ensemble.classes]
    if not labels:
        return None
    return Ensemble([teacher], labels if len(labels) > 1 or teacher.multi_label else ())


class TakingTurns(Synthesizer):
    """Several synthesizers that take turns in proportion to their weights.

    Args:
        synthesizers: The synthesizers.
        weights: A positive number for each.
    """

    divides = True

    def __init__(self, synthesizers: Sequence[Synthesizer], weights: Sequence[float]) -> None:
        self.synthesizers, self.weights = list(synthesizers), list(weights)
        self.batches = [0] * len(self.synthesizers)

    @property
    def next_turn(self) -> int:
        """The index of the synthesizer that has made the fewest batches so far, for its weight."""
        shares = [(count + 0.5) / weight for count, weight in zip(self.batches, self.weights, strict=True)]
        return shares.index(min(shares))

    @abstractmethod
    def student_for(self, index: int, student: nn.Module) -> nn.Module | None:
        """Return what a synthesizer sees of the student."""

    @abstractmethod
    def finished(self, index: int, batch: Batch) -> Batch:
        """Return the batch of a synthesizer with targets and logits over the classes of the teacher."""

    def synthesize(self, student: nn.Module | None = None) -> Batch:
        index = self.next_turn
        synthesizer = self.synthesizers[index]
        synthesizer.callback = self.callback
        batch, is_whole = synthesize_part(synthesizer, None if student is None else self.student_for(index, student))
        batch = part_of(batch) if is_whole else batch
        self.batches[index] += 1  # not before, so that a batch in progress is continued from a checkpoint
        return self.finished(index, batch)

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(note for synthesizer in self.synthesizers for note in synthesizer.notes))

    @property
    def measured_images(self) -> Mapping[str, int]:
        return {source: n for synthesizer in self.synthesizers for source, n in synthesizer.measured_images.items()}

    @property
    def dependencies(self) -> Mapping[str, str]:
        return {path: sha for synthesizer in self.synthesizers for path, sha in synthesizer.dependencies.items()}

    def state_dict(self) -> dict[str, Any]:
        return {
            "batches": self.batches,
            "synthesizers": [synthesizer.state_dict() for synthesizer in self.synthesizers],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.batches = list(state["batches"])
        for synthesizer, synthesizer_state in zip(self.synthesizers, state["synthesizers"], strict=True):
            synthesizer.load_state_dict(synthesizer_state)


class PerTeacherSynthesizer(TakingTurns):
    """One synthesizer per teacher. A teacher has a turn for each of its classes, so that every class has as many images.

    Args:
        ensemble: Each of its teachers is restricted to those of its classes that the ensemble has; teachers without any
            are skipped.
        method: The method that synthesizes the images of each teacher.
        origin: Whether batches carry the logits of the teacher they were synthesized from, with all classes that it does
            not know excluded. Otherwise they carry no logits and the ensemble labels them.
    """

    def __init__(self, ensemble: Ensemble, method: Method, *, origin: bool) -> None:
        self.ensemble, self.origin = ensemble, origin
        self.members = members_of(ensemble)
        self.single_teachers = [
            SingleTeacher(member.teachers[0], ensemble.classes, multi_label=ensemble.multi_label).eval()
            for member in self.members
        ]
        super().__init__([method.build(member) for member in self.members], [len(m.classes) for m in self.members])
        self.class_indices = [
            torch.tensor([ensemble.classes.index(label) for label in member.classes], device=ensemble.device)
            for member in self.members
        ]

    def student_for(self, index: int, student: nn.Module) -> nn.Module:
        return ClassSubset(student, self.class_indices[index])

    def finished(self, index: int, batch: Batch) -> Batch:
        with torch.no_grad():
            logits = self.single_teachers[index](batch.images) if self.origin else None
        targets = self.ensemble_targets(batch.targets, self.class_indices[index])
        return Batch(batch.images, targets, batch.terms, logits)

    def ensemble_targets(self, targets: Targets, class_indices: Tensor) -> Tensor:
        """Return the targets of one teacher as targets over all classes of the ensemble.

        Args:
            targets: Targets over the classes of the teacher.
            class_indices: The index of each of these classes in the ensemble.
        """
        if targets.ndim == 1 and not self.ensemble.multi_label:
            return class_indices[targets]
        rows = F.one_hot(targets, len(class_indices)).float() if targets.ndim == 1 else targets
        scattered = torch.zeros(len(targets), len(self.ensemble.classes), device=targets.device)
        scattered[:, class_indices] = rows
        return scattered


class WithOthersSynthesizer(TakingTurns):
    """Two synthesizers: for the chosen classes and for the others. All batches carry the logits over the chosen classes.

    Images of other classes have the prediction over the chosen classes as their target. They are synthesized without the
    student, which does not know their classes.

    Args:
        chosen: A teacher over the chosen classes.
        others: The same teacher over its other classes.
        method: The method that synthesizes the images.
        share: Share of the batches with images of other classes.
    """

    def __init__(self, chosen: Ensemble, others: Ensemble, method: Method, share: float) -> None:
        super().__init__([method.build(chosen), method.build(others)], [1 - share, share])
        self.chosen = chosen

    def student_for(self, index: int, student: nn.Module) -> nn.Module | None:
        return None if index else student

    def finished(self, index: int, batch: Batch) -> Batch:
        targets, logits = batch.targets, None if index else batch.teacher_logits
        if logits is None:
            with frozen(self.chosen), torch.no_grad():
                logits = self.chosen(batch.images)
        if index:
            soft = targets.ndim == 2 and not self.chosen.multi_label
            targets = self.chosen.probabilities(logits) if soft else self.chosen.predict(logits)
        return Batch(batch.images, targets, batch.terms, logits)
