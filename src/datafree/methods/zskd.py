r"""ZSKD: data impressions, images that the teacher answers with soft labels drawn from its own idea of the classes.

1. Classes are as similar as their weights in the last layer, each row stretched to [0, 1]:

   .. math:: C_{ij} = \frac{w_i^\top w_j}{\lVert w_i \rVert \lVert w_j \rVert}, \quad
       \alpha^k_j = \frac{C_{kj} - \min_l C_{kl}}{\max_l C_{kl} - \min_l C_{kl}}

2. Soft labels of class k are drawn from :math:`y \sim \text{Dir}(\beta \alpha^k)`, for each scale :math:`\beta` in turn.

3. An impression is an image that the teacher, softened, answers so:

   .. math:: \bar x = \arg\min_x H_\text{cross}\bigl(y, \text{softmax}(f_T(x) / \tau)\bigr), \quad \tau = 20

The student is then distilled at the same temperature on augmented impressions, without labels.

Many targets cannot be reached: with ten classes a probability of 0.9 at temperature 20 needs a gap of 88 between
logits. How far an impression stays away is reported as `residual`, the divergence from its target.

Differences from the paper:

1. A concentration must be positive and the row's minimum is 0: nothing is under `floor`. The authors' code adds as much.
2. Both scales act. The authors' code stretches the rows once more after scaling, which undoes the scale.
3. `smooth` describes an image by half of its pixels, enlarged, blurred and standardised over the batch. Bare pixels, the
   paper's, end saturated on a network without batch norm; set `smooth` to False for them.
4. The teacher's own answer on the impression teaches the student, not the target that was drawn; likewise in the
   authors' code.

References:
    | Zero-Shot Knowledge Distillation in Deep Networks (Nayak et al., 2019), sections 3.2-3.3, Algorithm 1
    | https://arxiv.org/abs/1905.08114
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from datafree.classifier import Classifier, frozen
from datafree.losses import soft_cross_entropy
from datafree.synthesis import Method, Schedule, Synthesizer, descend
from datafree.synthesis.augmentation import Augmentation
from datafree.synthesis.generators import binomial
from datafree.types import Batch, Images, InputError, Probabilities, Terms, at_least


@dataclass(frozen=True, kw_only=True)
class ZSKDConfig(Method):
    """The paper's scales and temperature; steps and learning rate are ours, found on MNIST."""

    paper: ClassVar[str] = "Nayak et al. 2019, arXiv 1905.08114"

    batch_size: int = 200
    """impressions made at a time"""
    steps: int = 25
    """descent steps per batch; the authors' code for CIFAR-10 takes 1500 on bare pixels, at a learning rate of 0.001"""
    lr: float = 0.15
    """Adam's learning rate, falling to zero along a half cosine"""
    scales: tuple[float, ...] = (1.0, 0.1)
    """beta, of the concentration; each gets its part of the impressions"""
    temperature: float = 20.0
    """tau, softens the teacher's answer"""
    floor: float = 1e-4
    """smallest concentration"""
    smooth: bool = True
    """to_json images as said above; False: bare pixels"""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, steps=self.steps)
        at_least(1e-9, lr=self.lr, temperature=self.temperature, floor=self.floor, scales=self.scales)

    @property
    def schedule(self) -> Schedule:
        return Schedule(warmup_batches=120, refresh_every=0, pool_batches=120)

    @property
    def passes(self) -> float:
        return self.steps

    @property
    def distillation(self) -> Mapping[str, Any]:
        return {"temperature": self.temperature, "augment": Augmentation(shift=1.0, rotate=10.0, scale=0.1)}

    @property
    def needs(self) -> tuple[str, ...]:
        return ("last layer",)

    def build(self, teacher: Classifier) -> "ZSKD":
        return ZSKD(teacher, self)


class ZSKD(Synthesizer):
    """`soft_labels` is step 2, `objective` step 3, `synthesize` both in turn."""

    def __init__(self, teacher: Classifier, config: ZSKDConfig) -> None:
        weights = teacher.class_weights()
        if teacher.multi_label or weights is None or len(weights) < 2:
            raise InputError(
                "the teacher has no last layer whose weights are to be seen; choose a method that needs none"
            )
        self.teacher, self.config = teacher, config
        self.concentration = class_similarity(weights).clamp_min(config.floor)
        self.blur = binomial(teacher.shape[0]).to(teacher.device)

    def soft_labels(self, count: int) -> Probabilities:
        """Targets: every class and every scale in turn."""
        place = torch.arange(count, device=self.teacher.device)
        classes = len(self.concentration)
        scale = torch.tensor(self.config.scales, device=place.device)[place // classes % len(self.config.scales)]
        # Concentrations near zero underflow in single precision.
        concentration = (scale[:, None] * self.concentration[place % classes]).double()
        return torch.distributions.Dirichlet(concentration).sample().float()

    def objective(self, images: Images, targets: Probabilities) -> Terms:
        return {"impression": soft_cross_entropy(self.teacher(images) / self.config.temperature, targets)}

    def picture(self, description: Tensor) -> Images:
        """From what is optimised to pixels."""
        if not self.config.smooth:
            return description.clamp(0, 1)
        channels, height, width = self.teacher.shape
        x = F.interpolate(description, (height, width), mode="bilinear", align_corners=False)
        x = torch.tanh(F.conv2d(x, self.blur, padding=1, groups=channels))
        return self.teacher.denormalize(F.batch_norm(x, None, None, training=True)).clamp(0, 1)

    def synthesize(self, student: nn.Module | None = None) -> Batch:
        c = self.config
        channels, height, width = self.teacher.shape
        targets = self.soft_labels(c.batch_size)
        half = (math.ceil(height / 2), math.ceil(width / 2)) if c.smooth else (height, width)
        begin = torch.randn if c.smooth else torch.rand
        description = begin(c.batch_size, channels, *half, device=self.teacher.device).requires_grad_()
        optimizer = torch.optim.Adam([description], lr=c.lr, fused=True)
        terms: Terms = {}
        with frozen(self.teacher):
            for step in self.callback.track(range(c.steps), "impress"):
                optimizer.param_groups[0]["lr"] = c.lr * (1 + math.cos(math.pi * step / c.steps)) / 2
                terms = descend(self.objective(self.picture(description), targets), optimizer)
            with torch.no_grad():
                images = self.picture(description)
                answers = self.teacher(images)
                entropy = torch.special.entr(targets).sum(1).mean()
                residual = soft_cross_entropy(answers / c.temperature, targets) - entropy
        return Batch(images, targets, {**terms, "residual": residual}, answers)


def class_similarity(weights: Float[Tensor, "k d"]) -> Float[Tensor, "k k"]:
    r"""How alike classes are to a teacher: the cosine of their last layer's weights, each row stretched to [0, 1].

    References:
        | Zero-Shot Knowledge Distillation in Deep Networks (Nayak et al., 2019), section 3.2.2, Eq 5
        | https://arxiv.org/abs/1905.08114

    Returns:
        Of shape `(k, k)`, ones on its diagonal, a zero in every row; not symmetric.
    """
    unit = F.normalize(weights, dim=1)
    cosine = unit @ unit.T
    low, high = cosine.amin(1, keepdim=True), cosine.amax(1, keepdim=True)
    return (cosine - low) / (high - low)
