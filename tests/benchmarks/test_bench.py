"""Tables: every row runs, finished runs are not repeated, and the files hold the results."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest
import torch
import toys
from rich.console import Console

from datafree import teachers
from datafree.applications.pruning import PruningConfig
from datafree.benchmarks import BENCHMARKS
from datafree.benchmarks.bench import Bench, bench
from datafree.benchmarks.results import (
    collect_row,
    console_table,
    header,
    markdown,
    mean_percent,
    plot,
    seconds_to,
    with_earlier_rows,
    write_script_result,
)
from datafree.benchmarks.rows import RowRun, RowSettings, experiments, read_training
from datafree.benchmarks.table import Benchmark, Row
from datafree.classifier import batch_norms
from datafree.real.data import open_real
from datafree.real.ledger import Ledger
from datafree.runs.tasks import create_student
from datafree.synthesis import Method, Schedule
from datafree.synthesis.mixture import Mixture
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
    """The table of digits with all rows, one seed, and a hundredth of the steps; all images are optimized briefly.

    Floor and ceiling are as in the table, since the tests repeat them.
    """
    digits = BENCHMARKS["digits"]
    rows = {
        name: row if name == "noise" or row.method is None else replace(row, method=briefly(row.method))
        for name, row in digits.rows.items()
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BENCHMARKS, "digits", replace(digits, rows=rows))
        return bench("digits", options, QUIET)


def briefly(method: Method) -> Method:
    """Return a method that synthesizes in milliseconds."""
    return method.map(toys.tiny) if isinstance(method, Mixture) else toys.tiny(method)


class TestDigits:
    def test_it_has_every_row_with_floor_and_ceiling(self, table: dict[str, Any]):
        assert list(table["rows"]) == list(BENCHMARKS["digits"].rows)
        assert {"noise", "real images"} <= set(table["rows"])

    def test_only_the_ceiling_saw_real_images(self, table: dict[str, Any]):
        assert {name for name, row in table["rows"].items() if row["real_images_seen"]} == {
            "real images",
            "real images, with hints",
        }

    def test_the_files_hold_the_returned_results(self, table: dict[str, Any], options: Bench):
        assert json.loads((options.results / "digits.json").read_text()) == json.loads(json.dumps(table))
        assert (options.results / "digits.md").read_text() == markdown(table)
        assert (options.results / "digits.svg").read_text() == plot(table)

    def test_the_console_shows_the_main_columns_in_80(self, table: dict[str, Any]):
        long = {**table, "rows": {"target-net, fast with statistics, after block 1": table["rows"]["noise"]}}
        for result in (table, long, {**table, "measure": "mean average precision"}):
            console = Console(width=80, record=True, file=StringIO())
            console.print(console_table(result))
            text = console.export_text()
            assert max(map(len, text.splitlines())) <= 80
            assert all(f"{row['mean']:.2f}" in text for row in result["rows"].values())

    def test_the_table_shows_its_command_and_its_teacher(self, table: dict[str, Any]):
        text = markdown(table)
        assert "`datafree bench digits`" in text
        one = {**table, "rows": {"noise": {**table["rows"]["noise"], "seeds": [3]}}}
        assert "| noise (1 seed) |" in markdown(one) and "(1 seed)" not in text
        assert table["teacher"]["sha256"][:16] in text and "Student: `convnet_w16`, 9,162 parameters." in text

    def test_finished_runs_are_not_repeated(self, table: dict[str, Any], options: Bench):
        summary = options.out / "noise" / "seed-0" / "summary.json"  # type: ignore[operator]
        before = summary.stat().st_mtime_ns
        bench("digits", replace(options, rows=("noise",)), QUIET)
        assert summary.stat().st_mtime_ns == before

    def test_a_finished_run_may_lack_settings_that_were_added_later(self, table: dict[str, Any], options: Bench):
        experiment = options.out / "noise" / "seed-0" / "experiment.json"  # type: ignore[operator]
        saved = json.loads(experiment.read_text())
        del saved["application"]["augment"]["mix"]
        experiment.write_text(json.dumps(saved))
        bench("digits", replace(options, rows=("noise",)), QUIET)

    def test_a_finished_run_with_other_settings_is_an_error(self, table: dict[str, Any], options: Bench):
        experiment = options.out / "noise" / "seed-0" / "experiment.json"  # type: ignore[operator]
        before = experiment.read_text()
        saved = json.loads(before)
        saved["application"]["steps"] += 1
        experiment.write_text(json.dumps(saved))
        with pytest.raises(InputError, match="holds a run with other settings"):
            bench("digits", replace(options, rows=("noise",)), QUIET)
        experiment.write_text(before)


def test_mean_and_standard_deviation_are_over_the_seeds(folder: Path, table: dict[str, Any], options: Bench):
    two = bench("digits", replace(options, rows=("noise",), seeds=(0, 1)), QUIET)["rows"]["noise"]
    assert len(two["each"]) == 2
    assert two["mean"] == pytest.approx(sum(two["each"]) / 2, abs=0.01)
    assert two["sd"] == pytest.approx(abs(two["each"][0] - two["each"][1]) / 2**0.5, abs=0.02)


def test_parallel_runs_give_the_same_results(folder: Path, table: dict[str, Any], options: Bench):
    out, rows = folder / "parallel", ("noise", "real images")
    shutil.copytree(folder / "runs" / "teacher", out / "teacher")
    result = bench("digits", replace(options, out=out, rows=rows, jobs=2), QUIET)
    assert {row: result["rows"][row]["each"] for row in rows} == {row: table["rows"][row]["each"] for row in rows}
    assert "2 runs at a time" in markdown(result) and "at a time" not in markdown(table)


def test_a_row_with_measured_feature_statistics(folder: Path, monkeypatch: pytest.MonkeyPatch):
    preset = BENCHMARKS["mnist-measured"].rows["deep-inversion, 100 images"]
    schedule = Schedule(warmup_batches=1, refresh_every=0, pool_batches=1)
    row = replace(preset, method=toys.tiny(preset.method), schedule=schedule, measured_images=20)  # type: ignore[arg-type]
    monkeypatch.setitem(BENCHMARKS, "measured", replace(BENCHMARKS["digits"], rows={"DI, measured": row}))
    options = Bench(out=folder / "measured", results=folder / "results", seeds=(0, 1), shorten=200)
    result = bench("measured", options, QUIET)["rows"]["DI, measured"]
    assert (result["real_images_measured"], result["real_images_seen"]) == (20, 0)
    files = [folder / "measured" / "DI-measured" / f"seed-{seed}-measured-on-20.safetensors" for seed in (0, 1)]
    assert files[0].read_bytes() != files[1].read_bytes(), "each seed measures other images"
    bench("measured", options, QUIET)  # the files are used again


class TestEarlierRows:
    RESULT: ClassVar[dict[str, Any]] = {
        "command": "new",
        "seeds": [0, 1],
        "teacher": {"sha256": "a" * 64},
        "rows": {"b": {"mean": 2.0}},
    }

    def test_rows_that_were_not_run_are_kept_in_the_order_of_the_table(self, tmp_path: Path):
        earlier = {**self.RESULT, "command": "old", "rows": {"c": {"mean": 3.0}, "b": {"mean": 0.0}, "gone": {}}}
        (tmp_path / "t.json").write_text(json.dumps(earlier))
        rows = with_earlier_rows(self.RESULT, tmp_path / "t.json", ("a", "b", "c"))["rows"]
        assert rows == {"b": {"mean": 2.0}, "c": {"mean": 3.0, "command": "old"}} and list(rows) == ["b", "c"]

    def test_rows_of_another_teacher_are_left_out(self, tmp_path: Path):
        earlier = {**self.RESULT, "rows": {"c": {}}, "teacher": {"sha256": "b" * 64}}
        (tmp_path / "t.json").write_text(json.dumps(earlier))
        assert with_earlier_rows(self.RESULT, tmp_path / "t.json", ("b", "c")) == self.RESULT

    def test_rows_of_other_seeds_say_so_until_the_table_has_the_same(self, tmp_path: Path):
        file = tmp_path / "t.json"
        file.write_text(json.dumps({**self.RESULT, "command": "old", "seeds": [0], "rows": {"c": {"mean": 3.0}}}))
        result = with_earlier_rows(self.RESULT, file, ("b", "c"))
        assert result["rows"]["c"] == {"mean": 3.0, "command": "old", "seeds": [0]}
        file.write_text(json.dumps(result))
        again = with_earlier_rows({**self.RESULT, "seeds": [0]}, file, ("b", "c"))
        assert again["rows"] == {"b": {"mean": 2.0}, "c": {"mean": 3.0, "command": "old"}}

    def test_without_a_file_there_is_nothing_to_keep(self, tmp_path: Path):
        assert with_earlier_rows(self.RESULT, tmp_path / "t.json", ("b",)) == self.RESULT

    @pytest.mark.parametrize("text", ["[]", '{"teacher": 3}', "{", json.dumps({**RESULT, "rows": 3})])
    def test_a_damaged_file_is_an_error(self, tmp_path: Path, text: str):
        (tmp_path / "t.json").write_text(text)
        with pytest.raises(InputError, match=r"t\.json"):
            with_earlier_rows(self.RESULT, tmp_path / "t.json", ("b",))


def test_seconds_to_a_goal_need_every_seed_to_reach_it():
    fast, slow = {"curve": [(5.0, 0.90), (10.0, 0.96)]}, {"curve": [(5.0, 0.94), (20.0, 0.98)]}
    assert seconds_to([fast, slow], 95) == 15
    assert seconds_to([fast, slow], 97) is None


def test_the_ablation_has_every_subset_of_three_losses():
    rows = BENCHMARKS["dafl-ablation"].rows
    weights = {
        tuple(bool(getattr(row.method, name)) for name in ("one_hot", "entropy", "activation")) for row in rows.values()
    }
    assert len(rows) == len(weights) == 8


@pytest.mark.parametrize("name", ["mnist-pruning", "cifar10-pruning"])
def test_methods_of_a_pruning_table_synthesize_equally_many_images_but_the_paper_adds_half_for_adi(name: str):
    synthesized: dict[str, set[int]] = {}
    for label, row in BENCHMARKS[name].rows.items():
        if row.method:
            pruning = cast(PruningConfig, row.application)
            drawn = pruning.steps + pruning.rounds * pruning.importance_batches
            synthesized.setdefault(label.split(", ", 1)[1], set()).add(
                row.method.batch_size * row.schedule.batches_needed(drawn - 1)
            )
    assert synthesized["deep-dream"] == synthesized["deep-inversion"] == synthesized["adi"]
    assert synthesized["adi, more images"] == {count * 3 // 2 for count in synthesized["deep-inversion"]}
    assert len(BENCHMARKS[name].rows) == 21 and not BENCHMARKS[name].student


def test_a_shortened_row_without_recovery_still_has_no_steps():
    table, steps = BENCHMARKS["mnist-pruning"], {}
    for name in ("50 %, no recovery", "50 %, adi"):
        row_run = RowRun(
            table=table,
            name=name,
            teachers=[Path("teacher")],
            seed=0,
            out=Path("out"),
            settings=RowSettings(shorten=100),
        )
        experiment, _ = next(experiments(row_run, row_run.row))
        steps[name] = experiment.application.steps
    assert steps == {"50 %, no recovery": 0, "50 %, adi": 4}


def test_a_table_without_curves_is_a_bar_chart():
    svg = plot({"rows": {"this row": {"mean": 97.04, "curves": [[], []]}}})
    assert svg.startswith("<svg") and "97.0" in svg


@pytest.mark.parametrize(
    ("name", "rows", "match"), [("digit", (), "did you mean digits"), ("digits", ("ady",), "did you mean adi")]
)
def test_unknown_tables_and_rows_are_an_error(name: str, rows: tuple[str, ...], match: str, options: Bench):
    with pytest.raises(InputError, match=match):
        bench(name, replace(options, rows=rows), QUIET)


class TestTransfer:
    def test_students_of_every_family_are_trained_from_one_teacher(
        self, options: Bench, folder: Path, monkeypatch: pytest.MonkeyPatch
    ):
        table = BENCHMARKS["transfer"]
        rows = {name: replace(row, method=row.method and toys.tiny(row.method)) for name, row in table.rows.items()}
        monkeypatch.setitem(BENCHMARKS, "transfer", replace(table, rows=rows))
        some = ("narrower", "ResNet to EfficientNet, real images", "plain to ViT")
        result = bench("transfer", replace(options, out=folder / "transfer", rows=some), QUIET)
        sizes = {name: row["parameters"] for name, row in result["rows"].items()}
        assert tuple(sizes) == some and len(set(sizes.values())) == 3
        assert f"| {sizes['plain to ViT']:,} |" in markdown(result) and "Student:" not in markdown(result)
        assert {path.name for path in (folder / "transfer").glob("teacher*")} == {"teacher", "teacher-resnet_w16"}
        teacher = {name: row["teacher"] for name, row in result["rows"].items()}
        assert teacher["narrower"] == teacher["plain to ViT"] == result["teacher"]["accuracy"]
        assert teacher["ResNet to EfficientNet, real images"] != teacher["narrower"]

    def test_all_students_of_a_teacher_and_seed_use_the_same_images(self):
        rows = BENCHMARKS["transfer"].rows
        synthesized = {name: row for name, row in rows.items() if row.method}
        assert len({(row.method, row.schedule) for row in synthesized.values()}) == 1
        assert len({(row.teacher, row.task["student"]) for row in synthesized.values()}) == len(synthesized) == 7
        for name, row in synthesized.items():
            ceiling = rows[f"{name}, real images"]
            assert (ceiling.task, ceiling.teacher) == (row.task, row.teacher) and not ceiling.method

    def test_a_row_may_have_its_own_teacher(self, folder: Path, options: Bench, monkeypatch: pytest.MonkeyPatch):
        table = BENCHMARKS["digits"]
        other = replace(table.rows["noise"], teacher="convnet_w16")
        monkeypatch.setitem(BENCHMARKS, "digits", replace(table, rows={"other": other}))
        bench("digits", replace(options, out=folder / "other"), QUIET)
        assert [path.name for path in (folder / "other").glob("teacher*")] == ["teacher-convnet_w16"]

    def test_the_network_of_a_teacher_may_have_arguments(
        self, folder: Path, options: Bench, monkeypatch: pytest.MonkeyPatch
    ):
        table = BENCHMARKS["digits-norms"]
        names = ("group norm: noise", "layer norm: noise")
        result = bench("digits-norms", replace(options, out=folder / "norms", rows=names), QUIET)
        assert tuple(result["rows"]) == names
        assert result["teacher"]["network"] == "resnet_w16"  # that of the first row
        folders = sorted((folder / "norms").glob("teacher*"))
        assert [path.name for path in folders] == [
            "teacher-resnet_w16-norm-group",
            "teacher-test_vit-depth-3-patch-size-2",
        ]
        for path in folders:
            teacher = teachers.load_folder(path)
            assert teacher.shape == (1, 8, 8) and not batch_norms(teacher)
            auto = table.rows["group norm: auto"].method
            assert auto and not auto.missing(teacher)
        with pytest.raises(InputError, match="was trained with other settings"):
            other = replace(table, training=replace(table.training, lr=0.1))
            monkeypatch.setitem(BENCHMARKS, "digits-norms", other)
            bench("digits-norms", replace(options, out=folder / "norms", rows=names[:1]), QUIET)

    @pytest.mark.parametrize(
        "row", BENCHMARKS["cifar10-transfer"].rows.values(), ids=BENCHMARKS["cifar10-transfer"].rows
    )
    def test_the_pairs_of_cifar10_are_compatible(self, row: Row):
        teacher = teachers.create(row.teacher).eval()
        student = create_student(teacher, row.task["student"]).eval()
        assert student(torch.rand(1, *teacher.shape)).shape == teacher(torch.rand(1, *teacher.shape)).shape == (1, 10)


NAMES = ("ensemble, noise", "dual-gan", "oracle", "the teachers, even", "teacher 2, alone")


def table_of_two(names: Sequence[str], **changes: Any) -> Benchmark:
    """Return the table of amalgamation on digits, with some of its rows."""
    rows = {name: BENCHMARKS["mnist-amalgamation"].rows[name] for name in names}
    stack = replace(rows["dual-gan"].method, batch_size=8, statistics=0.0)  # type: ignore[type-var]
    rows["dual-gan"] = replace(rows["dual-gan"], method=stack)
    return replace(
        BENCHMARKS["mnist-amalgamation"],
        teacher_data=("digits:0-4", "digits:5-9"),
        teacher="convnet_w16",
        student="convnet_w16",
        training=replace(BENCHMARKS["digits"].training, steps=60),
        rows=rows,
        **changes,
    )


def test_a_table_of_several_teachers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(BENCHMARKS, "two", table_of_two(NAMES, data="digits"))
    options = Bench(out=tmp_path / "runs", results=tmp_path / "results", seeds=(0,), shorten=200, command="bench two")
    results = bench("two", options, QUIET)["rows"]
    assert list(results) == list(NAMES)
    assert results["teacher 2, alone"]["mean"] <= 51  # it knows half of the classes
    assert results["oracle"]["real_images_seen"] == 1347
    assert all(row["routing_accuracy"] >= row["mean"] for row in results.values())
    seeds = {name: BENCHMARKS["two"].rows[name].depends_on_seed for name in results}
    assert seeds == {
        "ensemble, noise": True,
        "dual-gan": True,
        "oracle": True,
        "the teachers, even": False,
        "teacher 2, alone": False,
    }
    assert results["dual-gan"]["real_images_seen"] == 0 < results["dual-gan"]["images_synthesized"]


def test_a_table_of_some_labels_of_several_teachers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    some = table_of_two(NAMES, data="digits:0,4-5", labels=("0", "4", "5"))
    monkeypatch.setitem(BENCHMARKS, "some", some)
    rows = ("ensemble, noise", "teacher 2, alone")
    options = Bench(out=tmp_path / "runs", results=tmp_path, seeds=(0,), rows=rows, shorten=200, command="bench some")
    results = bench("some", options, QUIET)["rows"]
    assert {len(row["per_class"]) for row in results.values()} == {3}
    zero, four, five = results["teacher 2, alone"]["per_class"]
    assert zero == four == 0 < five  # it knows 5 to 9


def test_the_table_of_six_digits_has_these_digits():
    table, digits = BENCHMARKS["mnist-amalgamation-of-six"], tuple("0123456789")
    images = open_real(table.data.replace("mnist", "digits"), "test", "evaluation", Ledger())
    assert images.classes == tuple(table.labels)
    known = [
        open_real(data.replace("mnist", "digits"), "test", "evaluation", Ledger()).classes
        for data in table.teacher_data
    ]
    assert sum(known, ()) == digits and all(set(labels) & set(table.labels) for labels in known)


def test_teachers_that_are_only_evaluated_are_evaluated_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(BENCHMARKS, "two", table_of_two(NAMES, data="digits"))
    rows = ("ensemble, noise", "teacher 2, alone")
    options = Bench(out=tmp_path / "runs", results=tmp_path, seeds=(0, 1), rows=rows, shorten=400, command="bench two")
    results = bench("two", options, QUIET)["rows"]
    assert [len(results[name]["each"]) for name in rows] == [2, 1] and results["teacher 2, alone"]["sd"] is None


def test_the_mean_leaves_out_classes_without_images():
    assert mean_percent([0.5, None, 1.0]) == 75.0 and mean_percent([None, None]) is None


def test_the_result_of_a_script_has_its_command_and_the_machine(tmp_path: Path):
    write_script_result(None, seeds=[0])
    write_script_result(tmp_path / "result.json", seeds=[0])
    result = json.loads((tmp_path / "result.json").read_text())
    assert list(result) == ["command", "processor", "torch", "seeds"] and result["command"].startswith("python ")


def test_headers_are_keys_with_spaces():
    assert [header(key) for key in ("seconds_to_95", "macs", "teacher")] == ["seconds to 95", "MACs", "teacher"]


def test_every_column_is_a_key_of_a_row():
    network = {"accuracy": 0.5, "parameters": 1, "macs": 1, "per_class": [0.5]}
    accuracies = {"old_classes_accuracy": 0.5, "new_classes_accuracy": 0.5}
    summary = {"student": network | accuracies, "teacher": network, "seconds": 1.0, "curve": []}
    counts = {"images_synthesized": 1, "real_images_seen": 0, "new_class_images_seen": 1, "scores_after_tasks": [0.5]}
    for table in BENCHMARKS.values():
        row = next(iter(table.rows.values()))
        assert set(table.columns) <= collect_row(row, [summary | counts]).keys()


class TestTeachersOfATable:
    def test_a_finished_teacher_is_not_trained_again(self, table: dict[str, Any], options: Bench):
        weights = options.out / "teacher" / "model.safetensors"  # type: ignore[operator]
        before = weights.stat().st_mtime_ns
        bench("digits", replace(options, rows=("noise",)), QUIET)
        assert weights.stat().st_mtime_ns == before

    def test_a_teacher_with_other_settings_is_an_error(self, table: dict[str, Any], options: Bench):
        with pytest.raises(InputError, match="was trained with other settings"):
            bench("digits", replace(options, rows=("noise",), shorten=200), QUIET)

    @pytest.mark.parametrize("damage", ["{", "[]", '{"seconds": "3"}', '{"seconds": NaN}'])
    def test_a_damaged_file_of_settings_is_one_sentence(self, damage: str, tmp_path: Path):
        (tmp_path / "training.json").write_text(damage)
        with pytest.raises(InputError, match="training.json"):
            read_training(tmp_path)

    def test_an_unfinished_teacher_is_trained_again(self, table: dict[str, Any], options: Bench):
        training = options.out / "teacher" / "training.json"  # type: ignore[operator]
        before = json.loads(training.read_text())
        training.unlink()
        bench("digits", replace(options, rows=("noise",)), QUIET)
        after = json.loads(training.read_text())
        assert before.pop("seconds") and after.pop("seconds") and after == before


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"rows": ("oracle", "the teachers, even")}, "none of these rows trains a student"),
        ({"rows": ("dual-gan",), "seeds": (0, 0)}, "a seed is given twice"),
    ],
)
def test_invalid_choices_are_an_error_before_anything_is_run(changes: dict[str, Any], match: str, tmp_path: Path):
    with pytest.raises(InputError, match=match):
        bench("mnist-amalgamation", Bench(out=tmp_path / "runs", results=tmp_path / "results", **changes), QUIET)
    assert not list(tmp_path.iterdir())
