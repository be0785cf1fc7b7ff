"""How many images each pool gets in the time there is."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

import torch

from datafree.classifier import Classifier, frozen
from datafree.estimation.families import Source
from datafree.estimation.perturbations import PERTURBATIONS
from datafree.estimation.pools import COPIES

IMAGES = 192
"""synthesized images of each family if time allows"""
FEWEST = 32
"""a family with fewer images is left out"""
STEP = 32
"""counts are multiples of this, so that the speed of a moment does not show in every digit"""
PROBES = 16
"""images of a timed pass"""


@dataclass(frozen=True)
class Speed:
    """Seconds per image: forward through the teacher, and forward and backward to the image."""

    forward: float
    both: float

    def corrected(self, seconds: float, expected: float) -> "Speed":
        """Return a lower speed if a pool took longer than was expected: a step is more than its passes."""
        factor = max(1.0, seconds / max(expected, 1e-9))
        return Speed(self.forward * factor, self.both * factor)


def measure_speed(teacher: Classifier) -> Speed:
    """Time a few images, after a pass that is not timed. No random number is drawn."""
    images = teacher.probe_images(PROBES)
    with frozen(teacher), torch.no_grad():
        forward = min(_timed(lambda: teacher(images)) for _ in range(3))
    if not teacher.differentiable:
        return Speed(forward / PROBES, inf)

    def both() -> torch.Tensor:
        pixels = images.clone().requires_grad_()
        teacher(pixels).logsumexp(1).sum().backward()
        assert pixels.grad is not None
        return pixels.grad

    with frozen(teacher):
        return Speed(forward / PROBES, min(_timed(both) for _ in range(3)) / PROBES)


def _timed(function: object) -> float:
    start = time.monotonic()
    function().sum().item()  # type: ignore[operator]  # waits for a GPU
    return time.monotonic() - start


def seconds_for(sources: Sequence[Source], images: int, speed: Speed) -> float:
    """Return how long a pool takes: its synthesis, and the perturbations of all its images and their copies."""
    each = -(-images // len(sources))
    passes = sum(source.passes(each) for source in sources)
    forward = images * COPIES * (1 + len(PERTURBATIONS))
    return forward * speed.forward + (passes * speed.both if passes else 0.0)


def plan(
    families: Mapping[str, Sequence[Source]], speed: Speed, seconds: float, images: int = IMAGES
) -> dict[str, int]:
    """Return the number of synthesized images of each family.

    If time is short, all families get fewer images. If a generator would then take more than its part, because it has to be
    trained first, it is left out, and so is a family of fewer than `FEWEST` images.

    Args:
        families: The sources of each family.
        speed: Of the teacher.
        seconds: The time there is.
        images: Images of each family if time allows.
    """
    left = dict(families)
    while left:
        costs = {name: seconds_for(sources, images, speed) for name, sources in left.items()}
        share = min(1.0, seconds / max(sum(costs.values()), 1e-9))
        count = images if share >= 1 else int(share * images) // STEP * STEP
        tight = [name for name, sources in left.items() if count < images and any(source.taken for source in sources)]
        if count >= FEWEST and not tight:
            return dict.fromkeys(left, count)
        dearest = max(tight or left, key=costs.__getitem__)
        del left[dearest]
    return {}
