"""Pruning to a goal: a fraction of the multiplications or parameters, or a latency; and widths that are multiples."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import toys

from datafree import teachers
from datafree.applications import pruning_goals
from datafree.applications.pruning import Pruner, PruningConfig, prune
from datafree.applications.pruning_goals import Goal, cost_after, fewest_cuts, milliseconds
from datafree.classifier import Classifier
from datafree.evaluation import measure
from datafree.networks.pruning_order import Cut
from datafree.networks.pruning_surgery import widths_of
from datafree.runs.experiment import resume, run
from datafree.runs.logger import RunLogger
from datafree.runs.reporting.sentences import pruning
from datafree.runs.tasks import Task
from datafree.types import Batch, InputError

QUICK = PruningConfig(steps=0, rounds=2, importance_batches=2, importance_slice=8)


@pytest.fixture(scope="module")
def network() -> Classifier:
    torch.manual_seed(0)
    return teachers.create("convnet_w64", shape=(1, 8, 8)).eval()


def pruned(teacher: Classifier, config: PruningConfig) -> Classifier:
    torch.manual_seed(1)
    images = torch.rand(8, *teacher.shape)
    batches = iter(lambda: Batch(images, torch.zeros(8, dtype=torch.long), {}), None)
    made = prune(copy.deepcopy(teacher), teacher, batches, config)
    assert isinstance(made, Classifier)
    return made


class TestTheGoal:
    @pytest.mark.parametrize(
        ("text", "measure", "bound"),
        [
            ("macs:0.5", "macs", 0.5),
            ("params:0.3", "params", 0.3),
            ("latency:5ms", "latency", 5),
            ("macs:1e-3", "macs", 0.001),
        ],
    )
    def test_it_is_parsed(self, text: str, measure: str, bound: float):
        assert Goal.parse(text) == Goal(text, measure, bound)

    @pytest.mark.parametrize(
        "text",
        [
            "macs",
            "macs:",
            "macs:1",
            "macs:0",
            "macs:-1",
            "macs:nan",
            "params:2",
            "flops:0.5",
            "latency:0ms",
            "latency:infms",
            "0.5",
        ],
    )
    def test_other_texts_are_refused(self, text: str):
        with pytest.raises(
            InputError, match=rf"^target is '{text}'; give a fraction above 0 and below 1 or a time, such as macs:0.5"
        ):
            PruningConfig(target=text)

    def test_a_latency_has_a_unit(self):
        with pytest.raises(
            InputError,
            match=r"^target is 'latency:5', but a latency is in milliseconds; write for example latency:5ms$",
        ):
            PruningConfig(target="latency:5")

    def test_costs_are_those_of_the_report(self, network: Classifier):
        found = measure(network)
        assert (
            Goal.parse("macs:0.5").cost(network) == found.macs
            and Goal.parse("params:0.5").cost(network) == found.parameters
        )
        assert milliseconds(network) > 0

    def test_a_cost_rounded_up_is_a_goal_that_it_meets(self):
        goal = Goal.parse("params:0.5")
        assert goal.shown(1001, 1e6) == "params:0.001" and goal.shown(1001, 1e6, rounded_up=True) == "params:0.002"
        assert Goal.parse("latency:1ms").shown(0.12345, 9, rounded_up=True) == "latency:0.124ms"

    def test_the_cost_after_cuts_changes_nothing(self, network: Classifier):
        before = toys.snapshot(network)
        assert cost_after(Goal.parse("params:0.5"), network, [Cut(0, (0, 1))]) < measure(network).parameters
        assert toys.same(toys.snapshot(network), before)

    @pytest.mark.parametrize("limit", [9.5, 8, 5, 1.5, 0.5])
    def test_bisection_finds_the_fewest_cuts(self, limit: float):
        assert fewest_cuts(9, lambda count: 10 - count, limit) == min(
            9, next(n for n in range(1, 11) if 10 - n <= limit)
        )

    def test_with_one_cut_nothing_is_measured(self):
        assert fewest_cuts(1, lambda _: pytest.fail("measured"), 0) == 1


class TestPruningToIt:
    @pytest.mark.parametrize("target", ["macs:0.5", "params:0.3"])
    def test_it_is_met_with_little_to_spare(self, network: Classifier, target: str):
        goal = Goal.parse(target)
        student = pruned(network, replace(QUICK, target=target))
        assert 0.9 * goal.bound < goal.cost(student) / goal.cost(network) <= goal.bound

    def test_widths_are_multiples(self, network: Classifier):
        student = pruned(network, replace(QUICK, target="macs:0.5", multiple=8))
        before, after = widths_of(network.model), widths_of(student.model)
        assert measure(student).macs <= 0.5 * measure(network).macs
        assert all(width % 8 == 0 for name, width in after.items() if width != before[name]) and after != before

    def test_the_ratio_takes_multiples_too(self, network: Classifier):
        student = pruned(network, replace(QUICK, ratio=0.4, multiple=4))
        before, after = widths_of(network.model), widths_of(student.model)
        assert all(width % 4 == 0 for name, width in after.items() if width != before[name]) and after != before

    def test_rounds_stop_at_the_first_that_meets_it(self, network: Classifier, monkeypatch: pytest.MonkeyPatch):
        """A time that falls with the parameters, but faster than the rounds assume."""
        whole = measure(network).parameters
        monkeypatch.setattr(
            pruning_goals, "milliseconds", lambda n: 10.0 if measure(n).parameters > 0.95 * whole else 1.0
        )
        config, rounds = replace(QUICK, target="latency:5ms", rounds=4), []
        monkeypatch.setattr("datafree.applications.pruning.Pruner.reset_importance", counting(rounds))
        student = pruned(network, config)
        assert len(rounds) == 2  # at the start, and after the only round
        assert 0.9 * whole < measure(student).parameters <= 0.95 * whole
        assert config.summarize(student, network)["pruned"] | {"filters_before": 0, "filters_after": 0} == {
            "filters_before": 0, "filters_after": 0, "rounds": 4, "multiple": 1, "target": "latency:5ms", "reached": "latency:1.000ms",
        }  # fmt: skip

    @pytest.mark.parametrize(("target", "multiple"), [("params:0.0001", 1), ("macs:0.05", 16)])
    def test_what_cannot_be_reached_is_refused_with_the_least(self, network: Classifier, target: str, multiple: int):
        config = replace(QUICK, target=target, multiple=multiple)
        with pytest.raises(InputError, match=f"^target {target} cannot be reached: .*; give at least that$") as error:
            prune(copy.deepcopy(network), network, untouched(), config)
        least = str(error.value).partition(", it is ")[2].partition(";")[0]
        pruned(network, replace(config, target=least, rounds=1))

    def test_a_latency_that_is_met_already_is_refused(self, network: Classifier):
        with pytest.raises(
            InputError, match=r"^target latency:10000ms is met before pruning, at latency:.*ms; give a lower one$"
        ):
            prune(copy.deepcopy(network), network, untouched(), replace(QUICK, target="latency:10000ms"))

    def test_a_ratio_out_of_reach_names_the_multiple(self, network: Classifier):
        with pytest.raises(InputError, match="with min-kept 0.0 and multiple 256; give smaller values$"):
            prune(copy.deepcopy(network), network, untouched(), replace(QUICK, multiple=256))


def untouched() -> Iterator[Batch]:
    raise AssertionError("a batch was asked for")
    yield


def counting(calls: list[int]):
    from datafree.applications.pruning import Pruner

    original = Pruner.reset_importance

    def counted(self: Pruner) -> None:
        calls.append(1)
        original(self)

    return counted


def test_the_costs_are_kept_in_a_checkpoint(network: Classifier):
    """A latency is not the same when it is measured again."""
    config = replace(QUICK, target="params:0.5")
    one, other = (Pruner(copy.deepcopy(network), network, config) for _ in range(2))
    one.initial_cost, one.cost, one.round = 7.0, 3.0, 1
    other.load_state_dict(one.state_dict())
    assert (other.initial_cost, other.cost, other.round, other.is_reached) == (7.0, 3.0, 1, True)


@pytest.mark.slow
def test_a_run_to_a_goal_is_resumed_and_says_what_it_reached(
    digits_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    application = replace(QUICK, target="params:0.5", multiple=4, steps=6)
    made = toys.experiment(digits_teacher, task=Task(teacher=f"local-dir:{digits_teacher}"), application=application)
    whole = run(made, tmp_path / "whole")
    log = RunLogger.log

    def interrupt(self: RunLogger, step: int, terms: object) -> None:
        log(self, step, terms)  # type: ignore[arg-type]
        if step == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(RunLogger, "log", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(made, tmp_path / "parts")
    monkeypatch.setattr(RunLogger, "log", log)
    resumed = resume(tmp_path / "parts")
    assert resumed.summary["student_sha256"] == whole.summary["student_sha256"]
    found = whole.summary["pruned"]
    assert found["target"] == "params:0.5" and found["reached"].startswith("params:0.4")
    sentence = pruning(whole.summary)
    assert f"Target params:0.5: {found['reached']} was reached." in sentence and "have a multiple of 4" in sentence
    assert sentence in (whole.path / "student" / "README.md").read_text()
