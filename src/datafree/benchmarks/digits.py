"""The table of digits: the demo's ladder and the generators, small enough for the tests."""

from dataclasses import replace

from datafree.benchmarks.table import Benchmark, Row
from datafree.methods import METHODS
from datafree.runs.training import TrainingConfig
from datafree.synthesis import Schedule


def _rows() -> dict[str, Row]:
    """The demo's rungs, and the generators on the same teacher."""
    from datafree.benchmarks.demo import application, rungs

    rows = {name: Row(method=m, schedule=s, application=application(1200)) for name, (m, s) in rungs(1200).items()}
    ceiling = rows.pop("real images")
    dafl = replace(METHODS["dafl"], generator="subpixel", lr=0.02, batch_size=128, student_batch_size=256)
    rows["dafl"] = Row(method=dafl, schedule=Schedule(refresh_every=2), application=application(700))
    zskd = Schedule(warmup_batches=10, refresh_every=0, pool_batches=10)
    rows["zskd"] = Row(method=METHODS["zskd"], schedule=zskd, application=application(700))
    rows["fast"] = Row(method=METHODS["fast"], schedule=METHODS["fast"].schedule, application=application(2400))
    rows["adi, inherited"] = replace(rows["adi"], task={"inherit": True})
    return rows | {"real images": ceiling}


DIGITS = Benchmark(
    title="scikit-learn's digits, a network with batch norm to one of a sixth of its parameters",
    data="digits",
    teacher="convnet_w64",
    student="convnet_w16",
    training=TrainingConfig(),
    rows=_rows(),
)
