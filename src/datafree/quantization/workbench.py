"""The files of one quantisation: a float graph, ranges of its activations, and quantised graphs that are compared with it."""

from collections.abc import Sequence
from pathlib import Path

import torch

from datafree.classifier import Classifier, frozen
from datafree.losses import distillation_loss
from datafree.quantization import onnx_engine
from datafree.quantization.calibration import calibrate
from datafree.quantization.graphs import float_file, layers_of, prepared
from datafree.quantization.results import Measured
from datafree.quantization.schemes import Observer, Scheme
from datafree.quantization.sessions import SATURATING, OnnxNetwork, instruction_set
from datafree.types import Images, Logits

PIXELS = 2**23
"""values of the images on which histograms are made, at most: all 256 images of 32 x 32, and 55 of 224 x 224"""


def logits_of(classifier: Classifier, images: Images, batch: int = 64) -> Logits:
    """Return the logits of a float network, on the CPU."""
    with frozen(classifier), torch.no_grad():
        return torch.cat([classifier(part.to(classifier.device)).cpu() for part in images.split(batch)])


def compared(classifier: Classifier, reference: Logits, logits: Logits) -> Measured:
    """Compare the logits of a quantised network with those of the float network."""
    same = classifier.predict(logits) == classifier.predict(reference)
    decisions = classifier.decisions
    return Measured(
        agreement=float(same.float().mean()),
        divergence=float(distillation_loss(decisions(logits), decisions(reference))),
        images=len(logits),
    )


class Workbench:
    """A float network with everything that is derived from it.

    Args:
        classifier: The float network whose predictions are to be kept.
        folder: A temporary folder.
        weights: The network that is quantised, if it is not the same: its copy after recovery.
    """

    def __init__(self, classifier: Classifier, folder: Path, weights: Classifier | None = None) -> None:
        self.classifier, self.folder = classifier, folder
        self.weights = weights or classifier
        folder.mkdir(parents=True, exist_ok=True)
        self.float_file, self.graph = folder / "float.onnx", folder / "prepared.onnx"
        self.exported = float_file(self.weights, self.float_file)
        prepared(self.float_file, self.graph)
        self.layers = layers_of(self.graph)
        self.batch = self.exported.batch
        self.optimized = instruction_set() not in SATURATING  # what is chosen must not depend on the processor

    def ranges(self, name: str, images: Images, observer: Observer) -> Path:
        """Return the file with the ranges of all activations on images; it is made once for each name and observer."""
        path = self.folder / f"{name}-{observer}.json"
        if not path.exists():
            if observer != "minmax":
                images = images[: max(16, PIXELS // images[0].numel())]
            new = path.with_suffix(".new.json")
            new.unlink(missing_ok=True)
            calibrate(self.graph, images, observer, new, **({"batch": self.batch} if self.batch else {}))
            new.replace(path)
        return path

    def build(
        self, scheme: Scheme, ranges: Path, observer: Observer, in_float: Sequence[str] = (), name: str = "quantized"
    ) -> Path:
        """Write a quantised graph and return its path.

        Args:
            scheme: Bits and form of the weights.
            ranges: See `ranges`.
            observer: The observer of the ranges.
            in_float: Names of layers that stay in float.
            name: Of the file.
        """
        path = self.folder / f"{name}.onnx"
        nodes = [layer.node for layer in self.layers if layer.name in in_float]
        onnx_engine.quantize_static(self.graph, path, scheme, ranges, observer, nodes)
        return path

    def dynamic(self, name: str = "dynamic") -> Path:
        """Write a graph that finds the ranges while it runs, and return its path."""
        path = self.folder / f"{name}.onnx"
        onnx_engine.quantize_dynamic(self.graph, path)
        return path

    def measure(self, path: Path, images: Images, reference: Logits) -> Measured:
        """Compare a quantised graph with the float network.

        Args:
            path: The graph.
            images: Pixels in [0, 1].
            reference: The logits of the float network on them.
        """
        network = OnnxNetwork(path, optimized=self.optimized, batch=self.batch)
        return compared(self.classifier, reference, network(images))
