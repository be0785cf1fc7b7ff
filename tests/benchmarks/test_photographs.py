"""The tables of photographs: equal conditions in every row, counts that follow from costs, and a teacher that comes with them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import toys
from rich.console import Console

from datafree import teachers
from datafree.applications.distillation import DistillationConfig
from datafree.benchmarks import BENCHMARKS
from datafree.benchmarks.bench import Bench, bench
from datafree.benchmarks.photographs.costs import SIXTEEN, THIRTY_TWO, Costs
from datafree.benchmarks.photographs.rows import AUTO, refined
from datafree.benchmarks.rows import RowRun, experiments, stored_teacher
from datafree.classifier import Classifier
from datafree.files import sha256_of
from datafree.methods import METHODS
from datafree.runs.planning.auto import recipe_for
from datafree.runs.tasks import create_student
from datafree.synthesis import Schedule
from datafree.synthesis.mixture import Mixture
from datafree.types import InputError

QUIET = Console(quiet=True)
TABLES = [name for name in BENCHMARKS if name.startswith("photographs")]


@pytest.fixture
def thin() -> Classifier:
    """The teacher's network, with running statistics."""
    torch.manual_seed(0)
    teacher = teachers.create("resnet10_cifar_w16", classes=10, shape=(3, 16, 16)).train()
    teacher(torch.rand(64, 3, 16, 16))
    return teacher.eval()


@pytest.mark.parametrize("name", TABLES)
def test_every_row_has_the_same_student_and_floor_and_ceiling(name: str):
    rows = BENCHMARKS[name].rows
    augmentations = {row.application.augment for label, row in rows.items() if "cutmix" not in label}  # type: ignore[attr-defined]
    assert len(augmentations) == 1 and all(row.task == {"student_args": ("width=8",)} for row in rows.values())
    assert name.endswith("parts") or {"noise", "real images", AUTO, "procedural"} <= set(rows)


def test_steps_are_equal_in_one_table_and_seconds_in_the_other():
    equal, timed = BENCHMARKS["photographs-16"].rows, BENCHMARKS["photographs-16-time"].rows
    assert {row.application.steps for row in equal.values()} == {1500} and list(equal) == list(timed)
    assert timed["real images"].application.steps == SIXTEEN.budget // SIXTEEN.student
    assert timed["procedural"].application.steps < timed["real images"].application.steps
    assert timed[AUTO].application.steps > timed["auto, with selection"].application.steps


def test_counts_follow_from_the_costs_by_hand():
    costs = Costs(side=16, student=0.1, selection=0.1, hints=0.02, image=1e-3, generator={"dafl": 0.1}, budget=100.0)
    inversion = replace(METHODS["deep-inversion"], batch_size=100, steps=(100,))
    fitted = costs.fitted("deep-inversion", inversion, Schedule(batch_size=128), DistillationConfig())
    # 40 of 100 seconds are for images: 0.1 s a step, 100 steps, so 4 batches. 60 s are left for steps of 0.1 s.
    assert (fitted.schedule.warmup_batches, fitted.steps) == (4, 600)
    assert (
        costs.fitted("deep-inversion", inversion, Schedule(batch_size=128), DistillationConfig(select=2)).steps == 300
    )
    assert costs.step(DistillationConfig(hints=1)) == pytest.approx(0.12)
    dafl = replace(METHODS["dafl"], batch_size=128, student_batch_size=128)
    fitted = costs.fitted(
        "dafl", dafl, Schedule(warmup_batches=1, refresh_every=1, pool_batches=1, batch_size=128), DistillationConfig()
    )
    assert fitted.steps == (100 - 0.1) // 0.2


def test_larger_images_cost_three_to_four_times_as_much():
    for large, small in ((THIRTY_TWO.student, SIXTEEN.student), (THIRTY_TWO.image, SIXTEEN.image)):
        assert 3 <= large / small <= 4


def test_auto_of_the_tables_is_what_the_method_auto_chooses(thin: Classifier):
    chosen = recipe_for(thin, flips=True).method
    assert isinstance(chosen, Mixture)
    ours = refined(SIXTEEN)
    assert chosen.shares == pytest.approx(ours.shares)
    assert [part.method for part in chosen.parts] == [part.method for part in ours.parts]


def test_methods_of_the_papers_take_as_many_passes_as_the_recipe():
    rows = BENCHMARKS["photographs-16"].rows
    refine = next(part for part in refined(SIXTEEN).parts if part.name == "refine")
    passes = refine.method.batch_size * refine.method.passes * refine.own_schedule.warmup_batches
    for name in ("deep-dream", "deep-inversion", "zskd"):
        row = rows[f"{name}, shortened"]
        assert row.method and row.method.passes
        images = row.method.batch_size * row.schedule.warmup_batches
        assert images * row.method.passes == pytest.approx(passes, rel=0.05)
    dafl = rows["dafl, shortened"]
    assert dafl.method and dafl.method.batch_size * dafl.application.steps == pytest.approx(passes, rel=0.1)


@pytest.mark.parametrize("name", list(BENCHMARKS["photographs-16"].rows))
def test_every_method_supports_the_teacher(name: str, thin: Classifier):
    method = BENCHMARKS["photographs-16"].rows[name].method
    assert method is None or not method.missing(thin)


def test_the_student_has_a_quarter_of_the_parameters(thin: Classifier):
    student = create_student(thin, "resnet10_cifar_w16", {"width": 8})
    small, large = (sum(p.numel() for p in model.parameters()) for model in (student, thin))
    assert small / large == pytest.approx(0.25, abs=0.01)


class TestStoredTeacher:
    @pytest.fixture
    def options(self, tmp_path: Path, thin: Classifier) -> Bench:
        teachers.save_folder(thin, tmp_path / "teachers" / "thin")
        return Bench(
            out=tmp_path / "runs",
            results=tmp_path / "results",
            teachers=tmp_path / "teachers",
            seeds=(0,),
            shorten=500,
        )

    def table(self, options: Bench, **changes: Any) -> Any:
        digest = sha256_of(options.teachers / "thin" / "model.safetensors")
        return replace(BENCHMARKS["photographs-16"], stored_teacher="thin", stored_sha256=digest, **changes)

    def test_it_is_used_and_nothing_is_trained(self, options: Bench):
        table = self.table(options)
        assert stored_teacher(table, options.teachers) == options.teachers / "thin"
        run = RowRun(
            table=table, name="noise", teachers=[options.teachers / "thin"], seed=0, out=Path("out"), settings=options
        )
        experiment, _ = next(experiments(run, run.row))
        assert experiment.task.teacher == f"local-dir:{options.teachers / 'thin'}"

    def test_another_one_is_refused(self, options: Bench):
        table = replace(self.table(options), stored_sha256="0" * 64)
        with pytest.raises(InputError, match="is not the teacher of this table; restore it, or remove"):
            stored_teacher(table, options.teachers)


def test_the_files_hold_the_rows_that_are_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    application = DistillationConfig(steps=2)
    tiny = toys.TINY["noise"]
    digits = BENCHMARKS["digits"]
    rows = {name: replace(digits.rows["noise"], method=tiny, application=application) for name in ("one", "two")}
    rows["bad"] = replace(rows["one"], task={"student": "no_such_network"})
    table = replace(digits, rows=rows, training=replace(digits.training, steps=2))
    monkeypatch.setitem(BENCHMARKS, "partial", table)
    options = Bench(out=tmp_path / "runs", results=tmp_path / "results", seeds=(0, 1))
    with pytest.raises(InputError, match="no_such_network"):
        bench("partial", options, QUIET)
    text = (tmp_path / "results" / "partial.md").read_text()
    assert "| one |" in text and "| two |" in text and "| bad |" not in text
