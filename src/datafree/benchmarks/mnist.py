"""The tables of MNIST on LeNet-5, the pair of networks that DAFL and ZSKD report, and the ablation of DAFL's losses."""

from dataclasses import replace

from datafree.applications.distillation import DistillationConfig
from datafree.benchmarks.table import Benchmark, Row
from datafree.methods import METHODS
from datafree.methods.deep_inversion import DeepInversionConfig
from datafree.runs.training import TrainingConfig
from datafree.synthesis import Schedule
from datafree.synthesis.augmentation import Augmentation

LENET_TRAINING = TrainingConfig(steps=2800, lr=2e-3, weight_decay=0.0, augment=Augmentation())


def _measured() -> dict[str, Row]:
    """DeepInversion of a network without batch norm, by how many real images its statistics come from."""
    dream = replace(METHODS["deep-dream"], batch_size=256, steps=(200,))
    first = Schedule(warmup_batches=8, refresh_every=0, pool_batches=8)
    learn = DistillationConfig(steps=3000, lr=4e-3, augment=Augmentation(shift=1))
    plain = Row(method=dream, schedule=first, application=learn)
    helped = replace(plain, method=replace(dream, statistics=DeepInversionConfig().statistics))
    return {
        "deep-dream": plain,
        **{f"deep-inversion, {images} images": replace(helped, measured=images) for images in (10, 100, 1000)},
        "real images": replace(plain, method=None, schedule=Schedule()),
    }


def _ablation() -> dict[str, Row]:
    """Each subset of the three losses, as in the ablation of the paper."""
    losses = ("onehot", "entropy", "activation")
    whole = replace(METHODS["fast"], adversary=0.0)
    rows = {}
    for kept in range(8):
        left_out = {name: 0.0 for bit, name in enumerate(losses) if not kept >> bit & 1}
        name = " + ".join(name for name in losses if name not in left_out) or "none"
        application = DistillationConfig(steps=3000, lr=8e-3, weight_decay=0.0)
        rows[name] = Row(method=replace(whole, **left_out), schedule=whole.schedule, application=application)
    return rows


MNIST = Benchmark(
    title="MNIST, LeNet-5 to LeNet-5-half",
    data="mnist",
    teacher="lenet5",
    student="lenet5_half",
    training=LENET_TRAINING,
    rows={
        "noise": Row(
            method=replace(METHODS["noise"], batch_size=128),
            schedule=Schedule(),
            application=DistillationConfig(steps=3000, lr=4e-3),
            published="88.01 (DAFL)",
        ),
        "deep-dream": Row(
            method=replace(METHODS["deep-dream"], batch_size=256, steps=(200,)),
            schedule=Schedule(warmup_batches=8, refresh_every=0, pool_batches=8),
            application=DistillationConfig(steps=3000, lr=4e-3, augment=Augmentation(shift=1)),
        ),
        "dafl, replayed": Row(
            method=replace(METHODS["fast"], adversary=0.0),
            schedule=METHODS["fast"].schedule,
            application=DistillationConfig(steps=8000, lr=8e-3, weight_decay=0.0),
            published="98.20 (DAFL)",
        ),
        "dafl": Row(
            method=replace(METHODS["dafl"], generator="subpixel", lr=0.02, batch_size=256, student_batch_size=512),
            schedule=Schedule(refresh_every=4),
            application=DistillationConfig(steps=10000, lr=4e-3, weight_decay=0.0),
            published="98.20 (DAFL)",
        ),
        "dafl, inherited": Row(
            method=replace(METHODS["dafl"], generator="subpixel", lr=0.02, batch_size=256, student_batch_size=512),
            schedule=Schedule(refresh_every=4),
            application=DistillationConfig(steps=4000, lr=4e-3, weight_decay=0.0),
            task={"inherit": True},
        ),
        "zskd": Row(
            method=METHODS["zskd"],
            schedule=METHODS["zskd"].schedule,
            application=DistillationConfig(
                steps=8000,
                lr=8e-3,
                weight_decay=0.0,
                temperature=20.0,
                augment=Augmentation(shift=3, rotate=24, scale=0.25),
            ),
            published="98.77 from a teacher of 99.34 (ZSKD)",
        ),
        "zskd, inherited": Row(
            method=METHODS["zskd"],
            schedule=METHODS["zskd"].schedule,
            application=DistillationConfig(
                steps=3000,
                lr=4e-3,
                weight_decay=0.0,
                temperature=20.0,
                augment=Augmentation(shift=3, rotate=24, scale=0.25),
            ),
            task={"inherit": True},
        ),
        "fast": Row(
            method=METHODS["fast"],
            schedule=METHODS["fast"].schedule,
            application=DistillationConfig(steps=8000, lr=8e-3, weight_decay=0.0),
        ),
        "fast, inherited": Row(
            method=METHODS["fast"],
            schedule=METHODS["fast"].schedule,
            application=DistillationConfig(steps=9000, lr=4e-3, weight_decay=0.0),
            task={"inherit": True},
        ),
        "real images": Row(
            method=None,
            schedule=Schedule(),
            application=DistillationConfig(steps=4000, lr=4e-3),
            published="98.91 (DAFL)",
        ),
    },
)

MEASURED = replace(
    MNIST,
    title="MNIST, LeNet-5 without batch norm to LeNet-5-half: statistics measured on a few real images",
    rows=_measured(),
    columns=("seconds", "images synthesized", "real images measured", "real images seen"),
)

ABLATION = Benchmark(
    title="MNIST, LeNet-5 to LeNet-5-half: each subset of DAFL's losses, images replayed",
    data="mnist",
    teacher="lenet5",
    student="lenet5_half",
    training=LENET_TRAINING,
    rows=_ablation(),
)
