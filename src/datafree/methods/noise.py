"""Noise: the floor that every method has to beat. Nothing is optimised, nothing is kept, nobody is looked at.

Pixels are Gaussian in the teacher's normalised space and clipped to the range of an image. The targets are the
classes the teacher sees in them.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from datafree.classifier import Classifier, frozen
from datafree.synthesis import Method, Schedule, Synthesizer
from datafree.synthesis.spectrum import Spectrum, noise
from datafree.types import Batch


@dataclass(frozen=True, kw_only=True)
class NoiseConfig(Method):
    """Nothing to set but how many images at a time, and of which noise."""

    paper: ClassVar[str] = "the floor; Table 2 of arXiv 1904.01186 and Table 1 of arXiv 1912.08795 have it"

    spectrum: Spectrum = "white"
    """of the noise: white, or natural, as that of photographs is"""

    @property
    def schedule(self) -> Schedule:
        return Schedule()

    @property
    def passes(self) -> float:
        return 0

    def build(self, teacher: Classifier) -> "Noise":
        return Noise(teacher, self)


class Noise(Synthesizer):
    """Images that know nothing of the teacher."""

    def __init__(self, teacher: Classifier, config: NoiseConfig) -> None:
        self.teacher, self.config = teacher, config

    def synthesize(self, student: nn.Module | None = None) -> Batch:
        pixels = noise(self.config.batch_size, self.teacher, self.config.spectrum)
        images = self.teacher.denormalize(pixels).clamp(0, 1)
        with frozen(self.teacher), torch.no_grad():
            return Batch(images, self.teacher.answer(self.teacher(images)), {})
