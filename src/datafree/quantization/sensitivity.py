"""Which layers lose most by quantisation: each one is left in float in turn, and what this saves is measured."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from datafree.quantization.results import Measured


@dataclass(frozen=True)
class Sensitivity:
    """What it saves to leave a layer in float."""

    layer: str
    saved: float
    """divergence of all layers quantised, minus that with this one in float, in nats"""


def sensitivities(
    layers: Sequence[str], whole: Measured, measure: Callable[[tuple[str, ...]], Measured]
) -> list[Sensitivity]:
    """Return the sensitivity of each layer, the largest first.

    Args:
        layers: Names of the layers.
        whole: The comparison with all layers quantised.
        measure: Returns the comparison with some layers in float.
    """
    found = [Sensitivity(name, whole.divergence - measure((name,)).divergence) for name in layers]
    return sorted(found, key=lambda each: -each.saved)


def layers_in_float(
    layers: Sequence[str],
    whole: Measured,
    measure: Callable[[tuple[str, ...]], Measured],
    *,
    most: int,
    tolerance: float,
) -> tuple[tuple[str, ...], Measured, list[Sensitivity]]:
    """Return the layers to leave in float: the most sensitive ones, as few as keep the predictions, none if none helps.

    Args:
        layers: Names of the layers.
        whole: The comparison with all layers quantised.
        measure: Returns the comparison with some layers in float.
        most: Largest number of layers in float.
        tolerance: Largest loss of agreement, in percentage points.

    Returns:
        The layers, the comparison with them in float, and the sensitivities of all layers; none if nothing had to be measured.
    """
    if whole.loss <= tolerance or most < 1:
        return (), whole, []
    found = sensitivities(layers, whole, measure)
    best: tuple[tuple[str, ...], Measured] = ((), whole)
    for count in range(1, min(most, len(found)) + 1):
        if found[count - 1].saved <= 0:
            break
        chosen = tuple(each.layer for each in found[:count])
        measured = measure(chosen)
        if measured.agreement > best[1].agreement:
            best = (chosen, measured)
        if measured.loss <= tolerance:
            break
    return best[0], best[1], found
