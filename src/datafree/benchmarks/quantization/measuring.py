"""Measuring one row of the table for one seed: the images, the quantised networks, their agreement and their accuracy."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datafree.benchmarks.quantization.cases import NOTHING, RANDOM, REAL, RECOVERED, Case, Quantization
from datafree.callback import silent
from datafree.classifier import Classifier, fingerprint
from datafree.files import read_json, write_json
from datafree.files.validation import from_plain
from datafree.methods import METHODS
from datafree.quantization.choosing import quantize
from datafree.quantization.results import Measured
from datafree.quantization.schemes import Scheme
from datafree.quantization.sessions import OnnxNetwork
from datafree.quantization.workbench import Workbench, compared, logits_of
from datafree.randomness import RandomNumbers
from datafree.real.data import open_real
from datafree.real.ledger import Ledger
from datafree.runs.quantizing.images import resolved
from datafree.runs.reading.described import describes
from datafree.sets.collecting import Sources, Wanted, collect
from datafree.types import Images, InputError

DRAWN = 256
"""drawn pictures on which agreement is measured besides, at most; they are of another seed than those of the rows"""


@dataclass(frozen=True)
class MeasuredRow:
    """The file of a row that was measured for one seed."""

    made_by: Mapping[str, str]
    """the settings, by bits; none for the row without images"""
    results: Mapping[str, Any]
    """what was found, by bits"""


@dataclass
class Bench:
    """A network with its workbench and the images of its evaluation."""

    case: Case
    classifier: Classifier
    folder: Path
    """of the results of this network"""
    data_root: str = ""

    @cached_property
    def workbench(self) -> Workbench:
        """The float graph, from which all rows are made."""
        return Workbench(self.classifier, self.folder / "graphs")

    @cached_property
    def test(self) -> tuple[Images, Tensor]:
        """Held-out real images and their labels."""
        real = open_real(
            self.case.data, "test", "evaluation", Ledger(), shape=self.classifier.shape, root=self.data_root
        )
        batch = real.select(torch.arange(min(self.case.test_images, len(real))))
        return batch.images, batch.targets

    @cached_property
    def reference(self) -> Tensor:
        """The logits of the float network on the held-out images."""
        return logits_of(self.classifier, self.test[0])

    @cached_property
    def drawn(self) -> tuple[Images, Tensor]:
        """Procedural pictures of another seed, and the logits of the float network on them."""
        with RandomNumbers(1000):
            pictures = METHODS["procedural"].build(self.classifier).synthesize().images[:DRAWN]
        pictures = pictures[: min(len(pictures), self.case.images)]
        return pictures, logits_of(self.classifier, pictures)

    @cached_property
    def noise(self) -> tuple[Images, Tensor]:
        """Noise with the spectrum of photographs, and the logits of the float network on it."""
        method = replace(METHODS["noise"], spectrum="natural", batch_size=self.case.images)
        with RandomNumbers(1000):
            images = method.build(self.classifier).synthesize().images
        return images, logits_of(self.classifier, images)

    def images_of(self, row: str, seed: int) -> Images:
        """Return the images that a row is calibrated on."""
        name, count, shape = row.removesuffix(RECOVERED), self.case.images, self.classifier.shape
        with RandomNumbers(seed):
            if name == RANDOM:
                return torch.rand(count, *shape)
            if name == REAL:
                real = open_real(self.case.data, "train", "calibration", Ledger(), shape=shape, root=self.data_root)
                return real.select(torch.randperm(len(real))[:count]).images
        sources = Sources(
            teacher=self.classifier, student=None, callback=silent, note=lambda text: None, numbers=RandomNumbers(seed)
        )
        method = resolved(self.case.sources[name], self.classifier, count, silent)
        images = collect(method, sources, Wanted(images=count)).batch.images
        with RandomNumbers(seed):
            return images[torch.randperm(len(images))[:count]].cpu()

    def scores(self, path: Path, weights: Classifier | None = None) -> dict[str, Any]:
        """Return how a quantised graph compares with the float network, and its accuracy."""
        network = OnnxNetwork(path, batch=self.workbench.batch)
        images, labels = self.test
        logits = network(images)
        found = compared(self.classifier, self.reference, logits)

        def agreement(images: Images, reference: Tensor) -> float:
            return compared(self.classifier, reference, network(images)).agreement

        return {
            "agreement": found.agreement,
            "accuracy": accuracy(logits, labels) if self.case.labelled else None,
            "agreement_drawn": agreement(*self.drawn),
            **({} if self.case.labelled else {"agreement_noise": agreement(*self.noise)}),
            "bytes": path.stat().st_size,
            "milliseconds": self.latency(path),
        }

    def latency(self, path: Path) -> dict[str, float]:
        """Return the time of one image in float and in integers, measured in turns."""
        from datafree.export.comparison import milliseconds

        engines = {
            "float": OnnxNetwork(self.workbench.float_file, batch=self.workbench.batch),
            "quantized": OnnxNetwork(path, batch=self.workbench.batch),
        }
        return milliseconds(engines, self.test[0][:1])

    def floating(self) -> dict[str, Any]:
        """Return the accuracy and the size of the float network."""
        path = self.workbench.float_file
        return {
            "accuracy": accuracy(self.reference, self.test[1]) if self.case.labelled else None,
            "bytes": path.stat().st_size,
            "sha256": fingerprint(self.classifier.model),
        }


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Return the fraction of correct predictions."""
    return float((logits.argmax(1) == labels).float().mean())


def measure_row(bench: Bench, row: str, seed: int) -> dict[str, Any]:
    """Return the results of a row for one seed, by bits; they are read from a file if they were measured before.

    Raises:
        InputError: If they were measured with other settings.
    """
    file = bench.folder / row.replace(", ", "-") / f"seed-{seed}.json"
    settings = {} if row == NOTHING else {bits: bench.case.quantization(row, bits) for bits in bench.case.bits}
    if file.is_file():
        found = from_plain(MeasuredRow, read_json(file), str(file))
        if found.made_by.keys() != settings.keys() or not all(
            describes(text, settings[bits]) for bits, text in found.made_by.items()
        ):
            raise InputError(f"{file} was measured with other settings; remove it or give another --out")
        return dict(found.results)
    file.parent.mkdir(parents=True, exist_ok=True)
    results = without_images(bench) if row == NOTHING else with_images(bench, row, seed, settings, file.parent)
    write_json(file, asdict(MeasuredRow({bits: repr(each) for bits, each in settings.items()}, results)))
    return results


def without_images(bench: Bench) -> dict[str, Any]:
    """Quantise without images: ranges found while the network runs; with 4-bit weights, activations in float."""
    workbench = bench.workbench
    found = {"w8a8": bench.scores(workbench.dynamic()) | {"form": "dynamic"}}
    if "w4a8" not in bench.case.bits:
        return found
    ranges = workbench.ranges("none", torch.zeros(1, *bench.classifier.shape), "minmax")
    four = workbench.build(Scheme(bits="w8", form="four-bit"), ranges, "minmax", (), "nothing-w4")
    return found | {"w4a8": bench.scores(four) | {"form": "weights only"}}


def with_images(
    bench: Bench, row: str, seed: int, settings: Mapping[str, Quantization], folder: Path
) -> dict[str, Any]:
    """Quantise with the images of a row, for each number of bits."""
    images, results = bench.images_of(row, seed), {}
    for bits, each in settings.items():
        path = folder / f"seed-{seed}-{bits}.onnx"
        with RandomNumbers(seed):
            made = quantize(bench.classifier, images, path, each.settings, seed=seed)
        results[bits] = bench.scores(path) | {
            "form": made.form,
            "observer": made.observer,
            "own_loss": made.measured.loss,
            "saturation": saturation_of(made.saturation),
            "kernel_difference": made.kernel_difference,
            "instruction_set": made.instruction_set,
            "recovered": recovered(made.before_recovery),
        }
    return results


def saturation_of(found: Any) -> Mapping[str, Any] | None:
    """Return what signed weights with 8 bits do on a processor without integer dot products."""
    return None if found is None else found.as_dict()


def recovered(before: Measured | None) -> float | None:
    """Return the loss on the own images before the recovery, if its weights were kept."""
    return None if before is None else before.loss
