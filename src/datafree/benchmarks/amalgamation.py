"""The tables of amalgamation: two teachers of half of the labels each, one student of all of them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, get_args

from datafree.applications.amalgamation import AmalgamationConfig
from datafree.applications.distillation import DistillationConfig
from datafree.benchmarks.table import Benchmark, Row
from datafree.ensemble import Gate
from datafree.methods import METHODS
from datafree.methods.deep_inversion import DeepInversionConfig
from datafree.methods.group_stack import GroupStackConfig
from datafree.runs.training import TrainingConfig
from datafree.synthesis import Schedule
from datafree.synthesis.augmentation import Augmentation

COLUMNS = ("parameters", "right teacher", "seconds", "images synthesized", "real images seen")


def rows(
    inversion: DeepInversionConfig,
    stack: GroupStackConfig,
    steps: int,
    batches: int,
    gates: Sequence[str] = get_args(Gate),
) -> dict[str, Row]:
    """Committees distilled with the library's methods, Dual-GAN with and without its parts, floors and ceilings.

    Args:
        inversion: How images are made from each teacher by itself.
        stack: How the group-stack generator learns.
        steps: Of every student.
        batches: Of inverted images.
        gates: By which the teachers are judged as a ensemble; any one, where labels are questions of their own.
    """
    learn = DistillationConfig(steps=steps, lr=4e-3, weight_decay=0.0)
    first = Schedule(warmup_batches=batches, refresh_every=0, pool_batches=batches)
    often = Schedule(warmup_batches=batches // 2, refresh_every=2 * steps // batches + 1, pool_batches=batches)
    apart: dict[str, Any] = {"per_teacher": True}
    adaptive = replace(inversion, compete=1.0)
    dafl, made = replace(METHODS["fast"], adversary=0.0), replace(stack.schedule, pool_batches=256)
    whole = AmalgamationConfig(steps=steps, lr=4e-3, weight_decay=0.0)
    early = replace(whole, branch_points=(1, 1))
    matched = replace(METHODS["fast"], statistics=1.0)
    real = Row(method=None, schedule=Schedule(), application=learn)
    return {
        "ensemble, noise": Row(method=METHODS["noise"], schedule=Schedule(), application=learn),
        "ensemble, dafl replayed": Row(method=dafl, schedule=dafl.schedule, application=learn),
        "ensemble, fast with statistics": Row(method=matched, schedule=made, application=learn),
        "ensemble, deep-inversion": Row(method=inversion, schedule=first, application=learn, task=apart),
        "ensemble, adi": Row(method=adaptive, schedule=often, application=learn, task=apart),
        "ensemble, group-stack": Row(method=stack, schedule=made, application=learn),
        "dual-gan": Row(method=stack, schedule=made, application=whole),
        "dual-gan, generator without filters": Row(
            method=replace(stack, filters=False), schedule=made, application=whole
        ),
        "dual-gan, after block 1": Row(method=stack, schedule=made, application=early),
        "dual-gan, after block 1, no dual training": Row(
            method=stack, schedule=made, application=replace(early, blockwise_fraction=0.0)
        ),
        "target-net, fast with statistics, after block 1": Row(method=matched, schedule=made, application=early),
        "ensemble, real images": real,
        "oracle": replace(real, known="oracle"),
        **{
            f"the teachers, {gate}" if len(gates) > 1 else "the teachers": replace(real, known=f"ensemble {gate}")
            for gate in gates
        },
        "teacher 1, alone": replace(real, known="teacher 1"),
        "teacher 2, alone": replace(real, known="teacher 2"),
    }


INVERSION = DeepInversionConfig(batch_size=160, steps=(120,), lr=0.1, cosine=True)
STACK = GroupStackConfig(batch_size=128, statistics=5.0, reset_every=250)

MNIST_AMALGAMATION = Benchmark(
    title="MNIST, a teacher of 0-4 and one of 5-9 become one student",
    data="mnist",
    members=("mnist:0-4", "mnist:5-9"),
    teacher="lenet5_bn",
    student="lenet5_bn",
    training=TrainingConfig(steps=1500, augment=Augmentation(shift=2, rotate=12, scale=0.15)),
    rows=rows(INVERSION, STACK, 3200, 10),
    columns=COLUMNS,
    evaluation_interval=60.0,
)

MNIST_AMALGAMATION_OF_SIX = replace(
    MNIST_AMALGAMATION,
    title="MNIST, of a teacher of 0-4 and one of 5-9 six digits are wanted",
    data="mnist:0,3-5,8-9",
    labels=("0", "3", "4", "5", "8", "9"),
)

MOSAIC_AMALGAMATION = replace(
    MNIST_AMALGAMATION,
    title="Scenes of up to four digits: which of 0-4, which of 5-9, by two teachers of several labels",
    data="mosaic",
    members=("mosaic:0-4", "mosaic:5-9"),
    rows=rows(INVERSION, STACK, 3200, 10, gates=("centred",)),
)

CIFAR10_AMALGAMATION = Benchmark(
    title="CIFAR-10, a teacher of the first five classes and one of the others become one student",
    data="cifar10",
    members=("cifar10:0-4", "cifar10:5-9"),
    teacher="resnet18_cifar",
    student="resnet18_cifar",
    training=TrainingConfig(steps=8000, augment=replace(TrainingConfig().augment, shift=4, rotate=0, flip=True)),
    rows=rows(DeepInversionConfig(flip=True), replace(STACK, latent_size=256, batch_size=256), 12000, 64),
    columns=COLUMNS,
    evaluation_interval=300.0,
)
