r"""ZSKD: data impressions, images for which the teacher predicts soft labels sampled from the similarity of its classes.

1. The similarity of two classes is the cosine of their weights in the last layer, each row scaled to [0, 1]:

   .. math:: C_{ij} = \frac{w_i^\top w_j}{\lVert w_i \rVert \lVert w_j \rVert}, \quad
       \alpha^k_j = \frac{C_{kj} - \min_l C_{kl}}{\max_l C_{kl} - \min_l C_{kl}}

2. Soft labels of class k are sampled from :math:`y \sim \text{Dir}(\beta \alpha^k)`, for each scale :math:`\beta` in turn.

3. An impression is an image for which the teacher predicts these labels at a high temperature:

   .. math:: \bar x = \arg\min_x H_\text{cross}\bigl(y, \text{softmax}(f_T(x) / \tau)\bigr), \quad \tau = 20

The student is distilled at the same temperature on augmented impressions, without labels.

Many targets are out of reach: with ten classes, a probability of 0.9 at temperature 20 needs a gap of 88 between logits.
The term `residual` is the mean divergence of the impressions from their targets.

The differences from the paper are listed on the page of the method, `docs/methods/zskd.md`.

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

from datafree import processes
from datafree.classifier import Classifier, frozen
from datafree.losses import soft_cross_entropy
from datafree.synthesis import Method, Schedule, half_cosine
from datafree.synthesis.augmentation import Augmentation
from datafree.synthesis.descent import Descent, DescentSynthesizer
from datafree.synthesis.generators.networks import binomial
from datafree.types import Batch, Images, InputError, Labels, Probabilities, Terms, require_at_least


@dataclass(frozen=True, kw_only=True)
class ZSKDConfig(Method):
    """The scales and the temperature of the paper; steps and learning rate are ours, found on MNIST."""

    paper: ClassVar[str] = "Nayak et al. 2019, arXiv 1905.08114"

    batch_size: int = 200
    """impressions synthesized at once"""
    steps: int = 25
    """optimization steps per batch; the authors' code for CIFAR-10 takes 1500 on pixels, at a learning rate of 0.001"""
    lr: float = 0.15
    """initial learning rate of the images (Adam); it is annealed to zero along a half cosine"""
    scales: tuple[float, ...] = (1.0, 0.1)
    """beta, scales of the Dirichlet concentration; each is used for an equal share of the impressions"""
    temperature: float = 20.0
    """tau, softmax temperature of the teacher"""
    floor: float = 1e-4
    """smallest concentration"""
    smooth: bool = True
    """optimize images at half resolution and blur them; off: optimize pixels directly, as in the paper"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, steps=self.steps)
        require_at_least(1e-9, lr=self.lr, temperature=self.temperature, floor=self.floor, scales=self.scales)

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
    def aims(self) -> bool:
        return True

    @property
    def needs(self) -> tuple[str, ...]:
        return ("gradients", "last layer")

    def build(self, teacher: Classifier) -> "ZSKD":
        return ZSKD(teacher, self)


class ZSKD(DescentSynthesizer):
    """`soft_labels` is step 2, `objective` is the equation of step 3, `synthesize` is Algorithm 1."""

    divides = True

    def __init__(self, teacher: Classifier, config: ZSKDConfig) -> None:
        weights = teacher.class_weights()
        if teacher.multi_label or weights is None or len(weights) < 2:
            raise InputError("the teacher has no last layer with one row of weights per class; use another method")
        self.teacher, self.config, self.drawn = teacher, config, 0
        self.concentration = class_similarity(weights).clamp_min(config.floor)
        self.blur = binomial(teacher.shape[0]).to(teacher.device)

    def turns(self, count: int) -> tuple[Labels, Float[Tensor, " n"]]:
        """Return class and scale of the next soft labels: every class with the first scale, then with the next one.

        The order continues from batch to batch.
        """
        index = torch.arange(self.drawn, self.drawn + count, device=self.teacher.device)
        self.drawn += count
        chosen = self.teacher.target_classes or range(len(self.concentration))
        classes, scales = (torch.tensor([*values], device=index.device) for values in (chosen, self.config.scales))
        return classes[index % len(classes)], scales[index // len(classes) % len(scales)]

    def soft_labels(self, count: int) -> Probabilities:
        """Sample soft labels of shape `(count, k)` for the classes and scales that have their turn."""
        classes, scales = self.turns(count)
        concentration = scales[:, None] * self.concentration[classes]
        if concentration.device.type == "mps":  # which has no double precision
            concentration = concentration.cpu()
        # Concentrations near zero underflow in single precision.
        labels = torch.distributions.Dirichlet(concentration.double()).sample()
        return labels.to(self.teacher.device, torch.get_default_dtype())

    def objective(self, images: Images, targets: Probabilities) -> Terms:
        return {"impression": soft_cross_entropy(self.teacher(images) / self.config.temperature, targets)}

    def render(self, parameters: Tensor) -> Images:
        """Return the images in [0, 1] that are described by the optimized parameters."""
        if not self.config.smooth:
            return parameters.clamp(0, 1)
        channels, height, width = self.teacher.shape
        x = F.interpolate(parameters, (height, width), mode="bilinear", align_corners=False)
        x = torch.tanh(F.conv2d(x, self.blur, padding=1, groups=channels))
        return self.teacher.denormalize(F.batch_norm(x, None, None, training=True)).clamp(0, 1)

    def initial_parameters(self) -> Tensor:
        """Return random parameters of one batch: Gaussian at half resolution, or uniform pixels without `smooth`."""
        channels, height, width = self.teacher.shape
        if self.config.smooth:
            half = math.ceil(height / 2), math.ceil(width / 2)
            return torch.randn(self.config.batch_size, channels, *half, device=self.teacher.device)
        return torch.rand(self.config.batch_size, channels, height, width, device=self.teacher.device)

    def create_optimizer(self, parameters: list[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, lr=self.config.lr, fused=True)

    def synthesize(self, student: nn.Module | None = None) -> Batch:
        c = self.config
        if not self.descent:
            targets, first = processes.part(self.soft_labels(c.batch_size)), processes.part(self.initial_parameters())
            self.descent = Descent(first, targets, self.teacher, self.create_optimizer)
        descent, targets = self.descent, self.descent.targets
        with frozen(self.teacher), processes.whole_batch_layers():
            for step in descent.track(self.callback, c.steps):
                descent.optimizer.param_groups[0]["lr"] = half_cosine(c.lr, step, c.steps)
                descent.take_step(self.objective(self.render(descent.parameters), targets))
            with torch.no_grad():
                images = self.render(descent.parameters)
                logits = self.teacher(images)
                entropy = torch.special.entr(targets).sum(1).mean()
                residual = soft_cross_entropy(logits / c.temperature, targets) - entropy
        self.descent = None
        terms = processes.mean_terms({**descent.terms, "residual": residual})
        return Batch(images, targets, terms, logits)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "drawn": self.drawn}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.drawn = state["drawn"]


def class_similarity(weights: Float[Tensor, "k d"]) -> Float[Tensor, "k k"]:
    r"""Return the similarity of classes: the cosine of their weights in the last layer, each row scaled to [0, 1].

    References:
        | Zero-Shot Knowledge Distillation in Deep Networks (Nayak et al., 2019), section 3.2.2, Eq 5
        | https://arxiv.org/abs/1905.08114

    Args:
        weights: Weights of the last layer, one row per class.

    Returns:
        Of shape `(k, k)`, with ones on the diagonal and at least one zero in each row; not symmetric. If the cosines of a
        row are all equal, as for a class whose weights are 0, no class is more similar than another: all are 0.
    """
    unit = F.normalize(weights, dim=1)
    cosine = unit @ unit.T
    low, high = cosine.amin(1, keepdim=True), cosine.amax(1, keepdim=True)
    similarity = (cosine - low) / (high - low)
    return torch.where(high - low > 1e-6, similarity, torch.eye(len(weights), device=weights.device))
