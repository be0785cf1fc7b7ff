"""The classifier normalises its input; `record` and `frozen` restore the network."""

from copy import deepcopy
from typing import Any

import pytest
import timm
import torch
import toys
from timm.layers.norm_act import BatchNormAct2d
from torch import nn

from datafree import teachers
from datafree.classifier import Classifier, ClassSubset, batch_norms, fingerprint, frozen, record
from datafree.types import InputError


def colour_net(**settings: object) -> Classifier:
    return Classifier(nn.Flatten(), shape=(2, 1, 1), classes=2, mean=(0.5, 0.25), std=(0.5, 0.125), **settings)  # type: ignore[arg-type]


def test_normalization_by_hand():
    image = torch.tensor([1.0, 0.5]).view(1, 2, 1, 1)
    assert colour_net().normalize(image).flatten().tolist() == [1.0, 2.0]


def test_the_network_sees_normalized_pixels():
    assert colour_net()(torch.tensor([1.0, 0.5]).view(1, 2, 1, 1)).tolist() == [[1.0, 2.0]]


def test_denormalize_is_the_inverse_of_normalize():
    images = torch.rand(3, 2, 4, 4)
    assert torch.allclose(colour_net().denormalize(colour_net().normalize(images)), images, atol=1e-6)


def test_one_mean_is_used_for_all_channels():
    net = Classifier(nn.Flatten(), shape=(3, 1, 1), classes=3, mean=(0.5,), std=(0.5,))
    assert net(torch.ones(1, 3, 1, 1)).tolist() == [[1.0, 1.0, 1.0]]


def test_a_number_of_classes_gives_numbers_as_names():
    assert colour_net().classes == ("0", "1")


def test_mean_and_std_are_not_in_the_state_dict():
    net = toys.conv_net()
    assert net.state_dict().keys() == {f"model.{name}" for name in net.model.state_dict()}


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"mean": (0.1, 0.2)}, "mean has 2 values for 3 channels"),
        ({"std": (1.0, 1.0, 1.0, 1.0)}, "std has 4 values for 3 channels"),
        ({"std": (1.0, 0.0, 1.0)}, "it must be positive"),
    ],
)
def test_invalid_mean_or_std_is_an_error(settings: dict[str, tuple[float, ...]], fault: str):
    with pytest.raises(InputError, match=fault):
        Classifier(nn.Flatten(), shape=(3, 1, 1), classes=3, **settings)


def test_logits_are_float32_in_any_precision(teacher: Classifier):
    images = torch.rand(2, *toys.SHAPE)
    exact = teacher(images)
    half = Classifier(teacher.model, shape=toys.SHAPE, classes=4, mean=(0.4,), std=(0.3,), precision=torch.bfloat16)
    assert half(images).dtype == torch.float32
    assert not torch.equal(half(images), exact)
    assert torch.allclose(half(images), exact, atol=0.2, rtol=0.1)


def test_record_lists_calls_in_order():
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    with record(net[0], net[2]) as calls:
        out = net(torch.ones(1, 2))
    assert [call.module for call in calls] == [net[0], net[2]]
    assert calls[0].input.tolist() == [[1.0, 1.0]]
    assert torch.equal(calls[1].output, out)


def test_record_lists_every_call_of_a_shared_layer():
    layer = nn.Linear(2, 2)
    with record(layer) as calls:
        layer(layer(torch.ones(1, 2)))
    assert len(calls) == 2
    assert torch.equal(calls[1].input, calls[0].output)


def test_record_keeps_the_graph():
    net, images = toys.conv_net(), torch.rand(2, *toys.SHAPE, requires_grad=True)
    with record(*batch_norms(net)) as calls:
        net(images)
    assert torch.autograd.grad(calls[-1].input.sum(), images)[0].abs().sum() > 0


def test_record_applies_a_function_before_the_next_layer_changes_the_output():
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(inplace=True))
    net[0].weight, net[0].bias = nn.Parameter(-torch.eye(2)), nn.Parameter(torch.zeros(2))  # type: ignore[assignment]
    with torch.no_grad(), record(net[0]) as calls, record(net[0], function=lambda call: call.output.clone()) as outputs:
        net(torch.ones(1, 2))
    assert calls[0].output.tolist() == [[0, 0]]
    assert outputs[0].tolist() == [[-1, -1]]


def test_record_removes_its_hooks_even_after_an_exception():
    net = toys.conv_net()
    before = toys.snapshot(net)
    with pytest.raises(ZeroDivisionError), record(*net.modules()):
        raise ZeroDivisionError
    assert toys.snapshot(net)["hooks"] == before["hooks"] == [0] * len(list(net.modules()))


@pytest.mark.parametrize("fault", [None, ZeroDivisionError])
def test_frozen_restores_every_mode_and_flag_exactly(fault: type[Exception] | None):
    net = toys.conv_net().train()
    next(batch_norm for batch_norm in batch_norms(net)).eval()  # set by the user
    next(net.parameters()).requires_grad_(False)
    before = toys.snapshot(net)
    try:
        with frozen(net, None):
            assert not any(module.training for module in net.modules())
            assert not any(parameter.requires_grad for parameter in net.parameters())
            if fault:
                raise fault
    except ZeroDivisionError:
        pass
    assert toys.same(toys.snapshot(net), before)


def test_frozen_networks_still_pass_gradients_to_images(teacher: Classifier):
    images = torch.rand(2, *toys.SHAPE, requires_grad=True)
    with frozen(teacher):
        teacher(images).sum().backward()
    assert images.grad is not None and images.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_frozen_may_be_nested(student: Classifier):
    student.train()
    with frozen(student):
        with frozen(student):
            pass
        assert not student.training
    assert student.training


def test_batch_norms_are_the_layers_with_running_statistics():
    tracking, fused = nn.BatchNorm2d(4), BatchNormAct2d(4)
    net = nn.Sequential(tracking, nn.BatchNorm2d(4, track_running_stats=False), nn.GroupNorm(2, 4), fused)
    assert batch_norms(net) == [tracking, fused]


class TestMultiLabel:
    def both(self) -> tuple[Classifier, Classifier]:
        return toys.conv_net(), Classifier(toys.conv_net().model, shape=toys.SHAPE, classes=4, multi_label=True)

    def test_decisions_have_one_row_per_label(self):
        logits = torch.tensor([[2.0, -1.0, 0.5, 0.0]])
        decisions = self.both()[1].decisions(logits)
        torch.testing.assert_close(decisions.softmax(1)[:, 0], logits[0].sigmoid())

    def test_single_label_logits_are_decisions_already(self):
        logits = torch.randn(3, 4)
        assert self.both()[0].decisions(logits) is logits
        assert self.both()[0].softmax_logits(logits) is logits

    def test_cross_entropy_of_decisions_is_binary_cross_entropy(self):
        logits, targets = torch.randn(3, 4), torch.tensor([[1.0, 0, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]])
        several = self.both()[1]
        loss = torch.nn.functional.cross_entropy(several.decisions(logits), several.decision_targets(targets))
        expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets)
        torch.testing.assert_close(loss, expected)

    def test_predictions(self):
        one, several = self.both()
        logits = torch.tensor([[2.0, -1.0, 0.5, -3.0]])
        assert one.predict(logits).tolist() == [0]
        assert several.predict(logits).tolist() == [[1, 0, 1, 0]]
        torch.testing.assert_close(several.softmax_logits(logits).softmax(1), logits.sigmoid() / logits.sigmoid().sum())

    def test_every_sampled_target_has_at_least_one_label(self):
        one, several = self.both()
        assert several.sample_targets(64, 0.0).sum(1).eq(1).all()
        assert several.sample_targets(64, 1.0).sum(1).eq(4).all()
        assert set(one.sample_targets(64).tolist()) == {0, 1, 2, 3}


def test_class_subset_selects_columns():
    whole = toys.conv_net()
    images = torch.rand(2, *toys.SHAPE)
    assert torch.equal(ClassSubset(whole, [2, 0])(images), whole(images)[:, [2, 0]])


TINY_NETWORKS: dict[str, tuple[int, str, dict[str, Any]]] = {
    "lenet5": (32, "fc1", {}),
    "resnet18_cifar": (8, "head", {}),
    "test_vit": (160, "head", {}),
    "test_convnext": (64, "head.fc", {}),
    "mixer_s32_224": (64, "head", {"img_size": 64}),
    "swin_tiny_patch4_window7_224": (
        64,
        "head.fc",
        {"img_size": 64, "window_size": 2, "embed_dim": 8, "depths": (1, 1), "num_heads": (1, 1)},
    ),
    "xcit_nano_12_p16_224": (32, "head", {"depth": 1, "embed_dim": 32, "img_size": 32}),
}
"""height of an image, the layer that takes the features, and arguments that make the network small"""


class TestFeatureLayers:
    @pytest.mark.parametrize("name", TINY_NETWORKS)
    def test_are_what_the_head_is_given(self, name: str):
        size, expected, arguments = TINY_NETWORKS[name]
        model = timm.create_model(name, pretrained=False, **arguments)
        channels = 1 if name == "lenet5" else 3
        layers = Classifier(model, shape=(channels, size, size), classes=10).feature_layers()
        assert layers == [model.get_submodule(expected)]

    def test_of_fully_connected_layers_are_the_last_hidden_ones(self):
        net = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.ReLU(), nn.Linear(5, 3), nn.ReLU(), nn.Linear(3, 4))
        assert toys.classifier(net).feature_layers() == [net[5]]
        assert toys.classifier(nn.Sequential(nn.Flatten(), nn.Linear(64, 4))).feature_layers() == [], "pixels"

    def test_tokens_in_one_long_list_are_tokens(self):
        class Rows(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.token, self.head = nn.Linear(8, 6), nn.Linear(6, 4)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return self.head(self.token(x.reshape(-1, 8)).view(len(x), 8, 6).mean(1))

        net = Rows()
        assert toys.classifier(net).feature_layers() == [net.head]

    def test_there_are_none_behind_the_last_convolution(self):
        assert toys.classifier(nn.Sequential(nn.Conv2d(1, 4, 8), nn.Flatten())).feature_layers() == []

    def test_the_network_runs_once_until_it_is_replaced(self):
        net = toys.conv_net()
        with record(net.model, function=lambda call: None) as calls:
            first, second = net.feature_layers(), net.feature_layers()
            assert first == second == [net.model.head] and len(calls) == 1
        net.model = toys.conv_net().model
        assert net.feature_layers() == [net.model.head] != first

    def test_of_a_copy_belong_to_the_copy(self):
        net = toys.conv_net()
        net.feature_layers()
        assert deepcopy(net).feature_layers() != net.feature_layers() == [net.model.head]

    def test_leave_the_network_and_the_random_numbers_unchanged(self):
        net = toys.conv_net().train()
        before, random = toys.snapshot(net), torch.get_rng_state()
        net.feature_layers()
        assert toys.same(toys.snapshot(net), before) and torch.equal(torch.get_rng_state(), random)


class TestFingerprint:
    @staticmethod
    def network(**settings: float) -> Classifier:
        return teachers.create("convnet_w16", **{name: (value,) for name, value in settings.items()})  # type: ignore[arg-type]

    def test_depends_on_the_weights_only(self):
        network = self.network()
        same = self.network(mean=0.5, std=0.5)
        same.load_state_dict(network.state_dict())
        same.model.to(memory_format=torch.contiguous_format)
        assert fingerprint(network.model) == fingerprint(same.model)

    @pytest.mark.parametrize("name", ["head.bias", "blocks.1.2.running_mean", "blocks.0.2.num_batches_tracked"])
    def test_changes_with_the_last_bit_of_any_tensor(self, name: str):
        network = self.network()
        before = fingerprint(network.model)
        tensor = network.model.state_dict()[name].view(-1)
        tensor[0] = torch.nextafter(tensor[0], torch.tensor(9.0)) if tensor.is_floating_point() else tensor[0] + 1
        assert fingerprint(network.model) != before

    def test_depends_on_the_shapes(self):
        first, second = nn.Linear(2, 3, bias=False), nn.Linear(3, 2, bias=False)
        second.weight = nn.Parameter(first.weight.detach().reshape(2, 3))
        assert fingerprint(first) != fingerprint(second)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_network_that_flattens_by_view_gets_contiguous_images(channels: int):
    class Flattening(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = torch.nn.Conv2d(channels, 4, 3, padding=1), torch.nn.Linear(256, 2)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            features = self.conv(images)
            return self.head(features.view(len(features), -1))

    classifier = Classifier(Flattening(), shape=(channels, 8, 8), classes=2)
    images = torch.rand(2, 8, 8, channels).permute(0, 3, 1, 2).requires_grad_()
    classifier(images).sum().backward()
    assert images.grad is not None and images.grad.abs().sum() > 0
