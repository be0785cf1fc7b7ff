"""The tables by name. To add one, define a `Benchmark` in a file of this folder and add a line to `BENCHMARKS`."""

from datafree.benchmarks.amalgamation import (
    CIFAR10_AMALGAMATION,
    MNIST_AMALGAMATION,
    MNIST_AMALGAMATION_OF_SIX,
    MOSAIC_AMALGAMATION,
)
from datafree.benchmarks.continual import CIFAR10_CONTINUAL, CIFAR10_CONTINUAL_RESNET18, MNIST_CONTINUAL, MNIST_SEQUENCE
from datafree.benchmarks.digits import DIGITS, DIGITS_NORMS
from datafree.benchmarks.mnist import ABLATION, DRAWN, MEASURED, MNIST
from datafree.benchmarks.photographs import (
    PHOTOGRAPHS,
    PHOTOGRAPHS_16,
    PHOTOGRAPHS_16_PARTS,
    PHOTOGRAPHS_16_TIME,
    PHOTOGRAPHS_TIME,
)
from datafree.benchmarks.pruning import CIFAR10_PRUNING, CIFAR10_PRUNING_RESNET34, MNIST_PRUNING
from datafree.benchmarks.table import Benchmark
from datafree.benchmarks.transfer import CIFAR10_TRANSFER, TRANSFER

BENCHMARKS: dict[str, Benchmark] = {
    "digits": DIGITS,
    "digits-norms": DIGITS_NORMS,
    "mnist": MNIST,
    "mnist-drawn": DRAWN,
    "dafl-ablation": ABLATION,
    "mnist-measured": MEASURED,
    "mnist-continual": MNIST_CONTINUAL,
    "mnist-sequence": MNIST_SEQUENCE,
    "cifar10-continual": CIFAR10_CONTINUAL,
    "cifar10-continual-resnet18": CIFAR10_CONTINUAL_RESNET18,
    "mnist-pruning": MNIST_PRUNING,
    "cifar10-pruning": CIFAR10_PRUNING,
    "cifar10-pruning-resnet34": CIFAR10_PRUNING_RESNET34,
    "mnist-amalgamation": MNIST_AMALGAMATION,
    "mnist-amalgamation-of-six": MNIST_AMALGAMATION_OF_SIX,
    "mosaic-amalgamation": MOSAIC_AMALGAMATION,
    "cifar10-amalgamation": CIFAR10_AMALGAMATION,
    "photographs": PHOTOGRAPHS,
    "photographs-time": PHOTOGRAPHS_TIME,
    "photographs-16": PHOTOGRAPHS_16,
    "photographs-16-time": PHOTOGRAPHS_16_TIME,
    "photographs-16-parts": PHOTOGRAPHS_16_PARTS,
    "transfer": TRANSFER,
    "cifar10-transfer": CIFAR10_TRANSFER,
}
