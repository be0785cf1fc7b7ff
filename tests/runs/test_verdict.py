"""The verdict: every rule is provoked by a real tiny run, and checked by hand."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import toys

from datafree import teachers
from datafree.applications.distillation import DistillationConfig
from datafree.classifier import Classifier
from datafree.commands.main import main
from datafree.methods import METHODS
from datafree.runs import experiment as experiments
from datafree.runs import logger as logging
from datafree.runs.tasks import Task
from datafree.runs.verdict import RULES, Evidence, findings, probe, verdict
from datafree.runs.verdict.judging import judge
from datafree.runs.verdict.rules import for_part
from datafree.synthesis import Schedule, Stream

FIRST = Schedule(warmup_batches=2, refresh_every=0, pool_batches=2, batch_size=8)
PAGE = Path(__file__).parents[2] / "docs" / "verdict.md"


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every step and batch is logged; nothing is written at the end."""
    monkeypatch.setattr(logging, "LOG_EVERY", 1)
    monkeypatch.setattr(logging, "HEALTH_EVERY", 1)
    monkeypatch.setattr(experiments, "write_results", lambda *arguments, **settings: None)
    monkeypatch.setattr(experiments, "answers_of_run", lambda *arguments, **settings: None)
    monkeypatch.setattr(experiments, "estimate_of", lambda *arguments, **settings: None)
    yield


def found(teacher: Path, out: Path, **changes: Any) -> dict[str, Mapping[str, Any]]:
    """The findings of a tiny run by rule."""
    planned = toys.experiment(teacher, checkpoint_interval=1e6, **changes)
    return {row["rule"]: row for row in experiments.run(planned, out).summary["verdict"]["findings"]}


def noise(size: int = 32) -> Any:
    return replace(METHODS["noise"], batch_size=size)


@pytest.mark.usefixtures("measured")
class TestProvoked:
    def test_an_inversion_that_is_too_short(self, digits_teacher: Path, tmp_path: Path):
        method = replace(METHODS["deep-inversion"], steps=(1,), batch_size=8, classification=0.0)
        rows = found(digits_teacher, tmp_path / "run", method=method, schedule=FIRST)
        assert rows["classes not reached"]["level"] == "fault" and rows["classes not reached"]["value"] < 0.3
        assert rows["statistics not converged"]["level"] == "warning"
        assert rows["few images"]["value"] == 1.6  # 2 batches of 8 images for 10 classes
        assert rows["student does not fit"]["advice"]

    def test_a_learning_rate_that_is_too_high(self, digits_teacher: Path, tmp_path: Path):
        learn = DistillationConfig(steps=12, lr=10.0, lr_warmup=0.0)
        rows = found(digits_teacher, tmp_path / "run", method=noise(8), schedule=FIRST, application=learn)
        assert rows["learning rate too high"]["value"] > 2

    def test_a_student_that_forgets(self, digits_teacher: Path, tmp_path: Path):
        learn = DistillationConfig(steps=40, lr=10.0, lr_warmup=1.0, weight_decay=0)
        rows = found(digits_teacher, tmp_path / "run", method=noise(), schedule=Schedule(), application=learn)
        assert rows["agreement falling"]["value"] > 0.1

    def test_running_statistics_that_do_not_fit_the_weights(self, digits_teacher: Path, tmp_path: Path):
        learn = DistillationConfig(steps=15, lr=0.1, lr_warmup=1.0)
        rows = found(digits_teacher, tmp_path / "run", method=noise(8), schedule=FIRST, application=learn)
        assert rows["batch norm not settled"]["value"] < 0.8

    def test_a_student_that_is_still_learning(self, digits_teacher: Path, tmp_path: Path):
        learn = DistillationConfig(steps=20, lr=0.03, lr_warmup=1.0)
        rows = found(digits_teacher, tmp_path / "run", method=noise(8), schedule=FIRST, application=learn)
        assert rows["still learning"]["value"] < 0.7

    def test_a_generator_that_draws_one_image(self, digits_teacher: Path, tmp_path: Path):
        small = {"batch_size": 16, "latent_size": 4, "lr": 5.0, "discard_first": 0}
        method, learn = replace(METHODS["group-stack"], **small), DistillationConfig(steps=40)
        rows = found(digits_teacher, tmp_path / "run", method=method, schedule=Schedule(), application=learn)
        assert {"one class", "near-duplicates"} <= rows.keys() and rows["one class"]["level"] == "fault"

    def test_a_teacher_that_knows_nothing(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
        torch.manual_seed(0)
        teachers.save_folder(teachers.create("lenet5"), tmp_path / "teacher")
        task = Task(teacher=f"local-dir:{tmp_path / 'teacher'}", student="lenet5_half")
        learn = DistillationConfig(steps=2)
        rows = found(tmp_path, tmp_path / "run", task=task, method=noise(8), schedule=FIRST, application=learn)
        assert rows["teacher unsure"]["level"] == "fault"

    def test_images_without_labels(self, teacher: Classifier, tmp_path: Path):
        """A multi-label teacher whose biases say no to every label."""
        network = teachers.create("lenet5")
        network.multi_label = True
        head = next(m for m in reversed(list(network.model.modules())) if isinstance(m, torch.nn.Linear))
        torch.nn.init.constant_(head.bias, -20.0)
        teachers.save_folder(network, tmp_path / "teacher")
        task = Task(teacher=f"local-dir:{tmp_path / 'teacher'}", student="lenet5_half")
        learn = DistillationConfig(steps=2)
        rows = found(tmp_path, tmp_path / "run", task=task, method=noise(8), schedule=FIRST, application=learn)
        assert rows["labels per image"]["value"] == 0 and rows["labels per image"]["level"] == "fault"
        assert "teacher unsure" not in rows

    @pytest.mark.slow
    def test_a_run_that_goes_well_has_no_faults(self, digits_teacher: Path, tmp_path: Path):
        method = replace(METHODS["deep-inversion"], steps=(60,), batch_size=64)
        schedule = Schedule(warmup_batches=2, refresh_every=0, pool_batches=2, batch_size=64)
        learn = DistillationConfig(steps=60, lr=2e-2)
        rows = found(digits_teacher, tmp_path / "run", method=method, schedule=schedule, application=learn)
        assert {row["level"] for row in rows.values()} <= {"warning"} and "few images" in rows


def line(step: int, **signals: float) -> dict[str, Any]:
    """A line of the log about a batch."""
    return {"phase": "synthesis", "step": step, **{f"health/{name}": value for name, value in signals.items()}}


def losses(values: list[float]) -> list[dict[str, Any]]:
    return [{"phase": "application", "step": step, "loss": value} for step, value in enumerate(values, 1)]


def named(evidence: Evidence) -> dict[str, tuple[str, float]]:
    return {finding.rule: (finding.level, finding.value) for finding in findings(evidence)}


HAND: dict[str, tuple[Evidence, str, float]] = {
    # 8 images reach an entropy of ln 8 of ln 10: 0.09 / (ln 8 / ln 10) = 0.0997
    "one class": (Evidence(log=[line(1, class_balance=0.09)], classes=10, batch_images={"": 8}), "fault", 0.0997),
    "near-duplicates": (Evidence(log=[line(1, duplicates=0.3), line(2, duplicates=0.2)], classes=10), "warning", 0.25),
    "labels per image": (Evidence(log=[line(1, labels_per_image=0.3)], classes=10), "warning", 0.3),
    # (0.14 - 0.1) / 0.9
    "teacher unsure": (Evidence(log=[line(1, confidence=0.14)], classes=10), "fault", 0.0444),
    "classes not reached": (Evidence(log=[line(1, on_target=0.5)], classes=10, aims=True), "warning", 0.5),
    "statistics not converged": (
        Evidence(log=[line(1, relative_statistics=4.0) | {"statistics": 1.0}], classes=10),
        "fault",
        4.0,
    ),
    "few images": (Evidence(classes=10, images={"a": 200, "b": 100}), "warning", 30.0),
    # the best third has 0.8, the last 0.6
    "agreement falling": (
        Evidence(log=[line(n, agreement=a) for n, a in enumerate([0.5] * 3 + [0.8] * 3 + [0.6] * 3)], classes=10),
        "warning",
        0.2,
    ),
    "learning rate too high": (Evidence(log=losses([2.0] * 5 + [20.0] + [1.0] * 4)), "warning", 10.0),
    # fifths of two lines: 4 and 2
    "still learning": (Evidence(log=losses([9.0] * 6 + [4.0, 4.0, 2.0, 2.0])), "warning", 0.5),
    "student does not fit": (Evidence(probe={"agreement": 0.4}), "fault", 0.4),
    "batch norm not settled": (Evidence(probe={"settled": 0.7}), "warning", 0.7),
}


@pytest.mark.parametrize("rule", RULES)
class TestEveryRule:
    def test_by_hand(self, rule: str):
        evidence, level, value = HAND[rule]
        assert named(evidence) == {rule: (level, pytest.approx(value, abs=1e-4))}

    def test_has_a_range_a_meaning_and_an_advice(self, rule: str):
        described, _ = RULES[rule]
        assert described.name == rule and described.range[0].isalnum()
        assert described.meaning.endswith(".") and not described.advice.endswith(".")

    def test_is_on_the_page(self, rule: str):
        described, _ = RULES[rule]
        row = f"| {rule} | {described.value} | {described.range} | {described.meaning} | {described.advice} |"
        assert row in PAGE.read_text().splitlines()


def test_what_is_within_its_range_is_no_finding():
    good = line(1, class_balance=0.9, duplicates=0.0, confidence=0.9, on_target=0.95, relative_statistics=0.05)
    evidence = Evidence(
        log=[good | {"statistics": 0.1}, *losses([3.0, 2.0, 1.5, 1.2, 1.1, 1.0, 1.0, 0.9, 0.9, 0.9])],
        classes=10,
        batch_images={"": 64},
        images={"": 1000},
        aims=True,
        probe={"agreement": 0.95, "settled": 0.99},
    )
    assert findings(evidence) == []


def test_without_measurements_nothing_is_said():
    assert findings(Evidence()) == [] and findings(Evidence(log=losses([1.0] * 3), classes=10)) == []


def test_a_finding_names_its_part_of_a_mixture():
    log = [{"phase": "synthesis", "step": 1, "health/noise/duplicates": 0.0, "health/fast/duplicates": 0.95}]
    (finding,) = findings(Evidence(log=log, classes=10))
    assert finding.sentence == "95 % of the images of fast have a near-duplicate in their batch"
    assert "`--method.fast.reset-every`" in finding.advice and "`--method.fast.lr`" in finding.advice


def test_an_advice_has_the_options_of_the_part():
    assert for_part("`--method.steps`, `--pool-batches` or `--lr`") == "`--method.steps`, `--pool-batches` or `--lr`"
    text = for_part("`--method.steps`, `--pool-batches`, `--lr` or `--method noise`", "refine")
    assert text == "`--method.refine.steps`, `--method.refine.pool-batches`, `--lr` or `--method noise`"


def test_only_rules_for_a_running_run_are_checked_while_it_runs():
    evidence = Evidence(log=[line(1, duplicates=1.0)], classes=10, images={"": 8})
    assert [f.rule for f in findings(evidence, while_it_runs=True)] == ["near-duplicates"]
    assert [f.rule for f in findings(evidence)] == ["near-duplicates", "few images"]


def results(accuracy: float | None, **more: Any) -> dict[str, Any]:
    return {"accuracy": accuracy, "images": 450, **more}


def summary(student: Mapping[str, Any], teacher: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {"student": student, "teacher": teacher, "classes": list("abcdefghij"), **more}


@pytest.mark.parametrize(
    ("accuracy", "word"), [(0.95, "good"), (0.9, "good"), (0.89, "doubtful"), (0.75, "doubtful"), (0.74, "collapsed")]
)
def test_the_word_comes_from_the_retention(accuracy: float, word: str):
    assert judge(summary(results(accuracy), results(1.0)))[0] == word


def test_chance_level_is_collapsed_whatever_the_teacher_does():
    # 450 images of 10 classes: two standard errors are 2 sqrt(0.1 x 0.9 / 450) = 0.0283
    word, sentence = judge(summary(results(0.128), results(0.13)))
    assert word == "collapsed" and sentence == "the student is at chance level: 12.8 % held-out, with 10 classes"
    assert judge(summary(results(0.129), results(0.13)))[0] == "good"


def test_labelled_images_count_before_the_estimate_and_the_estimate_before_nothing():
    estimate = {"word": "doubtful", "sentence": "the student keeps about 80 % of its teacher's accuracy."}
    unknown: dict[str, Any] = {"parameters": 1}
    assert judge(summary(results(0.95), results(1.0), estimate=estimate))[0] == "good"
    assert judge(summary(unknown, unknown, estimate=estimate)) == ("doubtful", estimate["sentence"][:-1])
    assert judge(summary(unknown, unknown, estimate={"word": "not estimated"}))[0] == "not estimated"
    refused = {"word": "not estimated", "sentence": "Retention was not estimated: the pools are too small."}
    assert judge(summary(unknown, unknown, estimate=refused)) == ("not estimated", "the pools are too small")
    assert "no real images were given" in judge(summary(unknown, unknown))[1]
    word, sentence = judge(summary({"agreement": 0.5, "images": 20}, unknown))
    assert word == "not estimated" and "50.0 % of 20 real images without labels" in sentence


def test_a_student_of_new_classes_is_compared_on_the_old_ones():
    student = results(0.9, old_classes_accuracy=0.6, new_classes_accuracy=0.95)
    assert judge(summary(student, results(0.5, old_classes_accuracy=1.0)))[0] == "collapsed"


def test_a_student_that_has_not_learned_the_new_classes_is_not_good():
    teacher = results(0.5, old_classes_accuracy=1.0)
    word, sentence = judge(summary(results(0.5, old_classes_accuracy=0.96, new_classes_accuracy=0.0), teacher))
    assert (
        word == "collapsed" and "did not learn the new classes: 0.0 % held-out on them, 96.0 % on the old" in sentence
    )
    word, sentence = judge(summary(results(0.9, old_classes_accuracy=0.96, new_classes_accuracy=0.8), teacher))
    assert word == "good" and sentence.endswith("(96.0 % of 100.0 %), and has 80.0 % on the new ones")


def test_the_entry_of_the_summary_is_json():
    entry = verdict(summary(results(0.95), results(1.0)), findings(HAND["few images"][0]))
    assert json.loads(json.dumps(entry)) == entry
    assert entry.keys() == {"word", "sentence", "findings"}
    assert entry["findings"][0].keys() == {"rule", "level", "value", "range", "sentence", "advice"}


def test_the_probe_changes_nothing_and_draws_nothing(teacher: Classifier, student: Classifier):
    stream = Stream.of(
        toys.TINY["noise"], teacher, student, Schedule(warmup_batches=4, refresh_every=0, pool_batches=4)
    )
    next(stream)
    before, numbers = toys.snapshot(student), torch.get_rng_state()
    values = probe(stream, teacher, student)
    assert values.keys() == {"agreement", "settled"} and toys.same(toys.snapshot(student), before)
    assert torch.equal(numbers, torch.get_rng_state())
    assert probe(stream, teacher, teacher)["agreement"] == 1
    assert probe(iter([]), teacher, student) == {}


def test_a_student_at_chance_level_is_called_collapsed(
    digits_teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """On the console, in the summary and in the card; a run of noise with a student that learns nothing."""
    words = f"--teacher local-dir:{digits_teacher} --student convnet_w16 --data digits --method noise --lr 1e-9"
    out = tmp_path / "run"
    assert main(["distill", *words.split(), "--steps", "2", "--device", "cpu", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "\nverdict  collapsed: the student is at chance level: " in text
    assert json.loads((out / "summary.json").read_text())["verdict"]["word"] == "collapsed"
    assert "**Collapsed**: `the student is at chance level" in (out / "student" / "README.md").read_text()
    assert main(["report", str(out)]) == 0
    assert "\nverdict  collapsed: " in capsys.readouterr().out
