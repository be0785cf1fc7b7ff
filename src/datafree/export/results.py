"""What an export has written, and how it compares with the network of torch."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

PERCENT = 100


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A file or a folder that was written, and the comparison of what it computes with the network of torch."""

    path: Path
    """the file or the folder"""
    format: str
    """onnx, torch-export or timm"""
    bytes: int
    """size of all files"""
    input: str
    """name of the images"""
    output: str
    """name of the logits"""
    shape: tuple[int, int, int]
    """channels, height and width of an image"""
    batch: int
    """number of images of a batch; 0: any"""
    normalised_inside: bool
    """whether the file takes pixels in [0, 1] and normalises them itself; otherwise it takes normalised images"""
    max_difference: float
    """largest difference of a logit"""
    largest_logit: float
    """largest absolute value of a logit of torch, to which the difference compares"""
    agreement: float
    """fraction of equal predictions"""
    images: Mapping[str, int]
    """number of images that were compared, by their kind"""
    milliseconds: Mapping[str, float]
    """median time of one image, by the engine that computes it, measured in turns on this machine"""
    threads: int
    """CPU threads of this measurement"""
    rounding: float | None = None
    """largest difference of a logit between float32 and float64 in torch, if engines differ more than usual; None: not
    measured"""
    notes: tuple[str, ...] = ()
    """what to know about the file"""
    details: Mapping[str, Any] = field(default_factory=dict)
    """facts of the format, such as the opset"""

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values, for a summary in JSON."""
        return asdict(self) | {"path": str(self.path)}

    @property
    def sentence(self) -> str:
        """Return one sentence about the comparison with torch."""
        compared = " and ".join(f"{count} {kind}" for kind, count in self.images.items())
        rounding = "" if self.rounding is None else f"; torch in float32 differs from float64 by {self.rounding:.1e}"
        return (
            f"largest difference of a logit {self.max_difference:.1e} (logits up to {self.largest_logit:.3g}{rounding}), "
            f"agreement {PERCENT * self.agreement:.1f} % on {compared} images"
        )

    @property
    def latency(self) -> str:
        """Return one phrase about the time of one image in each engine."""
        times = ", ".join(f"{engine} {milliseconds:.3g} ms" for engine, milliseconds in self.milliseconds.items())
        return f"{times} per image, on {self.threads} CPU {'thread' if self.threads == 1 else 'threads'}"
