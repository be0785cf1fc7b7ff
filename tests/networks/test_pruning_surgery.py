"""Channel groups, and networks after channels are removed."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import toys
from torch import Tensor, nn

from datafree import teachers
from datafree.classifier import Classifier
from datafree.evaluation import measure
from datafree.memory_format import is_channels_last, use_channels_last
from datafree.networks.pruning_surgery import Channels, layers_of, narrow, require_removable, widths_of
from datafree.types import InputError

SHAPES = {
    "convnet_w16": (1, 8, 8),
    "lenet5": (1, 32, 32),
    "resnet18_cifar_w16": (1, 8, 8),
    "wrn_16_1": (3, 8, 8),
    "vgg11_bn_cifar": (1, 8, 8),
}


def network(name: str) -> Classifier:
    """A network whose running statistics are not the initial ones."""
    network = teachers.create(name, shape=SHAPES[name]).eval()
    for buffer_name, buffer in network.named_buffers():
        if buffer_name.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.5, 1.5)
    return network


class Rigid(nn.Module):
    """Has its number of channels written into its code."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x).view(-1, 4, 64).mean(2))


class Silent(nn.Module):
    """Detaches its output from the autograd graph."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.flatten(1)).detach()


@pytest.mark.parametrize("name", SHAPES)
def test_removing_a_channel_that_no_layer_reads_changes_nothing(name: str):
    model = network(name)
    images = torch.rand(2, *model.shape)
    channels = Channels(model.model, model.shape)
    with torch.no_grad():
        for group in channels.groups:
            for layer, columns, channel in group.readers:
                layer.weight[:, columns[channel == 1]] = 0
        before = model(images)
        for group in channels.groups:
            if group.removable:
                channels.remove(group, [1])
        after = model(images)
    assert torch.allclose(before, after, atol=1e-5)
    assert sum(widths_of(model).values()) < sum(widths_of(network(name)).values())


def test_number_of_filters_by_hand():
    model = network("resnet18_cifar_w16")
    channels = Channels(model.model, model.shape)
    stem, stages, shortcuts = 16, 4 * (16 + 32 + 64 + 128), 32 + 64 + 128
    assert channels.filters == stem + stages + shortcuts
    stem_groups = [group for group in channels.groups if layers_of(model.model)["conv1"] in group.writers]
    assert len(stem_groups[0].writers) == 3  # the stem, and the last convolution of each block of the first stage


def test_tracing_leaves_flags_and_modes_unchanged():
    model = network("convnet_w16").train()
    model.model.head.requires_grad_(False)
    before = toys.snapshot(model)
    Channels(model.model, model.shape)
    assert toys.same(toys.snapshot(model), before)
    assert model.training and not model.model.head.weight.requires_grad  # type: ignore[union-attr]


def test_a_network_is_narrowed_to_given_widths():
    model = network("resnet18_cifar_w16")
    target = widths_of(model.model) | {"stages.0.0.conv1": 5, "stages.1.1.conv1": 7}
    narrow(model.model, model.shape, target)
    assert widths_of(model.model) == target
    assert model(torch.rand(1, *model.shape)).shape == (1, 10)


@pytest.mark.parametrize(
    ("widths", "fault"),
    [
        ({"stages.0.0.conv9": 4}, "no layer 'stages.0.0.conv9' to narrow; did you mean stages"),
        ({"stages.0.0.conv1": 0}, "cannot be narrowed to 0 channels; give a number from 1 to 16"),
        ({"stages.0.0.conv1": 10**12}, "cannot be narrowed to 1000000000000 channels"),
        ({"stages.0.0.conv1": "8"}, "cannot be narrowed to '8' channels"),
        ({"stages.0.0.conv1": True}, "cannot be narrowed to True channels"),
        ({"conv1": 8}, "the channels of conv1, .* cannot be narrowed to 8 and 16; correct the widths"),
        ({"head": 9}, "the channels of head cannot be narrowed to 9"),
    ],
)
def test_invalid_widths_are_refused(widths: dict[str, int], fault: str):
    model = network("resnet18_cifar_w16")
    with pytest.raises(InputError, match=fault):
        narrow(model.model, model.shape, widths)


def test_a_network_with_a_fixed_number_of_channels_is_refused():
    with pytest.raises(InputError, match="does not run with fewer channels"):
        require_removable(Rigid(), (1, 8, 8))


def test_a_network_that_cannot_be_traced_is_refused():
    with pytest.raises(InputError, match="its output does not depend on any layer"):
        Channels(Silent(), (1, 8, 8))


def test_few_channels_before_a_strided_shortcut_can_be_trained():
    model = network("resnet18_cifar_w16")
    narrow(model.model, model.shape, {"conv1": 3, "stages.0.0.conv2": 3, "stages.0.1.conv2": 3})
    model(torch.rand(8, *model.shape)).sum().backward()
    assert measure(model).parameters < measure(network("resnet18_cifar_w16")).parameters


class Gated(nn.Module):
    """Multiplies all channels of a convolution by the single output of another one."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.gate, self.tail = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 1, 1), nn.Conv2d(8, 6, 1)
        self.head = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.body(x)
        return self.head(self.tail(x * self.gate(x).sigmoid()).mean((2, 3)))


def test_a_convolution_with_one_output_is_not_taken_for_all_channels():
    channels = Channels(Gated(), (1, 8, 8))
    assert channels.filters == 8 + 1 + 6
    assert {len(group) for group in channels.groups if group.removable} == {6}
    require_removable(Gated(), (1, 8, 8))


def test_a_convolution_in_groups_with_one_output_each_is_not_taken_for_depthwise():
    layers = nn.Conv2d(1, 16, 3), nn.Conv2d(16, 4, 1, groups=4), nn.Conv2d(4, 8, 1), nn.AdaptiveAvgPool2d(1)
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(8, 3))
    require_removable(model, (1, 8, 8))
    assert sum(len(group) for group in Channels(model, (1, 8, 8)).groups if group.removable) == 8


class Auxiliary(nn.Module):
    """Has a second output in training, like GoogLeNet."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.tail, self.head = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 1), nn.Linear(8, 4)
        self.second = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> Any:
        x = self.body(x)
        logits = self.head(self.tail(x).mean((2, 3)))
        return SimpleNamespace(logits=logits, second=self.second(x.mean((2, 3)))) if self.training else logits


def test_auxiliary_heads_are_refused_before_anything_is_removed():
    with pytest.raises(InputError, match="does not run in training with fewer channels .*; remove its auxiliary heads"):
        require_removable(Auxiliary(), (1, 8, 8))


def test_shuffled_channels_are_refused_in_one_sentence():
    from torchvision.models import shufflenet_v2_x0_5

    expected = "^the channels of this network cannot be removed .it shuffles them, as ShuffleNet does.; distil a smaller network"
    with pytest.raises(InputError, match=expected):
        require_removable(shufflenet_v2_x0_5(num_classes=2), (3, 32, 32))


def test_a_network_that_was_contiguous_stays_so():
    for channels_last in (True, False):
        model = Gated()
        if channels_last:
            use_channels_last(model)
        channels = Channels(model, (1, 8, 8))
        channels.remove(next(group for group in channels.groups if group.removable), [0])
        assert is_channels_last(model) == channels_last
