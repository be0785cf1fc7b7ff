"""The tables of pruning: each ratio without recovery, with each kind of image, and with real images without labels."""

import math
from dataclasses import replace

from datafree.applications.pruning import PruningConfig
from datafree.augmentation import Augmentation
from datafree.methods import METHODS
from datafree.methods.deep_inversion import DeepInversionConfig
from datafree.synthesis import Method, Schedule
from datafree.tables.table import Benchmark, Row
from datafree.training import TrainingConfig

COLUMNS = ("parameters", "MACs", "seconds", "images synthesized", "real images seen")


def pruning_rows(
    inversion: DeepInversionConfig,
    first: Schedule,
    often: Schedule,
    recovery: PruningConfig,
    compete: float = 10.0,
) -> dict[str, Row]:
    """For each ratio: the floor, the methods, the ceiling. Filters are ranked by the same images on which it recovers.

    ADI makes as many images as DeepInversion, the last of them against the network as it is by then; or, which is the paper's
    schedule, as many before it is pruned and half as many on top.

    Args:
        inversion: How DeepDream and DeepInversion make images; ADI likewise.
        first: When the first two do, and ADI before it adds to them.
        often: When ADI does where it makes as many as they do; a part of a batch at a time.
        recovery: How all are pruned and recover, but for the ratio.
        compete: Weight of ADI's competition.
    """
    drawn = recovery.steps + recovery.rounds * recovery.looks
    part = inversion.batch * first.warmup // often.due(drawn - 1)
    more = first.warmup // 2
    added = replace(first, every=math.ceil(drawn / (more + 1)), keep=first.warmup + more)
    dream, adaptive = replace(inversion, statistics=0.0), replace(inversion, compete=compete)
    kinds: dict[str, tuple[Method | None, Schedule, PruningConfig]] = {
        "no recovery": (inversion, replace(first, warmup=1), replace(recovery, steps=0)),
        "noise": (replace(METHODS["noise"], batch=first.show), Schedule(), recovery),
        "deep-dream": (dream, first, recovery),
        "deep-inversion": (inversion, first, recovery),
        "adi": (replace(adaptive, batch=part), often, recovery),
        "adi, more images": (adaptive, added, recovery),
        "real images": (None, Schedule(show=first.show), recovery),
    }
    return {
        f"{100 * ratio:.0f} %, {kind}": Row(
            method=method, schedule=schedule, application=replace(application, ratio=ratio)
        )
        for ratio in (0.5, 0.7, 0.2)
        for kind, (method, schedule, application) in kinds.items()
    }


MNIST_PRUNING = Benchmark(
    title="MNIST, a convolutional network with batch norm, pruned",
    data="mnist",
    teacher="convnet_mnist_deep",
    student="",
    training=TrainingConfig(steps=1200),
    rows=pruning_rows(
        DeepInversionConfig(batch=256, steps=(100,), lr=0.1, statistics=20.0),
        Schedule(warmup=2, every=0, keep=2, show=64),
        Schedule(warmup=2, every=79, keep=8, show=64),
        PruningConfig(steps=400, augment=Augmentation(shift=1)),
    ),
    columns=COLUMNS,
    curve=0.0,
)


CIFAR10_PRUNING = Benchmark(
    title="CIFAR-10, a thin ResNet-10, pruned",
    data="cifar10",
    teacher="resnet10_cifar_w16",
    student="",
    training=TrainingConfig(steps=4000, augment=Augmentation(shift=4, flip=True)),
    rows=pruning_rows(
        DeepInversionConfig(batch=256, steps=(150,), lr=0.1, flip=True, statistics=3.0, spectrum="natural"),
        Schedule(warmup=4, every=0, keep=4, show=128),
        Schedule(warmup=3, every=291, keep=4, show=128),  # of four batches the last, when the rounds are over
        PruningConfig(steps=500, augment=Augmentation(shift=4, flip=True)),
        compete=100.0,  # at the paper's 10 teacher and student differ on these images no more than on DeepInversion's
    ),
    columns=COLUMNS,
    curve=0.0,
)
"""at the size at which a processor is patient"""

CIFAR10_PRUNING_RESNET34 = replace(
    CIFAR10_PRUNING,
    title="CIFAR-10, ResNet-34, pruned",
    teacher="resnet34_cifar",
    training=replace(CIFAR10_PRUNING.training, steps=8000),
    rows=pruning_rows(
        DeepInversionConfig(batch=256, steps=(1000,), flip=True),
        Schedule(warmup=32, every=0, keep=32),
        Schedule(warmup=8, every=100, keep=64),
        PruningConfig(steps=5600, augment=Augmentation(shift=4, flip=True)),
    ),
)
"""the network of the papers, which wants an accelerator"""
