"""Images synthesized from one teacher of an ensemble at a time, so that the source of each image is known."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datafree.classifier import Classifier, ClassSubset
from datafree.ensemble import Ensemble, SingleTeacher
from datafree.synthesis.method import Method, Synthesizer
from datafree.synthesis.schedule import Schedule
from datafree.types import Batch, Targets


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


def members_of(ensemble: Ensemble) -> list[Ensemble]:
    """Return one ensemble for each teacher that knows a label of the ensemble, over the labels that it knows."""
    return [
        Ensemble([teacher], labels)
        for teacher in ensemble.teachers
        if (labels := [label for label in ensemble.classes if label in teacher.classes])
    ]


class PerTeacherSynthesizer(Synthesizer):
    """One synthesizer per teacher; each batch comes from one of them.

    The teachers take turns in proportion to the number of their classes, so that every class has as many images. No random
    number decides.

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
        self.batches = [0] * len(self.members)
        self.single_teachers = [
            SingleTeacher(member.teachers[0], ensemble.classes, multi_label=ensemble.multi_label).eval()
            for member in self.members
        ]
        self.synthesizers = [method.build(member) for member in self.members]
        self.class_indices = [
            torch.tensor([ensemble.classes.index(label) for label in member.classes], device=ensemble.device)
            for member in self.members
        ]

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(note for synthesizer in self.synthesizers for note in synthesizer.notes))

    @property
    def next_teacher(self) -> int:
        """The index of the teacher whose classes have had the fewest batches so far."""
        shares = [(count + 0.5) / len(member.classes) for count, member in zip(self.batches, self.members, strict=True)]
        return shares.index(min(shares))

    def synthesize(self, student: nn.Module | None = None) -> Batch:
        index = self.next_teacher
        synthesizer = self.synthesizers[index]
        synthesizer.callback = self.callback
        batch = synthesizer.synthesize(None if student is None else ClassSubset(student, self.class_indices[index]))
        self.batches[index] += 1  # not before, so that a batch in progress is continued from a checkpoint
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

    def state_dict(self) -> dict[str, Any]:
        return {
            "batches": self.batches,
            "synthesizers": [synthesizer.state_dict() for synthesizer in self.synthesizers],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.batches = list(state["batches"])
        for synthesizer, synthesizer_state in zip(self.synthesizers, state["synthesizers"], strict=True):
            synthesizer.load_state_dict(synthesizer_state)
