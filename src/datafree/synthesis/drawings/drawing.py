"""Draw pictures of several families, with the shape and the levels of a teacher's images."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from datafree.classifier import Classifier
from datafree.synthesis.drawings.canvas import Canvas, random_canvas
from datafree.synthesis.drawings.fields import backgrounds, fills, noise_pictures
from datafree.synthesis.drawings.leaves import leaves, objects
from datafree.synthesis.drawings.levels import Levels, has_plain_ground, match_levels, own_levels, pen_width
from datafree.synthesis.drawings.sines import sines
from datafree.synthesis.drawings.strokes import strokes
from datafree.types import Images, InputError, require_at_least, require_one_of


@dataclass(frozen=True)
class Family:
    """A program that draws pictures, and how much of a scene they show."""

    program: Callable[[Canvas], Images]
    """returns one picture for each canvas, about in [0, 1]"""
    crop: tuple[float, float] = (0.35, 1.0)
    """range of the side of the visible part, as a fraction of the side of the scene"""
    on_plain_ground: bool = False
    """whether pictures are light on black, so that their levels are not scaled"""


DRAWINGS: dict[str, Family] = {
    "leaves": Family(leaves),
    "objects": Family(objects),
    "sines": Family(sines),
    "noise": Family(noise_pictures),
    "fields": Family(fills),
    "horizons": Family(backgrounds),
    "strokes": Family(strokes, crop=(0.75, 1.0), on_plain_ground=True),
}
"""the families by name"""
PHOTOGRAPHS: Mapping[str, float] = {"leaves": 4, "objects": 4, "sines": 1, "noise": 1, "fields": 1, "horizons": 1}
"""shares of the families in pictures that take the place of photographs"""
SYMBOLS: Mapping[str, float] = {**PHOTOGRAPHS, "strokes": 12}
"""shares where images may show symbols on plain ground: half of the pictures are strokes"""
PIXELS = {"cpu": 2**17}
"""pixels of a plane that are drawn at once, so that they stay in the cache of a CPU"""
ACCELERATOR_PIXELS = 2**24
SAMPLE, SAMPLE_SIDE = 1024, 32
"""pictures on which levels are measured, and their largest side"""


def draw(
    count: int,
    shape: tuple[int, int, int],
    families: Mapping[str, float] = PHOTOGRAPHS,
    *,
    levels: Levels | None = None,
    view: float = 0.0,
    device: torch.device | str = "cpu",
) -> Images:
    """Draw pictures in random order. Random numbers come from torch's global generator.

    Args:
        count: Number of pictures.
        shape: Channels, height and width of a picture.
        families: The share of each family, by its name in `DRAWINGS`; they need not sum to 1.
        levels: Mapped to these levels; default: the families' own, and strokes are light on black.
        view: Smallest side of the visible part, as a fraction of the side of the scene, where it is larger than that of a
            family; 1: whole scenes.
        device: Device of the pictures.

    Returns:
        Pictures in [0, 1] of shape `(count, *shape)`. The number of each family differs by less than 1 from its share.

    Raises:
        InputError: If a family is unknown, a share is negative, or all are 0.
    """
    pictures = torch.empty(count, *shape, device=device)
    order, start = torch.randperm(count, device=device), 0
    for name, number in allocate(count, families).items():
        family = DRAWINGS[name]
        crop = max(view, family.crop[0]), family.crop[1]
        for canvas in canvases(number, shape, crop, torch.device(device)):
            drawn = strokes(canvas, levels.pen) if levels and family.on_plain_ground else family.program(canvas)
            drawn = drawn.clamp_(0, 1)
            if levels:
                drawn = levels.on_ground(drawn) if family.on_plain_ground else levels(drawn)
            pictures[order[start : start + len(drawn)]] = drawn
            start += len(drawn)
    return pictures


def canvases(
    count: int, shape: tuple[int, int, int], crop: tuple[float, float], device: torch.device
) -> Iterator[Canvas]:
    """Yield the canvases of `count` pictures, each for as many pictures as are drawn at once."""
    at_once = max(1, PIXELS.get(device.type, ACCELERATOR_PIXELS) // (shape[1] * shape[2]))
    for first in range(0, count, at_once):
        yield random_canvas(min(at_once, count - first), shape, crop, device)


def allocate(count: int, families: Mapping[str, float]) -> dict[str, int]:
    """Return how many of `count` pictures each family draws: its share, rounded up or down at random.

    Raises:
        InputError: If a family is unknown, a share is negative, or all are 0.
    """
    for name in families:
        require_one_of(tuple(DRAWINGS), family=name)
    require_at_least(0, **families)
    whole = sum(families.values())
    if not whole:
        raise InputError("the shares of all families are 0; give at least one family a share")
    start, share, before, numbers = float(torch.rand(())), 0.0, 0, {}
    for name, weight in families.items():
        share += weight
        upto = count if share == whole else int(count * share / whole + start)
        numbers[name], before = upto - before, upto
    return {name: number for name, number in numbers.items() if number}


class Artist:
    """Draws pictures with the shape and the levels of a teacher's images.

    Args:
        teacher: Defines shape, device and levels. It is not run.
        families: The share of each family; default: `families_for` the teacher.
        match: Map pictures to the levels of the teacher's images; if not, they keep the families' own.
        view: Smallest side of the visible part of a scene; see `draw`.

    Raises:
        InputError: If a family is unknown, a share is negative, or all are 0.
    """

    def __init__(
        self, teacher: Classifier, families: Mapping[str, float] | None = None, *, match: bool = True, view: float = 0.0
    ) -> None:
        self.shape, self.device, self.view = teacher.shape, teacher.device, view
        self.families = families_for(teacher) if families is None else families
        textured = {name: share for name, share in self.families.items() if not DRAWINGS[name].on_plain_ground}
        channels, height, width = self.shape
        factor = min(1.0, SAMPLE_SIDE / max(height, width))  # levels do not depend on the resolution
        small = (channels, max(1, round(height * factor)), max(1, round(width * factor)))
        sample = draw(SAMPLE, small, textured if any(textured.values()) else PHOTOGRAPHS, device=self.device)
        levels = match_levels(sample, teacher) if match else own_levels(teacher)

        def ink(pen: float) -> float:
            light = replace(levels, pen=pen, light_ground=0.0)
            return float(draw(SAMPLE // 4, small, {"strokes": 1.0}, levels=light, device=self.device).mean())

        plain = [name for name, share in self.families.items() if share and DRAWINGS[name].on_plain_ground]
        self.levels = replace(levels, pen=pen_width(teacher, ink)) if plain else levels

    def draw(self, count: int) -> Images:
        """Draw `count` pictures."""
        return draw(count, self.shape, self.families, levels=self.levels, view=self.view, device=self.device)

    def state_dict(self) -> dict[str, Any]:
        """Return the levels, which were measured on pictures."""
        return self.levels.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state returned by `state_dict`."""
        self.levels = Levels.restored(state, self.device)


def families_for(teacher: Classifier) -> Mapping[str, float]:
    """Return the families that take the place of a teacher's images: `SYMBOLS` if their ground may be plain."""
    return SYMBOLS if has_plain_ground(teacher) else PHOTOGRAPHS
