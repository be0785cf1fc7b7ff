"""The table of scikit-learn's digits: the rows of the demo and the generators; small enough for the tests."""

from dataclasses import replace

from datafree.benchmarks.demo import STUDENT, TEACHER, demo_application, demo_sources
from datafree.benchmarks.table import Benchmark, Row
from datafree.methods import METHODS
from datafree.runs.training import TrainingConfig
from datafree.synthesis import Schedule


def digits_rows() -> dict[str, Row]:
    """Return the rows of the demo, and the generators on the same teacher."""
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
        "real images": ceiling,
    }


DIGITS = Benchmark(
    title="scikit-learn's digits, a network with batch norm to one with a sixth of its parameters",
    data="digits",
    teacher=TEACHER,
    student=STUDENT,
    training=TrainingConfig(),
    rows=digits_rows(),
)
