"""The controls of a quantisation: the same network calibrated on nothing, random pixels, noise, and on real images."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datafree.classifier import Classifier
from datafree.export.comparison import milliseconds
from datafree.methods import METHODS
from datafree.quantization.results import Quantized
from datafree.quantization.schemes import Scheme, parse_bits
from datafree.quantization.sessions import OnnxNetwork
from datafree.quantization.workbench import Workbench, compared, logits_of
from datafree.randomness import RandomNumbers
from datafree.real.data import RealImages
from datafree.types import Images

FLOAT, DYNAMIC, CHOSEN = "float", "nothing (dynamic)", "synthesized, this file"


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    bytes: int
    milliseconds: float | None
    """median time of one image, measured in turns with the others; None: not measured"""
    agreement: float
    """with the float network, on images of another method"""
    accuracy: float | None
    """on held-out real images; None without any"""


def random_pixels(classifier: Classifier, count: int, seed: int) -> Images:
    """Return pixels that are uniform in [0, 1]."""
    with RandomNumbers(seed):
        return torch.rand(count, *classifier.shape)


def noise(classifier: Classifier, count: int, seed: int) -> Images:
    """Return noise with the mean and the standard deviation of the network's normalisation."""
    with RandomNumbers(seed):
        return METHODS["noise"].build(classifier).synthesize().images[:count].cpu()


def control_files(bench: Workbench, quantized: Quantized, images: Mapping[str, Images]) -> dict[str, Path]:
    """Quantise the float network in the same way on other images, and return the files by what they are calibrated on.

    Args:
        bench: The float network.
        quantized: The result, whose form of weights, observer and layers in float are used.
        images: What to calibrate on, by name.
    """
    bits = parse_bits(quantized.bits)
    scheme = Scheme(bits=bits, form=quantized.form)  # type: ignore[arg-type]
    observer: Any = quantized.observer or "minmax"
    if not scheme.quantises_activations:  # no image changes weights
        return {}
    files = {}
    if bits == "w8a8":
        files[DYNAMIC] = bench.dynamic()
    else:
        ranges = bench.ranges("none", torch.zeros(1, *bench.classifier.shape), "minmax")
        weights = Scheme(bits="w8", form=scheme.form)
        files["nothing (weights only)"] = bench.build(weights, ranges, "minmax", quantized.in_float, "weights")
    for name, pixels in images.items():
        ranges = bench.ranges(name, pixels, observer)
        files[name] = bench.build(scheme, ranges, observer, quantized.in_float, f"control {name}")
    return files


def control_rows(bench: Workbench, files: Mapping[str, Path], pictures: Images, test: RealImages | None) -> list[Row]:
    """Return the table: the float network and each quantised file.

    Args:
        bench: The float network.
        files: The quantised files by name.
        pictures: Images of another method.
        test: Held-out real images with labels; None: no accuracy.
    """
    networks: dict[str, Callable[[Tensor], Tensor]] = {
        name: OnnxNetwork(path, batch=bench.batch) for name, path in {FLOAT: bench.float_file, **files}.items()
    }
    return rows_of(
        bench.classifier,
        networks,
        {FLOAT: bench.float_file, **files},
        pictures,
        test,
        milliseconds(networks, pictures[:1]),
    )


def rows_of(
    classifier: Classifier,
    networks: Mapping[str, Callable[[Tensor], Tensor]],
    files: Mapping[str, Path],
    pictures: Images,
    test: RealImages | None,
    times: Mapping[str, float],
) -> list[Row]:
    """Compare networks with the float network, and evaluate them on real images."""
    reference = logits_of(classifier, pictures)
    scores = accuracies(classifier, networks, test) if test is not None and test.labelled else {}
    return [
        Row(
            name=name,
            bytes=files[name].stat().st_size,
            milliseconds=times.get(name),
            agreement=compared(classifier, reference, run(pictures)).agreement,
            accuracy=scores.get(name),
        )
        for name, run in networks.items()
    ]


def accuracies(
    classifier: Classifier, networks: Mapping[str, Callable[[Tensor], Tensor]], test: RealImages
) -> dict[str, float]:
    """Return the fraction of correct predictions of each network; of correct labels if an image has several."""
    correct, total = dict.fromkeys(networks, 0.0), 0
    for batch in test.batches_for(classifier, classifier):
        total += batch.targets.numel()
        for name, run in networks.items():
            correct[name] += float((classifier.predict(run(batch.images)) == batch.targets).sum())
    return {name: count / total for name, count in correct.items()}
