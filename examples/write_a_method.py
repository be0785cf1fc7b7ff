"""A method of your own: images on which the teacher names one class, all classes alike, by descent on the pixels."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from datafree.classifier import Classifier, frozen
from datafree.losses import information_entropy_loss, one_hot_loss
from datafree.synthesis import Method, Schedule, Synthesizer, descend
from datafree.types import Batch, Images, Terms


@dataclass(frozen=True, kw_only=True)
class SureConfig(Method):
    """Say here where the defaults come from: these are an example's."""

    paper: ClassVar[str] = "none, an example"
    steps: int = 50
    """descent steps per batch"""
    balance: float = 20.0
    """weight of the information-entropy loss"""

    @property
    def schedule(self) -> Schedule:
        return Schedule(warmup_batches=4, refresh_every=0, pool_batches=4)

    @property
    def passes(self) -> float:
        return self.steps

    def build(self, teacher: Classifier) -> "Sure":
        return Sure(teacher, self)


class Sure(Synthesizer):
    """`objective` is the equation, `synthesize` its minimisation."""

    def __init__(self, teacher: Classifier, config: SureConfig) -> None:
        self.teacher, self.config = teacher, config

    def objective(self, images: Images) -> Terms:
        logits = self.teacher(images)
        return {"one-hot": one_hot_loss(logits), "balance": self.config.balance * information_entropy_loss(logits)}

    def synthesize(self, student: nn.Module | None = None) -> Batch:
        images = torch.rand(self.config.batch_size, *self.teacher.shape, device=self.teacher.device).requires_grad_()
        optimizer = torch.optim.Adam([images], lr=0.05)
        terms: Terms = {}
        with frozen(self.teacher):
            for _ in self.callback.track(range(self.config.steps), "sure"):
                terms = descend(self.objective(images), optimizer)
                images.data.clamp_(0, 1)
            return Batch(images.detach(), self.teacher(images).argmax(1), terms)


if __name__ == "__main__":
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from datafree import DistillationConfig, Stream, distill, evaluate, load_folder, student_of
    from datafree.real.data import Ledger, open_real
    from datafree.runs.training import TrainingConfig, example_teacher

    with TemporaryDirectory() as folder:
        place = Path(folder) / "teacher"
        example_teacher(network="convnet_w64", data="digits", out=place, training=TrainingConfig(steps=150))
        teacher = load_folder(place).eval()
    student = student_of(teacher, "convnet_w16")
    method = SureConfig(batch_size=64)
    batches = Stream(method.build(teacher), student, method.schedule)
    student = distill(student, teacher, batches, DistillationConfig(steps=100, lr=1e-2))
    test = open_real("digits", "test", "evaluation", Ledger())
    print(f"teacher {evaluate(teacher, teacher, test.once()).accuracy:.1%}")
    print(f"student {evaluate(student, teacher, test.once()).accuracy:.1%}")
