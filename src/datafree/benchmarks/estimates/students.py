"""The students of the table of estimates: several teachers, recipes of many kinds, two seeds and some lengths of each."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from datafree.applications.distillation import DistillationConfig
from datafree.applications.pruning import PruningConfig
from datafree.benchmarks.photographs import PHOTOGRAPHS, PHOTOGRAPHS_16
from datafree.benchmarks.photographs.recipe import UNHINTED
from datafree.benchmarks.quantization.cases import Quantization
from datafree.benchmarks.table import Benchmark
from datafree.methods import METHODS
from datafree.quantization.choosing import QuantizationConfig
from datafree.runs.serialization import serializable
from datafree.runs.training import TrainingConfig
from datafree.synthesis import Method, Schedule
from datafree.synthesis.augmentation import Augmentation

Start = Literal["random", "inherited", "pruned"]
"""first weights of a student: random ones; those of the strongest channels of its teacher; or a copy of its teacher, which is
pruned"""
Kind = Literal["distilled", "amalgamated", "quantised"]
"""what a student is: trained on the answers of one teacher or of several ones; or its teacher in integers"""
DIGITS_SHIFT, MNIST_SHIFT = Augmentation(shift=0.15), Augmentation(shift=1)


@serializable
@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a student is made: a method, how much of it, and how long the student learns."""

    method: Method
    schedule: Schedule
    application: DistillationConfig
    start: Start = field(default="random", repr=False)
    """first weights"""


@dataclass(frozen=True, kw_only=True)
class Family:
    """A teacher, and the recipes of its students."""

    network: str
    data: str
    """real images that the teacher is trained on and that students are evaluated on"""
    student: str
    """network of the students"""
    training: TrainingConfig
    recipes: Mapping[str, Recipe]
    input: tuple[int, ...] = ()
    """channels, height and width of the images, if they are not those of the network"""
    lengths: tuple[float, ...] = (0.125, 0.25, 0.5, 1.0)
    """fractions of the steps after which a student is saved; the last is 1"""
    quantizations: Mapping[str, Quantization] = field(default_factory=dict)
    """further students: the teacher itself in integers"""
    parts: tuple[str, ...] = ()
    """real images of each teacher, if there are several: each knows some of the classes, and the student all"""
    table: Benchmark | None = None
    """table whose rows are the recipes, and whose teacher is the teacher"""
    table_name: str = ""
    """name of that table; its finished runs in `bench-NAME` beside the folder of the students are not repeated"""

    def method_of(self, recipe: str) -> Method | None:
        """Return how the images were synthesized that a student was made with."""
        return (self.quantizations.get(recipe) or self.recipes[recipe]).method

    def kind_of(self, recipe: str) -> Kind:
        """Return what a student is."""
        if recipe in self.quantizations:
            return "quantised"
        return "amalgamated" if self.parts else "distilled"


def of_table(name: str, table: Benchmark, rows: tuple[str, ...]) -> Family:
    """Return the students of some rows of a table.

    Args:
        name: The name of the table.
        table: The table.
        rows: Rows of distillation on synthesized images.
    """
    recipes: dict[str, Recipe] = {}
    for row in rows:
        method, application = table.rows[row].method, table.rows[row].application
        assert method is not None, "rows on real images have no family"
        assert isinstance(application, DistillationConfig)
        recipes[row] = Recipe(method=method, schedule=table.rows[row].schedule, application=application)
    return Family(
        network=table.teacher,
        data=table.data,
        input=table.input,
        student=table.student,
        training=table.training,
        recipes=recipes,
        lengths=(1.0,),
        table=table,
        table_name=name,
    )


def stored(batches: int, batch_size: int = 64) -> Schedule:
    """Return a schedule that synthesizes all batches before the student starts."""
    return Schedule(warmup_batches=batches, refresh_every=0, pool_batches=batches, batch_size=batch_size)


def learn(steps: int, lr: float = 5e-3, **settings: Any) -> DistillationConfig:
    """Return how a student learns."""
    return DistillationConfig(steps=steps, lr=lr, **settings)


def inversion(name: str, steps: int, batch_size: int = 256, **settings: Any) -> Method:
    """Return DeepDream, DeepInversion, ADI or `refine` with few descent steps."""
    return replace(METHODS[name], batch_size=batch_size, steps=(steps,), **settings)  # type: ignore[type-var]


def noise(steps: int, augment: Augmentation) -> Recipe:
    """Return a student of noise: the floor."""
    method = replace(METHODS["noise"], batch_size=64)
    return Recipe(method=method, schedule=Schedule(batch_size=64), application=learn(steps, augment=augment))


def procedural(steps: int, warmup_batches: int = 16, pictures: int = 256) -> Recipe:
    """Return a student of procedural pictures, with the augmentation of the method."""
    method = replace(METHODS["procedural"], batch_size=pictures)
    schedule = replace(method.schedule, batch_size=64, warmup_batches=warmup_batches)
    settings = dict(method.distillation)
    return Recipe(method=method, schedule=schedule, application=learn(steps, **settings))


def zskd(steps: int, batches: int, batch_size: int, augment: Augmentation, lr: float = 5e-3) -> Recipe:
    """Return a student of data impressions."""
    application = learn(steps, lr, temperature=20.0, augment=augment)
    return Recipe(method=METHODS["zskd"], schedule=stored(batches, batch_size), application=application)


def fast(steps: int, lr: float = 8e-3, **settings: Any) -> Recipe:
    """Return a student of the re-initialised generator; `adversary=0` leaves the student out of it."""
    method = replace(METHODS["fast"], **settings)
    return Recipe(method=method, schedule=method.schedule, application=learn(steps, lr, weight_decay=0.0))


def dafl(steps: int, batch_size: int, lr: float = 5e-3) -> Recipe:
    """Return a student of one generator that is trained alternately with it."""
    method = replace(
        METHODS["dafl"], generator="subpixel", lr=0.02, batch_size=batch_size, student_batch_size=batch_size
    )
    return Recipe(method=method, schedule=Schedule(refresh_every=2), application=learn(steps, lr, weight_decay=0.0))


def inverted(name: str, descent: int, batches: int, steps: int, augment: Augmentation, **settings: Any) -> Recipe:
    """Return a student of inverted images."""
    batch_size = settings.pop("student_batch_size", 64)
    return Recipe(
        method=inversion(name, descent, **settings),
        schedule=stored(batches, batch_size),
        application=learn(steps, augment=augment),
    )


def pruned(steps: int, **settings: Any) -> Recipe:
    """Return a student that is a copy of its teacher, pruned on inverted images and recovered on them."""
    application = PruningConfig(
        steps=steps, lr=2e-3, ratio=0.5, rounds=3, importance_batches=4, augment=DIGITS_SHIFT, **settings
    )
    return Recipe(
        method=inversion("deep-inversion", 80, jitter=0), schedule=stored(2), application=application, start="pruned"
    )


def quantizations() -> dict[str, Quantization]:
    """Return the teacher in integers, calibrated on pictures that fit and on noise, which does not; without recovery."""
    return {
        f"{bits}, {name}": Quantization(
            method=METHODS[name], settings=QuantizationConfig(bits=bits, float_layers=0, recovery_steps=0)
        )
        for bits in ("w8a8", "w4a8")
        for name in ("procedural", "noise")
    }


DIGITS_ZSKD = Augmentation(shift=1, rotate=10, scale=0.1)
MNIST_ZSKD = Augmentation(shift=3, rotate=24, scale=0.25)
LENET_TRAINING = TrainingConfig(steps=700, lr=2e-3, weight_decay=0.0, augment=Augmentation())

FAMILIES: dict[str, Family] = {
    "digits, convnet": Family(
        quantizations=quantizations(),
        network="convnet_w64",
        data="digits",
        student="convnet_w16",
        training=TrainingConfig(),
        lengths=(0.25, 1.0),
        recipes={
            "noise": noise(300, DIGITS_SHIFT),
            "procedural": procedural(600),
            "deep-inversion": inverted("deep-inversion", 80, 2, 800, DIGITS_SHIFT, jitter=0),
            "zskd": zskd(500, 5, 64, DIGITS_ZSKD),
            "fast": fast(800),
            "inherited, procedural": replace(procedural(300), start="inherited"),
            "pruned, deep-inversion": pruned(200),
        },
    ),
    "digits, resnet": Family(
        quantizations=quantizations(),
        network="resnet_w16",
        data="digits",
        student="convnet_w16",
        training=TrainingConfig(steps=400),
        lengths=(0.25, 1.0),
        recipes={
            "procedural": procedural(500),
            "deep-inversion": inverted("deep-inversion", 60, 2, 700, DIGITS_SHIFT, jitter=0),
            "deep-dream": inverted("deep-dream", 40, 2, 400, DIGITS_SHIFT, jitter=0),
            "refine": inverted("refine", 40, 2, 700, DIGITS_SHIFT, jitter=0),
        },
    ),
    "digits 32x32, lenet": Family(
        quantizations=quantizations(),
        network="lenet5",
        data="digits",
        input=(1, 32, 32),
        student="lenet5_half",
        training=replace(LENET_TRAINING, steps=800, augment=Augmentation(shift=2, rotate=8, scale=0.1)),
        recipes={
            "procedural": procedural(600, 4, 128),
            "zskd": zskd(700, 5, 64, MNIST_ZSKD),
            "fast": fast(600),
        },
    ),
    "mnist, lenet": Family(
        quantizations=quantizations(),
        network="lenet5",
        data="mnist",
        student="lenet5_half",
        training=LENET_TRAINING,
        recipes={
            "dafl": dafl(400, 128, 4e-3),
            "zskd": zskd(700, 6, 64, MNIST_ZSKD, 8e-3),
            "fast": fast(900),
        },
    ),
    "mnist 8x8, convnet": Family(
        network="convnet_w16",
        data="mnist",
        student="convnet_w16",
        input=(1, 8, 8),
        training=TrainingConfig(steps=400),
        recipes={
            "refine": inverted("refine", 40, 2, 500, DIGITS_SHIFT, jitter=0),
            "deep-dream": inverted("deep-dream", 60, 2, 400, DIGITS_SHIFT, jitter=0),
            "fast": fast(400),
        },
    ),
    "mnist, lenet with batch norm": Family(
        quantizations=quantizations(),
        network="lenet5_bn",
        data="mnist",
        student="lenet5_half",
        training=LENET_TRAINING,
        recipes={
            "procedural": procedural(500, 4, 128),
            "deep-inversion": inverted("deep-inversion", 60, 2, 600, MNIST_SHIFT),
            "fast": fast(600),
        },
    ),
    "two teachers of digits, convnet": Family(
        network="convnet_w64",
        data="digits",
        student="convnet_w16",
        training=TrainingConfig(),
        parts=("digits:0-4", "digits:5-9"),
        recipes={
            "procedural": procedural(600),
            "deep-inversion": inverted("deep-inversion", 80, 2, 800, DIGITS_SHIFT, jitter=0),
            "fast": fast(800),
        },
    ),
    "cifar10 16x16, resnet": of_table("photographs-16", PHOTOGRAPHS_16, ("procedural", UNHINTED)),
    "cifar10, resnet": of_table("photographs", PHOTOGRAPHS, ("procedural", UNHINTED)),
}
"""the teachers, each with the recipes of its students"""
