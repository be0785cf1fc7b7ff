"""The tables of amalgamation: two teachers with half of the labels each, and one student with all of them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

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

COLUMNS = ("parameters", "routing_accuracy", "seconds", "images_synthesized", "real_images_seen")


def amalgamation_rows(
    inversion: DeepInversionConfig,
    stack: GroupStackConfig,
    steps: int,
    batches: int,
    gates: Sequence[str] = get_args(Gate),
) -> dict[str, Row]:
    """Return the rows: the ensemble distilled on several kinds of images, Dual-GAN and its ablations, and the references.

    Args:
        inversion: The settings of DeepInversion, on one teacher at a time.
        stack: The settings of the group-stack generator.
        steps: Training steps of every student.
        batches: Number of batches of DeepInversion.
        gates: The gates that the ensemble of teachers is evaluated with; one is enough if the teachers are multi-label.
    """
    distill = DistillationConfig(steps=steps, lr=4e-3, weight_decay=0.0)
    amalgamate = AmalgamationConfig(steps=steps, lr=4e-3, weight_decay=0.0)
    return (
        _distilled_rows(inversion, stack, distill, batches)
        | _dual_gan_rows(stack, amalgamate)
        | _reference_rows(distill, gates)
    )


def _distilled_rows(
    inversion: DeepInversionConfig, stack: GroupStackConfig, application: DistillationConfig, batches: int
) -> dict[str, Row]:
    """The ensemble is the teacher of an ordinary distillation."""
    warmup = Schedule(warmup_batches=batches, refresh_every=0, pool_batches=batches)
    refresh_every = 2 * application.steps // batches + 1
    adaptive = Schedule(warmup_batches=batches // 2, refresh_every=refresh_every, pool_batches=batches)
    adi = replace(inversion, compete=1.0)
    dafl = replace(METHODS["fast"], adversary=0.0, statistics=0.0)
    sources = {
        "noise": (METHODS["noise"], Schedule()),
        "dafl replayed": (dafl, dafl.schedule),
        "fast with statistics": (replace(METHODS["fast"], statistics=1.0), _generator_schedule(stack)),
        "deep-inversion": (inversion, warmup),
        "adi": (adi, adaptive),
        "group-stack": (stack, _generator_schedule(stack)),
    }
    rows = {
        f"ensemble, {name}": Row(method=method, schedule=schedule, application=application)
        for name, (method, schedule) in sources.items()
    }
    for name in ("ensemble, deep-inversion", "ensemble, adi"):
        rows[name] = replace(rows[name], task={"per_teacher": True})
    return rows


def _dual_gan_rows(stack: GroupStackConfig, application: AmalgamationConfig) -> dict[str, Row]:
    """The paper's method, and without some of its parts."""
    dual_gan = Row(method=stack, schedule=_generator_schedule(stack), application=application)
    early = replace(dual_gan, application=replace(application, branch_points=(1, 1)))
    return {
        "dual-gan": dual_gan,
        "dual-gan, generator without filters": replace(dual_gan, method=replace(stack, filters=False)),
        "dual-gan, after block 1": early,
        "dual-gan, after block 1, no dual training": replace(
            early,
            application=replace(early.application, blockwise_fraction=0.0),  # type: ignore[call-arg]
        ),
        "target-net, fast with statistics, after block 1": replace(
            early, method=replace(METHODS["fast"], statistics=1.0)
        ),
    }


def _reference_rows(application: DistillationConfig, gates: Sequence[str]) -> dict[str, Row]:
    """The ceiling, the oracle, and the teachers together and alone."""
    real = Row(method=None, schedule=Schedule(), application=application)
    return {
        "ensemble, real images": real,
        "oracle": replace(real, reference="oracle"),
        **{
            f"the teachers, {gate}" if len(gates) > 1 else "the teachers": replace(real, reference=f"ensemble {gate}")
            for gate in gates
        },
        "teacher 1, alone": replace(real, reference="teacher 1"),
        "teacher 2, alone": replace(real, reference="teacher 2"),
    }


def _generator_schedule(stack: GroupStackConfig) -> Schedule:
    return replace(stack.schedule, pool_batches=256)


INVERSION = DeepInversionConfig(batch_size=160, steps=(120,), lr=0.1, cosine=True)
STACK = GroupStackConfig(batch_size=128, statistics=5.0, reset_every=550)
"""each generator is trained for 300 steps, then synthesizes 250 batches"""

MNIST_AMALGAMATION = Benchmark(
    title="MNIST, a teacher of 0-4 and one of 5-9, amalgamated into one student",
    data="mnist",
    teacher_data=("mnist:0-4", "mnist:5-9"),
    teacher="lenet5_bn",
    student="lenet5_bn",
    training=TrainingConfig(steps=1500, augment=Augmentation(shift=2, rotate=12, scale=0.15)),
    rows=amalgamation_rows(INVERSION, STACK, 3200, 10),
    columns=COLUMNS,
    evaluation_interval=60.0,
)

MNIST_AMALGAMATION_OF_SIX = replace(
    MNIST_AMALGAMATION,
    title="MNIST, a teacher of 0-4 and one of 5-9, amalgamated into one student of six digits",
    data="mnist:0,3-5,8-9",
    labels=("0", "3", "4", "5", "8", "9"),
)

MOSAIC_AMALGAMATION = replace(
    MNIST_AMALGAMATION,
    title="Scenes of up to four MNIST digits: two multi-label teachers, of 0-4 and of 5-9, amalgamated into one student",
    data="mosaic",
    teacher_data=("mosaic:0-4", "mosaic:5-9"),
    rows=amalgamation_rows(INVERSION, STACK, 3200, 10, gates=("centred",)),
)

CIFAR10_AMALGAMATION = Benchmark(
    title="CIFAR-10, a teacher of the first five classes and one of the others, amalgamated into one student",
    data="cifar10",
    teacher_data=("cifar10:0-4", "cifar10:5-9"),
    teacher="resnet18_cifar",
    student="resnet18_cifar",
    training=TrainingConfig(steps=8000, augment=replace(TrainingConfig().augment, shift=4, rotate=0, flip=True)),
    rows=amalgamation_rows(DeepInversionConfig(flip=True), replace(STACK, latent_size=256, batch_size=256), 12000, 64),
    columns=COLUMNS,
    evaluation_interval=300.0,
)
