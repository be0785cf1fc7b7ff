r"""DAFL: a generator learns to make what the fixed teacher, as its discriminator, takes for training data.

.. math::
    \mathcal{L}_\text{total} = \mathcal{L}_{oh} + \alpha \mathcal{L}_a + \beta \mathcal{L}_{ie}

An image of the training data is answered with one class (one-hot), excites the features (activation), and a batch of
them has all classes alike (information entropy). The student learns alongside, on images of fresh latents.

`fast` is our own recipe on the same terms: a small generator that begins anew every 200 steps, a term that asks for
images on which the student's probabilities still differ, and a student that learns from all images kept.

.. math:: \mathcal{L}_\text{adv} = -\frac1n \sum_i \mathbb{1}[\arg\max t_i = \arg\max s_i] \; \text{KL}(p_i \Vert q_i)

Differences from the paper:

1. Images are clipped to their range, so that a student sees what it will see in use; the authors' code does not clip.
2. Adam's averages (0.5, 0.999) are usual for generators; the paper names none.
3. `dafl` follows the paper's definitions, with weights that make its objective equal to the authors' code's for MNIST.
   `dafl-authors` follows that code: see `mean_activation` and `log10_entropy`; the student learns on the generator's batch.

References:
    | Data-Free Learning of Student Networks (Chen et al., 2019), section 3
    | https://arxiv.org/abs/1904.01186
    | Decision-adversarial term: Contrastive Model Inversion (Fang et al., 2021), section 3.3
    | https://arxiv.org/abs/2105.08584
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from datafree.classifier import Classifier, batch_norms, frozen, record
from datafree.losses import (
    activation_loss,
    batch_norm_statistics,
    decision_adversarial_loss,
    information_entropy_loss,
    one_hot_loss,
)
from datafree.synthesis import Method, Schedule, Synthesizer, descend
from datafree.synthesis.generators import PaperGenerator, SubpixelGenerator
from datafree.types import Batch, Images, Scalar, Terms, at_least


@dataclass(frozen=True, kw_only=True)
class DAFLConfig(Method):
    """The paper's settings for MNIST; its weights follow from the authors' by d = 120 features and k = 10 classes."""

    paper: ClassVar[str] = "Chen et al. 2019, arXiv 1904.01186"

    batch_size: int = 512
    """latents per generator step"""
    latent_size: int = 100
    """numbers in a latent"""
    lr: float = 0.2
    """Adam's learning rate for the generator"""
    one_hot: float = 1.0
    """weight of the one-hot loss"""
    activation: float = 8.33e-4
    """alpha, weight of the activation loss; 0.1 / d in the authors' units"""
    entropy: float = 21.7
    """beta, weight of the information-entropy loss; 5 k / ln 10 in the authors' units"""
    adversary: float = 0.0
    """weight of the decision-adversarial term; 0: the student is not looked at"""
    statistics: float = 0.0
    """weight of the teacher's batch-norm statistics, where it remembers any; not in the paper"""
    units: Literal["paper", "authors"] = "paper"
    """whose definitions of the activation and entropy loss the weights belong to"""
    generator: Literal["paper", "subpixel"] = "paper"
    """which network; see `generators`"""
    reset_every: int = 0
    """generator steps after which a new generator begins; 0: never"""
    discard_first: int = 0
    """steps of a new generator whose images no student sees"""
    student_batch_size: int = 512
    """images handed out per generator step"""
    reuse_batch: bool = False
    """hand out the images of the generator's own step, as the authors' code does; else of fresh latents, after it"""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(2, batch_size=self.batch_size, student_batch_size=self.student_batch_size)
        at_least(1, latent_size=self.latent_size)
        at_least(0, one_hot=self.one_hot, activation=self.activation, entropy=self.entropy)
        at_least(0, adversary=self.adversary, statistics=self.statistics, discard_first=self.discard_first)
        at_least(self.discard_first + 1 if self.reset_every else 0, reset_every=self.reset_every)
        at_least(1e-9, lr=self.lr)

    @property
    def schedule(self) -> Schedule:
        return Schedule(refresh_every=8, pool_batches=512) if self.reset_every else Schedule()

    @property
    def passes(self) -> float:
        handed = self.batch_size if self.reuse_batch else self.student_batch_size
        return (
            self.batch_size
            / handed
            * (self.reset_every / (self.reset_every - self.discard_first) if self.reset_every else 1)
        )

    @property
    def adaptive(self) -> bool:
        return self.adversary > 0

    @property
    def learning(self) -> int:
        return self.reset_every // 2 or 500

    @property
    def needs(self) -> tuple[str, ...]:
        return ("batch-norm statistics",) if self.statistics else ()

    def build(self, teacher: Classifier) -> "DAFL":
        return DAFL(teacher, self)


class DAFL(Synthesizer):
    """`objective` is the equation above, `synthesize` Algorithm 1 up to the student's step."""

    def __init__(self, teacher: Classifier, config: DAFLConfig) -> None:
        self.teacher, self.config = teacher, config
        self.layers = teacher.feature_layers()
        self.norms = batch_norms(teacher) if config.statistics else []
        self.begin()

    @property
    def notes(self) -> tuple[str, ...]:
        blind = self.config.activation > 0 and not self.layers
        return ("no layer of features is to be seen in this teacher: the activation loss is off",) if blind else ()

    def begin(self) -> None:
        """A new generator."""
        network = PaperGenerator if self.config.generator == "paper" else SubpixelGenerator
        self.generator = network(self.config.latent_size, self.teacher.shape).to(self.teacher.device)
        learned = self.generator.to(memory_format=torch.channels_last).parameters()
        self.optimizer = torch.optim.Adam(learned, lr=self.config.lr, betas=(0.5, 0.999), fused=True)
        self.age = 0

    def objective(self, images: Images, student: nn.Module | None = None) -> Terms:
        c = self.config
        with record(*self.layers) as calls, record(*self.norms) as statistics:
            logits = self.teacher(images)
        self.answers = logits.detach()
        by_paper, by_authors = (activation_loss, information_entropy_loss), (mean_activation, log10_entropy)
        activation, entropy = by_paper if c.units == "paper" else by_authors
        terms = {
            "one-hot": c.one_hot * one_hot_loss(self.teacher.decisions(logits)),
            "entropy": c.entropy * entropy(self.teacher.votes(logits)),
        }
        if c.activation and self.layers:
            features = torch.cat([call.input.flatten(1) for call in calls], 1)
            terms["activation"] = c.activation * activation(features)
        if statistics:
            terms["statistics"] = c.statistics * batch_norm_statistics(statistics)
        if c.adversary and student is not None:
            ours, theirs = map(self.teacher.decisions, (logits, student(images)))
            terms["adversary"] = c.adversary * decision_adversarial_loss(ours, theirs)
        return terms

    def imagine(self, count: int) -> Images:
        """Images of fresh latents."""
        latents = torch.randn(count, self.config.latent_size, device=self.teacher.device)
        return self.teacher.denormalize(self.generator(latents)).clamp(0, 1)

    def synthesize(self, student: nn.Module | None = None) -> Batch:
        c = self.config
        if c.reset_every and self.age >= c.reset_every:
            self.begin()
        with frozen(self.teacher, student):
            while True:
                images = self.imagine(c.batch_size)
                terms = descend(self.objective(images, student), self.optimizer)
                self.age += 1
                if self.age > c.discard_first:
                    break
            if c.reuse_batch:
                return Batch(images.detach(), self.teacher.answer(self.answers), terms, self.answers)
            with torch.no_grad():
                images = self.imagine(c.student_batch_size)
                answers = self.teacher(images)
        return Batch(images, self.teacher.answer(answers), terms, answers)

    def state_dict(self) -> dict[str, Any]:
        return {"generator": self.generator.state_dict(), "optimizer": self.optimizer.state_dict(), "age": self.age}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.generator.load_state_dict(state["generator"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.age = state["age"]


def mean_activation(features: Tensor) -> Scalar:
    r"""The authors' activation loss: :math:`-\operatorname{mean} |f|` over images and features, 1/d of the paper's."""
    return -features.abs().mean()


def log10_entropy(logits: Tensor) -> Scalar:
    r"""The authors' information-entropy loss: :math:`\sum_j \bar p_j \log_{10} \bar p_j`, k / ln 10 times the paper's."""
    mean = logits.softmax(1).mean(0)
    return torch.special.entr(mean).sum().neg() / math.log(10)
