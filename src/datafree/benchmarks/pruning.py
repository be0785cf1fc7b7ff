"""The tables of pruning: each ratio without recovery, with each kind of image, and with real images without labels."""

import math
from dataclasses import replace

from datafree.applications.pruning import PruningConfig
from datafree.benchmarks.table import Benchmark, Row
from datafree.methods import METHODS
from datafree.methods.deep_inversion import DeepInversionConfig
from datafree.runs.training import TrainingConfig
from datafree.synthesis import Method, Schedule
from datafree.synthesis.augmentation import Augmentation

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
    drawn = recovery.steps + recovery.rounds * recovery.importance_batches
    part = inversion.batch_size * first.warmup_batches // often.due(drawn - 1)
    more = first.warmup_batches // 2
    added = replace(first, refresh_every=math.ceil(drawn / (more + 1)), pool_batches=first.warmup_batches + more)
    dream, adaptive = replace(inversion, statistics=0.0), replace(inversion, compete=compete)
    kinds: dict[str, tuple[Method | None, Schedule, PruningConfig]] = {
        "no recovery": (inversion, replace(first, warmup_batches=1), replace(recovery, steps=0)),
        "noise": (replace(METHODS["noise"], batch_size=first.batch_size), Schedule(), recovery),
        "deep-dream": (dream, first, recovery),
        "deep-inversion": (inversion, first, recovery),
        "adi": (replace(adaptive, batch_size=part), often, recovery),
        "adi, more images": (adaptive, added, recovery),
        "real images": (None, Schedule(batch_size=first.batch_size), recovery),
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
        DeepInversionConfig(batch_size=256, steps=(100,), lr=0.1, statistics=20.0),
        Schedule(warmup_batches=2, refresh_every=0, pool_batches=2, batch_size=64),
        Schedule(warmup_batches=2, refresh_every=79, pool_batches=8, batch_size=64),
        PruningConfig(steps=400, augment=Augmentation(shift=1)),
    ),
    columns=COLUMNS,
    evaluation_interval=0.0,
)


CIFAR10_PRUNING = Benchmark(
    title="CIFAR-10, a thin ResNet-10, pruned",
    data="cifar10",
    teacher="resnet10_cifar_w16",
    student="",
    training=TrainingConfig(steps=4000, augment=Augmentation(shift=4, flip=True)),
    rows=pruning_rows(
        DeepInversionConfig(batch_size=256, steps=(150,), lr=0.1, flip=True, statistics=3.0, spectrum="natural"),
        Schedule(warmup_batches=4, refresh_every=0, pool_batches=4, batch_size=128),
        Schedule(
            warmup_batches=3, refresh_every=291, pool_batches=4, batch_size=128
        ),  # of four batches the last, when the rounds are over
        PruningConfig(steps=500, augment=Augmentation(shift=4, flip=True)),
        compete=100.0,  # at the paper's 10 teacher and student differ on these images no more than on DeepInversion's
    ),
    columns=COLUMNS,
    evaluation_interval=0.0,
)
"""at the size at which a processor is patient"""

CIFAR10_PRUNING_RESNET34 = replace(
    CIFAR10_PRUNING,
    title="CIFAR-10, ResNet-34, pruned",
    teacher="resnet34_cifar",
    training=replace(CIFAR10_PRUNING.training, steps=8000),
    rows=pruning_rows(
        DeepInversionConfig(batch_size=256, steps=(1000,), flip=True),
        Schedule(warmup_batches=32, refresh_every=0, pool_batches=32),
        Schedule(warmup_batches=8, refresh_every=100, pool_batches=64),
        PruningConfig(steps=5600, augment=Augmentation(shift=4, flip=True)),
    ),
)
"""the network of the papers, which wants an accelerator"""
