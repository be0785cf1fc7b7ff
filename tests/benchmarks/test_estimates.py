"""The table of estimates: naive estimates and scores by hand, and the table itself."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console

from datafree.benchmarks.estimates import scores, table
from datafree.benchmarks.estimates.measuring import add_disagreement
from datafree.benchmarks.estimates.naive import average_threshold, disagreement, mean_confidence, naive_estimates
from datafree.benchmarks.estimates.quantized import load_student, quantized_students
from datafree.benchmarks.estimates.students import FAMILIES
from datafree.benchmarks.estimates.training import (
    STUDENTS,
    Snapshots,
    Student,
    around,
    first_student,
    is_made_by,
    load_teacher,
    train_network,
    train_students,
)
from datafree.estimation.families import families_of, is_known
from datafree.runs.training import TRAINING
from datafree.runs.training import recipe as teacher_recipe
from datafree.teachers import create
from datafree.teachers.folders import save_folder
from datafree.types import InputError


class TestNaive:
    def test_average_threshold(self):
        """One of four predictions is wrong, so the threshold is the second lowest confidence, 0.5."""
        own = torch.tensor([0.9, 0.3, 0.5, 0.7])
        agrees = torch.tensor([True, False, True, True])
        assert average_threshold(own, agrees, torch.tensor([0.4, 0.5, 0.6, 0.9])) == pytest.approx(0.75)

    def test_average_threshold_of_a_student_that_is_never_or_always_right(self):
        own, other = torch.tensor([0.3, 0.5]), torch.tensor([0.3, 0.4])
        assert average_threshold(own, torch.tensor([True, True]), other) == 1
        assert average_threshold(own, torch.tensor([False, False]), other) == 0

    def test_mean_confidence(self):
        sure, unsure = torch.tensor([[50.0, 0.0]]), torch.tensor([[0.0, 0.0]])
        assert mean_confidence(unsure, sure) == pytest.approx(0.5)
        assert mean_confidence(sure, unsure) == 1

    def test_agreement(self):
        first, second = torch.eye(4), torch.eye(4)[[0, 1, 3, 2]]
        assert disagreement(first, second) == 0.5
        found = naive_estimates(first, torch.tensor([0, 1, 2, 0]), second, torch.arange(4), first)
        assert (found["own pool"], found["other pools"]) == (0.75, 0.5)

    def test_two_seeds_are_compared_and_a_single_one_has_no_twin(self):
        rows: list[dict[str, Any]] = [
            {"teacher": "t", "recipe": "r", "steps": steps, "seed": seed, "naive": {}}
            for steps, seed in ((5, 0), (5, 1), (9, 0))
        ]
        add_disagreement(rows, [torch.eye(4), torch.eye(4)[[0, 1, 3, 2]], torch.eye(4)])
        assert [row["naive"]["GDE"] for row in rows] == [0.5, 0.5, None]


def row(teacher: str, retention: float, estimate: float, word: str = "doubtful", **changes: Any) -> dict[str, Any]:
    naive = dict.fromkeys(table.NAIVE, 0.5) | {"GDE": None}
    plain = {"teacher": teacher, "recipe": "r", "kind": "distilled", "seed": 0, "steps": 9}
    plain |= {"retention": retention, "S": estimate}
    return plain | {"low": estimate - 0.05, "high": estimate + 0.05, "word": word, "naive": naive} | changes


ROWS = [
    row("a", 0.95, 0.93, "good"),
    row("a", 0.85, 0.94, "good"),
    row("b", 0.92, 0.91, "good"),
    row("b", 0.4, 0.6, "good"),
]


class TestScores:
    def test_errors_and_choices(self):
        found = scores.scores(ROWS, [each["S"] for each in ROWS])
        assert (found["students"], found["above"]) == (4, 2)
        assert found["error_above"] == pytest.approx(0.015)
        assert found["error"] == pytest.approx((0.02 + 0.09 + 0.01 + 0.2) / 4)
        assert found["right_choices"] == 0.5  # right for b, wrong for a
        low, high = found["error_above_range"]
        assert 0.01 - 1e-6 <= low <= 0.015 <= high <= 0.02 + 1e-6

    def test_pairs_that_differ_little_or_have_both_failed_do_not_count(self):
        rows = [row("a", 0.95, 0.9), row("a", 0.94, 0.95), row("b", 0.5, 0.4), row("b", 0.3, 0.6)]
        assert scores.right_choices(rows, [each["S"] for each in rows]) is None

    def test_ranks(self):
        assert scores.rank_correlation([1, 2, 3], [10, 20, 30]) == pytest.approx(1)
        assert scores.rank_correlation([1, 2, 3], [30, 20, 10]) == pytest.approx(-1)
        assert scores.rank_correlation([1, 1], [30, 20]) is None
        assert scores.ranks([5.0, 1.0, 5.0, 9.0]).tolist() == [1.5, 0.0, 1.5, 3.0]

    def test_coverage_and_false_praise(self):
        assert scores.coverage(ROWS) == 0.5
        assert scores.false_praise(ROWS) == 1
        assert scores.coverage([row("a", 1.01, 0.97), row("a", 0.94, 0.97)]) == 1

    def test_estimates_that_are_missing_are_left_out(self):
        assert scores.scores(ROWS, [0.9, None, None, None])["students"] == 1


class TestTable:
    @pytest.fixture
    def result(self) -> dict[str, Any]:
        shares = {"a": [0.5, 0.5], "b": [0.25, 0.75]}
        return table.collect(ROWS, shares, "datafree bench estimate", 1)

    def test_it_is_json(self, result: dict[str, Any]):
        assert json.loads(json.dumps(result, allow_nan=False)) == result
        assert result["by_kind"]["distilled"]["coverage"] == 0.5
        assert result["coverage_by_teacher"] == {"a": 0.5, "b": 0.5}
        assert result["scores"]["GDE"]["students"] == 0

    def test_markdown_lists_scores_and_students(self, result: dict[str, Any]):
        text = table.markdown(result)
        assert "| distilled | 4 | 1.5 [1.0, 2.0] | 8.0 | 0.40 | 6.5 | 50.0 |" in text
        assert "| stability-weighted agreement | 4 | 1.5 [" in text
        assert "| b | r | 0 | 9 | 40.0 | 60.0 | 55.0 - 65.0 | good |" in text
        assert "The interval covers 50.0 % of the students. Called good with a retention below 80 %: 1.\n\n|" in text

    def test_students_that_are_not_estimated_are_listed_and_do_not_count(self, result: dict[str, Any]):
        refused = [row("c", truth, 0.9, "not estimated", refused="fragile teacher") for truth in (0.1, 0.95)]
        more = table.collect([*ROWS, *refused], {"a": [1.0]}, "x", 1)
        assert (more["students"], len(more["rows"])) == (4, 6)
        assert more["scores"] == result["scores"]
        found = more["refused"]["fragile teacher"]
        assert (found["students"], found["error"]) == (2, pytest.approx(0.425))
        assert found["bias"] == pytest.approx(0.375)
        sentence = "2 further students are not estimated (fragile teacher): S would be wrong by 42.5 points in the mean"
        assert f"{sentence}, and 37.5 too high." in table.markdown(more)

    def test_the_plot_is_the_same_each_time(self, result: dict[str, Any]):
        first = table.plot(result)
        assert first.startswith("<svg")
        assert table.plot(result) == first

    def test_the_console_shows_every_estimate(self, result: dict[str, Any]):
        assert table.console_table(result).row_count == len(result["scores"])

    def test_the_weights_are_those_of_the_other_teachers(self):
        shares = {"a": [0.0, 1.0], "b": [0.5, 0.5], "c": [1.0, 0.0]}
        assert table.mean_shares(shares, "a") == [0.75, 0.25]


class TestStudents:
    def test_there_are_more_than_six_teachers_and_sixty_students(self):
        assert len(FAMILIES) > 6
        assert sum(len(family.recipes) * len(family.lengths) for family in FAMILIES.values()) >= 60

    def test_the_family_of_each_recipe_is_known(self):
        for family in FAMILIES.values():
            for name, recipe in family.recipes.items():
                assert is_known(recipe.method)
                assert families_of(recipe.method) or name == "noise"
            for name, quantization in family.quantizations.items():
                assert family.kind_of(name) == "quantised"
                assert name not in family.recipes
                assert bool(families_of(family.method_of(name))) == name.endswith("procedural")
                assert quantization.settings.bits == name.split(",")[0]

    def test_the_settings_of_recipes_are_told_apart_and_earlier_ones_are_still_found(self):
        """Only first weights that are not random are added to what a training is compared by."""
        family = FAMILIES["digits, convnet"]
        for name, recipe in family.recipes.items():
            before, after = around(family, recipe, 1)
            text = f"{before}{recipe!r}{after}"
            assert is_made_by(text, family, recipe, 1)
            for older in (text.replace(", select=1", ""), text.replace(", ema=0.0", "")):
                assert older != text
                assert is_made_by(older, family, recipe, 1)
            for other in (
                text.replace("select=1", "select=2"),
                text.replace("temperature=", "hotness="),
                text.replace(" shorten 1", " shorten 2"),
                text.replace("convnet_w16", "convnet_w32"),
                f"{text} inherited",
            ):
                assert not is_made_by(other, family, recipe, 1)
            assert [each for each in family.recipes if is_made_by(text, family, family.recipes[each], 1)] == [name]

    def test_stored_students_and_teachers_are_found_again_after_a_setting_was_added(self, tmp_path: Path):
        """The file of an earlier version lacks the setting; a different value is refused."""
        family, options = FAMILIES["digits, convnet"], SimpleNamespace(shorten=1)
        recipe = family.recipes["noise"]
        folder = tmp_path / "digits-convnet" / "noise" / "seed-0"
        folder.mkdir(parents=True)

        def stored(edit: Callable[[str], str]) -> list[Student]:
            before, after = around(family, recipe, 1)
            (folder / STUDENTS).write_text(
                json.dumps({"made_by": f"{before}{edit(repr(recipe))}{after}", "students": []})
            )
            return train_students("digits, convnet", "noise", 0, tmp_path, tmp_path, options)

        assert stored(lambda text: text) == stored(lambda text: text.replace(", select=1", "")) == []
        with pytest.raises(InputError, match="students with other settings"):
            stored(lambda text: text.replace("steps=300", "steps=301"))

        teacher = tmp_path / "teacher"
        teacher.mkdir()
        made = teacher_recipe(network=family.network, data="digits", training=family.training, seed=0)
        del made["training"]["augment"]["relative_shift"]
        (teacher / TRAINING).write_text(json.dumps(made))
        train_network(family, "digits", teacher, options, Console(quiet=True))
        for edit in ({"steps": 1}, {"unknown": 1}):
            (teacher / TRAINING).write_text(json.dumps(made | {"training": made["training"] | edit}))
            with pytest.raises(InputError, match="was trained with other settings"):
                train_network(family, "digits", teacher, options, Console(quiet=True))

    def test_first_students(self):
        """A pruned student starts as its teacher, an inherited one with some of its channels, others at random."""
        family = FAMILIES["digits, convnet"]
        teacher = create(family.network, classes=("a", "b", "c"), shape=(1, 8, 8)).eval()
        students = {
            start: first_student(replace(family.recipes["procedural"], start=start), family, teacher)
            for start in ("random", "inherited", "pruned")
        }
        images = torch.rand(4, 1, 8, 8)
        assert torch.equal(students["pruned"].eval()(images), teacher(images))
        norms = {start: next(student.model.parameters()).abs().sum((1, 2, 3)) for start, student in students.items()}

        def of_teacher(values: torch.Tensor) -> bool:
            return bool(torch.isclose(values[:, None], norms["pruned"], atol=1e-6).any(1).all())

        assert of_teacher(norms["inherited"])
        assert not of_teacher(norms["random"])

    def test_copies_are_of_the_moment(self):
        """A copy of a step does not change with the student, even if its layers do."""
        teacher = create("convnet_w16", classes=("a", "b"), shape=(1, 8, 8)).eval()
        snapshots = Snapshots(teacher, [2])
        for step in (1, 2, 3):
            with torch.no_grad():
                next(teacher.parameters()).fill_(step)
            snapshots.log(step, {})
        assert list(snapshots.copies) == [2]
        assert (next(snapshots.copies[2].parameters()) == 2).all()

    def test_rows_of_a_table_become_recipes(self):
        family = FAMILIES["cifar10 16x16, resnet"]
        assert family.table is not None
        for name, recipe in family.recipes.items():
            assert recipe.method == family.table.rows[name].method
        assert families_of(family.recipes["auto, without hints"].method) == {"procedural", "deep-inversion"}

    def test_several_teachers_are_one(self, tmp_path: Path):
        family = FAMILIES["two teachers of digits, convnet"]
        for number, names in enumerate((("0", "1"), ("2", "3")), 1):
            save_folder(create("convnet_w16", classes=names, shape=(1, 8, 8)), tmp_path / str(number))
        assert load_teacher(family, tmp_path).classes == ("0", "1", "2", "3")

    @pytest.mark.slow
    def test_a_teacher_in_integers_is_a_student(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        """It is made once; its answers are those of its file."""
        name, recipe = "digits, convnet", "w8a8, procedural"
        torch.manual_seed(0)
        family = replace(FAMILIES[name], recipes={})
        monkeypatch.setitem(FAMILIES, name, family)
        teacher = create("convnet_w16", classes=tuple("0123456789"), shape=(1, 8, 8)).eval()
        save_folder(teacher, tmp_path / "teacher")
        options = SimpleNamespace(data_root="")
        made = quantized_students(name, recipe, 0, tmp_path / "teacher", tmp_path / "out", options)
        assert [(each.teacher, each.recipe, each.steps) for each in made] == [(name, recipe, 0)]
        again = quantized_students(name, recipe, 0, tmp_path / "teacher", tmp_path / "out", options)
        assert again == made
        student = load_student(tmp_path / "out" / made[0].folder)
        images = torch.rand(64, 1, 8, 8)
        assert (student(images).argmax(1) == teacher(images).argmax(1)).float().mean() > 0.8
        assert not torch.equal(student(images), teacher(images))
        monkeypatch.setitem(
            FAMILIES,
            name,
            replace(family, quantizations={recipe: replace(family.quantizations[recipe], images=128)}),
        )
        with pytest.raises(InputError, match="students with other settings"):
            quantized_students(name, recipe, 0, tmp_path / "teacher", tmp_path / "out", options)

    def test_the_last_length_is_the_whole(self):
        assert {family.lengths[-1] for family in FAMILIES.values()} == {1.0}
