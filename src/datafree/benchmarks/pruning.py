"""The tables of pruning: for each ratio, no recovery, recovery on each kind of images, and on real images without labels."""

import math
from dataclasses import replace

from datafree.applications.pruning import PruningConfig
from datafree.benchmarks.sources import CIFAR10_AUGMENTATION, image_sources
from datafree.benchmarks.table import Benchmark, Row
from datafree.methods.deep_inversion import DeepInversionConfig
from datafree.runs.training import TrainingConfig
from datafree.synthesis import Schedule
from datafree.synthesis.augmentation import Augmentation

COLUMNS = ("parameters", "macs", "seconds", "images_synthesized", "real_images_seen")


def pruning_rows(
    inversion: DeepInversionConfig,
    schedule: Schedule,
    adaptive_schedule: Schedule,
    recovery: PruningConfig,
    compete: float = 10.0,
) -> dict[str, Row]:
    """Return the rows of three pruning ratios. The filters are ranked on the same images as the network recovers on.

    ADI synthesizes as many images as DeepInversion, the last of them against the pruned network. In the row "more images",
    it follows the paper: as many images before pruning, and half as many in addition.

    Args:
        inversion: The settings of DeepInversion; DeepDream and ADI differ in the weight of one term.
        schedule: When DeepDream and DeepInversion synthesize.
        adaptive_schedule: When ADI synthesizes as many images; its batches are smaller.
        recovery: The settings of pruning and recovery; the ratio is replaced.
        compete: Weight of ADI's competition term.
    """
    batches_drawn = recovery.steps + recovery.rounds * recovery.importance_batches
    batch_size = inversion.batch_size * schedule.warmup_batches // adaptive_schedule.batches_needed(batches_drawn - 1)
    extra_batches = schedule.warmup_batches // 2
    paper_schedule = replace(
        schedule,
        refresh_every=math.ceil(batches_drawn / (extra_batches + 1)),
        pool_batches=schedule.warmup_batches + extra_batches,
    )
    adi = replace(inversion, compete=compete)
    sources = image_sources(inversion, schedule)
    real_images = sources.pop("real images")
    sources |= {
        "adi": (replace(adi, batch_size=batch_size), adaptive_schedule),
        "adi, more images": (adi, paper_schedule),
        "real images": real_images,
    }
    no_recovery = Row(
        method=inversion, schedule=replace(schedule, warmup_batches=1), application=replace(recovery, steps=0)
    )
    rows = {"no recovery": no_recovery} | {
        name: Row(method=method, schedule=source_schedule, application=recovery)
        for name, (method, source_schedule) in sources.items()
    }
    return {
        f"{100 * ratio:.0f} %, {name}": replace(row, application=replace(row.application, ratio=ratio))
        for ratio in (0.5, 0.7, 0.2)
        for name, row in rows.items()
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
    training=TrainingConfig(steps=4000, augment=CIFAR10_AUGMENTATION),
    rows=pruning_rows(
        DeepInversionConfig(batch_size=256, steps=(150,), lr=0.1, flip=True, statistics=3.0, start="natural"),
        Schedule(warmup_batches=4, refresh_every=0, pool_batches=4, batch_size=128),
        # The last of the four batches is synthesized after the last round of pruning.
        Schedule(warmup_batches=3, refresh_every=291, pool_batches=4, batch_size=128),
        PruningConfig(steps=500, augment=CIFAR10_AUGMENTATION),
        compete=100.0,  # with the paper's 10, teacher and student differ no more than on DeepInversion's images
    ),
    columns=COLUMNS,
    evaluation_interval=0.0,
)
"""small enough for a CPU"""

CIFAR10_PRUNING_RESNET34 = replace(
    CIFAR10_PRUNING,
    title="CIFAR-10, ResNet-34, pruned",
    teacher="resnet34_cifar",
    training=replace(CIFAR10_PRUNING.training, steps=8000),
    rows=pruning_rows(
        DeepInversionConfig(batch_size=256, steps=(1000,), flip=True),
        Schedule(warmup_batches=32, refresh_every=0, pool_batches=32),
        Schedule(warmup_batches=8, refresh_every=100, pool_batches=64),
        PruningConfig(steps=5600, augment=CIFAR10_AUGMENTATION),
    ),
)
"""the network of the papers; needs an accelerator"""
