"""The memory format of networks: channels last only where that is harmless."""

import pytest
import timm
import torch
import toys
from torch import Tensor, nn

from datafree import teachers
from datafree.classifier import Classifier
from datafree.ensemble import Ensemble
from datafree.memory_format import crashes_in_channels_last, is_channels_last, use_channels_last
from datafree.networks.zoo import NETWORKS, ResNetCifar

IMAGES = torch.rand(2, 3, 8, 8)


class Flattening(nn.Module):
    """Flattens its features by `view`, which fails in channels-last format, or reads them in the order of memory."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.conv, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 64, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if self.how == "order of memory":
            return self.head(x.as_strided((len(x), 4 * 64), (4 * 64, 1)))
        return self.head(x.view(len(x), -1) if self.how == "view" else x.flatten(1))


def strides(model: nn.Module) -> list[tuple[int, ...]]:
    return [parameter.stride() for parameter in model.parameters()]


@pytest.mark.parametrize("how", ["view", "order of memory", "flatten"])
def test_a_network_is_changed_only_if_it_gives_the_same_outputs(how: str):
    model = Flattening(how)
    before = strides(model)
    network = Classifier(model, shape=(3, 8, 8), classes=2)
    assert is_channels_last(model) == (how == "flatten")
    assert (strides(model) == before) == (how != "flatten")
    assert network(IMAGES).shape == (2, 2)


def test_the_network_and_the_random_numbers_are_not_changed_by_the_examination():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Dropout(), nn.Linear(144, 2)).train()
    before, state = toys.snapshot(model), torch.get_rng_state()
    use_channels_last(model, IMAGES)
    assert is_channels_last(model)
    assert toys.same(toys.snapshot(model), before) and torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.LazyConv2d(2, 3)),
        nn.Sequential(nn.Conv2d(1, 4, 3)),
        nn.Conv2d(3, 4, 3, device="meta"),
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv3d(1, 2, 3)),
    ],
    ids=["lazy", "other channels", "meta", "5 dimensions"],
)
def test_a_network_that_cannot_be_run_stays_as_it_is(model: nn.Module):
    before = [type(parameter) for parameter in model.parameters()]
    use_channels_last(model, IMAGES)
    assert [type(parameter) for parameter in model.parameters()] == before
    assert not is_channels_last(model) or before[0] is nn.UninitializedParameter


@pytest.mark.parametrize(
    ("channels", "stride", "kernel", "crashes"),
    [(3, 2, 1, True), (15, 2, 1, True), (16, 2, 1, False), (3, 1, 1, False), (3, 2, 3, False)],
)
def test_strided_convolutions_of_few_channels_are_contiguous(channels: int, stride: int, kernel: int, crashes: bool):
    model = nn.Sequential(nn.Conv2d(channels, 4, kernel, stride)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert crashes_in_channels_last(model) == crashes
    use_channels_last(model)
    assert is_channels_last(model) != crashes


def test_networks_of_timm_and_of_the_zoo_that_would_crash_are_contiguous():
    narrow = Classifier(ResNetCifar(depths=(1, 1, 1), width=4), shape=(3, 8, 8), classes=10)
    assert not is_channels_last(narrow.model)
    assert all(parameter.is_contiguous() for parameter in narrow.parameters())
    with torch.device("meta"):
        assert crashes_in_channels_last(timm.create_model("repvgg_a0"))


def test_a_network_that_would_crash_does_not_change_the_others_of_an_ensemble():
    def teacher(width: int) -> Classifier:
        return Classifier(
            ResNetCifar(depths=(1, 1, 1), width=width, num_classes=2), shape=(3, 8, 8), classes=("a", "b")
        )

    wide, narrow = Ensemble([teacher(16), teacher(4)]).teachers
    assert is_channels_last(wide.model) and not is_channels_last(narrow.model)


@pytest.mark.parametrize("name", ["convnet_w16", "lenet5", "resnet_w16", "wrn_16_1", "resnet10_cifar_w16"])
def test_networks_of_the_zoo_are_channels_last(name: str):
    assert name in NETWORKS and is_channels_last(teachers.create(name).model)
