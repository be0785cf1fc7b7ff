"""The statistics that an inversion compares its images with: those of batch norm, or those in a file."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Literal

from torch import nn

from datafree.classifier import Classifier, batch_norms, record
from datafree.losses import LayerMoments, observe_batch_norms, relative_distance, statistics_distance
from datafree.synthesis.features import load, measured_moments
from datafree.types import Scalar

StatisticsNorm = Literal["absolute", "relative"]


class LayerStatistics:
    """Layers with statistics, and the distance of their features from these.

    Args:
        teacher: The teacher.
        norm: `absolute`: the sum over layers of the norms of Yin et al. (2020), Eq 4. `relative`: the mean over layers of
            the distances relative to the variance of each channel.
        weights: Weights of the first layers; the last weight applies to all further layers.
        file: A file of `datafree statistics`; empty: the running statistics of batch norm.

    Raises:
        InputError: If the file cannot be used.
    """

    def __init__(
        self, teacher: Classifier, norm: StatisticsNorm, weights: Sequence[float] = (1.0,), file: str = ""
    ) -> None:
        self.norm, self.weights, self.file = norm, weights, file
        self.measured = load(file, teacher) if file else None
        self.stored = self.measured.by_layer(teacher) if self.measured else {}
        self.layers: list[nn.Module] = list(self.stored) or list(batch_norms(teacher))

    @property
    def measured_images(self) -> Mapping[str, int]:
        """Number of real images by source that the statistics in the file were measured on."""
        return {self.measured.source: self.measured.images} if self.measured else {}

    @property
    def dependencies(self) -> Mapping[str, str]:
        """SHA-256 of the file by its path."""
        return {self.file: self.measured.digest} if self.measured else {}

    def observe(self) -> AbstractContextManager[list[LayerMoments]]:
        """Record the statistics of each call of a layer inside a `with` block."""
        if self.measured:
            return record(*self.layers, function=partial(measured_moments, self.stored))
        return observe_batch_norms(self.layers)

    def distance(self, moments: Sequence[LayerMoments]) -> Scalar:
        """Return the distance of all layers.

        Raises:
            InputError: If there is no layer.
        """
        distance = statistics_distance if self.norm == "absolute" else relative_distance
        return distance(moments, self.weights)
