"""The tables of MNIST on LeNet-5, the networks of DAFL and ZSKD, and the ablation of DAFL's losses."""

from dataclasses import replace
from itertools import product

from datafree.applications.distillation import DistillationConfig
from datafree.benchmarks.photographs.recipe import AUTO, HINTED, HINTED_CEILING, drawn, hinted, mixture
from datafree.benchmarks.table import Benchmark, Row
from datafree.methods import METHODS
from datafree.methods.deep_inversion import DeepInversionConfig
from datafree.runs.planning.auto import refinement
from datafree.runs.training import TrainingConfig
from datafree.synthesis import Schedule
from datafree.synthesis.augmentation import Augmentation

LENET_TRAINING = TrainingConfig(steps=2800, lr=2e-3, weight_decay=0.0, augment=Augmentation())
DEEP_DREAM = Row(
    method=replace(METHODS["deep-dream"], batch_size=256, steps=(200,)),
    schedule=Schedule(warmup_batches=8, refresh_every=0, pool_batches=8),
    application=DistillationConfig(steps=3000, lr=4e-3, augment=Augmentation(shift=1)),
)


def generator_application(steps: int, lr: float = 8e-3) -> DistillationConfig:
    """Return how a student is trained on the images of a generator."""
    return DistillationConfig(steps=steps, lr=lr, weight_decay=0.0)


def zskd_application(steps: int, lr: float) -> DistillationConfig:
    """Return how a student is trained on data impressions: with the paper's temperature and strong augmentation."""
    augmentation = Augmentation(shift=3, rotate=24, scale=0.25)
    return replace(generator_application(steps, lr), temperature=20.0, augment=augmentation)


def mnist_rows() -> dict[str, Row]:
    """Return the floor, the methods with and without inherited layers, and the ceiling."""
    noise, dafl, zskd, fast = (METHODS[name] for name in ("noise", "dafl", "zskd", "fast"))
    dafl = replace(dafl, generator="subpixel", lr=0.02, batch_size=256, student_batch_size=512)
    dafl_schedule, inherited = Schedule(refresh_every=4), {"inherit": True}
    ceiling = Row(method=None, schedule=Schedule(), application=DistillationConfig(steps=4000, lr=4e-3))
    return {
        "noise": Row(
            method=replace(noise, batch_size=128),
            schedule=Schedule(),
            application=DistillationConfig(steps=3000, lr=4e-3),
            published="88.01 (DAFL)",
        ),
        "deep-dream": DEEP_DREAM,
        "dafl, replayed": Row(
            method=replace(fast, adversary=0.0),
            schedule=fast.schedule,
            application=generator_application(8000),
            published="98.20 (DAFL)",
        ),
        "dafl": Row(
            method=dafl,
            schedule=dafl_schedule,
            application=generator_application(10000, lr=4e-3),
            published="98.20 (DAFL)",
        ),
        "dafl, inherited": Row(
            method=dafl, schedule=dafl_schedule, application=generator_application(4000, lr=4e-3), task=inherited
        ),
        "zskd": Row(
            method=zskd,
            schedule=zskd.schedule,
            application=zskd_application(8000, lr=8e-3),
            published="98.77 from a teacher of 99.34 (ZSKD)",
        ),
        "zskd, inherited": Row(
            method=zskd, schedule=zskd.schedule, application=zskd_application(3000, lr=4e-3), task=inherited
        ),
        "fast": Row(method=fast, schedule=fast.schedule, application=generator_application(8000)),
        **drawn_rows(),
        "fast, inherited": Row(
            method=fast, schedule=fast.schedule, application=generator_application(9000, lr=4e-3), task=inherited
        ),
        "real images": replace(ceiling, published="98.91 (DAFL)"),
        HINTED_CEILING: hinted(ceiling),
    }


def drawn_rows() -> dict[str, Row]:
    """Return procedural pictures, and what `auto` makes of them for a teacher without batch norm."""
    procedural = METHODS["procedural"]
    application = DistillationConfig(steps=8000, lr=4e-3, **procedural.distillation)
    recipe = mixture(refinement((1, 28, 28)), 8, 128)
    auto = Row(method=recipe, schedule=Schedule(batch_size=128), application=application)
    return {
        "procedural": Row(method=procedural, schedule=drawn(128), application=application),
        AUTO: auto,
        HINTED: hinted(auto),
    }


def measured_rows() -> dict[str, Row]:
    """Return DeepInversion of a network without batch norm, by the number of real images for the feature statistics."""
    inversion = replace(DEEP_DREAM.method, statistics=DeepInversionConfig().statistics)  # type: ignore[type-var, call-arg]
    return {
        "deep-dream": DEEP_DREAM,
        **{
            f"deep-inversion, {images} images": replace(DEEP_DREAM, method=inversion, measured_images=images)
            for images in (10, 100, 1000)
        },
        "real images": replace(DEEP_DREAM, method=None, schedule=Schedule()),
    }


def ablation_rows() -> dict[str, Row]:
    """Return one row for each subset of DAFL's three losses, as in the ablation of the paper."""
    losses, dafl = ("one_hot", "entropy", "activation"), replace(METHODS["fast"], adversary=0.0, statistics=0.0)
    rows = {}
    for activation, entropy, one_hot in product((False, True), repeat=3):
        used = dict(zip(losses, (one_hot, entropy, activation), strict=True))
        name = " + ".join(loss.replace("_", "-") for loss in losses if used[loss]) or "none"
        method = replace(dafl, **{loss: 0.0 for loss in losses if not used[loss]})
        rows[name] = Row(method=method, schedule=dafl.schedule, application=generator_application(3000))
    return rows


MNIST = Benchmark(
    title="MNIST, LeNet-5 to LeNet-5-half",
    data="mnist",
    teacher="lenet5",
    student="lenet5_half",
    training=LENET_TRAINING,
    rows=mnist_rows(),
)

DRAWN = replace(
    MNIST,
    title="MNIST, LeNet-5 to LeNet-5-half: pictures drawn by program beside a generator, with floor and ceiling",
    rows={
        name: MNIST.rows[name] for name in ("noise", "fast", "procedural", AUTO, HINTED, "real images", HINTED_CEILING)
    },
)

MEASURED = replace(
    MNIST,
    title="MNIST, LeNet-5 without batch norm to LeNet-5-half: feature statistics measured on a few real images",
    rows=measured_rows(),
    columns=("seconds", "images_synthesized", "real_images_measured", "real_images_seen"),
)

ABLATION = Benchmark(
    title="MNIST, LeNet-5 to LeNet-5-half: each subset of DAFL's losses, with image replay",
    data="mnist",
    teacher="lenet5",
    student="lenet5_half",
    training=LENET_TRAINING,
    rows=ablation_rows(),
)
