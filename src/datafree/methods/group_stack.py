r"""Group-Stack GAN: one stack of generators for several fixed teachers, whose last blocks act as discriminators.

The output of a group has the shape of a block input of the teachers; the output of the last group is the image. The
output of a group is answered by the union of all teachers, each behind a filter of its own (Eqs 2, 4, 9, 10):

.. math::
    F_g^1 = G^1(z), \quad F_g^j = G^j(F_g^{j-1}), \quad \mathcal{I}_g = F_g^B, \quad
    D_m^j = \mathcal{A}_m^B \circ \dots \circ \mathcal{A}_m^{B-j+1}, \quad
    \mathcal{O}_g(F_g^j) = \bigcup_m D_m^j\bigl(f_m^j(F_g^j)\bigr)

The image is trained to be answered like training data, the features to be answered like the image (Eqs 5-8, 11):

.. math::
    \mathcal{L}_\text{gan} = \mathcal{L}_{oh} + \alpha \mathcal{L}_a + \beta \mathcal{L}_{ie} + \gamma \mathcal{L}_\text{dis},
    \quad \mathcal{L}_\text{joint} = \mathcal{L}_\text{gan}^B
        + \frac{1}{B-1} \sum_{j=1}^{B-1} \ell\bigl(\mathcal{O}_g(F_g^j), \mathcal{O}_g(\mathcal{I}_g)\bigr)

The differences from the paper are listed on the page of the method, `docs/methods/group-stack.md`.

References:
    | Data-Free Knowledge Amalgamation via Group-Stack Dual-GAN (Ye et al., 2020), section 3
    | https://arxiv.org/abs/2003.09088
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from datafree import processes
from datafree.classifier import Classifier, batch_norms, copy_of_input, frozen, record
from datafree.ensemble import Ensemble
from datafree.losses import (
    activation_loss,
    information_entropy_loss,
    observe_batch_norms,
    one_hot_loss,
    soft_cross_entropy,
    sparsity_loss,
    statistics_distance,
)
from datafree.networks.blocks import Blocks
from datafree.networks.filters import Filter
from datafree.synthesis import Schedule
from datafree.synthesis.generators.networks import GroupStackGenerator
from datafree.synthesis.generators.training import GeneratorMethod, GeneratorSynthesizer, GeneratorTraining
from datafree.types import Batch, Images, InputError, Logits, Terms, require_at_least


@dataclass(frozen=True, kw_only=True)
class GroupStackConfig(GeneratorMethod):
    """The terms of the paper with weights of our own, found on MNIST."""

    paper: ClassVar[str] = "Ye et al. 2020, arXiv 2003.09088"

    batch_size: int = 256
    """latent vectors per generator step"""
    lr: float = 5e-3
    """learning rate of the generator and the filters (Adam)"""
    activation: float = 1e-3
    """alpha, weight of the activation loss"""
    entropy: float = 20.0
    """beta, weight of the information-entropy loss"""
    sparsity: float = 0.1
    """gamma, weight of the discrete loss; only for multi-label teachers"""
    groups: float = 1.0
    """weight of the loss on the features of the groups; 0: only the image is trained"""
    discard_first: int = 300
    """steps of a new generator whose images are discarded, at the start and after each reset"""
    filters: bool = True
    """put a filter before each teacher at each depth; off: the teachers take the features unchanged"""
    blocks: int = 0
    """number of blocks B; 0: all blocks that the teachers can be split into"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(0, sparsity=self.sparsity, groups=self.groups, blocks=self.blocks)

    @property
    def schedule(self) -> Schedule:
        return Schedule(refresh_every=4, pool_batches=128)

    @property
    def passes(self) -> float:
        return (1.5 if self.groups else 1.0) * self.steps_per_batch

    def build(self, teacher: Classifier) -> "GroupStack":
        return GroupStack(teacher, self)


class GroupStack(GeneratorSynthesizer):
    """`objective` is Eq 11, `synthesize` is one generator step."""

    divides = True

    def __init__(self, teacher: Classifier, config: GroupStackConfig) -> None:
        self.ensemble = teacher if isinstance(teacher, Ensemble) else Ensemble([teacher])
        self.config = config
        self.discriminators = [Blocks(teacher, config.blocks) for teacher in self.ensemble.teachers]
        self.shapes = self.discriminators[0].shapes
        for blocks in self.discriminators[1:]:
            if blocks.shapes != self.shapes:
                raise InputError(
                    f"the blocks of the teachers have different input shapes, {self.shapes} and {blocks.shapes}; "
                    "use teachers of one architecture or another method"
                )
        self.signed = [
            any(signs) for signs in zip(*(blocks.signed_inputs() for blocks in self.discriminators), strict=True)
        ]
        self.layers = self.ensemble.feature_layers() if config.activation else []
        self.norms = batch_norms(self.ensemble) if config.statistics else []
        self.reset()

    @property
    def notes(self) -> tuple[str, ...]:
        no_features = self.config.activation > 0 and not self.layers
        return ("the activation loss is off: the teachers have no feature layer",) if no_features else ()

    def reset(self) -> None:
        """Re-initialise the generator, the filters and their optimizer."""
        teachers, device = len(self.discriminators), self.ensemble.device
        self.generator = GroupStackGenerator(self.config.latent_size, self.shapes, self.signed).to(device)
        self.filters = nn.ModuleList(
            nn.ModuleList(Filter(shape[0]) if self.config.filters else nn.Identity() for _ in range(teachers))
            for shape in reversed(self.shapes[1:])
        ).to(device)
        networks = {"generator": self.generator, "filters": self.filters}
        self.training = GeneratorTraining(self.config, self.ensemble, **networks)

    def group_logits(self, features: Tensor, group: int) -> Logits:
        """Return the joint logits of the teachers for the output of a group, counted from 1, except for the last group."""
        pairs = zip(self.discriminators, self.filters[group - 1], strict=True)  # type: ignore[arg-type]
        return self.ensemble.merge([blocks(teacher_filter(features), last=group) for blocks, teacher_filter in pairs])

    def objective(self, images: Images, features: list[Tensor]) -> Terms:
        c, ensemble = self.config, self.ensemble
        with (
            record(*self.layers, function=copy_of_input) as teacher_features,
            observe_batch_norms(self.norms) as moments,
        ):
            logits = ensemble(images)
        self.teacher_logits = logits.detach()
        terms = {
            "one-hot": c.one_hot * one_hot_loss(ensemble.decisions(logits)),
            "entropy": c.entropy * information_entropy_loss(ensemble.softmax_logits(logits)),
        }
        if teacher_features:
            terms["activation"] = c.activation * activation_loss(torch.cat(teacher_features, 1))
        if ensemble.multi_label:
            terms["sparsity"] = c.sparsity * sparsity_loss(ensemble.probabilities(logits))
        if c.statistics:
            terms["statistics"] = c.statistics * statistics_distance(moments)
        if c.groups and features:
            image_probabilities = ensemble.decisions(logits).softmax(1).detach()
            decisions = [
                ensemble.decisions(self.group_logits(output, group)) for group, output in enumerate(features, 1)
            ]
            losses = [soft_cross_entropy(decision, image_probabilities) for decision in decisions]
            terms["groups"] = c.groups * torch.stack(losses).mean()
        return terms

    def step(self) -> tuple[Images, list[Tensor], Terms]:
        """Take one step of the generator, and return the images and features of before the step, and the terms."""
        size = (processes.share(self.config.batch_size), self.config.latent_size)
        latents = processes.draw_rows(torch.randn, size, device=self.ensemble.device)
        with processes.whole_batch_layers():
            *features, normalized = self.generator(latents)
        images = self.ensemble.denormalize(normalized).clamp(0, 1)
        return images, features, self.training.step(self.objective(images, features))

    def synthesize(self, student: nn.Module | None = None) -> Batch:
        ensemble = self.ensemble
        if self.training.finished:
            self.reset()
        with frozen(ensemble):
            self.training.discard(self.step, self.callback)
            images, features, terms = self.step()
            if self.remedy(images):
                self.training.discard(self.step, self.callback)
                images, features, terms = self.step()
        targets = ensemble.predict(self.teacher_logits)
        if ensemble.multi_label:
            terms = {**terms, "labels_per_image": targets.sum(1).mean()}
        block_inputs = tuple(feature.detach() for feature in reversed(features))
        terms = processes.mean_terms(terms)
        return Batch(images.detach(), targets, terms, self.teacher_logits, block_inputs)
