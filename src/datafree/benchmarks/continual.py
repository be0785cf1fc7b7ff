"""The tables of continual learning: MNIST and CIFAR-10 in two halves, and MNIST in five tasks of two classes."""

from collections.abc import Mapping
from dataclasses import replace

from datafree.applications.continual import RECIPES
from datafree.benchmarks.sources import CIFAR10_AUGMENTATION, image_sources
from datafree.benchmarks.table import Benchmark, Row
from datafree.methods.deep_inversion import DeepInversionConfig
from datafree.runs.training import TrainingConfig
from datafree.synthesis import Method, Schedule

COLUMNS = ("old_classes", "new_classes", "seconds", "images_synthesized", "real_images_seen", "new_class_images_seen")
"""`real_images_seen` counts images of old classes"""

INVERSION = replace(DeepInversionConfig(), batch_size=256, steps=(150,))


def continual_rows(
    settings: Mapping[str, float],
    batch_size: int,
    inversion: DeepInversionConfig,
    warmup_batches: int,
    feature_weight: float = 0.1,
) -> dict[str, Row]:
    """Return the floors without images of old classes, synthesized images by method and recipe, and the ceiling.

    Args:
        settings: Settings of all applications.
        batch_size: Images of old classes per step, and of new ones.
        inversion: The settings of DeepInversion; DeepDream and ADI differ in the weight of one term.
        warmup_batches: Number of synthesized batches.
        feature_weight: Weight of the feature distillation of the recipe `abd`.
    """
    schedule = Schedule(
        warmup_batches=warmup_batches, refresh_every=0, pool_batches=warmup_batches, batch_size=batch_size
    )
    half = warmup_batches // 2
    adaptive_schedule = replace(schedule, warmup_batches=half, refresh_every=int(settings["steps"]) // (half + 1))
    sources = image_sources(inversion, schedule)

    def row(recipe: str, source: tuple[Method | None, Schedule], **changes: float) -> Row:
        method, schedule = source
        application = replace(RECIPES[recipe], new_batch_size=batch_size, **settings, **changes)  # type: ignore[arg-type]
        return Row(method=method, schedule=schedule, application=application)

    return {
        "fine-tuning": row("fine-tuning", sources["noise"]),
        "lwf": row("lwf", sources["noise"]),
        "noise": row("replay", sources["noise"]),
        "deep-dream": row("replay", sources["deep-dream"]),
        "deep-inversion": row("replay", sources["deep-inversion"]),
        "adi": row("replay", (replace(inversion, compete=10.0), adaptive_schedule)),
        "abd, deep-inversion": row("abd", sources["deep-inversion"], feature_weight=feature_weight),
        "oracle distillation": row("replay", sources["real images"]),
    }


MNIST_CONTINUAL = Benchmark(
    title="MNIST, a network that knows 0-4 learns 5-9",
    data="mnist:0-4",
    teacher="convnet_mnist",
    student="convnet_mnist",
    training=TrainingConfig(),
    rows=continual_rows({"steps": 600, "lr": 5e-3}, 64, INVERSION, 2, feature_weight=0.5),
    extensions=(("mnist:5-9", "mnist"),),
    columns=COLUMNS,
    evaluation_interval=20.0,
)

MNIST_SEQUENCE = replace(
    MNIST_CONTINUAL,
    title="MNIST in five tasks of two classes",
    data="mnist:0-1",
    extensions=tuple((f"mnist:{first}-{first + 1}", f"mnist:0-{first + 1}") for first in (2, 4, 6, 8)),
    columns=("after_each_task", *COLUMNS),
)

CIFAR10_CONTINUAL = Benchmark(
    title="CIFAR-10, a thin ResNet-10 that knows its first five classes learns the others",
    data="cifar10:0-4",
    teacher="resnet10_cifar_w16",
    student="resnet10_cifar_w16",
    training=TrainingConfig(steps=2500, augment=CIFAR10_AUGMENTATION),
    rows=continual_rows(
        {"steps": 600, "lr": 4e-3},
        64,
        replace(INVERSION, lr=0.1, flip=True, statistics=1.0, start="natural"),
        4,
    ),
    extensions=(("cifar10:5-9", "cifar10"),),
    columns=COLUMNS,
    evaluation_interval=60.0,
)
"""small enough for a CPU"""

CIFAR10_CONTINUAL_RESNET18 = replace(
    CIFAR10_CONTINUAL,
    title="CIFAR-10, a ResNet-18 that knows its first five classes learns the others",
    teacher="resnet18_cifar",
    student="resnet18_cifar",
    training=replace(CIFAR10_CONTINUAL.training, steps=6000, lr=2e-3),
    rows=continual_rows({"steps": 3000, "lr": 1e-3}, 128, replace(DeepInversionConfig(), flip=True), 8),
)
"""the network of the papers; needs an accelerator"""
