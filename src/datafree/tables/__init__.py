"""The tables by their names. A new table is one value in one file and one line in this dict."""

from datafree.tables.digits import DIGITS
from datafree.tables.mnist import ABLATION, MNIST
from datafree.tables.table import Benchmark
from datafree.tables.transfer import CIFAR10_TRANSFER, TRANSFER

BENCHMARKS: dict[str, Benchmark] = {
    "digits": DIGITS,
    "mnist": MNIST,
    "dafl-ablation": ABLATION,
    "transfer": TRANSFER,
    "cifar10-transfer": CIFAR10_TRANSFER,
}
