"""Shared images are synthesized once, and give each row the same result as its own images."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import toys
from rich.console import Console

from datafree.applications.distillation import DistillationConfig
from datafree.benchmarks import BENCHMARKS
from datafree.benchmarks.bench import Bench, bench
from datafree.benchmarks.rows import RowRun, experiments
from datafree.benchmarks.shared_images import parts_with_same_images
from datafree.benchmarks.table import Benchmark, Row
from datafree.runs.experiment import run
from datafree.runs.planning.fitting import WHOLE
from datafree.runs.reporting import report
from datafree.synthesis import Schedule
from datafree.synthesis.image_sets.index import read_index, write_index
from datafree.synthesis.mixture import Mixture, Part
from datafree.types import InputError

QUIET = Console(quiet=True)
FIRST = Schedule(warmup_batches=2, refresh_every=0, pool_batches=2, batch_size=8)


def first_row_with_same_images(table: Benchmark, row: Row) -> str:
    return parts_with_same_images(table, row).get(WHOLE, "")


def row(method: str = "deep-inversion", steps: int = 12, **changes: Any) -> Row:
    settings: dict[str, Any] = {"schedule": FIRST, "application": DistillationConfig(steps=steps), **changes}
    return Row(method=toys.TINY[method], **settings)


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Benchmark:
    rows = {"short": row(), "long": row(steps=15), "dream": row("deep-dream"), "adaptive": row("adi")}
    shared = replace(BENCHMARKS["digits"], rows=rows, training=replace(BENCHMARKS["digits"].training, steps=5))
    monkeypatch.setitem(BENCHMARKS, "shared", shared)
    return shared


def test_a_row_with_shared_images_has_the_same_result_as_alone(table: Benchmark, tmp_path: Path):
    options = Bench(out=tmp_path / "runs", results=tmp_path / "results", seeds=(0, 1))
    results = bench("shared", options, QUIET)["rows"]
    sets = sorted(path.parent.relative_to(options.out or tmp_path) for path in tmp_path.glob("runs/*/*/set.json"))
    assert sets == [Path("short/images-of-seed-0"), Path("short/images-of-seed-1")]
    for name in ("short", "long"):
        teacher = tmp_path / "runs" / "teacher"
        alone = RowRun(table=table, name=name, teachers=[teacher], seed=1, out=tmp_path / "alone", settings=options)
        for experiment, folder in experiments(alone, alone.row):
            run(experiment, folder)
        shared = report.read_summary(tmp_path / "runs" / name / "seed-1")
        own = report.read_summary(alone.folder)
        assert shared["student_sha256"] == own["student_sha256"]
        assert results[name]["images_synthesized"] == own["images_synthesized"] == 16


def test_the_seconds_of_a_row_include_the_synthesis(table: Benchmark, tmp_path: Path):
    options = Bench(out=tmp_path / "runs", results=tmp_path / "results", seeds=(0,), rows=("short", "adaptive"))
    alone = bench("shared", options, QUIET)["rows"]["short"]["seconds"]
    images = tmp_path / "runs/short/images-of-seed-0"
    training = alone - read_index(images).seconds
    write_index(replace(read_index(images), seconds=1000.0), images)
    assert bench("shared", options, QUIET)["rows"]["short"]["seconds"] == pytest.approx(training + 1000, abs=1)


def test_images_of_other_settings_are_an_error(table: Benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    options = Bench(out=tmp_path / "runs", results=tmp_path / "results", seeds=(0,), rows=("short",))
    bench("shared", options, QUIET)
    other = {name: replace(one, method=replace(toys.TINY["deep-dream"], lr=0.2)) for name, one in table.rows.items()}
    monkeypatch.setitem(BENCHMARKS, "shared", replace(table, rows=other))
    with pytest.raises(InputError, match="images-of-seed-0 holds images of other settings"):
        bench("shared", options, QUIET)


def test_images_of_an_earlier_version_are_used(table: Benchmark, tmp_path: Path):
    """The index of an earlier version lacks the settings that were added since."""
    options = Bench(out=tmp_path / "runs", results=tmp_path / "results", seeds=(0,), rows=("short",))
    first = bench("shared", options, QUIET)["rows"]["short"]
    images = tmp_path / "runs/short/images-of-seed-0"
    index = read_index(images)
    older = index.made_by.replace(", flip=False", "")
    assert older != index.made_by
    write_index(replace(index, made_by=older), images)
    assert bench("shared", options, QUIET)["rows"]["short"] == first
    for other in (older.replace("seed 0", "seed 1"), older.replace("lr=", "rate=")):
        assert other != older
        write_index(replace(index, made_by=other), images)
        with pytest.raises(InputError, match="images-of-seed-0 holds images of other settings"):
            bench("shared", options, QUIET)


@pytest.mark.parametrize(
    "others",
    [
        {},
        {"b": row("deep-dream")},
        {"b": row(schedule=replace(FIRST, warmup_batches=1))},
        {"b": row(schedule=replace(FIRST, refresh_every=5))},
        {"b": row(teacher="resnet_w16")},
        {"b": row(measured_images=10)},
    ],
)
def test_different_images_are_not_shared(table: Benchmark, others: dict[str, Row]):
    assert first_row_with_same_images(replace(table, rows={"a": row(), **others}), row()) == ""
    assert first_row_with_same_images(replace(table, rows={"a": row(), **others, "c": row(steps=3)}), row()) == "a"


@pytest.mark.parametrize(
    "alone",
    [
        row("adi"),
        row("noise"),
        row("fast"),
        row(schedule=Schedule()),
        row(measured_images=10),
        replace(row(), method=None),
    ],
)
def test_images_that_need_a_student_or_cost_nothing_are_not_shared(table: Benchmark, alone: Row):
    assert first_row_with_same_images(replace(table, rows={"a": alone, "b": alone}), alone) == ""


def test_sequences_and_ensembles_do_not_share_images(table: Benchmark):
    rows = {"a": row(), "b": row()}
    assert (
        first_row_with_same_images(replace(table, rows=rows, extensions=(("digits:5-7", "digits:0-7"),)), row()) == "a"
    )
    two = (("digits:5-7", "digits:0-7"), ("digits:8-9", "digits"))
    assert first_row_with_same_images(replace(table, rows=rows, extensions=two), row()) == ""
    assert first_row_with_same_images(replace(table, rows=rows, teacher_data=("digits:0-4", "digits:5-9")), row()) == ""


def mixed(share: float, **changes: Any) -> Row:
    """Return a row with noise and refined images."""
    refine = Part(name="refine", method=toys.TINY["deep-inversion"], share=share, schedule=FIRST)
    noise = Part(name="noise", method=toys.TINY["noise"], share=1 - share)
    return replace(row(**changes), method=Mixture(parts=(noise, refine), batch_size=8))


def test_rows_share_the_images_of_a_part_of_a_mixture(
    table: Benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    rows = {"few": mixed(0.25), "many": mixed(0.75), "whole": row()}
    assert parts_with_same_images(replace(table, rows=rows), rows["many"]) == {"refine": "few"}
    assert not parts_with_same_images(replace(table, rows=rows), rows["whole"]), "a part has other random numbers"
    monkeypatch.setitem(BENCHMARKS, "shared", replace(table, rows=rows))
    options = Bench(out=tmp_path / "runs", results=tmp_path / "results", seeds=(0,), rows=("many", "few"))
    results = bench("shared", options, QUIET)["rows"]
    assert [path.parent.name for path in tmp_path.glob("runs/*/*/set.json")] == ["images-refine-of-seed-0"]
    synthesized = read_index(tmp_path / "runs/few/images-refine-of-seed-0").seconds
    for name in ("few", "many"):
        summary = report.read_summary(tmp_path / "runs" / name / "seed-0")
        assert {part["name"]: part["images"] for part in summary["parts"]}["refine"] == 16
        assert results[name]["seconds"] == pytest.approx(summary["seconds"] + synthesized, abs=1)
