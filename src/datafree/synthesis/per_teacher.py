"""Images made from each teacher of a ensemble by itself, in turn, so that it is known where each one came from."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from datafree.classifier import Classifier, ClassSubset
from datafree.ensemble import Ensemble, SingleTeacher
from datafree.synthesis import Method, Schedule, Synthesizer
from datafree.types import Batch


@dataclass(frozen=True, kw_only=True)
class PerTeacher(Method):
    """A method that is used on one teacher after another; on a single one as it is."""

    paper: ClassVar[str] = "that of the method"

    method: Method
    """how images are made from each teacher"""
    origin: bool = False
    """the teacher that an image was made from answers alone"""

    @property
    def schedule(self) -> Schedule:
        return self.method.schedule

    @property
    def passes(self) -> float:
        return self.method.passes

    def build(self, teacher: Classifier) -> Synthesizer:
        if not isinstance(teacher, Ensemble):
            return self.method.build(teacher)
        return PerTeacherSynthesizer(teacher, self.method, origin=self.origin)


class PerTeacherSynthesizer(Synthesizer):
    """A method on one teacher after another.

    Args:
        ensemble: Whose teachers are taken in turn, each with those of its labels that are wanted, if there are any.
        method: How images are made from each.
        origin: The answer is that of the teacher the image was made from, all other labels being ruled out; else the
            ensemble answers.
    """

    def __init__(self, ensemble: Ensemble, method: Method, *, origin: bool) -> None:
        self.ensemble, self.origin, self.turn = ensemble, origin, 0
        teachers = [teacher for teacher in ensemble.teachers if set(teacher.classes) & set(ensemble.classes)]
        self.members = [
            Ensemble([teacher], [label for label in ensemble.classes if label in teacher.classes])
            for teacher in teachers
        ]
        self.alone = [
            SingleTeacher(teacher, ensemble.classes, multi_label=ensemble.multi_label).eval() for teacher in teachers
        ]
        self.synthesizers = [method.build(member) for member in self.members]
        self.columns = [[ensemble.classes.index(label) for label in member.classes] for member in self.members]

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(note for one in self.synthesizers for note in one.notes))

    def synthesize(self, student: nn.Module | None = None) -> Batch:
        place = self.turn % len(self.members)
        self.turn += 1
        synthesizer, columns = self.synthesizers[place], self.columns[place]
        synthesizer.callback = self.callback
        batch = synthesizer.synthesize(None if student is None else ClassSubset(student, columns))
        targets = batch.targets
        if targets.ndim == 1 and not self.ensemble.multi_label:
            targets = torch.tensor(columns, device=targets.device)[targets]
        else:
            wanted = F.one_hot(targets, len(columns)).float() if targets.ndim == 1 else targets
            targets = torch.zeros(len(batch), len(self.ensemble.classes), device=targets.device)
            targets[:, columns] = wanted
        with torch.no_grad():
            answers = self.alone[place](batch.images) if self.origin else None
        return Batch(batch.images, targets, batch.terms, answers)

    def state_dict(self) -> dict[str, Any]:
        return {"turn": self.turn, "each": [one.state_dict() for one in self.synthesizers]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.turn = state["turn"]
        for one, kept in zip(self.synthesizers, state["each"], strict=True):
            one.load_state_dict(kept)
