"""Tables: every row runs, finished runs are kept, and what is written is what was found."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import toys
from rich.console import Console

from datafree import teachers
from datafree.applications.pruning import PruningConfig
from datafree.benchmarks import BENCHMARKS
from datafree.benchmarks.bench import Bench, bench, experiments_of, markdown, plot, reached, rounded
from datafree.benchmarks.table import Benchmark, Row
from datafree.real.data import Ledger, open_real
from datafree.runs.tasks import student_of
from datafree.synthesis import Schedule
from datafree.types import InputError

QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench")


@pytest.fixture(scope="module")
def options(folder: Path) -> Bench:
    return Bench(
        out=folder / "runs", results=folder / "results", seeds=(0,), shorten=100, command="datafree bench digits"
    )


@pytest.fixture(scope="module")
def table(options: Bench) -> dict[str, Any]:
    """The table of digits with every row, a hundredth of its steps, one seed."""
    return bench("digits", options, QUIET)


class TestDigits:
    def test_every_row_is_there_with_floor_and_ceiling(self, table: dict[str, Any]):
        assert list(table["rows"]) == list(BENCHMARKS["digits"].rows)
        assert {"noise", "real images"} <= set(table["rows"])

    def test_only_the_ceiling_saw_real_images(self, table: dict[str, Any]):
        assert {name for name, row in table["rows"].items() if row["real images seen"]} == {"real images"}

    def test_the_files_hold_what_was_returned(self, table: dict[str, Any], options: Bench):
        assert json.loads((options.results / "digits.json").read_text()) == json.loads(json.dumps(table))
        assert (options.results / "digits.md").read_text() == markdown(table)
        assert (options.results / "digits.svg").read_text() == plot(table)

    def test_the_table_names_its_command_and_its_teacher(self, table: dict[str, Any]):
        text = markdown(table)
        assert "`datafree bench digits`" in text
        assert table["teacher"]["sha256"][:16] in text and "Student: `convnet_w16`, 9,162 parameters." in text

    def test_finished_runs_are_not_repeated(self, table: dict[str, Any], options: Bench):
        summary = options.out / "noise" / "seed-0" / "summary.json"  # type: ignore[operator]
        before = summary.stat().st_mtime_ns
        bench("digits", replace(options, rows=("noise",)), QUIET)
        assert summary.stat().st_mtime_ns == before

    def test_a_finished_run_knows_nothing_of_settings_that_came_later(self, table: dict[str, Any], options: Bench):
        experiment = options.out / "noise" / "seed-0" / "experiment.json"  # type: ignore[operator]
        described = json.loads(experiment.read_text())
        del described["application"]["augment"]["mix"]
        experiment.write_text(json.dumps(described))
        bench("digits", replace(options, rows=("noise",)), QUIET)

    def test_a_run_with_other_settings_is_not_taken_for_ours(self, table: dict[str, Any], options: Bench):
        experiment = options.out / "noise" / "seed-0" / "experiment.json"  # type: ignore[operator]
        before = experiment.read_text()
        described = json.loads(before)
        described["application"]["steps"] += 1
        experiment.write_text(json.dumps(described))
        with pytest.raises(InputError, match="made with other settings"):
            bench("digits", replace(options, rows=("noise",)), QUIET)
        experiment.write_text(before)


def test_spread_is_that_of_the_seeds(folder: Path, table: dict[str, Any], options: Bench):
    two = bench("digits", replace(options, rows=("noise",), seeds=(0, 1)), QUIET)["rows"]["noise"]
    assert len(two["each"]) == 2
    assert two["mean"] == pytest.approx(sum(two["each"]) / 2, abs=0.01)
    assert two["sd"] == pytest.approx(abs(two["each"][0] - two["each"][1]) / 2**0.5, abs=0.02)


def test_runs_side_by_side_find_what_runs_in_turn_find(folder: Path, table: dict[str, Any], options: Bench):
    out, rows = folder / "abreast", ("noise", "real images")
    shutil.copytree(folder / "runs" / "teacher", out / "teacher")
    found = bench("digits", replace(options, out=out, rows=rows, jobs=2), QUIET)
    assert {row: found["rows"][row]["each"] for row in rows} == {row: table["rows"][row]["each"] for row in rows}
    assert "2 runs at a time" in markdown(found) and "at a time" not in markdown(table)


def test_a_row_whose_teacher_is_measured_on_real_images_first(folder: Path, monkeypatch: pytest.MonkeyPatch):
    told = BENCHMARKS["mnist-measured"].rows["deep-inversion, 100 images"]
    first = Schedule(warmup_batches=1, refresh_every=0, pool_batches=1)
    row = replace(told, method=toys.tiny(told.method), schedule=first, measured=20)  # type: ignore[arg-type]
    monkeypatch.setitem(BENCHMARKS, "measured", replace(BENCHMARKS["digits"], rows={"DI, helped": row}))
    options = Bench(out=folder / "measured", results=folder / "results", seeds=(0, 1), shorten=200)
    found = bench("measured", options, QUIET)["rows"]["DI, helped"]
    assert (found["real images measured"], found["real images seen"]) == (20, 0)
    files = [folder / "measured" / "DI-helped" / f"seed-{seed}-measured-on-20.safetensors" for seed in (0, 1)]
    assert files[0].read_bytes() != files[1].read_bytes(), "each seed has images of its own"
    bench("measured", options, QUIET)  # what lies there fits


def test_a_goal_counts_only_if_every_seed_reaches_it():
    fast, slow = {"curve": [(5.0, 0.90), (10.0, 0.96)]}, {"curve": [(5.0, 0.94), (20.0, 0.98)]}
    assert reached([fast, slow], 95) == 15
    assert reached([fast, slow], 97) is None


def test_the_ablation_has_every_subset_of_three_losses():
    rows = BENCHMARKS["dafl-ablation"].rows
    weights = {
        tuple(bool(getattr(row.method, name)) for name in ("onehot", "entropy", "activation")) for row in rows.values()
    }
    assert len(rows) == len(weights) == 8


@pytest.mark.parametrize("name", ["mnist-pruning", "cifar10-pruning"])
def test_methods_of_a_pruning_table_make_equally_many_images_but_for_adi_which_adds_half_as_many(name: str):
    made: dict[str, set[int]] = {}
    for label, row in BENCHMARKS[name].rows.items():
        if row.method:
            pruning = cast(PruningConfig, row.application)
            drawn = pruning.steps + pruning.rounds * pruning.looks
            made.setdefault(label.split(", ", 1)[1], set()).add(row.method.batch_size * row.schedule.due(drawn - 1))
    assert made["deep-dream"] == made["deep-inversion"] == made["adi"]
    assert made["adi, more images"] == {count * 3 // 2 for count in made["deep-inversion"]}
    assert len(BENCHMARKS[name].rows) == 21 and not BENCHMARKS[name].student


def test_a_row_without_recovery_stays_without_when_it_is_shortened():
    table, short = BENCHMARKS["mnist-pruning"], Bench(shorten=100)
    steps = {}
    for row in ("50 %, no recovery", "50 %, adi"):
        chain = experiments_of(table, table.rows[row], [Path("teacher")], 0, short, Path("here"))
        steps[row] = next(chain)[0].application.steps
    assert steps == {"50 %, no recovery": 0, "50 %, adi": 4}


def test_a_table_without_curves_is_drawn_as_bars():
    drawing = plot({"rows": {"this row": {"mean": 97.04, "curves": [[], []]}}})
    assert drawing.startswith("<svg") and "97.0" in drawing


@pytest.mark.parametrize(
    ("name", "rows", "match"), [("digit", (), "did you mean digits"), ("digits", ("ady",), "did you mean adi")]
)
def test_unknown_tables_and_rows_are_refused(name: str, rows: tuple[str, ...], match: str, options: Bench):
    with pytest.raises(InputError, match=match):
        bench(name, replace(options, rows=rows), QUIET)


class TestTransfer:
    def test_students_of_every_family_are_made_from_one_teacher(
        self, options: Bench, folder: Path, monkeypatch: pytest.MonkeyPatch
    ):
        table = BENCHMARKS["transfer"]
        rows = {name: replace(row, method=row.method and toys.tiny(row.method)) for name, row in table.rows.items()}
        monkeypatch.setitem(BENCHMARKS, "transfer", replace(table, rows=rows))
        some = ("narrower", "ResNet to EfficientNet, real images", "plain to ViT")
        made = bench("transfer", replace(options, out=folder / "transfer", rows=some), QUIET)
        sizes = {name: row["parameters"] for name, row in made["rows"].items()}
        assert tuple(sizes) == some and len(set(sizes.values())) == 3
        assert f"| {sizes['plain to ViT']:,} |" in markdown(made) and "Student:" not in markdown(made)
        assert {path.name for path in (folder / "transfer").glob("teacher*")} == {"teacher", "teacher-resnet_w16"}
        of = {name: row["teacher"] for name, row in made["rows"].items()}
        assert of["narrower"] == of["plain to ViT"] == made["teacher"]["accuracy"]
        assert of["ResNet to EfficientNet, real images"] != of["narrower"]

    def test_all_students_of_a_teacher_and_seed_learn_from_the_same_images(self):
        rows = BENCHMARKS["transfer"].rows
        synthesized = {name: row for name, row in rows.items() if row.method}
        assert len({(row.method, row.schedule) for row in synthesized.values()}) == 1
        assert len({(row.teacher, row.task["student"]) for row in synthesized.values()}) == len(synthesized) == 7
        for name, row in synthesized.items():
            ceiling = rows[f"{name}, real images"]
            assert (ceiling.task, ceiling.teacher) == (row.task, row.teacher) and not ceiling.method

    def test_a_row_may_have_a_teacher_of_its_own(self, folder: Path, options: Bench, monkeypatch: pytest.MonkeyPatch):
        table = BENCHMARKS["digits"]
        other = replace(table.rows["noise"], teacher="convnet_w16")
        monkeypatch.setitem(BENCHMARKS, "digits", replace(table, rows={"other": other}))
        bench("digits", replace(options, out=folder / "other"), QUIET)
        assert [path.name for path in (folder / "other").glob("teacher*")] == ["teacher-convnet_w16"]

    @pytest.mark.parametrize(
        "row", BENCHMARKS["cifar10-transfer"].rows.values(), ids=BENCHMARKS["cifar10-transfer"].rows
    )
    def test_the_pairs_of_cifar10_fit_each_other(self, row: Row):
        teacher = teachers.create(row.teacher).eval()
        student = student_of(teacher, row.task["student"]).eval()
        assert student(torch.rand(1, *teacher.shape)).shape == teacher(torch.rand(1, *teacher.shape)).shape == (1, 10)


NAMES = ("ensemble, noise", "dual-gan", "oracle", "the teachers, even", "teacher 2, alone")


def table_of_two(names: Sequence[str], **changes: Any) -> Benchmark:
    """The table of amalgamation on digits, with some of its rows."""
    rows = {name: BENCHMARKS["mnist-amalgamation"].rows[name] for name in names}
    stack = replace(rows["dual-gan"].method, batch_size=8, statistics=0.0)  # type: ignore[type-var]
    rows["dual-gan"] = replace(rows["dual-gan"], method=stack)
    return replace(
        BENCHMARKS["mnist-amalgamation"],
        members=("digits:0-4", "digits:5-9"),
        teacher="convnet_w16",
        student="convnet_w16",
        training=replace(BENCHMARKS["digits"].training, steps=60),
        rows=rows,
        **changes,
    )


def test_a_table_of_several_teachers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(BENCHMARKS, "two", table_of_two(NAMES, data="digits"))
    options = Bench(out=tmp_path / "runs", results=tmp_path / "results", seeds=(0,), shorten=200, command="bench two")
    found = bench("two", options, QUIET)["rows"]
    assert list(found) == list(NAMES)
    assert found["teacher 2, alone"]["mean"] <= 51  # it knows half of the classes
    assert found["oracle"]["real images seen"] == 1347
    assert all(row["right teacher"] >= row["mean"] for row in found.values())
    seeds = {name: BENCHMARKS["two"].rows[name].drawn for name in found}
    assert seeds == {
        "ensemble, noise": True,
        "dual-gan": True,
        "oracle": True,
        "the teachers, even": False,
        "teacher 2, alone": False,
    }
    assert found["dual-gan"]["real images seen"] == 0 < found["dual-gan"]["images synthesized"]


def test_a_table_of_some_labels_of_several_teachers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    some = table_of_two(NAMES, data="digits:0,4-5", labels=("0", "4", "5"))
    monkeypatch.setitem(BENCHMARKS, "some", some)
    options = Bench(out=tmp_path / "runs", results=tmp_path / "results", seeds=(0,), shorten=200, command="bench some")
    found = bench("some", options, QUIET)["rows"]
    assert {len(row["per class"]) for row in found.values()} == {3}
    zero, four, five = found["teacher 2, alone"]["per class"]
    assert zero == four == 0 < five  # it knows 5 to 9


def test_the_six_digits_are_those_that_are_asked_for():
    table, digits = BENCHMARKS["mnist-amalgamation-of-six"], tuple("0123456789")
    images = open_real(table.data.replace("mnist", "digits"), "test", "evaluation", Ledger())
    assert images.classes == tuple(table.labels)
    known = [
        open_real(data.replace("mnist", "digits"), "test", "evaluation", Ledger()).classes for data in table.members
    ]
    assert sum(known, ()) == digits and all(set(labels) & set(table.labels) for labels in known)


def test_teachers_that_are_only_judged_are_judged_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(BENCHMARKS, "two", table_of_two(NAMES, data="digits"))
    rows = ("ensemble, noise", "teacher 2, alone")
    options = Bench(out=tmp_path / "runs", results=tmp_path, seeds=(0, 1), rows=rows, shorten=400, command="bench two")
    found = bench("two", options, QUIET)["rows"]
    assert [len(found[name]["each"]) for name in rows] == [2, 1] and found["teacher 2, alone"]["sd"] is None


def test_a_class_without_images_is_blank():
    assert rounded([0.5, None, 1.0]) == 75.0 and rounded([None, None]) is None


class TestTeachersOfATable:
    def test_one_that_lies_there_is_not_trained_again(self, table: dict[str, Any], options: Bench):
        weights = options.out / "teacher" / "model.safetensors"  # type: ignore[operator]
        before = weights.stat().st_mtime_ns
        bench("digits", replace(options, rows=("noise",)), QUIET)
        assert weights.stat().st_mtime_ns == before

    def test_one_of_other_settings_is_not_taken_for_ours(self, table: dict[str, Any], options: Bench):
        with pytest.raises(InputError, match="was trained with other settings"):
            bench("digits", replace(options, rows=("noise",), shorten=200), QUIET)

    def test_one_that_was_not_finished_is_trained_anew(self, table: dict[str, Any], options: Bench):
        told = options.out / "teacher" / "training.json"  # type: ignore[operator]
        before = json.loads(told.read_text())
        told.unlink()
        bench("digits", replace(options, rows=("noise",)), QUIET)
        after = json.loads(told.read_text())
        assert before.pop("seconds") and after.pop("seconds") and after == before


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"rows": ("oracle", "the teachers, even")}, "none of these rows is a student"),
        ({"rows": ("dual-gan",), "seeds": (0, 0)}, "a seed is given twice"),
    ],
)
def test_what_cannot_be_a_table_is_refused_at_once(changes: dict[str, Any], match: str, tmp_path: Path):
    with pytest.raises(InputError, match=match):
        bench("mnist-amalgamation", Bench(out=tmp_path / "runs", results=tmp_path / "results", **changes), QUIET)
    assert not list(tmp_path.iterdir())
