r"""What is stored in how many bits, and how weights are rounded.

A tensor of real numbers :math:`x` becomes integers :math:`q`:

.. math:: q = \operatorname{clip}\Bigl(\operatorname{round}\bigl(\tfrac{x}{s}\bigr) + z, q_\text{min}, q_\text{max}\Bigr),
    \quad \hat x = s (q - z)

Weights have one scale per output channel and are symmetric: :math:`s = \max \lvert w \rvert / \tfrac12 (q_\text{max} -
q_\text{min})`. Activations have one scale and zero point per tensor, from the range that an observer finds on images.

References:
    | Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference (Jacob et al., 2018)
    | https://arxiv.org/abs/1712.05877
"""

import re
from dataclasses import dataclass
from typing import Literal

from datafree.types import InputError

Bits = Literal["w8a8", "w4a8", "w8"]
"""weights and activations: 8 and 8 bits, 4 and 8 bits, or weights of 8 bits with activations in float"""
Form = Literal["signed", "paired", "reduced", "unsigned", "four-bit"]
"""how the integers of weights are stored; see `Scheme.bounds` and `saturation.finest_scales`"""
Observer = Literal["minmax", "percentile", "entropy"]
"""how the range of an activation is found on images: all values; all but the most extreme ones; the range that loses the least
information about their distribution"""

BOUNDS: dict[Form, tuple[int, int]] = {
    "signed": (-127, 127),
    "paired": (-127, 127),
    "reduced": (-64, 64),
    "unsigned": (0, 255),
    "four-bit": (-8, 7),
}
"""smallest and largest integer of each form of weights"""


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """How a network is quantised."""

    bits: Bits = "w8a8"
    form: Form = "signed"

    @property
    def bounds(self) -> tuple[int, int]:
        """Smallest and largest integer of a weight."""
        return BOUNDS[self.form]

    @property
    def zero_point(self) -> int:
        """The integer that stands for the weight 0."""
        return 128 if self.form == "unsigned" else 0

    @property
    def quantises_activations(self) -> bool:
        """Whether activations are integers too."""
        return self.bits != "w8"

    @property
    def weight_bits(self) -> int:
        """Bits of a stored weight."""
        return 4 if self.bits == "w4a8" else 8


def parse_bits(text: str) -> Bits:
    """Check the bits of weights and activations.

    Raises:
        InputError: If no engine computes them; with the ones that there are.
    """
    known: dict[str, Bits] = {"w8a8": "w8a8", "w4a8": "w4a8", "w8": "w8", "w8a16": "w8", "int8": "w8a8"}
    if text in ("w8a8", "w4a8", "w8"):
        return known[text]
    if re.match(r"w?[123]($|\D)", text) or text in ("binary", "ternary"):
        raise InputError(
            f"bits {text!r}: no engine computes weights of fewer than 4 bits (onnx: w8a8, w4a8, w8; torchao: w8a8); use w4a8"
        )
    near = f"; did you mean {known[text]}?" if text in known else ""
    raise InputError(f"bits {text!r} is unknown{near or '; choose one of w8a8, w4a8, w8'}")
