"""Transfer: one teacher, students of its own family and of others, the same images for all students of a seed."""

from typing import Any

from datafree.applications.distillation import DistillationConfig
from datafree.augmentation import Augmentation
from datafree.methods import METHODS
from datafree.methods.deep_inversion import DeepInversionConfig
from datafree.synthesis import Schedule
from datafree.tables.table import Benchmark, Row
from datafree.training import TrainingConfig

STUDENTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "same network": ({"student": "convnet_w64"}, {"steps": 300, "lr": 5e-3}),
    "narrower": ({"student": "convnet_w16"}, {"steps": 300, "lr": 5e-3}),
    "ResNet": ({"student": "test_resnet"}, {"steps": 400, "lr": 1e-2}),
    "EfficientNet": ({"student": "test_efficientnet"}, {"steps": 400, "lr": 1e-2}),
    "ViT": ({"student": "test_vit", "student_args": ("depth=3", "patch_size=2")}, {"steps": 1200, "lr": 3e-3}),
}
"""what it is to the teacher: which network, how it learns; found on the training split"""


def _rows() -> dict[str, Row]:
    """Each student on synthesized images, and its ceiling."""
    dream = DeepInversionConfig(batch=512, steps=(110,), jitter=1)
    all_first = Schedule(warmup=2, every=0, keep=2, show=64)
    rows = {}
    for kind, (student, learning) in STUDENTS.items():
        application = DistillationConfig(**learning, augment=Augmentation(shift=0.15))
        rows[kind] = Row(method=dream, schedule=all_first, application=application, task=student)
        rows[f"{kind}, real images"] = Row(
            method=None, schedule=Schedule(show=64), application=application, task=student
        )
    return rows


TRANSFER = Benchmark(
    title="scikit-learn's digits, DeepInversion: from one teacher to students of other families",
    data="digits",
    teacher="convnet_w64",
    student="convnet_w16",
    training=TrainingConfig(),
    rows=_rows(),
)


def _pair(teacher: str, student: str, published: str = "", lr: float = 2e-3) -> Row:
    """Adaptive DeepInversion as its paper runs it on CIFAR-10, for one pair of networks."""
    return Row(
        method=METHODS["adi"],
        schedule=Schedule(warmup=8, every=400, keep=256, show=256),
        application=DistillationConfig(steps=100_000, lr=lr, temperature=3.0, augment=Augmentation(shift=4, flip=True)),
        task={"student": student},
        teacher=teacher,
        published=published,
    )


CIFAR10_TRANSFER = Benchmark(
    title="CIFAR-10, Adaptive DeepInversion: pairs of networks of one family and of two",
    data="cifar10",
    teacher="resnet34_cifar",
    student="resnet18_cifar",
    training=TrainingConfig(
        steps=40_000, batch=256, lr=4e-3, weight_decay=5e-2, augment=Augmentation(shift=4, flip=True)
    ),
    rows={
        "ResNet-34 to ResNet-18": _pair("resnet34_cifar", "resnet18_cifar", "93.26 (DeepInversion)"),
        "VGG-11 to ResNet-18": _pair("vgg11_bn_cifar", "resnet18_cifar", "90.36 (DeepInversion)"),
        "ResNet-34 to MobileNet": _pair("resnet34_cifar", "mobilenetv2_100"),
        "ResNet-18 to ViT": _pair("resnet18_cifar", "vit_tiny_patch16_224", lr=1e-3),
    },
)
