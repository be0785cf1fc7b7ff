"""Images that rows of a table share are made once, and each row is what it would be with images of its own."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import toys
from rich.console import Console

from datafree.applications.distillation import DistillationConfig
from datafree.benchmarks import BENCHMARKS
from datafree.benchmarks.bench import Bench, bench, experiments_of
from datafree.benchmarks.shared_images import owner
from datafree.benchmarks.table import Benchmark, Row
from datafree.runs import report
from datafree.runs.experiment import run
from datafree.synthesis import Schedule
from datafree.types import InputError

QUIET = Console(quiet=True)
FIRST = Schedule(warmup_batches=2, refresh_every=0, pool_batches=2, batch_size=8)


def row(method: str = "deep-inversion", steps: int = 12, **changes: Any) -> Row:
    settings: dict[str, Any] = {"schedule": FIRST, "application": DistillationConfig(steps=steps), **changes}
    return Row(method=toys.TINY[method], **settings)


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Benchmark:
    rows = {"short": row(), "long": row(steps=15), "dream": row("deep-dream"), "adaptive": row("adi")}
    made = replace(BENCHMARKS["digits"], rows=rows, training=replace(BENCHMARKS["digits"].training, steps=5))
    monkeypatch.setitem(BENCHMARKS, "shared", made)
    return made


def test_a_row_that_shares_is_what_it_is_alone(table: Benchmark, tmp_path: Path):
    options = Bench(out=tmp_path / "runs", results=tmp_path / "results", seeds=(0, 1))
    found = bench("shared", options, QUIET)["rows"]
    sets = sorted(path.parent.relative_to(options.out or tmp_path) for path in tmp_path.glob("runs/*/*/set.json"))
    assert sets == [Path("short/images-of-seed-0"), Path("short/images-of-seed-1")]
    for name in ("short", "long"):
        alone = experiments_of(table, table.rows[name], [tmp_path / "runs" / "teacher"], 1, options, tmp_path / name)
        for experiment, folder in alone:
            run(experiment, folder)
        ours, theirs = (report.read_summary(place) for place in (tmp_path / "runs" / name / "seed-1", tmp_path / name))
        assert ours["student sha256"] == theirs["student sha256"]
        assert found[name]["images synthesized"] == theirs["images synthesized"] == 16


def test_the_seconds_of_a_row_count_its_images(table: Benchmark, tmp_path: Path):
    options = Bench(out=tmp_path / "runs", results=tmp_path / "results", seeds=(0,), rows=("short", "adaptive"))
    alone = bench("shared", options, QUIET)["rows"]["short"]["seconds"]
    index = tmp_path / "runs/short/images-of-seed-0/set.json"
    text = index.read_text()
    assert '"seconds": ' in text
    head, _, tail = text.partition('"seconds": ')
    index.write_text(f'{head}"seconds": 1000{tail[tail.index(",") :]}')
    assert bench("shared", options, QUIET)["rows"]["short"]["seconds"] == pytest.approx(alone + 1000, abs=1)


def test_images_of_other_settings_are_not_taken(table: Benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    options = Bench(out=tmp_path / "runs", results=tmp_path / "results", seeds=(0,), rows=("short",))
    bench("shared", options, QUIET)
    other = {name: replace(one, method=replace(toys.TINY["deep-dream"], lr=0.2)) for name, one in table.rows.items()}
    monkeypatch.setitem(BENCHMARKS, "shared", replace(table, rows=other))
    with pytest.raises(InputError, match="images-of-seed-0 was made with other settings"):
        bench("shared", options, QUIET)


@pytest.mark.parametrize(
    "others",
    [
        {},
        {"b": row("deep-dream")},
        {"b": row(schedule=replace(FIRST, warmup_batches=1))},
        {"b": row(schedule=replace(FIRST, refresh_every=5))},
        {"b": row(teacher="resnet_w16")},
        {"b": row(measured=10)},
    ],
)
def test_what_differs_is_not_shared(table: Benchmark, others: dict[str, Row]):
    assert owner(replace(table, rows={"a": row(), **others}), row()) == ""
    assert owner(replace(table, rows={"a": row(), **others, "c": row(steps=3)}), row()) == "a"


@pytest.mark.parametrize(
    "alone",
    [row("adi"), row("noise"), row("fast"), row(schedule=Schedule()), row(measured=10), replace(row(), method=None)],
)
def test_what_needs_a_student_or_costs_nothing_is_not_shared(table: Benchmark, alone: Row):
    assert owner(replace(table, rows={"a": alone, "b": alone}), alone) == ""


def test_students_that_teach_the_next_task_and_committees_have_images_of_their_own(table: Benchmark):
    rows = {"a": row(), "b": row()}
    assert owner(replace(table, rows=rows, extensions=(("digits:5-7", "digits:0-7"),)), row()) == "a"
    two = (("digits:5-7", "digits:0-7"), ("digits:8-9", "digits"))
    assert owner(replace(table, rows=rows, extensions=two), row()) == ""
    assert owner(replace(table, rows=rows, members=("digits:0-4", "digits:5-9")), row()) == ""
