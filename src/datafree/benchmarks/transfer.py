"""The tables of transfer: students of the teacher's family and of others, on the same images for each teacher and seed."""

from dataclasses import replace
from typing import Any

from datafree.applications.distillation import DistillationConfig
from datafree.benchmarks.sources import CIFAR10_AUGMENTATION
from datafree.benchmarks.table import Benchmark, Row
from datafree.methods import METHODS
from datafree.methods.deep_inversion import DeepInversionConfig
from datafree.runs.training import TrainingConfig
from datafree.synthesis import Schedule
from datafree.synthesis.augmentation import Augmentation

PAIRS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "same network": ("convnet_w64", {"student": "convnet_w64"}, {"steps": 600, "lr": 5e-3}),
    "narrower": ("convnet_w64", {"student": "convnet_w16"}, {"steps": 600, "lr": 5e-3}),
    "plain to ResNet": ("convnet_w64", {"student": "resnet_w16"}, {"steps": 600, "lr": 1e-2}),
    "plain to EfficientNet": ("convnet_w64", {"student": "test_efficientnet"}, {"steps": 800, "lr": 1e-2}),
    "ResNet to plain": ("resnet_w16", {"student": "convnet_w16"}, {"steps": 600, "lr": 5e-3}),
    "ResNet to EfficientNet": ("resnet_w16", {"student": "test_efficientnet"}, {"steps": 800, "lr": 1e-2}),
    "plain to ViT": (
        "convnet_w64",
        {"student": "test_vit", "student_args": ("depth=3", "patch_size=2")},
        {"steps": 2400, "lr": 3e-3},
    ),
}
"""teacher, student and training of each pair; plain: without skip connections, as VGG. Tuned on the training split"""


def digits_rows() -> dict[str, Row]:
    """Return each pair on synthesized images, and its ceiling."""
    inversion = DeepInversionConfig(batch_size=512, steps=(110,), jitter=1)
    schedule = Schedule(warmup_batches=4, refresh_every=0, pool_batches=4, batch_size=64)
    rows = {}
    for pair, (teacher, task, training) in PAIRS.items():
        application = DistillationConfig(**training, augment=Augmentation(shift=0.7, rotate=8, mix=0.5))
        synthesized = Row(method=inversion, schedule=schedule, application=application, task=task, teacher=teacher)
        rows[pair] = synthesized
        rows[f"{pair}, real images"] = replace(synthesized, method=None, schedule=Schedule(batch_size=64))
    return rows


TRANSFER = Benchmark(
    title="scikit-learn's digits, DeepInversion: pairs of networks of the same and of different families",
    data="digits",
    teacher="convnet_w64",
    student="convnet_w16",
    training=TrainingConfig(),
    rows=digits_rows(),
    columns=("teacher", "parameters", "seconds", "images_synthesized", "real_images_seen"),
)


def cifar10_row(teacher: str, student: str, published: str = "", lr: float = 2e-3) -> Row:
    """Return Adaptive DeepInversion with the paper's settings for CIFAR-10, for one pair of networks."""
    return Row(
        method=METHODS["adi"],
        schedule=Schedule(warmup_batches=8, refresh_every=400, pool_batches=256, batch_size=256),
        application=DistillationConfig(steps=100_000, lr=lr, temperature=3.0, augment=CIFAR10_AUGMENTATION),
        task={"student": student},
        teacher=teacher,
        published=published,
    )


CIFAR10_TRANSFER = Benchmark(
    title="CIFAR-10, Adaptive DeepInversion: pairs of networks of the same and of different families",
    data="cifar10",
    teacher="resnet34_cifar",
    student="resnet18_cifar",
    training=TrainingConfig(steps=40_000, batch_size=256, lr=4e-3, weight_decay=5e-2, augment=CIFAR10_AUGMENTATION),
    rows={
        "ResNet-34 to ResNet-18": cifar10_row("resnet34_cifar", "resnet18_cifar", "93.26 (DeepInversion)"),
        "VGG-11 to ResNet-18": cifar10_row("vgg11_bn_cifar", "resnet18_cifar", "90.36 (DeepInversion)"),
        "ResNet-34 to MobileNet": cifar10_row("resnet34_cifar", "mobilenetv2_100"),
        "ResNet-18 to ViT": cifar10_row("resnet18_cifar", "vit_tiny_patch16_224", lr=1e-3),
    },
)
