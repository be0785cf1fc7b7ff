r"""Group-Stack GAN: one stack of generators for several fixed teachers, whose last blocks judge what each group makes.

A group makes what a block of the teachers takes; the last one makes the image. Its answer is the union of what all
teachers say of it, each through a filter of its own (Eqs 2, 4, 9, 10):

.. math::
    F_g^1 = G^1(z), \quad F_g^j = G^j(F_g^{j-1}), \quad \mathcal{I}_g = F_g^B, \quad
    D_m^j = \mathcal{A}_m^B \circ \dots \circ \mathcal{A}_m^{B-j+1}, \quad
    \mathcal{O}_g(F_g^j) = \bigcup_m D_m^j\bigl(f_m^j(F_g^j)\bigr)

The image is to be answered like training data; the features, like the image (Eqs 5-8, 11):

.. math::
    \mathcal{L}_\text{gan} = \mathcal{L}_{oh} + \alpha \mathcal{L}_a + \beta \mathcal{L}_{ie} + \gamma \mathcal{L}_\text{dis},
    \quad \mathcal{L}_\text{joint} = \mathcal{L}_\text{gan}^B
        + \frac{1}{B-1} \sum_{j=1}^{B-1} \ell\bigl(\mathcal{O}_g(F_g^j), \mathcal{O}_g(\mathcal{I}_g)\bigr)

Differences from the paper, whose values and architectures of groups were not to be had:

1. Weights, latents, learning rate and the layers of a group are ours.
2. With teachers of one answer each, the union is one softmax over all their classes (see `Ensemble`) and the label of
   Eq 5 is its highest class: of probabilities under 0.5 the threshold would make no label at all.
3. The image is shown to each teacher as it is, since the TargetNet will see it so; filters stand before features only.
4. `statistics` adds DeepInversion's batch-norm term for teachers that remember statistics; 0 leaves it out.
5. The image's answer in Eq 11 is held fixed: features follow the image, it does not follow them.

References:
    | Data-Free Knowledge Amalgamation via Group-Stack Dual-GAN (Ye et al., 2020), section 3
    | https://arxiv.org/abs/2003.09088
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from datafree.classifier import Classifier, batch_norms, frozen, record
from datafree.ensemble import Ensemble
from datafree.losses import (
    activation_loss,
    batch_norm_statistics,
    information_entropy_loss,
    one_hot_loss,
    soft_cross_entropy,
    sparsity_loss,
)
from datafree.networks.blocks import Blocks
from datafree.networks.filters import Filter
from datafree.synthesis import Method, Schedule, Synthesizer, descend
from datafree.synthesis.generators import GroupStackGenerator
from datafree.types import Batch, Images, InputError, Logits, Terms, at_least


@dataclass(frozen=True, kw_only=True)
class GroupStackConfig(Method):
    """The paper's terms; the values are ours, found on MNIST."""

    paper: ClassVar[str] = "Ye et al. 2020, arXiv 2003.09088"

    batch_size: int = 256
    """latents per step of the generator"""
    latent_size: int = 100
    """numbers in a latent"""
    lr: float = 5e-3
    """Adam's learning rate for generator and filters"""
    one_hot: float = 1.0
    """weight of the one-hot loss"""
    activation: float = 1e-3
    """alpha, weight of the activation loss"""
    entropy: float = 20.0
    """beta, weight of the information-entropy loss"""
    sparsity: float = 0.1
    """gamma, weight of the discrete loss; of no effect where one class is the answer"""
    groups: float = 1.0
    """weight of the features' answers; 0: only the image counts"""
    statistics: float = 0.0
    """weight of the teachers' batch-norm statistics on the image; not in the paper"""
    filters: bool = True
    """one filter per teacher and depth; else the teachers take the features as they are"""
    blocks: int = 0
    """B; as many as the teachers fall into, if 0"""
    reset_every: int = 0
    """steps after which a new generator begins; 0: never"""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(2, batch_size=self.batch_size)
        at_least(1, latent_size=self.latent_size)
        at_least(0, one_hot=self.one_hot, activation=self.activation, entropy=self.entropy, sparsity=self.sparsity)
        at_least(0, groups=self.groups, statistics=self.statistics, blocks=self.blocks, reset_every=self.reset_every)
        at_least(1e-9, lr=self.lr)

    @property
    def schedule(self) -> Schedule:
        return Schedule(refresh_every=4, pool_batches=128)

    @property
    def passes(self) -> float:
        return 1.5 if self.groups else 1.0

    @property
    def learning(self) -> int:
        return 300

    @property
    def needs(self) -> tuple[str, ...]:
        return ("batch-norm statistics",) if self.statistics else ()

    def build(self, teacher: Classifier) -> "GroupStack":
        return GroupStack(teacher, self)


class GroupStack(Synthesizer):
    """`objective` is Eq 11, `synthesize` one step of the generator."""

    def __init__(self, teacher: Classifier, config: GroupStackConfig) -> None:
        self.ensemble = teacher if isinstance(teacher, Ensemble) else Ensemble([teacher])
        self.config = config
        self.discriminators = [Blocks(teacher, config.blocks) for teacher in self.ensemble.teachers]
        self.shapes = self.discriminators[0].shapes
        for other in self.discriminators[1:]:
            if other.shapes != self.shapes:
                raise InputError(
                    f"the teachers' blocks take {self.shapes} and {other.shapes}; use teachers of one shape or another method"
                )
        self.norms = batch_norms(self.ensemble) if config.statistics else []
        self.begin()

    def begin(self) -> None:
        """A new generator, and new filters."""
        teachers, device = len(self.discriminators), self.ensemble.device
        self.generator = GroupStackGenerator(self.config.latent_size, self.shapes).to(device)
        self.generator.to(memory_format=torch.channels_last)
        self.filters = nn.ModuleList(
            nn.ModuleList(Filter(shape[0]) if self.config.filters else nn.Identity() for _ in range(teachers))
            for shape in reversed(self.shapes[1:])
        ).to(device)
        learned = [*self.generator.parameters(), *self.filters.parameters()]
        self.optimizer = torch.optim.Adam(learned, lr=self.config.lr, betas=(0.5, 0.999), fused=True)
        self.age = 0

    def answer(self, features: Tensor, group: int) -> Logits:
        """What the teachers together say of what a group (counted from 1) made, short of the last."""
        filters = self.filters[group - 1]
        pairs = zip(self.discriminators, filters, strict=True)  # type: ignore[arg-type]
        return self.ensemble.unite([blocks(through(features), last=group) for blocks, through in pairs])

    def objective(self, images: Images, features: list[Tensor]) -> Terms:
        c, ensemble = self.config, self.ensemble
        seen = ensemble.feature_layers() if c.activation else []
        with record(*seen, *self.norms) as calls:
            self.logits = ensemble(images)
        layers = [call for call in calls if call.module in seen]
        statistics = [call for call in calls if call.module in self.norms]
        terms = {
            "one-hot": c.one_hot * one_hot_loss(ensemble.decisions(self.logits)),
            "entropy": c.entropy * information_entropy_loss(ensemble.votes(self.logits)),
        }
        if layers:
            terms["activation"] = c.activation * activation_loss(
                torch.cat([call.input.flatten(1) for call in layers], 1)
            )
        if ensemble.multi_label:
            terms["sparsity"] = c.sparsity * sparsity_loss(ensemble.probabilities(self.logits))
        if statistics:
            terms["statistics"] = c.statistics * batch_norm_statistics(statistics)
        if c.groups and features:
            like = ensemble.decisions(self.logits).softmax(1).detach()
            answers = [ensemble.decisions(self.answer(made, group)) for group, made in enumerate(features, 1)]
            agreement = torch.stack([soft_cross_entropy(answer, like) for answer in answers]).mean()
            terms["groups"] = c.groups * agreement
        return terms

    def synthesize(self, student: nn.Module | None = None) -> Batch:
        c, ensemble = self.config, self.ensemble
        if c.reset_every and self.age >= c.reset_every:
            self.begin()
        with frozen(ensemble):
            latents = torch.randn(c.batch_size, c.latent_size, device=ensemble.device)
            *features, made = self.generator(latents)
            images = ensemble.denormalize(made).clamp(0, 1)
            terms = descend(self.objective(images, features), self.optimizer)
            self.age += 1
        answers = self.logits.detach()
        targets = ensemble.answer(answers)
        if ensemble.multi_label:
            terms = {**terms, "positives": targets.sum(1).mean()}
        inner = tuple(feature.detach() for feature in reversed(features))
        return Batch(images.detach(), targets, terms, answers, inner)

    def state_dict(self) -> dict[str, Any]:
        learned = {"generator": self.generator.state_dict(), "filters": self.filters.state_dict()}
        return {**learned, "optimizer": self.optimizer.state_dict(), "age": self.age}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.generator.load_state_dict(state["generator"])
        self.filters.load_state_dict(state["filters"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.age = state["age"]
