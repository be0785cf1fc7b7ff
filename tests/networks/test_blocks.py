"""The blocks of a network compute the same logits as the network, from the input shapes they declare."""

import pytest
import torch
import toys
from torch import Tensor, nn

from datafree import teachers
from datafree.classifier import Classifier
from datafree.networks.blocks import Blocks
from datafree.types import InputError

NETWORKS = {
    "lenet5": 4,
    "convnet_w16": 4,
    "resnet18_cifar": 5,
    "vgg11_bn_cifar": 5,
    "wrn_16_1": 4,
    "resnet10t": 5,
    "test_resnet": 5,
    "test_convnext": 5,  # it uses weights outside of its layers
}
"""default number of blocks of each network"""


def network(name: str) -> Classifier:
    shape = None if name in ("lenet5", "convnet_w16") or "_" in name and "test" not in name else (3, 64, 64)
    return teachers.create(name, shape=shape).eval()


@pytest.mark.parametrize("name", NETWORKS)
def test_the_last_blocks_continue_from_the_output_of_the_first(name: str):
    classifier = network(name)
    blocks = Blocks(classifier)
    assert len(blocks) == len(blocks.shapes) == NETWORKS[name]
    images = torch.rand(2, *classifier.shape)
    with torch.no_grad():
        expected, x = classifier(images), classifier.normalize(images)
        torch.testing.assert_close(blocks(images), expected)
        for index, block in enumerate(blocks):
            assert x.shape[1:] == blocks.shapes[index]
            last = len(blocks) - index
            torch.testing.assert_close(blocks(images if index == 0 else x, last), expected)
            x = block(x)


def test_blocks_share_the_weights():
    classifier = network("convnet_w16")
    assert {id(p) for p in Blocks(classifier).parameters()} == {id(p) for p in classifier.model.parameters()}


def test_residual_blocks_are_not_split_inside():
    blocks = Blocks(network("resnet18_cifar"))
    assert blocks.shapes[1:] == ((64, 32, 32), (64, 32, 32), (128, 16, 16), (256, 8, 8))


def test_with_fewer_blocks_the_first_are_merged():
    few, default = Blocks(network("convnet_w16"), 2), Blocks(network("convnet_w16"))
    assert few.shapes == (default.shapes[0], default.shapes[-1])


def test_gradients_reach_the_features():
    blocks = Blocks(network("convnet_w16"))
    features = torch.rand(2, *blocks.shapes[2], requires_grad=True)
    blocks(features, last=2).sum().backward()
    assert features.grad is not None and features.grad.abs().sum() > 0


def test_a_resolution_may_occur_again():
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, padding=1),
        nn.Upsample(scale_factor=2),
        nn.Conv2d(6, 2, 3, padding=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2, 4),
    )
    classifier = toys.classifier(network)
    blocks, images = Blocks(classifier), torch.rand(2, *toys.SHAPE)
    assert blocks.shapes == (toys.SHAPE, (6, 4, 4), (2, 8, 8), (2, 1, 1))
    torch.testing.assert_close(blocks(images), classifier(images))


def test_a_network_may_start_with_its_first_stage():
    class Stages(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer1, self.layer2 = nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3)
            self.layer3, self.layer4 = nn.Conv2d(2, 2, 3), nn.Conv2d(2, 4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer4(self.layer3(self.layer2(self.layer1(x)))).flatten(1)

    assert Blocks(toys.classifier(Stages())).shapes == (toys.SHAPE, (2, 6, 6), (2, 4, 4), (2, 2, 2))


class Undecided(nn.Module):
    """Its control flow depends on its input."""

    def __init__(self) -> None:
        super().__init__()
        self.flatten = nn.Flatten()

    def forward(self, x: Tensor) -> Tensor:
        return self.flatten(x)[:, :4] if x.sum() > 0 else -self.flatten(x)[:, :4]


class Unpacked(Undecided):
    """It loops over its input."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([image[:4] for image in self.flatten(x)])


@pytest.mark.parametrize(
    ("model", "count", "match"),
    [
        (toys.conv_net().model, 9, "cannot be split into 9"),
        (toys.conv_net().model, 1, "cannot be split into 1"),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 4)), 0, "has 1 block and cannot be split into several"),
        (Undecided(), 0, "blocks, because its code depends on the values or sizes that it computes; use"),
        (Unpacked(), 0, "blocks, because its code depends on the values or sizes that it computes; use"),
    ],
)
def test_networks_that_cannot_be_split_are_refused(model: nn.Module, count: int, match: str):
    with pytest.raises(InputError, match=match):
        Blocks(toys.classifier(model), count)
