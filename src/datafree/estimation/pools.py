"""Pools of synthesized images on which teacher and student are compared, with the stability of each image."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from datafree.callback import Callback, silent
from datafree.classifier import Classifier
from datafree.estimation.families import Source
from datafree.estimation.perturbations import add_noise, blur
from datafree.estimation.stability import decide, kept_decisions
from datafree.types import Images, Labels

DERIVED = 0.5
"""derived images for each synthesized one"""


@dataclass(frozen=True)
class Pool:
    """The images of a family."""

    images: UInt8[Tensor, "n c h w"]
    """pixels from 0 to 255, as in an image file"""
    decisions: Labels
    """the teacher's decision on each image"""
    kept: Int[Tensor, " n"]
    """how many of ten perturbations keep the decision, from 0 to 10"""

    def __len__(self) -> int:
        return len(self.images)

    @property
    def pixels(self) -> Images:
        """The images in [0, 1]."""
        return self.images.float() / 255


def rounded(images: Images) -> UInt8[Tensor, "n c h w"]:
    """Round pixels to 8 bits. Real images have no more, and what is stored equals what was measured."""
    return (images.clamp(0, 1) * 255).round().to(torch.uint8)


def synthesize(source: Source, teacher: Classifier, count: int, callback: Callback = silent) -> Images:
    """Return `count` images of a method, on the CPU."""
    synthesizer = source.method.build(teacher)
    synthesizer.callback = callback
    taken: list[Tensor] = []
    while sum(map(len, taken)) < count:
        for _ in range(source.skipped):
            synthesizer.synthesize()
        images = synthesizer.synthesize().images
        chosen = torch.randperm(len(images))[: source.taken or len(images)]
        taken.append(images[chosen.to(images.device)].detach().cpu().float())
    return torch.cat(taken)[:count]


def mixup(images: Images) -> Images:
    """Blend each image with another one, by 0.3 to 0.5."""
    weight = 0.3 + 0.2 * torch.rand(len(images), 1, 1, 1)
    return torch.lerp(images, images[torch.randperm(len(images))], weight)


def contrast(images: Images) -> Images:
    """Lower or raise the contrast of each image around its mean, by a factor from 0.5 to 1.5."""
    factor = 0.5 + torch.rand(len(images), 1, 1, 1)
    mean = images.mean((1, 2, 3), keepdim=True)
    return (mean + factor * (images - mean)).clamp(0, 1)


DERIVATIVES: Sequence[Callable[[Images], Images]] = (mixup, add_noise, blur, contrast)


def derived(images: Images, count: int) -> Images:
    """Return images that were made of others at no cost: blended, noisy, blurred, or of another contrast."""
    chosen = images[torch.arange(count) % len(images)]
    groups = chosen.tensor_split(len(DERIVATIVES))
    return torch.cat([derive(group) for derive, group in zip(DERIVATIVES, groups, strict=True) if len(group)])


def make_pool(sources: Sequence[Source], teacher: Classifier, count: int, callback: Callback = silent) -> Pool:
    """Synthesize the pool of a family. Random numbers come from torch's global generator.

    Args:
        sources: The methods of the family, in equal parts.
        teacher: The teacher. Not changed.
        count: Number of synthesized images; derived ones are added.
        callback: Shows the progress.
    """
    each = -(-count // len(sources))
    images = torch.cat([synthesize(source, teacher, each, callback) for source in sources])[:count]
    images = images[torch.randperm(len(images))]
    images = rounded(torch.cat([images, derived(images, round(DERIVED * len(images)))]))
    pool = Pool(images, torch.empty(0), torch.empty(0))
    return Pool(images, decide(teacher, pool.pixels), kept_decisions(teacher, pool.pixels))
