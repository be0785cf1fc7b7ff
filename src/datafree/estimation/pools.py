"""Pools of synthesized images on which teacher and student are compared, with the stability of each image."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from datafree.callback import Callback, silent
from datafree.classifier import Classifier
from datafree.estimation.families import Source
from datafree.estimation.stability import decide, kept_decisions
from datafree.types import Images, Labels

STABLE = 9
"""perturbations, of ten, that a stable decision survives at least"""


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


def most_stable(pools: Iterable[Pool]) -> float:
    """Return the share of images in the most stable pool whose decision survives nine or ten of ten perturbations."""
    return max(((pool.kept >= STABLE).float().mean().item() for pool in pools), default=0.0)


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


def synthesize_all(sources: Sequence[Source], teacher: Classifier, count: int, callback: Callback = silent) -> Tensor:
    """Return the images of a family, as 8-bit pixels. Random numbers come from torch's global generator.

    Args:
        sources: The methods of the family, in equal parts.
        teacher: The teacher. Not changed.
        count: Number of images.
        callback: Shows the progress.
    """
    each = -(-count // len(sources))
    images = torch.cat([synthesize(source, teacher, each, callback) for source in sources])
    return rounded(images[torch.randperm(len(images))[:count]])


def examined(images: UInt8[Tensor, "n c h w"], teacher: Classifier) -> Pool:
    """Return images as a pool: with the teacher's decisions, and how stable they are.

    The perturbations come from torch's global generator.
    """
    pixels = images.float() / 255
    return Pool(images, decide(teacher, pixels), kept_decisions(teacher, pixels))
