"""A method of your own: images that the teacher assigns to one class each, with the statistics of its training data."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from datafree.classifier import Classifier, batch_norms, frozen, record
from datafree.losses import batch_norm_statistics, information_entropy_loss, one_hot_loss
from datafree.synthesis import Method, Schedule, Synthesizer, descend
from datafree.types import Batch, Images, Terms


@dataclass(frozen=True, kw_only=True)
class SureConfig(Method):
    """Settings; say here where the defaults come from."""

    paper: ClassVar[str] = "none, an example"
    steps: int = 100
    """descent steps per batch"""
    entropy: float = 20.0
    """weight of the information-entropy loss"""
    statistics: float = 10.0
    """weight of the batch-norm statistics"""

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
        with record(*batch_norms(self.teacher)) as calls:
            logits = self.teacher(images)
        return {
            "one-hot": one_hot_loss(logits),
            "entropy": self.config.entropy * information_entropy_loss(logits),
            "statistics": self.config.statistics * batch_norm_statistics(calls),
        }

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
    from datafree import Augmentation, DistillationConfig, Stream, create, create_student, distill, evaluate
    from datafree.networks.inheritance import inherit
    from datafree.real.data import open_real
    from datafree.real.ledger import Ledger
    from datafree.runs.training import TrainingConfig, train

    torch.set_num_threads(1)  # networks this small are fastest on one thread
    torch.manual_seed(0)
    ledger = Ledger()
    real = open_real("digits", "train", "teacher training", ledger)
    teacher = create("convnet_w64", classes=real.classes, shape=real.shape, mean=[0.3], std=[0.38])
    train(teacher, real, TrainingConfig(steps=150))

    student = create_student(teacher, "convnet_w16")
    inherit(student, teacher)  # start from the teacher's strongest channels
    method = SureConfig()
    batches = Stream(method.build(teacher), student, method.schedule)
    config = DistillationConfig(steps=1000, lr=1e-2, augment=Augmentation(shift=1.0, mix=0.25))
    student = distill(student, teacher, batches, config)

    test = open_real("digits", "test", "evaluation", ledger)
    for name, model in {"teacher": teacher, "student": student}.items():
        print(f"{name}  {evaluate(model, teacher, test.batches()).accuracy:.1%} of the held-out digits")
