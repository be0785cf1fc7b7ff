"""What the inspection finds in a teacher."""

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import toys
from torch import Tensor, nn

import datafree
from datafree.classifier import Classifier
from datafree.ensemble import Ensemble
from datafree.methods import METHODS
from datafree.synthesis import Schedule
from datafree.teachers.costs import Learner, PassCost, estimate_run, pass_cost
from datafree.teachers.inspection import inspect, notes_of, usable_methods


class Lambda(nn.Module):
    """A network followed by a function."""

    def __init__(self, network: nn.Module, function: Any) -> None:
        super().__init__()
        self.network, self.function = network, function

    def forward(self, images: Tensor) -> Any:
        return self.function(self.network(images))


def flat(*layers: nn.Module, **settings: Any) -> Classifier:
    """Return a classifier of flattened bars."""
    return Classifier(
        nn.Sequential(nn.Flatten(), *layers), **{"shape": toys.SHAPE, "classes": toys.CLASSES} | settings
    ).eval()


class TestFacts:
    def test_of_a_trained_network(self, teacher: Classifier):
        found = inspect(teacher)
        assert (found.network, found.parameters, found.shape) == ("ConvNet", 716, toys.SHAPE)
        assert (
            found.macs == 8 * 9 * 64 + 8 * 8 * 9 * 16 + 8 * 4
        )  # two convolutions, at 8 x 8 and 4 x 4, and the last layer
        assert (found.classes, found.numbered, found.multi_label) == (toys.CLASSES, False, False)
        assert (found.mean, found.std, found.types) == ((0.4,), (0.3,), ("float32",))
        assert found.outputs == "logits" and found.training_mode == ("BatchNorm2d",) and found.notes == ()
        assert found.capabilities >= {"batch-norm statistics", "last layer"}
        assert [fit.name for fit in found.methods if not fit.reason] == usable_methods(teacher) == list(METHODS)
        assert all(fit.seconds and fit.bytes for fit in found.methods)

    def test_as_json(self, teacher: Classifier):
        assert json.loads(json.dumps(inspect(teacher).to_json()))["shape"] == [1, 8, 8]

    def test_it_is_public(self):
        assert datafree.inspect is inspect

    def test_of_an_untrained_network(self):
        found = inspect(toys.conv_net())
        assert found.batch_norms == found.untrained_batch_norms == 2
        assert "2 of 2 batch-norm layers have initial running statistics" in found.notes[0]
        fits = {fit.name: fit for fit in found.methods}
        assert "no batch-norm statistics" in fits["deep-inversion"].reason and fits["deep-inversion"].seconds is None
        assert "deep-inversion" not in usable_methods(toys.conv_net())

    def test_methods_that_refuse_the_teacher_say_why(self):
        refused = {fit.name: fit.reason for fit in inspect(flat(nn.Linear(64, 4))).methods if fit.reason}
        assert set(refused) == {"group-stack", "deep-inversion", "adi"}
        assert "cannot be split" in refused["group-stack"]

    def test_nothing_changes(self, teacher: Classifier):
        before, state = toys.snapshot(teacher), torch.get_rng_state()
        inspect(teacher)
        assert toys.same(toys.snapshot(teacher), before) and torch.equal(torch.get_rng_state(), state)


class TestOutputs:
    @pytest.mark.parametrize(
        ("layer", "outputs"),
        [(nn.Softmax(1), "softmax"), (nn.LogSoftmax(1), "log-softmax"), (nn.Identity(), "logits")],
    )
    def test_are_recognised(self, layer: nn.Module, outputs: str):
        assert inspect(flat(nn.Linear(64, 4), layer), {}).outputs == outputs

    def test_one_sigmoid_is_one_label(self):
        found = inspect(one := flat(nn.Linear(64, 1), nn.Sigmoid(), classes=["cat"]), {})
        assert one.multi_label and found.outputs == "sigmoid" and found.multi_label
        assert "used as one label, yes or no" in found.notes[0]

    @pytest.mark.parametrize(
        ("function", "form"),
        [
            (lambda x: (x, x[:, :2]), "a tuple of 2 values"),
            (lambda x: {"features": x[:, :2], "scores": x}, "a dict of 2 values"),
            (lambda x: [x], "a list of 1 values"),
            (lambda x: x[:, :, None, None], r"a tensor of shape \(3, 4, 1, 1\) for 3 images"),
        ],
    )
    def test_are_taken_apart_where_it_is_plain(self, function: Any, form: str):
        linear = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
        network = Classifier(Lambda(linear, function), shape=toys.SHAPE, classes=4)
        (note,) = inspect(network, {}).notes
        assert note == f"the teacher returns {form}: the logits are taken from it".replace("\\", "")
        images = torch.rand(2, *toys.SHAPE)
        assert torch.equal(network(images), linear(images))

    def test_two_candidates_are_not_plain(self):
        linear = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
        network = Classifier(Lambda(linear, lambda x: (x, x)), shape=toys.SHAPE, classes=4)
        with pytest.raises(datafree.InputError, match="returns a tuple without logits; return one tensor, or name it"):
            inspect(network)

    def test_a_wrong_number_of_classes_names_the_option(self):
        with pytest.raises(datafree.InputError, match="give --classes 5, or the names of 5 classes"):
            inspect(flat(nn.Linear(64, 5)))

    def test_the_first_layer_with_nan_is_named(self):
        network = flat(nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 4))
        network.model[1].weight.data[0, 0] = float("nan")  # type: ignore[index, union-attr]
        with pytest.raises(datafree.InputError, match="NaN or infinite values, first in the layer 1"):
            inspect(network)

    def test_half_precision_is_named(self):
        with pytest.raises(datafree.InputError, match=r"its weights are float16; call \.float\(\) on the network"):
            inspect(flat(nn.Linear(64, 4).half()))


class TestFindings:
    def test_dropout_that_ignores_the_evaluation_mode(self):
        network = Lambda(nn.Flatten(), lambda x: F.dropout(x, 0.5)[:, :4])
        (note,) = notes_of(Classifier(network, shape=toys.SHAPE, classes=4))
        assert "its output for the same images is random" in note

    def test_batch_norm_without_running_statistics(self):
        network = flat(nn.Linear(64, 4), nn.BatchNorm1d(4, track_running_stats=False))
        assert any("depends on the other images of the batch" in note for note in notes_of(network))

    def test_constant_outputs(self):
        network = flat(nn.Linear(64, 4))
        network.model[1].weight.data.zero_()  # type: ignore[index, union-attr]
        (note,) = notes_of(network)
        assert "its output is the same for every image tried" in note

    def test_repeated_class_names(self):
        (note,) = notes_of(flat(nn.Linear(64, 4), classes=["a", "b", "a", "b"]))
        assert "the class name 'a' and 1 other names is given more than once" in note

    def test_dropout_is_only_information(self):
        found = inspect(flat(nn.Dropout(0.5), nn.Linear(64, 4)), {})
        assert found.training_mode == ("Dropout",) and found.notes == ()

    def test_each_teacher_of_an_ensemble_is_looked_at(self, teacher: Classifier):
        (note,) = notes_of(Ensemble([teacher, toys.conv_net()]))
        assert note.startswith("teacher 2: 2 of 2 batch-norm layers")


class TestCosts:
    def test_a_pass_keeps_what_its_layers_keep(self):
        network = flat(nn.Linear(64, 32), nn.Sigmoid(), nn.Linear(32, 4))
        assert pass_cost(network).kept == 4 * 32  # the output of the sigmoid; the weights are not counted

    def test_of_a_network_without_gradients(self):
        class Blind(nn.Module):
            def forward(self, images: Tensor) -> Tensor:
                return images.detach().flatten(1)[:, :4]

        cost = pass_cost(Classifier(Blind(), shape=toys.SHAPE, classes=4))
        assert cost.kept == 0 and cost.of_batch(10) > 0

    def test_a_run_by_hand(self):
        """4 batches of 8 images in 10 passes, each 1 s and 0.5 s per image; 5 steps of 16 images."""
        method = toys.TINY["zskd"]
        method = replace(method, batch_size=8, steps=10)
        schedule = Schedule(warmup_batches=4, refresh_every=0, pool_batches=4, batch_size=16)
        student = Learner(PassCost(0.0, 0.1, 50), parameters=1000)
        found = estimate_run(method, schedule, 5, (1, 8, 8), PassCost(1.0, 0.5, 100), student)
        assert found.seconds == pytest.approx(4 * 10 * (1 + 8 * 0.5) + 5 * (1.5 * 1.6 + 0.4 * 9))
        image = 4 * 64
        assert found.bytes == 4 * 8 * image + max(8 * (100 + 8 * image), 16 * (50 + 8 * image) + 4 * 4 * 1000)

    def test_real_images_cost_no_synthesis(self):
        schedule, student = Schedule(batch_size=2), Learner(PassCost(0, 1, 0), 0)
        assert estimate_run(None, schedule, 3, (1, 8, 8), PassCost(0, 1, 0), student).seconds == pytest.approx(
            3 * 2 * 1.9
        )
