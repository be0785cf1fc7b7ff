"""The tables of continual learning: MNIST and CIFAR-10 in two halves, and MNIST in five tasks of two classes."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from datafree.applications.continual import RECIPES
from datafree.benchmarks.table import Benchmark, Row
from datafree.methods import METHODS
from datafree.methods.deep_inversion import DeepInversionConfig
from datafree.runs.training import TrainingConfig
from datafree.synthesis import Method, Schedule
from datafree.synthesis.augmentation import Augmentation


def rows(
    settings: Mapping[str, float], show: int, inversion: DeepInversionConfig, batches: int, features: float = 0.1
) -> dict[str, Row]:
    """Floors that see no old class, synthesized images by each method and recipe, and the ceiling.

    Args:
        settings: Of every application.
        show: Old images per step, and new ones.
        inversion: How images are synthesized; DeepDream and ADI differ from it in their own term only.
        batches: How many batches are synthesized.
        features: Weight of the distillation of features in `abd`.
    """

    learn: dict[str, Any] = {"new_batch_size": show, **settings}

    def row(recipe: str, method: Method | None, schedule: Schedule) -> Row:
        return Row(method=method, schedule=schedule, application=replace(RECIPES[recipe], **learn))

    noise, fresh = replace(METHODS["noise"], batch_size=show), Schedule()
    first = Schedule(warmup_batches=batches, refresh_every=0, pool_batches=batches, batch_size=show)
    adaptive = replace(first, warmup_batches=batches // 2, refresh_every=int(settings["steps"]) // (batches // 2 + 1))
    dream, adi = replace(inversion, statistics=0.0), replace(inversion, compete=10.0)
    abd = row("abd", inversion, first)
    return {
        "fine-tuning": row("fine-tuning", noise, fresh),
        "lwf": row("lwf", noise, fresh),
        "noise": row("replay", noise, fresh),
        "deep-dream": row("replay", dream, first),
        "deep-inversion": row("replay", inversion, first),
        "adi": row("replay", adi, adaptive),
        "abd, deep-inversion": replace(abd, application=replace(RECIPES["abd"], feature_weight=features, **learn)),
        "oracle distillation": row("replay", None, replace(fresh, batch_size=show)),
    }


COLUMNS = ("old classes", "new classes", "seconds", "images synthesized", "real images seen", "new images seen")
"""real images seen are those of old classes"""

INVERSION = replace(DeepInversionConfig(), batch_size=256, steps=(150,))

MNIST_CONTINUAL = Benchmark(
    title="MNIST, a network that knows 0-4 learns 5-9",
    data="mnist:0-4",
    teacher="convnet_mnist",
    student="convnet_mnist",
    training=TrainingConfig(),
    rows=rows({"steps": 600, "lr": 5e-3}, 64, INVERSION, 2, features=0.5),
    extensions=(("mnist:5-9", "mnist"),),
    columns=COLUMNS,
    evaluation_interval=20.0,
)

MNIST_SEQUENCE = Benchmark(
    title="MNIST in five tasks of two classes",
    data="mnist:0-1",
    teacher="convnet_mnist",
    student="convnet_mnist",
    training=TrainingConfig(),
    rows=rows({"steps": 600, "lr": 5e-3}, 64, INVERSION, 2, features=0.5),
    extensions=tuple((f"mnist:{first}-{first + 1}", f"mnist:0-{first + 1}") for first in (2, 4, 6, 8)),
    columns=("after each task", *COLUMNS),
    evaluation_interval=20.0,
)

CIFAR10_CONTINUAL = Benchmark(
    title="CIFAR-10, a thin ResNet-10 that knows its first five classes learns the others",
    data="cifar10:0-4",
    teacher="resnet10_cifar_w16",
    student="resnet10_cifar_w16",
    training=TrainingConfig(steps=2500, augment=Augmentation(shift=4, flip=True)),
    rows=rows(
        {"steps": 600, "lr": 4e-3},
        64,
        replace(INVERSION, lr=0.1, flip=True, statistics=1.0, spectrum="natural"),
        4,
    ),
    extensions=(("cifar10:5-9", "cifar10"),),
    columns=COLUMNS,
    evaluation_interval=60.0,
)
"""at the size at which a processor is patient"""

CIFAR10_CONTINUAL_RESNET18 = replace(
    CIFAR10_CONTINUAL,
    title="CIFAR-10, a ResNet-18 that knows its first five classes learns the others",
    teacher="resnet18_cifar",
    student="resnet18_cifar",
    training=replace(CIFAR10_CONTINUAL.training, steps=6000, lr=2e-3),
    rows=rows({"steps": 3000, "lr": 1e-3}, 128, replace(DeepInversionConfig(), flip=True), 8),
)
"""the network of the papers, which wants an accelerator"""
