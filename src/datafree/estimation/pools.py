"""Pools of synthesized images on which teacher and student are compared, with the stability of each image.

Synthesized images are easier than real ones: most are prototypes of their class. So each has copies in its pool: one with a
rectangle of another image, and one that is rotated and scaled. The teacher decides on each copy again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from datafree.callback import Callback, silent
from datafree.classifier import Classifier
from datafree.estimation.families import LAST_RESORT, Source
from datafree.estimation.perturbations import paste, turn
from datafree.estimation.stability import decide, kept_decisions
from datafree.types import Images, Labels

COPIES = 3
"""times that each synthesized image is in its pool: as it is, with a rectangle of another one, and rotated and scaled"""
STABLE = 9
"""perturbations, of ten, that a stable decision survives at least"""
ROBUST = "robust"
"""family whose images are optimized so that the teacher's decisions survive the perturbations"""
FRAGILE = {ROBUST: 0.55, LAST_RESORT: 0.14}
"""least share of stable images of a family, the first of these that a teacher has. Of five teachers whose real images have
nearly the same stability, the shares were 0.68 to 1 and 0.19 to 0.37; of two whose real images are far less stable, 0.08 and
0.46, and 0.02 and 0.09"""


@dataclass(frozen=True)
class Pool:
    """The images of a family, followed by their copies."""

    images: UInt8[Tensor, "n c h w"]
    """pixels from 0 to 255, as in an image file"""
    decisions: Labels
    """the teacher's decision on each image"""
    kept: Int[Tensor, " n"]
    """how many of ten perturbations keep the decision, from 0 to 10"""

    @property
    def synthesized(self) -> int:
        """How many images were synthesized; the others are copies of these."""
        return len(self.images) // COPIES

    @property
    def pixels(self) -> Images:
        """The images in [0, 1]."""
        return self.images.float() / 255

    @property
    def stable(self) -> float:
        """The share of synthesized images on which the decision survives nine or ten of ten perturbations."""
        return (self.kept[: self.synthesized] >= STABLE).float().mean().item()


def is_fragile(pools: Mapping[str, Pool]) -> bool:
    """Return whether the decisions of a teacher do not survive small changes even of the images of which they should.

    Args:
        pools: Pools of the teacher by family, with one of `FRAGILE` among them.
    """
    return next((pools[family].stable < least for family, least in FRAGILE.items() if family in pools), False)


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
    """Return images as a pool: with their copies, the teacher's decisions, and how stable these are.

    The copies and the perturbations come from torch's global generator.
    """
    pixels = images.float() / 255
    images = torch.cat([images, rounded(paste(pixels)), rounded(turn(pixels))])
    pixels = images.float() / 255
    return Pool(images, decide(teacher, pixels), kept_decisions(teacher, pixels))
