"""Tests of pruning."""

import copy
import json
import math
import os
import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import toys
from torch import Tensor, nn
from torture.forks import fork

from datafree import teachers
from datafree.applications.distillation import DistillationConfig
from datafree.applications.pruning import Pruner, PruningConfig, prune, sampled_cross_entropy
from datafree.classifier import Classifier, batch_norms
from datafree.commands.main import main
from datafree.evaluation import measure
from datafree.losses import distillation_loss
from datafree.networks.importance import gate_gradients, hardware_aware_scores, lowest_scoring, macs_saved
from datafree.networks.pruning_surgery import Channels, Group, widths_of
from datafree.runs.experiment import Experiment, Result, resume, run
from datafree.runs.logger import RunLogger
from datafree.runs.tasks import Task
from datafree.synthesis import Schedule
from datafree.types import Batch, InputError

QUICK = PruningConfig(steps=9, rounds=3, importance_batches=2, importance_slice=4)


@pytest.fixture(scope="module")
def residual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an untrained residual network with random running statistics."""
    torch.manual_seed(0)
    made = teachers.create("wrn_16_1", shape=(1, 8, 8))
    for name, buffer in made.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.5, 1.5)
    folder = tmp_path_factory.mktemp("teachers") / "residual"
    teachers.save_folder(made, folder)
    return folder


def forever(batch: Batch, size: int = 32) -> Iterator[Batch]:
    while True:
        places = torch.randint(len(batch), (size,))
        yield Batch(batch.images[places], batch.targets[places], {})


def pruned(teacher: Classifier, batch: Batch, config: PruningConfig) -> Classifier:
    torch.manual_seed(3)
    made = prune(copy.deepcopy(teacher), teacher, forever(batch), config)
    assert isinstance(made, Classifier)
    return made


def filters(model: Classifier) -> int:
    return Channels(model.model, model.shape).filters


class TestImportance:
    def test_slopes_by_hand(self):
        """Two hidden units with weights 2 and -1 on a pixel of 3; the head reads them with 5 and 7."""
        model = nn.Sequential(nn.Flatten(), nn.Linear(1, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False))
        with torch.no_grad():
            model[1].weight.copy_(torch.tensor([[2.0], [-1.0]]))
            model[3].weight.copy_(torch.tensor([[5.0, 7.0]]))
        groups = [group for group in Channels(model, (1, 1, 1)).groups if group.readers]
        loss = model(torch.full((1, 1, 1, 1), 3.0)).sum() ** 2  # (5 * 6 + 7 * 0)^2
        (slope,) = gate_gradients(loss, groups)
        assert slope.tolist() == [2 * 30 * 30, 0]

    @pytest.mark.parametrize("name", ["resnet18_cifar_w16", "wrn_16_1", "lenet5"])
    def test_slopes_are_those_of_a_gate(self, name: str):
        """Against a slow reference: what the readers take in is made a little larger and a little smaller."""
        model = teachers.create(name).eval().double()
        images = torch.rand(1, *model.shape, dtype=torch.float64)
        groups = [group for group in Channels(model.model.float(), model.shape).groups if group.removable]
        model.double()

        def loss() -> Tensor:
            return model.model(images).square().sum()

        slopes = gate_gradients(loss(), groups)
        for group, slope in [*zip(groups, slopes, strict=True)][:: max(1, len(groups) // 4)]:
            for channel in (0, len(group) - 1):
                up, down = (scaled(group, channel, factor, loss) for factor in (1 + 1e-4, 1 - 1e-4))
                assert slope[channel].item() == pytest.approx((up - down) / 2e-4, rel=1e-3, abs=1e-7)

    def test_for_equal_networks_it_is_the_curvature_of_the_distillation_loss(self, teacher: Classifier, bars: Batch):
        """Exactly: half the second derivative in a gate, by the mean over all labels that can be drawn."""
        images, tau = bars.images[:6], 4.0
        student = copy.deepcopy(teacher)
        groups = [group for group in Channels(student.model, student.shape).groups if group.removable]
        answers = teacher(images).detach()
        fisher = [torch.zeros(len(group)) for group in groups]
        for image, answer in zip(images, answers, strict=True):
            for label, probability in enumerate((answer / tau).softmax(0)):
                loss = F.cross_entropy(student(image[None]) / tau, torch.tensor([label]))
                for sum_, slope in zip(fisher, gate_gradients(loss, groups), strict=True):
                    sum_ += tau**2 * probability * slope.square() / (2 * len(images))

        def divergence() -> Tensor:
            return distillation_loss(student(images), answers, tau)

        for group, expected in zip(groups, fisher, strict=True):
            for channel in range(len(group)):
                bend = sum(scaled(group, channel, 1 + step, divergence) for step in (0.03, -0.03)) / 0.03**2 / 2
                assert bend == pytest.approx(expected[channel].item(), rel=0.05, abs=1e-4)

    def test_sampled_labels_give_the_same_importance_on_average(self, teacher: Classifier, bars: Batch):
        images = Batch(bars.images[:2], bars.targets[:2], {})
        pruner = Pruner(copy.deepcopy(teacher), teacher, replace(QUICK, importance_slice=1, importance_temperature=4.0))
        for _ in range(150):
            pruner.accumulate_importance(images)
        drawn = torch.cat(pruner.importance())
        pruner.student.eval()
        answers = teacher(images.images).detach()
        exact = torch.zeros(len(drawn))
        for image, answer in zip(images.images, answers, strict=True):
            for label, probability in enumerate((answer / 4).softmax(0)):
                loss = F.cross_entropy(pruner.student(image[None]) / 4, torch.tensor([label]))
                exact += 16 * probability * torch.cat(gate_gradients(loss, pruner.channels.groups)).square() / 4
        assert torch.allclose(drawn, exact, rtol=0.35, atol=0.02 * float(exact.max()))

    def test_the_expected_sampled_cross_entropy_is_divergence_plus_entropy(self):
        student, teacher = torch.randn(3, 4), torch.randn(3, 4)
        drawn = torch.stack([sampled_cross_entropy(student, teacher, 2.0) for _ in range(4000)]).mean()
        p, log_q = (teacher / 2).softmax(1), (student / 2).log_softmax(1)
        assert drawn.item() == pytest.approx(-(p * log_q).sum().item(), rel=0.03)

    @pytest.mark.parametrize("name", ["wrn_16_1", "convnet_w16"])
    def test_predicted_savings_are_the_actual_savings(self, name: str):
        model = teachers.create(name).eval()
        found = macs_saved(model, Channels(model.model, model.shape).groups)
        for place in range(0, len(found), max(1, len(found) // 4)):
            narrower = copy.deepcopy(model)
            channels = Channels(narrower.model, narrower.shape)
            if channels.groups[place].removable:
                channels.remove(channels.groups[place], [0])
                saved = measure(model).macs - measure(narrower).macs
                assert found[place] == pytest.approx(saved)

    def test_the_hardware_aware_score_by_hand(self):
        importance = [torch.tensor([1.0, 3.0]), torch.tensor([5.0])]
        scores = hardware_aware_scores(importance, [2.0, 8.0], 0.5)
        assert torch.cat(scores).tolist() == pytest.approx([1 / 3 - 0.25, 1 - 0.25, 5 / 3 - 1.0])

    def test_the_lowest_scoring_by_hand(self):
        one, two = nn.Conv2d(1, 3, 1), nn.Conv2d(1, 3, 1)
        reader = Channels(toys.conv_net().model, (1, 8, 8)).groups[1].readers
        groups = [Group((one,), reader, None), Group((one, two), reader, None)]
        scores = [torch.tensor([0.1, 5.0, 0.2]), torch.tensor([0.3, 0.15, 4.0])]
        assert lowest_scoring(groups, scores, [1, 1], 3) == [[0], [1]]
        assert lowest_scoring(groups, scores, [1, 1], 4) == [[0, 2], [1]]
        assert lowest_scoring(groups, scores, [2, 3], 4) == [[0], []]
        assert lowest_scoring(groups, scores, [1, 1], 0) == [[], []]


def scaled(group: Group, channel: int, factor: float, value: Callable[[], Tensor]) -> float:
    """Return a value with the weights that read one channel of a group scaled by a factor."""
    with torch.no_grad():
        before = [reader.layer.weight.clone() for reader in group.readers]
        for layer, columns, channels in group.readers:
            layer.weight[:, columns[channels == channel]] *= factor
        found = value().item()
        for reader, weight in zip(group.readers, before, strict=True):
            reader.layer.weight.copy_(weight)
    return found


class TestWhatIsRemoved:
    @pytest.mark.parametrize("name", ["resnet18_cifar_w16", "wrn_16_1"])
    def test_the_ratio_counts_the_filters_of_a_residual_network(self, name: str):
        teacher = teachers.create(name, shape=(1, 8, 8)).eval()
        images = Batch(torch.rand(8, 1, 8, 8), torch.zeros(8, dtype=torch.long), {})
        student = pruned(teacher, images, replace(QUICK, ratio=0.4, steps=0, rounds=2))
        assert 0 <= 0.6 * filters(teacher) - filters(student) < 5  # no group has more than five writers
        convolutions = [w for layer, w in widths_of(student.model).items() if layer != "head"]
        assert sum(convolutions) == filters(student)
        assert widths_of(student.model)["head"] == 10

    def test_inactive_filters_are_removed_first(self, teacher: Classifier, bars: Batch):
        lame = copy.deepcopy(teacher)
        with torch.no_grad():
            for norm, idle in zip(batch_norms(lame), ([0, 3, 5], [1, 2]), strict=True):
                norm.weight[idle] = 0
                norm.bias[idle] = 0
        student = pruned(lame, bars, replace(QUICK, ratio=5 / 16, steps=0))
        assert [norm.num_features for norm in batch_norms(student)] == [5, 6]
        assert torch.allclose(student(bars.images), lame(bars.images), atol=1e-5)

    def test_every_layer_keeps_its_minimum_width(self, teacher: Classifier, bars: Batch):
        student = pruned(teacher, bars, replace(QUICK, ratio=0.5, min_kept=0.5, steps=0))
        assert [norm.num_features for norm in batch_norms(student)] == [4, 4]

    def test_multiplications_are_weighed_by_macs_weight(self, teacher: Classifier, bars: Batch):
        """Channels of the first block cost more: they are computed at the full resolution."""
        dear, cheap = (
            pruned(teacher, bars, replace(QUICK, ratio=0.4, steps=0, rounds=1, macs_weight=eta)) for eta in (0.0, 1e3)
        )
        assert measure(cheap).macs < measure(dear).macs

    def test_removing_an_unused_layer_saves_nothing(self, teacher: Classifier):
        student = copy.deepcopy(teacher)
        groups = Channels(student.model, student.shape).groups
        expected = macs_saved(student, groups)
        student.model.idle = nn.Linear(3, 3)
        assert macs_saved(student, groups) == expected

    def test_a_frozen_copy_learns_too(self, teacher: Classifier, bars: Batch):
        frozen_copy = copy.deepcopy(teacher).requires_grad_(False)
        student = prune(frozen_copy, teacher, repeat(bars), replace(QUICK, ratio=0.4, steps=2))
        assert all(parameter.requires_grad for parameter in student.parameters())

    def test_a_network_without_filters_is_refused(self, bars: Batch):
        network = toys.classifier(nn.Sequential(nn.Flatten(), nn.Linear(64, 4)))
        with pytest.raises(InputError, match="nothing to prune"):
            prune(copy.deepcopy(network), network, repeat(bars), QUICK)

    def test_a_multiple_that_leaves_every_filter_is_refused(self, teacher: Classifier, bars: Batch):
        with pytest.raises(
            InputError, match="no filter can be removed with min-kept 0.0 and multiple 1000; give smaller"
        ):
            prune(copy.deepcopy(teacher), teacher, repeat(bars), replace(QUICK, multiple=1000, min_kept=0.0))

    @pytest.mark.parametrize(("ratio", "least", "most"), [(0.9, 0.0, "0.875"), (0.6, 0.5, "0.5")])
    def test_a_ratio_that_would_empty_a_layer_is_refused_before_anything_starts(
        self, teacher: Classifier, ratio: float, least: float, most: str
    ):
        student = copy.deepcopy(teacher)

        def untouched() -> Iterator[Batch]:
            raise AssertionError("a batch was asked for")
            yield

        with pytest.raises(InputError, match=f"give at most {re.escape(most)}$"):
            prune(student, teacher, untouched(), replace(QUICK, ratio=ratio, min_kept=least))
        assert toys.same(toys.snapshot(student), toys.snapshot(teacher))

    @pytest.mark.parametrize(
        ("steps", "spread", "due"),
        [(100, 0.5, {0: 1, 9: 1, 10: 2, 20: 3, 49: 5, 99: 5}), (0, 0.3, {0: 5}), (10, 0.0, {0: 5})],
    )
    def test_rounds_are_spread_over_the_first_part(self, steps: int, spread: float, due: dict[int, int]):
        config = PruningConfig(steps=steps, rounds_fraction=spread, rounds=5)
        assert {step: config.rounds_due(step) for step in due} == due


class TestTheApplication:
    def test_it_recovers(self, teacher: Classifier, bars: Batch):
        config = PruningConfig(ratio=0.4, rounds=2, importance_batches=2, lr=1e-2)
        before, after = (pruned(teacher, bars, replace(config, steps=steps)) for steps in (0, 80))
        answers = teacher(bars.images)
        losses = [distillation_loss(model(bars.images), answers).item() for model in (before, after)]
        assert losses[1] < 0.5 * losses[0]

    def test_returns_the_student_itself_in_evaluation_mode(self, teacher: Classifier, bars: Batch):
        student = copy.deepcopy(teacher)
        assert prune(student, teacher, forever(bars), QUICK) is student
        assert not any(module.training for module in student.modules())

    def test_the_teacher_is_not_changed(self, teacher: Classifier, bars: Batch):
        before = toys.snapshot(teacher)
        pruned(teacher, bars, QUICK)
        assert toys.same(toys.snapshot(teacher), before)

    def test_equal_seeds_give_equal_students(self, teacher: Classifier, bars: Batch):
        one, two = (pruned(teacher, bars, replace(QUICK, ema=0.9)) for _ in range(2))
        assert toys.same(dict(one.state_dict()), dict(two.state_dict()))

    def test_too_few_batches_are_refused(self, teacher: Classifier, bars: Batch):
        with pytest.raises(InputError, match="the batches ended after 1 of 2 steps"):
            prune(copy.deepcopy(teacher), teacher, [bars], QUICK)

    @pytest.mark.parametrize(
        "bad",
        [
            {"ratio": 0.0}, {"ratio": 1.0}, {"ratio": math.nan}, {"rounds": 0}, {"importance_batches": 0}, {"importance_slice": 0},
            {"rounds_fraction": 1.5}, {"min_kept": 1.0}, {"macs_weight": -1.0}, {"importance_temperature": 0.0}, {"steps": -1}, {"lr": 0.0},
        ],
    )  # fmt: skip
    def test_refuses_invalid_settings(self, bad: dict[str, Any]):
        with pytest.raises(InputError, match=next(iter(bad)).replace("_", "-")):
            PruningConfig(**bad)


def experiment(folder: Path, **changes: Any) -> Experiment:
    """The teacher's copy, pruned in a second."""
    return toys.experiment(folder, **{"task": Task(teacher=f"local-dir:{folder}"), "application": QUICK} | changes)


@pytest.mark.parametrize("name", toys.TINY)
def test_prunes_with_every_method(name: str, digits_teacher: Path, tmp_path: Path):
    made = experiment(
        digits_teacher,
        method=toys.TINY[name],
        schedule=Schedule(warmup_batches=2, refresh_every=4, pool_batches=2, batch_size=8),
    )
    result = run(replace(made, application=replace(QUICK, steps=6), checkpoint_interval=1e6), tmp_path / "run")
    assert result.summary["pruned"] == {"filters_before": 64, "filters_after": 32, "rounds": 3, "multiple": 1}
    assert result.summary["real_images_seen"] == 0
    again = teachers.load(f"local-dir:{tmp_path / 'run' / 'student'}")
    images = torch.rand(4, 1, 8, 8)
    assert torch.equal(again(images), result.student(images))


ADAPTIVE: dict[str, Any] = {
    "method": toys.TINY["adi"],
    "schedule": Schedule(warmup_batches=2, refresh_every=4, pool_batches=3, batch_size=8),
    "application": replace(QUICK, ema=0.9, hints=0.5),
}


@pytest.fixture(scope="module")
def undisturbed(residual: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    return run(experiment(residual, **ADAPTIVE), tmp_path_factory.mktemp("runs") / "run")


def interrupt(monkeypatch: pytest.MonkeyPatch, name: str, when: int) -> None:
    """Ctrl-C right after the logger was told of this step, or of this batch."""
    real: Callable[..., None] = getattr(RunLogger, name)

    def told(self: RunLogger, *news: Any) -> None:
        real(self, *news)
        if when in news[:2]:
            raise KeyboardInterrupt

    monkeypatch.setattr(RunLogger, name, told)


@pytest.mark.parametrize(("name", "when"), [("on_batch", 3), ("log", 2), ("log", 7)])
def test_a_resumed_run_equals_an_uninterrupted_one(
    name: str, when: int, residual: Path, undisturbed: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """While images are made in the middle of a look, between two rounds, and in the recovery."""
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt(patch, name, when)
        run(experiment(residual, **ADAPTIVE), tmp_path / "run")
    resumed = resume(tmp_path / "run")
    assert toys.same(dict(resumed.student.state_dict()), dict(undisturbed.student.state_dict()))
    assert (tmp_path / "run" / "log.jsonl").read_text() == (undisturbed.path / "log.jsonl").read_text()


def test_a_kill_while_importance_is_measured_costs_at_most_one_batch(
    residual: Path, undisturbed: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Checkpoints are saved between its batches, also if no image is made there."""

    def killed(self: RunLogger) -> None:
        if self.step == 1:  # the first batch of the second round
            self.save()
            os.kill(os.getpid(), signal.SIGKILL)

    def child() -> None:
        RunLogger.on_measurement = killed  # type: ignore[method-assign]
        run(replace(experiment(residual, **ADAPTIVE), checkpoint_interval=1e6), tmp_path / "run")

    assert fork(child).code == -signal.SIGKILL
    counted: list[int] = []
    real = Pruner.accumulate_importance

    def count(self: Pruner, batch: Batch) -> None:
        counted.append(self.round)
        real(self, batch)

    monkeypatch.setattr(Pruner, "accumulate_importance", count)
    resumed = resume(tmp_path / "run")
    assert counted == [1, 2, 2]  # each round has two batches
    assert toys.same(dict(resumed.student.state_dict()), dict(undisturbed.student.state_dict()))


def test_an_interruption_between_rounds_without_recovery_changes_nothing(
    digits_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """There is no optimizer then, but there are weights that were removed."""
    rounds = {"application": replace(QUICK, steps=0), "method": toys.TINY["noise"], "schedule": Schedule()}
    whole = run(experiment(digits_teacher, **rounds), tmp_path / "whole")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt(patch, "on_batch", 4)
        run(experiment(digits_teacher, **rounds), tmp_path / "run")
    assert toys.same(dict(resume(tmp_path / "run").student.state_dict()), dict(whole.student.state_dict()))


class TestTheFolder:
    def test_it_teaches_learns_and_is_pruned_again(self, undisturbed: Result, tmp_path: Path):
        folder = undisturbed.path / "student"
        again = run(experiment(folder, application=replace(QUICK, steps=2, ratio=0.2)), tmp_path / "again")
        assert again.summary["pruned"]["filters_before"] == undisturbed.summary["pruned"]["filters_after"]
        assert teachers.load(f"local-dir:{tmp_path / 'again' / 'student'}").shape == (1, 8, 8)
        other = Task(teacher=f"local-dir:{folder}", student=f"local-dir:{folder}")
        run(experiment(folder, task=other, application=DistillationConfig(steps=2)), tmp_path / "taught")

    def test_its_card_says_what_it_is_and_how_it_is_loaded_elsewhere(
        self, undisturbed: Result, monkeypatch: pytest.MonkeyPatch
    ):
        card = (undisturbed.path / "student" / "README.md").read_text()
        pruned = undisturbed.summary["pruned"]
        before, after = pruned["filters_before"], pruned["filters_after"]
        assert f"of the filters ({before - after} of {before}) were pruned in 3 rounds" in card and "MACs" in card
        assert "    import datafree.networks.zoo  # registers its architecture in timm\n" in card
        program = "\n".join(
            line[4:] for line in card[card.index("    import json") : card.index("Inputs are pixels")].splitlines()
        )
        monkeypatch.chdir(undisturbed.path)
        names: dict[str, Any] = {}
        exec(program, names)
        images, student = torch.rand(3, 1, 8, 8), undisturbed.student
        assert torch.allclose(names["model"](student.normalize(images)), student(images), atol=1e-5)

    def test_widths_that_are_an_argument_are_given_as_one(self, digits_teacher: Path, tmp_path: Path):
        import timm

        result = run(experiment(digits_teacher, checkpoint_interval=1e6), tmp_path / "run")
        model = timm.create_model(f"local-dir:{tmp_path / 'run' / 'student'}", pretrained=True).eval()
        images = torch.rand(3, 1, 8, 8)
        assert torch.allclose(model(result.student.normalize(images)), result.student(images), atol=1e-5)

    @pytest.mark.parametrize(
        ("changes", "fault"),
        [
            ({"widths": {"stages.0.0.conv1": 10**12}}, "cannot be narrowed to 1000000000000 channels"),
            (
                {"widths": {"stages.0.0.conv1": "import os"}},
                "widths.stages.0.0.conv1 is 'import os', but must be an integer",
            ),
            ({"widths": {"__class__": 4}}, "no layer '__class__'"),
            ({"widths": {"conv1": 4}}, "cannot be narrowed to"),
            ({"widths": {"stages.0.0.conv1": 4}}, "does not match the network"),
            ({"widths": 3}, "widths is 3, but must be an object"),
            ({"widths": [[1, 2, 3]]}, "widths is a list, but must be an object"),
            ({"model_args": 3}, "model_args is 3, but must be an object"),
        ],
    )
    def test_invalid_widths_are_refused_in_one_sentence(
        self, undisturbed: Result, tmp_path: Path, changes: dict[str, Any], fault: str
    ):
        self.spoil(undisturbed.path / "student", tmp_path / "spoilt", changes)
        with pytest.raises(InputError, match=fault):
            teachers.load(f"local-dir:{tmp_path / 'spoilt'}")

    @pytest.mark.parametrize(
        ("widths", "fault"),
        [
            ([4, 4], "not a timm model conf"),
            ([10**9] * 3, "cannot be narrowed to 1000000000 channels"),
            ("abc", "cannot be narrowed to 'a' channels"),
        ],
    )
    def test_an_invalid_widths_argument_is_refused_in_one_sentence(
        self, digits_teacher: Path, tmp_path: Path, widths: Any, fault: str
    ):
        self.spoil(digits_teacher, tmp_path / "spoilt", {"model_args": {"widths": widths}})
        with pytest.raises(InputError, match=fault):
            teachers.load(f"local-dir:{tmp_path / 'spoilt'}")

    def spoil(self, folder: Path, spoilt: Path, changes: dict[str, Any]) -> None:
        spoilt.mkdir()
        (spoilt / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
        config = json.loads((folder / "config.json").read_text())
        (spoilt / "config.json").write_text(json.dumps(config | changes))


class TestTheCommand:
    QUICK = "--method deep-inversion --method.batch-size 8 --method.steps 2 --warmup-batches 1".split()

    def test_it_prunes_and_prints_the_result(
        self, digits_teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ):
        steps = ["--steps", "2", "--importance-batches", "1", "--rounds=2", "--ratio", "0.25"]
        where = [f"local-dir:{digits_teacher}", "--out", str(tmp_path / "run"), "--data", "digits"]
        assert main(["prune", *where, *self.QUICK, *steps]) == 0
        said = capsys.readouterr().out
        assert "filters" in said and "MACs" in said and " 48 " in said and "held-out" in said
        assert "of the filters (16 of 64)" in (tmp_path / "run" / "report.html").read_text()
        assert main(["evaluate", f"local-dir:{tmp_path / 'run' / 'student'}", "--data", "digits"]) == 0

    @pytest.mark.parametrize(
        ("more", "sentence"),
        [
            (["--ratio", "1.5"], "ratio is 1.5, but it must be above 0 and below 1"),
            (["--ratio", "0.99"], "give at most 0.953"),
            (["--rounds", "0"], "rounds is 0"),
            (["--student", "convnet_w16"], "a pruned network is always a copy of NETWORK"),
            (["--ration", "0.5"], "did you mean --ratio"),
        ],
    )
    def test_invalid_options_are_refused_in_one_sentence(
        self, digits_teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], sentence: str
    ):
        arguments = ["prune", f"local-dir:{digits_teacher}", *self.QUICK, "--out", str(tmp_path / "run")]
        assert main([*arguments, *more]) == 2
        said = capsys.readouterr().err
        assert sentence in said and said.count("\n") == 1
        assert not (tmp_path / "run").exists()


def test_labels_of_multi_label_teachers_are_sampled_independently(bars: Batch):
    teacher = toys.conv_net()
    teacher.multi_label = True
    student = copy.deepcopy(teacher)
    pruner = Pruner(student, teacher, replace(QUICK, importance_slice=64))
    torch.manual_seed(0)
    pruner.accumulate_importance(Batch(bars.images[:8], bars.targets[:8], {}))
    logits = teacher(bars.images[:8])
    torch.manual_seed(0)
    decisions = torch.stack([logits, torch.zeros_like(logits)], -1).flatten(0, 1)
    loss = sampled_cross_entropy(decisions, decisions.detach(), QUICK.importance_temperature)
    slopes = gate_gradients(loss, Channels(teacher.model, teacher.shape).groups)
    for square, slope in zip(pruner.squared_gradients, slopes, strict=True):
        torch.testing.assert_close(square, slope.square())
