r"""DeepInversion: images that the teacher classifies with confidence and whose features resemble its training data.

.. math::
    \min_x \; \mathcal{L}(f_T(x), y) + \mathcal{R}_\text{prior}(x)
        + \alpha_f \mathcal{R}_\text{feature}(x) + \alpha_c \mathcal{R}_\text{compete}(x)

DeepDream has only the first two terms. The last term favours images on which the student disagrees (adaptive, ADI). `refine`
takes few steps from procedural pictures. Not in the paper: relative statistics, an expectation over transformations, and an
image prior for teachers without batch norm.

.. math::
    \mathcal{R}_\text{prior}(x) = \alpha_\text{tv} \mathcal{R}_\text{TV}(x) + \alpha_{\ell_2} \lVert x \rVert_2, \quad
    \mathcal{R}_\text{compete}(x) = 1 - \text{JS}(p_T(x), p_S(x))

The differences from the paper are listed on the page of the method, `docs/methods/deep-inversion.md`.

References:
    | Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion (Yin et al., 2020)
    | https://arxiv.org/abs/1912.08795
"""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datafree.classifier import Classifier
from datafree.losses import clamped_divergence, image_norm, js_divergence, total_variation
from datafree.networks.input_fitting import require_resolutions
from datafree.synthesis import Method, Schedule, half_cosine
from datafree.synthesis.augmentation import Augmentation, jitter
from datafree.synthesis.descent import Descent
from datafree.synthesis.inversion import (
    InversionSynthesizer,
    Start,
    StartChoice,
    StatisticsNorm,
    TargetChoice,
    image_prior,
)
from datafree.types import Batch, Images, Logits, Scalar, Targets, Terms, require_at_least, require_at_most


@dataclass(frozen=True, kw_only=True)
class DeepInversionConfig(Method):
    """The settings of the paper for CIFAR-10 (section 4.1), with the weights of the prior converted as described above."""

    paper: ClassVar[str] = "Yin et al. 2020, arXiv 1912.08795"

    steps: tuple[int, ...] = (2000,)
    """optimization steps at each resolution, coarse to fine; each resolution is half the next, the last is full"""
    lr: float = 0.05
    """learning rate of the pixels in the normalised space (Adam)"""
    cosine: bool = False
    """anneal the learning rate to zero along a half cosine, as the authors do for ImageNet"""
    betas: tuple[float, float] = (0.9, 0.999)
    """Adam's averages; the authors use (0.5, 0.9) for ImageNet"""
    tv: float = 4e-4
    """alpha_tv, weight of the total variation"""
    l2: float = 4.8e-7
    """alpha_l2, weight of the L2 norm of an image"""
    statistics: float = 10.0
    """alpha_f, weight of the distance to the batch-norm running statistics; 0: DeepDream"""
    statistics_norm: StatisticsNorm = "absolute"
    """absolute: sum over layers of the norms of Eq 4; relative: mean over layers, relative to the variance of each channel"""
    feature_statistics: str = ""
    """file of `datafree statistics`, used instead of batch-norm running statistics, for teachers without batch norm"""
    layers: tuple[float, ...] = (1.0,)
    """weights of the first layers' statistics; the last weight applies to all further layers; authors' ImageNet code: 10 1"""
    compete: float = 0.0
    """alpha_c, weight of the competition with the student; above 0 the method is adaptive"""
    js: Literal["paper", "clamped"] = "paper"
    """divergence of the competition: that of the paper, or that of the authors' code"""
    temperature: float = 3.0
    """softmax temperature of teacher and student in the competition"""
    extra_label_probability: float = 0.15
    """probability of each further target label, for multi-label teachers"""
    prior: float = 0.0
    """weight of the image prior, for teachers without statistics: spectrum and colours of photographs; 0: none"""
    robust: float = 0.0
    """weight of the classification of transformed images, an expectation over transformations; 0: none"""
    classification: float = 1.0
    """weight of the classification of the images themselves"""
    transform: Augmentation = field(default_factory=lambda: Augmentation(shift=2.0, rotate=15.0, scale=0.2))
    """random transformation of each image at each step, if robust is above 0"""
    start: StartChoice = "noise"
    """what the images start from: white noise, as in the paper; noise with a natural spectrum; pictures; a saved set"""
    start_images: str = ""
    """folder of the image set to start from, with start saved"""
    targets: TargetChoice = "random"
    """classes of a batch: random; balanced; nearest: the balanced classes most probable for the images of the start"""
    jitter: int = 2
    """maximum cyclic shift in pixels at full resolution, drawn at each step"""
    flip: bool = False
    """mirror each image left to right with probability 0.5 at each step; leave it off where the orientation matters"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, steps=self.steps)
        require_at_least(0, tv=self.tv, l2=self.l2, statistics=self.statistics, compete=self.compete)
        require_at_least(0, layers=self.layers, betas=self.betas, jitter=self.jitter)
        require_at_least(0, extra_label_probability=self.extra_label_probability, prior=self.prior)
        require_at_least(0, robust=self.robust, classification=self.classification)
        self.transform.require_no_mix()
        require_at_least(1e-9, lr=self.lr, temperature=self.temperature)
        require_at_most(1, extra_label_probability=self.extra_label_probability)
        require_at_most(0.99999, betas=max(self.betas))

    @property
    def schedule(self) -> Schedule:
        if self.compete:
            return Schedule(warmup_batches=2, refresh_every=50, pool_batches=128)
        return Schedule(warmup_batches=8, refresh_every=0, pool_batches=8)

    @property
    def passes(self) -> float:
        passes = 2 if self.robust else 1
        return passes * sum(steps / 4**halvings for halvings, steps in enumerate(reversed(self.steps)))

    @property
    def adaptive(self) -> bool:
        return self.compete > 0

    @property
    def aims(self) -> bool:
        return True

    @property
    def needs(self) -> tuple[str, ...]:
        replaced = self.feature_statistics or self.prior
        return ("gradients", "batch-norm statistics") if self.statistics and not replaced else ("gradients",)

    def build(self, teacher: Classifier) -> "DeepInversion":
        return DeepInversion(teacher, self)


class DeepInversion(InversionSynthesizer):
    """`objective` is the equation above, `synthesize` its minimisation."""

    def __init__(self, teacher: Classifier, config: DeepInversionConfig) -> None:
        require_resolutions(teacher.shape, len(config.steps), teacher)
        self.teacher, self.config = teacher, config
        self.start = Start(teacher, config.start, config.start_images)
        if config.statistics:
            self.use_statistics(config.statistics_norm, config.layers, config.feature_statistics, config.prior > 0)

    def objective(self, images: Images, labels: Targets, student: nn.Module | None = None) -> Terms:
        c = self.config
        with self.observe() as moments:
            logits = self.teacher(images)
        normalized = self.teacher.normalize(images)
        terms = {
            "classification": c.classification * self.classification(logits, labels),
            "tv": c.tv * total_variation(normalized),
            "l2": c.l2 * image_norm(normalized),
        }
        if c.robust:
            transformed = self.teacher(c.transform(images))
            terms["robust"] = c.robust * self.classification(transformed, labels)
        if self.statistics:
            terms["statistics"] = c.statistics * self.statistics.distance(moments)
        elif c.prior:
            terms["prior"] = c.prior * image_prior(normalized, self.teacher)
        if c.compete and student is not None:
            divergence = js_divergence if c.js == "paper" else clamped_divergence
            p, q = self.teacher.decisions(logits), self.teacher.decisions(student(images))
            competition = 1 - divergence(p, q, c.temperature)
            terms["compete"] = c.compete * self.teacher.decisions_per_image * competition
        return terms

    def classification(self, logits: Logits, labels: Targets) -> Scalar:
        """Return the cross-entropy with the target classes, for multi-label teachers summed over the labels."""
        decisions, targets = self.teacher.decisions(logits), self.teacher.decision_targets(labels)
        return F.cross_entropy(decisions, targets) * self.teacher.decisions_per_image

    def create_optimizer(self, parameters: list[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, lr=self.config.lr, betas=self.config.betas, fused=True)

    def synthesize(self, student: nn.Module | None = None) -> Batch:
        teacher, c = self.teacher, self.config
        if not self.descent:
            require_resolutions(teacher.shape, len(c.steps), student if c.compete else None)
            first, labels = self.start.begin(c.batch_size, c.targets, c.extra_label_probability)
            self.descent = Descent(first, labels, teacher, self.create_optimizer)
        descent, pixels = self.descent, self.descent.parameters
        low, high = (teacher.normalize(torch.full_like(pixels[:1], bound)) for bound in (0.0, 1.0))
        with self.frozen(student):
            for stage, (steps, halvings) in enumerate(zip(c.steps, reversed(range(len(c.steps))), strict=True)):
                for step in descent.track(self.callback, steps, stage):
                    if c.cosine:
                        descent.optimizer.param_groups[0]["lr"] = half_cosine(c.lr, step, steps)
                    jittered = jitter(pixels, c.jitter, c.flip)
                    images = teacher.denormalize(F.avg_pool2d(jittered, 2**halvings) if halvings else jittered)
                    descent.take_step(self.objective(images, descent.targets, student))
                    with torch.no_grad():
                        pixels.clamp_(low, high)
        self.descent = None
        return Batch(teacher.denormalize(pixels.detach()).clamp(0, 1), descent.targets, descent.last_terms)
