r"""DAFL: a generator is trained so that the fixed teacher, as the discriminator, takes its images for training data.

.. math::
    \mathcal{L}_\text{total} = \mathcal{L}_{oh} + \alpha \mathcal{L}_a + \beta \mathcal{L}_{ie}

On training data the teacher predicts one class with high confidence (one-hot) and its features are large (activation);
over a batch all classes are equally frequent (information entropy). The student is trained alternately with the
generator, on images of new latent vectors.

`fast` is our own recipe on the same terms: a small generator that is re-initialised every 200 steps, an additional term
for images on which the probabilities of the student still differ, and a student that learns from a pool of images.

.. math:: \mathcal{L}_\text{adv} = -\frac1n \sum_i \mathbb{1}[\arg\max t_i = \arg\max s_i] \; \text{KL}(p_i \Vert q_i)

The differences from the paper are listed on the page of the method, `docs/methods/dafl.md`.

References:
    | Data-Free Learning of Student Networks (Chen et al., 2019), section 3
    | https://arxiv.org/abs/1904.01186
    | Decision-adversarial term: Contrastive Model Inversion (Fang et al., 2021), section 3.3
    | https://arxiv.org/abs/2105.08584
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from datafree import processes
from datafree.classifier import Classifier, batch_norms, copy_of_input, frozen, record
from datafree.losses import (
    activation_loss,
    decision_adversarial_loss,
    information_entropy_loss,
    mean_prediction_entropy,
    observe_batch_norms,
    one_hot_loss,
    statistics_distance,
)
from datafree.synthesis import Schedule
from datafree.synthesis.generators.networks import PaperGenerator, SubpixelGenerator
from datafree.synthesis.generators.training import GeneratorMethod, GeneratorSynthesizer, GeneratorTraining
from datafree.synthesis.method import capabilities
from datafree.types import Batch, Images, Scalar, Terms, require_at_least


@dataclass(frozen=True, kw_only=True)
class DAFLConfig(GeneratorMethod):
    """The settings of the paper for MNIST. The weights are those of the authors' code for 120 features and 10 classes."""

    paper: ClassVar[str] = "Chen et al. 2019, arXiv 1904.01186"

    batch_size: int = 512
    """latent vectors per generator step"""
    lr: float = 0.2
    """learning rate of the generator (Adam)"""
    activation: float = 8.33e-4
    """alpha, weight of the activation loss; 0.1 / d in the authors' units"""
    entropy: float = 21.7
    """beta, weight of the information-entropy loss; 5 k / ln 10 in the authors' units"""
    adversary: float = 0.0
    """weight of the decision-adversarial term; 0: the student is not used"""
    units: Literal["paper", "authors"] = "paper"
    """whether the activation and entropy weights refer to the definitions of the paper or of the authors' code"""
    generator: Literal["paper", "subpixel"] = "paper"
    """architecture: that of the paper, or a smaller one with a pixel shuffle"""
    student_batch_size: int = 512
    """images per batch for the student; not used with reuse-batch"""
    reuse_batch: bool = False
    """give the student the batch that the generator was trained on, as in the authors' code, instead of new images"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(2, student_batch_size=self.student_batch_size)
        require_at_least(0, adversary=self.adversary)

    @property
    def schedule(self) -> Schedule:
        return Schedule(refresh_every=8, pool_batches=512) if self.reset_every else Schedule()

    @property
    def images_per_batch(self) -> int:
        return self.batch_size if self.reuse_batch else self.student_batch_size

    @property
    def passes(self) -> float:
        return self.batch_size / self.images_per_batch * self.steps_per_batch

    @property
    def burn_in(self) -> int:
        return self.reset_every // 2 or 500

    @property
    def adaptive(self) -> bool:
        return self.adversary > 0

    @property
    def needs(self) -> tuple[str, ...]:
        return ("gradients",)  # without batch norm the statistics term is absent

    def build(self, teacher: Classifier) -> "DAFL":
        return DAFL(teacher, self)


class DAFL(GeneratorSynthesizer):
    """`objective` is the equation above, `synthesize` is Algorithm 1 up to the step of the student."""

    divides = True

    def __init__(self, teacher: Classifier, config: DAFLConfig) -> None:
        self.teacher, self.config = teacher, config
        self.layers = teacher.feature_layers()
        has_statistics = "batch-norm statistics" in capabilities(teacher)
        self.norms = batch_norms(teacher) if config.statistics and has_statistics else []
        self.reset()

    @property
    def notes(self) -> tuple[str, ...]:
        missing = {
            "the activation loss is off: the teacher has no feature layer": self.config.activation and not self.layers,
            "the statistics loss is off: the teacher has no batch-norm statistics": self.config.statistics
            and not self.norms,
        }
        return tuple(note for note, applies in missing.items() if applies)

    def reset(self) -> None:
        """Re-initialise the generator and its optimizer."""
        network = PaperGenerator if self.config.generator == "paper" else SubpixelGenerator
        self.generator = network(self.config.latent_size, self.teacher.shape).to(self.teacher.device)
        self.training = GeneratorTraining(self.config, self.teacher, generator=self.generator)

    def objective(self, images: Images, student: nn.Module | None = None) -> Terms:
        c = self.config
        with (
            record(*self.layers, function=copy_of_input) as features,
            observe_batch_norms(self.norms) as moments,
        ):
            logits = self.teacher(images)
        self.teacher_logits = logits.detach()
        paper, authors = (activation_loss, information_entropy_loss), (mean_activation, log10_entropy)
        activation, entropy = paper if c.units == "paper" else authors
        terms = {
            "one-hot": c.one_hot * one_hot_loss(self.teacher.decisions(logits)),
            "entropy": c.entropy * entropy(self.teacher.softmax_logits(logits)),
        }
        if c.activation and features:
            terms["activation"] = c.activation * activation(torch.cat(features, 1))
        if self.norms:
            terms["statistics"] = c.statistics * statistics_distance(moments)
        if c.adversary and student is not None:
            decisions = self.teacher.decisions
            terms["adversary"] = c.adversary * decision_adversarial_loss(decisions(logits), decisions(student(images)))
        return terms

    def generate(self, count: int) -> Images:
        """Return images of new latent vectors."""
        size = (processes.share(count), self.config.latent_size)
        latents = processes.draw_rows(torch.randn, size, device=self.teacher.device)
        with processes.whole_batch_layers():
            return self.teacher.denormalize(self.generator(latents)).clamp(0, 1)

    def step(self, student: nn.Module | None = None) -> tuple[Images, Terms]:
        """Take one step of the generator, and return the images of before the step, and the terms."""
        images = self.generate(self.config.batch_size)
        return images, self.training.step(self.objective(images, student))

    def next_step(self, student: nn.Module | None) -> tuple[Images, Terms]:
        """Take the next step whose images are used, after those of a new generator that are discarded."""
        self.training.discard(lambda: self.step(student), self.callback)
        return self.step(student)

    def synthesize(self, student: nn.Module | None = None) -> Batch:
        c = self.config
        if self.training.finished:
            self.reset()
        with frozen(self.teacher, student):
            images, terms = self.next_step(student)
            if self.remedy(images):
                images, terms = self.next_step(student)
            logits = self.teacher_logits
            if not c.reuse_batch:
                with torch.no_grad():
                    images = self.generate(c.student_batch_size)
                    logits = self.teacher(images)
        return Batch(images.detach(), self.teacher.predict(logits), processes.mean_terms(terms), logits)


def mean_activation(features: Tensor) -> Scalar:
    r"""Activation loss of the authors' code: :math:`-\operatorname{mean} |f|`, that of the paper divided by d."""
    return -features.abs().mean()


def log10_entropy(logits: Tensor) -> Scalar:
    r"""Entropy loss of the authors' code: :math:`\sum_j \bar p_j \log_{10} \bar p_j`, k / ln 10 times that of the paper."""
    return -mean_prediction_entropy(logits) / math.log(10)
