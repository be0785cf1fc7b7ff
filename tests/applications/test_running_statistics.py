"""Running statistics of batch norm after a short training."""

import itertools
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
import toys
from torch import Tensor, nn

from datafree.applications import APPLICATIONS
from datafree.applications.distillation import DistillationConfig, distill
from datafree.applications.running_statistics import RunningStatistics, share_of_start
from datafree.callback import Callback
from datafree.classifier import Classifier, batch_norms, record
from datafree.losses import batch_norm_statistics
from datafree.types import Batch


class Notes(Callback):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def with_momentum(model: Classifier, momentum: float | None) -> Classifier:
    for norm in batch_norms(model):
        norm.momentum = momentum
    return model


def test_the_share_of_the_initial_values_by_hand():
    assert share_of_start(0.1, 0) == 1
    assert share_of_start(0.1, 2) == pytest.approx(0.81)
    assert share_of_start(0.01, 150) == pytest.approx(0.2215, abs=1e-4)
    assert share_of_start(None, 1) == 0


def test_the_border_is_one_percent():
    model = with_momentum(toys.conv_net(), 0.1)
    assert not RunningStatistics(model, 44).norms, "0.9 to the power of 44 is 0.0097"
    assert len(RunningStatistics(model, 43).norms) == 2
    assert not RunningStatistics(with_momentum(model, None), 1).norms, "they are plain averages already"
    assert RunningStatistics(with_momentum(model, 0.1), 2000, decay=0.999).norms, "the average keeps 14 %"


def test_the_statistics_are_the_average_over_the_last_steps():
    norm = nn.BatchNorm1d(1, momentum=0.01)
    batches = [torch.tensor([[value - 1], [value + 1]]) for value in range(10)]  # mean: the value; variance: 2
    statistics = RunningStatistics(norm, 10)
    assert statistics.measured_steps == 8
    for step, batch in enumerate(batches):
        with statistics.at(step):
            norm(batch.float())
        assert norm.momentum == 0.01
    assert norm.running_mean is not None and norm.running_mean.item() == pytest.approx(sum(range(2, 10)) / 8)
    assert norm.running_var is not None and norm.running_var.item() == pytest.approx(2)


@pytest.mark.parametrize(("steps", "measured"), [(3, 3), (8, 8), (100, 8), (400, 20)])
def test_how_many_steps_are_measured(steps: int, measured: int):
    assert RunningStatistics(nn.BatchNorm1d(1), steps).measured_steps == measured


def test_the_momentum_is_restored_after_an_error():
    norm = nn.BatchNorm1d(1, momentum=0.01)
    with pytest.raises(ZeroDivisionError), RunningStatistics(norm, 5).at(4):
        raise ZeroDivisionError
    assert norm.momentum == 0.01


def test_a_short_training_with_a_low_momentum_is_noted_and_ends_with_the_right_statistics(
    teacher: Classifier, bars: Batch, monkeypatch: pytest.MonkeyPatch
):
    batch, errors, callback = Batch(bars.images[:64], bars.targets[:64], {}), [], Notes()
    for share in (0.01, 1.0):
        monkeypatch.setattr("datafree.applications.running_statistics.SHARE", share)
        torch.manual_seed(0)
        student = with_momentum(toys.conv_net((8, 8)), 0.01)
        config = DistillationConfig(steps=40, lr=1e-2)
        distill(student, teacher, itertools.repeat(batch), config, callback=callback)
        with record(*batch_norms(student)) as calls, torch.no_grad():
            student(batch.images)
        errors.append(batch_norm_statistics(calls).item())
    assert errors[0] < 0.1 * errors[1]
    assert callback.notes == [
        "the running statistics of batch norm are averages over the last 8 of 40 steps: with the momentum of the network "
        "they would keep 67 % of their initial values"
    ]


def test_the_weights_and_long_trainings_are_not_affected(
    teacher: Classifier, bars: Batch, monkeypatch: pytest.MonkeyPatch
):
    def train(momentum: float, share: float) -> dict[str, Tensor]:
        monkeypatch.setattr("datafree.applications.running_statistics.SHARE", share)
        torch.manual_seed(0)
        student = with_momentum(toys.conv_net((4, 4)), momentum)
        batch = Batch(bars.images[:32], bars.targets[:32], {})
        distill(student, teacher, itertools.repeat(batch), DistillationConfig(steps=20))
        return {name: tensor.clone() for name, tensor in student.state_dict().items()}

    ours, before = train(0.1, 0.01), train(0.1, 1.0)
    differing = {name for name in ours if not torch.equal(ours[name], before[name])}
    assert differing and all("running" in name for name in differing)
    assert toys.same(train(0.5, 0.01), train(0.5, 1.0)), "half to the power of 20 is nothing"


@pytest.mark.parametrize("name", APPLICATIONS)
def test_every_application_notes_it_once_and_restores_the_momentum(name: str, teacher: Classifier, bars: Batch):
    student, _, more = toys.application_inputs(name, teacher, toys.conv_net((4, 4)))
    with_momentum(student, 0.01)
    callback, batch = Notes(), Batch(bars.images[:16], bars.targets[:16], {})
    config = replace(APPLICATIONS[name], steps=4)  # type: ignore[type-var]
    student = config.build()(student, deepcopy(teacher), itertools.repeat(batch), **more, callback=callback)
    assert len(callback.notes) == 1 and "averages over the last" in callback.notes[0]
    assert {norm.momentum for norm in batch_norms(student)} <= {0.01, 0.1}
