"""The table of scikit-learn's digits: the rows of the demo and the generators; small enough for the tests."""

from dataclasses import replace

from datafree.benchmarks.demo import STUDENT, TEACHER, demo_application, demo_sources
from datafree.benchmarks.photographs.recipe import AUTO, HINTED, HINTED_CEILING, drawn, hinted, mixture
from datafree.benchmarks.table import Benchmark, Row
from datafree.methods import METHODS
from datafree.runs.planning.auto import LEARNING_RATES, refinement
from datafree.runs.training import TrainingConfig
from datafree.synthesis import Schedule

BATCH_SIZE = 64
OTHER_TEACHERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "group norm": ("resnet_w16", ("norm=group",)),
    "layer norm": ("test_vit", ("depth=3", "patch_size=2")),
}
"""teachers without batch norm, a residual network and a vision transformer: network and arguments"""


def digits_rows() -> dict[str, Row]:
    """Return the rows of the demo, and the generators and drawn pictures on the same teacher."""
    rows = {
        name: Row(method=method, schedule=schedule, application=demo_application(1200))
        for name, (method, schedule) in demo_sources(1200).items()
    }
    ceiling = rows.pop("real images")
    dafl = replace(METHODS["dafl"], generator="subpixel", lr=0.02, batch_size=128, student_batch_size=256)
    zskd = Schedule(warmup_batches=10, refresh_every=0, pool_batches=10)
    fast = METHODS["fast"]
    return rows | {
        "dafl": Row(method=dafl, schedule=Schedule(refresh_every=2), application=demo_application(700)),
        "zskd": Row(method=METHODS["zskd"], schedule=zskd, application=demo_application(700)),
        "fast": Row(method=fast, schedule=fast.schedule, application=demo_application(2400)),
        "adi, inherited": replace(rows["adi"], task={"inherit": True}),
        **drawn_rows(),
        "real images": ceiling,
        HINTED_CEILING: hinted(ceiling),
    }


def norm_rows() -> dict[str, Row]:
    """Return floor, `fast`, drawn pictures, `auto` and ceiling for teachers without batch norm.

    The tokens of a vision transformer are no feature maps, and give no hints to a convolutional student.
    """
    rows = digits_rows()
    names = {label: ["noise", "fast", "procedural", AUTO, "real images"] for label in OTHER_TEACHERS}
    names["group norm"] += [HINTED, HINTED_CEILING]
    return {
        f"{label}: {name}": replace(rows[name], teacher=teacher, teacher_args=arguments)
        for label, (teacher, arguments) in OTHER_TEACHERS.items()
        for name in names[label]
    }


def drawn_rows() -> dict[str, Row]:
    """Return procedural pictures, and what `auto` makes of them, with their augmentation and the learning rate of `auto`."""
    procedural = METHODS["procedural"]
    lr = LEARNING_RATES["batch or group norm"]
    application = replace(demo_application(1200), lr=lr, **procedural.distillation)
    recipe = mixture(refinement((1, 8, 8)), 4, BATCH_SIZE)
    auto = Row(method=recipe, schedule=Schedule(batch_size=BATCH_SIZE), application=application)
    return {
        "procedural": Row(method=procedural, schedule=drawn(BATCH_SIZE), application=application),
        AUTO: auto,
        HINTED: hinted(auto),
    }


DIGITS = Benchmark(
    title="scikit-learn's digits, a network with batch norm to one with a sixth of its parameters",
    data="digits",
    teacher=TEACHER,
    student=STUDENT,
    training=TrainingConfig(),
    rows=digits_rows(),
)

DIGITS_NORMS = replace(
    DIGITS,
    title="scikit-learn's digits, teachers without batch norm to the student of the other table",
    rows=norm_rows(),
    columns=("teacher", "seconds", "images_synthesized", "real_images_seen"),
)
