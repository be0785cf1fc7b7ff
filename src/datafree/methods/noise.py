r"""Noise: the baseline that every method has to beat.

.. math:: x = \operatorname{clip}_{[0, 1]} (\mu + \sigma \epsilon), \quad \epsilon \sim \mathcal{N}(0, 1)

with the mean and standard deviation of the teacher's normalisation. Nothing is optimized and the student is not used.
The target of an image is the class that the teacher predicts.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from datafree import processes
from datafree.classifier import Classifier, frozen
from datafree.synthesis import Method, Schedule, Synthesizer
from datafree.synthesis.spectrum import Spectrum, noise
from datafree.types import Batch


@dataclass(frozen=True, kw_only=True)
class NoiseConfig(Method):
    """The batch size and the spectrum of the noise."""

    paper: ClassVar[str] = "baseline in Table 2 of arXiv 1904.01186 and Table 1 of arXiv 1912.08795"

    spectrum: Spectrum = "white"
    """white, or natural: the spectrum of photographs"""

    @property
    def schedule(self) -> Schedule:
        return Schedule()

    @property
    def passes(self) -> float:
        return 0

    def build(self, teacher: Classifier) -> "Noise":
        return Noise(teacher, self)


class Noise(Synthesizer):
    """Clipped Gaussian noise. Only the targets depend on the weights of the teacher."""

    divides = True

    def __init__(self, teacher: Classifier, config: NoiseConfig) -> None:
        self.teacher, self.config = teacher, config

    def synthesize(self, student: nn.Module | None = None) -> Batch:
        pixels = processes.part(noise(self.config.batch_size, self.teacher, self.config.spectrum))
        images = self.teacher.denormalize(pixels).clamp(0, 1)
        with frozen(self.teacher), torch.no_grad():
            return Batch(images, self.teacher.predict(self.teacher(images)), {})
