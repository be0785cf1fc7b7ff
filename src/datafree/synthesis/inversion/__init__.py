"""What inversions of a teacher share: where they start, and which statistics and priors their images have."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from typing import Any

from torch import nn

from datafree.classifier import frozen
from datafree.losses import LayerMoments
from datafree.synthesis.descent import DescentSynthesizer
from datafree.synthesis.inversion.activations import copied_activations as copied_activations
from datafree.synthesis.inversion.activations import out_of_place as out_of_place
from datafree.synthesis.inversion.prior import image_prior as image_prior
from datafree.synthesis.inversion.start import Start as Start
from datafree.synthesis.inversion.start import StartChoice as StartChoice
from datafree.synthesis.inversion.start import TargetChoice as TargetChoice
from datafree.synthesis.inversion.statistics import LayerStatistics as LayerStatistics
from datafree.synthesis.inversion.statistics import StatisticsNorm as StatisticsNorm
from datafree.synthesis.method import capabilities


class InversionSynthesizer(DescentSynthesizer):
    """A synthesizer that optimizes images from a start, with layer statistics or an image prior in their place."""

    divides = True
    start: Start
    """where the images start"""
    statistics: LayerStatistics | None = None
    """the statistics that the images should have; None: they are not used, or replaced by the image prior"""
    replaced: bool = False
    """whether the image prior takes the place of statistics that the teacher does not have"""

    def use_statistics(
        self, norm: StatisticsNorm, weights: Sequence[float], file: str = "", replaceable: bool = False
    ) -> None:
        """Compare images with the statistics of layers.

        Args:
            norm: See `LayerStatistics`.
            weights: Weights of the first layers.
            file: A file of `datafree statistics`; empty: the running statistics of batch norm.
            replaceable: Use none if the teacher has no running statistics; otherwise the objective is refused.

        Raises:
            InputError: If the file cannot be used.
        """
        self.replaced = replaceable and not file and "batch-norm statistics" not in capabilities(self.teacher)
        self.statistics = None if self.replaced else LayerStatistics(self.teacher, norm, weights, file)

    @cached_property
    def activations(self) -> list[nn.Module]:
        """The activations of the teacher that compute out of place while images are optimized."""
        return copied_activations(self.teacher)

    @contextmanager
    def frozen(self, student: nn.Module | None) -> Iterator[None]:
        """Freeze teacher and student inside a `with` block, and let the teacher pass gradients to the images quickly."""
        with frozen(self.teacher, student), out_of_place(self.activations):
            yield

    def observe(self) -> AbstractContextManager[list[LayerMoments]]:
        """Record the statistics of the layers that have some inside a `with` block."""
        return self.statistics.observe() if self.statistics else nullcontext([])

    @property
    def notes(self) -> tuple[str, ...]:
        replaced = "the teacher has no batch-norm statistics: an image prior takes their place"
        return (replaced,) if self.replaced else ()

    @property
    def measured_images(self) -> Mapping[str, int]:
        return {**self.start.measured_images, **(self.statistics.measured_images if self.statistics else {})}

    @property
    def dependencies(self) -> Mapping[str, str]:
        return {**self.start.dependencies, **(self.statistics.dependencies if self.statistics else {})}

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "start": self.start.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        if "start" in state:  # earlier versions started from noise only
            self.start.load_state_dict(state["start"])
