"""The images that calibrate by default: procedural pictures, and some that are refined with the network.

Procedural pictures alone are not enough for a network of photographs: it is less certain on them than on real ones, and their
activations in the last layers have ranges that are too small. See `docs/applications/quantization.md`.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

from datafree.classifier import Classifier
from datafree.methods import METHODS
from datafree.methods.deep_inversion import DeepInversionConfig
from datafree.runs.planning.auto import Auto, decides_flip, recipe_for
from datafree.runs.planning.timing import time_synthesis
from datafree.runs.serialization import serializable
from datafree.synthesis import Method, Schedule, Synthesizer
from datafree.synthesis.mixture import Mixture, Part
from datafree.types import require_at_least

FEWEST = 8
"""refined images that are worth their time"""
LARGE, COARSE_TO_FINE = 128, (60, 20)
"""shorter side from which images are refined at half their size first, and the optimization steps at both sizes"""


@serializable
@dataclass(frozen=True, kw_only=True)
class CalibrationConfig(Method):
    """Half of the images are procedural pictures. The other half is refined, or noise where that is not possible."""

    paper: ClassVar[str] = "none, a mixture"

    seconds: float = 120.0
    """time for the refined images; it decides how many there are, at most half of all"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(0, seconds=self.seconds)

    @property
    def schedule(self) -> Schedule:
        return Schedule()

    @property
    def passes(self) -> float:
        return 0

    def build(self, teacher: Classifier) -> Synthesizer:
        return self.chosen(teacher, self.batch_size)[0].build(teacher)

    def chosen(self, network: Classifier, images: int) -> tuple[Mixture, str]:
        """Return the mixture for a network, and the reason in one sentence.

        Args:
            network: The network. Not changed.
            images: Number of all images.
        """
        recipe = recipe_for(network, flips=decides_flip(Auto(), network)).method
        if not isinstance(recipe, Mixture):
            reason = "half of them replaced by noise, since the network has no gradients"
            return mixed("noise", METHODS["noise"], images, images // 2), reason
        refine = for_large_images(recipe.parts[1].method, network)
        refine = replace(refine, batch_size=min(refine.batch_size, max(1, images // 2)))
        each = time_synthesis(refine, network, network).batch / refine.batch_size
        count = min(images // 2, int(self.seconds / max(each, 1e-9)))
        if count < FEWEST:
            reason = f"half of them replaced by noise, since refining {FEWEST} would take more than {self.seconds:g} s"
            return mixed("noise", METHODS["noise"], images, images // 2), reason
        refine = replace(refine, batch_size=min(refine.batch_size, count))
        return mixed("refine", refine, images, count), f"{count:,} of them refined with the network"


def for_large_images(refine: Method, network: Classifier) -> Method:
    """Return how large images are refined: coarse to fine, and smoother where the statistics are relative.

    The settings for relative statistics are those of `benchmarks/imagenet_pictures.py`. EfficientNet-Lite0 in 8 bits agreed
    with its float network on 73.6 % of real pictures with them, and on 70.2 % with the preset (16 images, one seed).
    """
    if not isinstance(refine, DeepInversionConfig) or (side := min(network.shape[1:])) < LARGE:
        return refine
    refine = replace(refine, steps=COARSE_TO_FINE)
    if refine.statistics_norm == "absolute":
        return refine
    return replace(refine, betas=(0.5, 0.9), layers=(5.0, 1.0), tv=3.5e-3, l2=4e-5, jitter=side // 8)


def mixed(name: str, method: Method, images: int, count: int) -> Mixture:
    """Return procedural pictures with a number of other images.

    Args:
        name: The name of the other images.
        method: How they are made.
        images: Number of all images.
        count: Number of the other ones.
    """
    procedural = replace(METHODS["procedural"], batch_size=max(2, min(METHODS["procedural"].batch_size, images)))
    parts = (
        Part(name="procedural", method=procedural, share=(images - count) / images),
        Part(name=name, method=method, share=count / images),
    )
    return Mixture(parts=parts)
