r"""DeepInversion: images a teacher is sure of, whose features look like its training data.

.. math::
    \min_x \; \mathcal{L}(f_T(x), y) + \mathcal{R}_\text{prior}(x)
        + \alpha_f \mathcal{R}_\text{feature}(x) + \alpha_c \mathcal{R}_\text{compete}(x)

Without the last two terms it is DeepDream. The last one makes it adaptive (ADI): it asks for images on which the
student, as it is now, still disagrees with the teacher.

.. math::
    \mathcal{R}_\text{prior}(x) = \alpha_\text{tv} \mathcal{R}_\text{TV}(x) + \alpha_{\ell_2} \lVert x \rVert_2, \quad
    \mathcal{R}_\text{compete}(x) = 1 - \text{JS}(p_T(x), p_S(x))

Differences from the paper:

1. Norms of the prior are taken per image and averaged, so that no weight depends on the batch size. The published
   weights belong to one norm over a batch of 256 and are multiplied by 16 = sqrt(256) here: the same gradient.
2. Pixels are clipped to the range of an image after every step, as in the authors' ImageNet code, not their CIFAR code.
3. R_compete has the paper's Jensen-Shannon divergence; `js=clamped` is what the authors' code has, which saturates.
4. The paper gives no temperature for R_compete; 3 is the authors' code's.
5. Each image has its own shift and flip. The authors move a whole batch alike.
6. Not in the paper: `spectrum=natural` begins at noise that has large light and dark parts, as photographs do.

References:
    | Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion (Yin et al., 2020)
    | https://arxiv.org/abs/1912.08795
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import nn

from datafree.classifier import Classifier, batch_norms, frozen, record
from datafree.losses import batch_norm_statistics, image_norm, js_divergence, total_variation
from datafree.synthesis import Method, Schedule, Synthesizer, descend
from datafree.synthesis.augmentation import jitter
from datafree.synthesis.features import load, measured_statistics
from datafree.synthesis.spectrum import Spectrum, noise
from datafree.types import Batch, Images, InputError, Logits, Scalar, Targets, Terms, at_least, at_most


@dataclass(frozen=True, kw_only=True)
class DeepInversionConfig(Method):
    """The paper's settings for CIFAR-10 (section 4.1); its weights of the prior converted as said above."""

    paper: ClassVar[str] = "Yin et al. 2020, arXiv 1912.08795"

    steps: tuple[int, ...] = (2000,)
    """descent steps at each resolution, coarse to fine, the last one the full; (2000, 1000) begins at half the size"""
    lr: float = 0.05
    """Adam's learning rate in the normalised space; cosine to zero where `cosine` is set"""
    cosine: bool = False
    """lower the learning rate along a half cosine, as the authors do for ImageNet"""
    betas: tuple[float, float] = (0.9, 0.999)
    """Adam's averages; the authors take (0.5, 0.9) for ImageNet"""
    tv: float = 4e-4
    """alpha_tv, weight of total variation"""
    l2: float = 4.8e-7
    """alpha_l2, weight of the image's norm"""
    statistics: float = 10.0
    """alpha_f, weight of the batch-norm statistics; 0 makes it DeepDream"""
    feature_statistics: str = ""
    """file that `datafree statistics` wrote, in the place of batch norm's memory, for teachers that have none"""
    layers: tuple[float, ...] = (1.0,)
    """weights of the first layers' statistics, the last one for all that follow; the authors' ImageNet code: (10, 1)"""
    compete: float = 0.0
    """alpha_c, weight of the competition with the student; more than 0 makes it adaptive"""
    js: Literal["paper", "clamped"] = "paper"
    """the divergence in the competition: the paper's, or the authors' code's"""
    temperature: float = 3.0
    """of both predictions in the competition"""
    extra_label_probability: float = 0.15
    """probability of each further label, of a teacher of several labels"""
    spectrum: Spectrum = "white"
    """of the noise at which images begin: white, as in the paper, or natural; see `noise`"""
    jitter: int = 2
    """images are shifted by up to so many pixels, cyclically, at the full resolution"""
    flip: bool = False
    """mirror every other image left to right; leave it off where left and right mean something"""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, steps=self.steps)
        at_least(0, tv=self.tv, l2=self.l2, statistics=self.statistics, compete=self.compete, jitter=self.jitter)
        at_least(0, layers=self.layers, betas=self.betas, extra_label_probability=self.extra_label_probability)
        at_least(1e-9, lr=self.lr, temperature=self.temperature)
        at_most(1, extra_label_probability=self.extra_label_probability)
        at_most(0.99999, betas=max(self.betas))

    @property
    def schedule(self) -> Schedule:
        return (
            Schedule(warmup_batches=2, refresh_every=50, pool_batches=128)
            if self.compete
            else Schedule(warmup_batches=8, refresh_every=0, pool_batches=8)
        )

    @property
    def passes(self) -> float:
        return sum(steps / 4**coarser for coarser, steps in enumerate(reversed(self.steps)))

    @property
    def adaptive(self) -> bool:
        return self.compete > 0

    @property
    def needs(self) -> tuple[str, ...]:
        return ("batch-norm statistics",) if self.statistics and not self.feature_statistics else ()

    def build(self, teacher: Classifier) -> "DeepInversion":
        return DeepInversion(teacher, self)


class DeepInversion(Synthesizer):
    """`objective` is the equation above, `synthesize` its minimisation."""

    def __init__(self, teacher: Classifier, config: DeepInversionConfig) -> None:
        if min(teacher.shape[1:]) < 2 ** (count := len(config.steps)):
            raise InputError(f"{count} resolutions are too many for images of {teacher.shape}; give fewer steps")
        self.teacher, self.config = teacher, config
        self.measured = (
            load(config.feature_statistics, teacher) if config.statistics and config.feature_statistics else None
        )
        stored = self.measured.by_layer(teacher) if self.measured else {}
        self.layers = list(stored) or (batch_norms(teacher) if config.statistics else [])
        self.distance = partial(measured_statistics, stored) if stored else batch_norm_statistics

    @property
    def measured_from(self) -> Mapping[str, int]:
        return {self.measured.source: self.measured.images} if self.measured else {}

    @property
    def rests_on(self) -> Mapping[str, str]:
        return {self.config.feature_statistics: self.measured.digest} if self.measured else {}

    def objective(self, images: Images, labels: Targets, student: nn.Module | None = None) -> Terms:
        c = self.config
        with record(*self.layers) as calls:
            logits = self.teacher(images)
        normalized = self.teacher.normalize(images)
        terms = {
            "classification": self.classification(logits, labels),
            "tv": c.tv * total_variation(normalized),
            "l2": c.l2 * image_norm(normalized),
        }
        if c.statistics:
            terms["statistics"] = c.statistics * self.distance(calls, c.layers)
        if c.compete and student is not None:
            divergence = js_divergence if c.js == "paper" else clamped_divergence
            ours, theirs = map(self.teacher.decisions, (logits, student(images)))
            terms["compete"] = c.compete * (1 - divergence(ours, theirs, c.temperature))
        return terms

    def classification(self, logits: Logits, labels: Targets) -> Scalar:
        """Cross-entropy with the classes asked for; with several labels, the sum over them."""
        decisions = self.teacher.decisions(logits)
        return F.cross_entropy(decisions, self.teacher.choices(labels)) * (len(decisions) / len(logits))

    def synthesize(self, student: nn.Module | None = None) -> Batch:
        teacher, c = self.teacher, self.config
        labels = teacher.draw(c.batch_size, c.extra_label_probability)
        pixels = noise(c.batch_size, teacher, c.spectrum).requires_grad_()
        low, high = (teacher.normalize(torch.full_like(pixels[:1], bound)) for bound in (0.0, 1.0))
        terms: Terms = {}
        with frozen(teacher, student):
            for coarser, steps in zip(reversed(range(len(c.steps))), c.steps, strict=True):
                optimizer = torch.optim.Adam([pixels], lr=c.lr, betas=c.betas, fused=True)
                for step in self.callback.track(range(steps), "dream"):
                    if c.cosine:
                        optimizer.param_groups[0]["lr"] = c.lr * (1 + math.cos(math.pi * step / steps)) / 2
                    moved = jitter(pixels, c.jitter, c.flip)
                    shown = F.avg_pool2d(moved, 2**coarser) if coarser else moved
                    terms = descend(self.objective(teacher.denormalize(shown), labels, student), optimizer)
                    with torch.no_grad():
                        pixels.clamp_(low, high)
        return Batch(teacher.denormalize(pixels.detach()).clamp(0, 1), labels, terms)


def clamped_divergence(teacher: Logits, student: Logits, temperature: float = 1.0) -> Scalar:
    r"""What the authors' code computes in the place of the Jensen-Shannon divergence.

    .. math:: \operatorname{clip}_{[0, 1]} \tfrac12 \bigl( \text{KL}(m \Vert p) + \text{KL}(m \Vert q) \bigr), \quad
        m = \tfrac12 (p + q), \quad p, q, m \text{ clipped to } [0.01, 0.99]

    Both divergences run the other way than the paper's Eq 8, and clipped probabilities no longer sum to one. Above 1
    it is flat: where teacher and student disagree strongly it has no gradient. With hundreds of classes most
    probabilities are under 0.01, and it is flat at 0 as well.

    Args:
        teacher, student: Logits of shape `(n, k)`.
        temperature: Divides both.

    Returns:
        A scalar in [0, 1].
    """
    p, q = F.softmax(teacher / temperature, 1), F.softmax(student / temperature, 1)
    m = ((p + q) / 2).clamp(0.01, 0.99)
    p, q = p.clamp(0.01, 0.99), q.clamp(0.01, 0.99)
    reverse = [F.kl_div(prediction.log(), m, reduction="batchmean") for prediction in (p, q)]
    return ((reverse[0] + reverse[1]) / 2).clamp(0, 1)
