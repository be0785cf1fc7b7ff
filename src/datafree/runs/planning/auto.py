"""The method `auto`: what a teacher offers decides how images are synthesized for it.

The table is filled by `datafree bench photographs`, `digits` and `mnist`. Real images decide nothing; the teacher alone does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from datafree.classifier import Classifier, batch_norms
from datafree.methods import METHODS
from datafree.methods.deep_inversion import DeepInversionConfig
from datafree.networks.input_fitting import SMALLEST
from datafree.randomness import RandomNumbers
from datafree.runs.planning.timing import timed_images
from datafree.runs.serialization import serializable
from datafree.synthesis import Method, Schedule, Synthesizer
from datafree.synthesis.augmentation import is_flip_invariant
from datafree.synthesis.method import capabilities
from datafree.synthesis.mixture import Mixture, Part
from datafree.types import InputError

REFINED = 0.6
"""share of refined pictures in a mixture with procedural ones; 0.4 was worse on CIFAR-10 at 16 x 16, 0.8 as good"""
RELATIVE = 20.0
"""weight of relative statistics, whose sum does not grow with the number of layers"""
SPREAD = 1000.0
"""ratio of the largest to the smallest median running variance of a layer above which statistics are relative. Measured: 2.4
to 3.6 on small convolutional networks, 6.7 to 7.2 on thin ResNets, where absolute statistics give better students; 16,500 on
EfficientNet-Lite0, 29,600 on Lite1, of which absolute statistics see two layers. No network between was tried"""
NORMALISATIONS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)
LEARNING_RATES = {"layer norm": 2e-3, "batch or group norm": 1e-2, "no normalisation": 4e-3}
"""peak learning rate of a student with random weights, by its normalisation layers. From trials on training images: a
thin ResNet, one seed, on CIFAR-10 at 16 x 16, 1,500 steps: 53.1 % with 0.002, 58.4 % with 0.005, 60.6 % with 0.01,
60.4 % with 0.02;
a network with batch norm on digits: 98.1, 98.9, 99.4 and 99.3 %; with group norm 99.3, 99.6 and 99.6 % up to 0.01; a vision
transformer: 78 % with 0.002, 53 % with 0.01. Without normalisation: that of the table of MNIST"""
HINTS = 30.0
"""weight of the hints for images in colour, where student and teacher have features of the same size. From trials on training
images, one seed, a thin ResNet on CIFAR-10 at 16 x 16: 62.7 % with 3, 65.6 % with 30, 65.1 % with 300. On digits and MNIST
hints gain nothing or cost up to 0.8 points: `datafree bench digits`, `digits-norms` and `mnist-drawn`"""
PICTURES = 256
"""pictures on which mirroring is judged, at most"""


@serializable
@dataclass(frozen=True, kw_only=True)
class Auto(Method):
    """The method that suits the teacher. A run stores the one that was chosen."""

    paper: ClassVar[str] = "chosen by the teacher; see the guide to budgets"

    race: bool = False
    """try three methods, each with a tenth of the budget, and continue with the best"""
    flip: Literal["auto", "on", "off"] = "auto"
    """mirror images left to right; auto: if the teacher answers the same on mirrored pictures"""
    keep_lr: bool = False
    """keep the learning rate of the training settings; `--lr` does so too"""

    @property
    def schedule(self) -> Schedule:
        return Schedule()

    @property
    def passes(self) -> float:
        return 0

    @property
    def distillation(self) -> Mapping[str, Any]:
        return METHODS["procedural"].distillation

    def build(self, teacher: Classifier) -> Synthesizer:
        return recipe_for(teacher, flips=False).method.build(teacher)


@dataclass(frozen=True)
class Recipe:
    """What `auto` chooses for a teacher."""

    name: str
    """the method in one word"""
    method: Method
    """a method or a mixture"""
    reason: str
    """why, in one sentence"""


def recipe_for(teacher: Classifier, *, flips: bool) -> Recipe:
    """Return the method that suits a teacher.

    Args:
        teacher: The teacher.
        flips: Whether images may be mirrored.
    """
    procedural = METHODS["procedural"]
    offers = capabilities(teacher)
    if "gradients" not in offers:
        return Recipe("procedural", procedural, "procedural pictures, since the teacher has no gradients")
    if min(teacher.shape[1:]) < SMALLEST:
        return Recipe("procedural", procedural, "procedural pictures, since the images are too small to be optimized")
    normalized = "batch-norm statistics" in offers
    relative = normalized and variance_spread(teacher) > SPREAD
    refine = replace(refinement(teacher.shape), flip=flips)
    if relative:
        refine = replace(refine, statistics_norm="relative", statistics=RELATIVE)
    parts = (
        Part(name="procedural", method=procedural, share=1 - REFINED),
        Part(name="refine", method=refine, share=REFINED),
    )
    lack = "its batch norm has initial statistics" if batch_norms(teacher) else "it has no batch norm"
    aim = "the batch-norm statistics of the teacher" if normalized else f"its gradients, since {lack}"
    reason = f"procedural pictures, and some of them refined with {aim}"
    if relative:
        reason += ", relative ones because its layers differ by orders of magnitude"
    return Recipe("mixture", Mixture(parts=parts), reason)


def refinement(shape: Sequence[int]) -> DeepInversionConfig:
    """Return how procedural pictures are refined: the preset, with a jitter of a sixteenth of the shorter side.

    That is the paper's 2 pixels at 32 x 32. On digits of 8 x 8 pixels, students are better without jitter than with 2 pixels.

    Args:
        shape: Channels, height and width of the images.
    """
    return replace(METHODS["refine"], jitter=min(shape[1:]) // 16)


def learning_rate(student: nn.Module) -> tuple[float, str]:
    """Return the peak learning rate for a student with random weights, and the normalisation that decides it."""
    found = {type for module in student.modules() for type in NORMALISATIONS if isinstance(module, type)}
    word = "layer norm" if nn.LayerNorm in found else "batch or group norm" if found else "no normalisation"
    return LEARNING_RATES[word], word


def race_of(teacher: Classifier, recipe: Recipe) -> list[Recipe]:
    """Return three recipes to compare: the one of the table, and the simplest others that support the teacher."""
    others = [Recipe(name, METHODS[name], "") for name in ("procedural", "fast", "noise", "deep-dream")]
    usable = [other for other in others if other.method != recipe.method and supports(other.method, teacher)]
    return [recipe, *usable][:3]


def supports(method: Method, teacher: Classifier) -> bool:
    """Return whether a method can be built for a teacher; a generator refuses some image sizes."""
    try:
        with RandomNumbers(0):
            method.build(teacher)
    except InputError:
        return False
    return True


def variance_spread(teacher: Classifier) -> float:
    """Return the ratio of the largest to the smallest median running variance of a layer."""
    medians = [float(layer.running_var.median()) for layer in batch_norms(teacher) if layer.running_var is not None]
    return max(medians) / max(min(medians), torch.finfo(torch.float32).tiny)


def decides_flip(auto: Auto, teacher: Classifier) -> bool:
    """Return whether images are mirrored: as the user says, or if the teacher answers the same on mirrored pictures."""
    if auto.flip != "auto":
        return auto.flip == "on"
    with RandomNumbers(0):
        count = timed_images(teacher, PICTURES)
        pictures = replace(METHODS["procedural"], batch_size=max(count, 2)).build(teacher).synthesize().images
    return is_flip_invariant(teacher, pictures)
