"""What a quantisation has written, what was chosen and why, and how it compares with the float network."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from datafree.classifier import Classifier
from datafree.quantization.saturation import Saturation


@dataclass(frozen=True, kw_only=True)
class Measured:
    """How a quantised network compares with the float network on images."""

    agreement: float
    """fraction of images, or of their labels, with the same prediction"""
    divergence: float
    """mean Kullback-Leibler divergence of the predictions, in nats"""
    images: int

    @property
    def loss(self) -> float:
        """Predictions that changed, in percentage points."""
        return 100 * (1 - self.agreement)


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """A quantised network: an ONNX file in QDQ form, or a program of torch."""

    path: Path
    engine: str
    bits: str
    form: str
    """how weights are stored: signed, paired (signed, with scales at which no sum is too large), reduced (signed
    with 7 bits), unsigned, or four-bit"""
    observer: str
    """how the ranges of activations were found; empty for weights only"""
    layers: int
    """number of layers with weights"""
    in_float: tuple[str, ...]
    """layers that stay in float"""
    measured: Measured
    """on images that were not used for calibration"""
    before_recovery: Measured | None
    """the same before the float weights were trained for it; None if they were not"""
    bytes: int
    float_bytes: int
    milliseconds: Mapping[str, float]
    """median time of one image, of the float network and of this one, measured in turns; empty if it was not measured"""
    instruction_set: str
    """of the processor that this was measured on"""
    saturation: Saturation | None
    """what signed weights with 8 bits would do on processors without integer dot products; None if it cannot happen"""
    kernel_difference: float | None
    """largest difference of a logit between the kernels of this processor and the graph, node by node; None: not measured"""
    kernel_agreement: float | None
    """fraction of equal predictions of the two"""
    classifier: Classifier = field(repr=False)
    """the float network that was quantised: the given one, or its trained copy"""
    notes: tuple[str, ...] = ()
    """what was chosen and why"""

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the network as plain values."""
        names = [name for name in self.__dataclass_fields__ if name not in ("classifier", "path")]
        plain = {name: getattr(self, name) for name in names}
        nested = {name: asdict(value) for name, value in plain.items() if isinstance(value, (Measured, Saturation))}
        return plain | nested | {"path": self.path.name, "in_float": list(self.in_float), "notes": list(self.notes)}
