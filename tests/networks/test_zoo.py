"""The networks match the papers they come from."""

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from datafree.networks.zoo import NETWORKS, PooledConv2d

PARAMETERS = {
    "lenet5": 61_706,
    "lenet5_half": 15_738,
    "resnet18_cifar": 11_173_962,
    "resnet34_cifar": 21_282_122,
    "wrn_16_2": 691_674,
    "wrn_40_1": 563_930,
    "wrn_40_2": 2_243_546,
}


def network(name: str, **settings: int) -> nn.Module:
    return timm.create_model(name, **settings).eval()


@pytest.mark.parametrize(("name", "count"), PARAMETERS.items())
def test_the_number_of_parameters_is_the_published_one(name: str, count: int):
    assert sum(parameter.numel() for parameter in network(name).parameters()) == count


@pytest.mark.parametrize(("name", "millions"), [("wrn_16_1", 0.18), ("vgg11_bn_cifar", 9.2)])
def test_the_number_of_parameters_is_close_to_the_published_one(name: str, millions: float):
    assert sum(parameter.numel() for parameter in network(name).parameters()) / 1e6 == pytest.approx(millions, rel=0.03)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_declared_input_shape_gives_one_logit_per_class(name: str):
    channels, height, width = NETWORKS[name][2]
    assert network(name)(torch.rand(2, channels, height, width)).shape == (2, 10)
    assert timm.get_pretrained_cfg(name).input_size == (channels, height, width)


@pytest.mark.parametrize("name", NETWORKS)
def test_channels_and_classes_can_be_changed(name: str):
    _, height, width = NETWORKS[name][2]
    assert network(name, in_chans=2, num_classes=7)(torch.rand(1, 2, height, width)).shape == (1, 7)


def test_every_network_is_registered_in_timm():
    assert set(NETWORKS) <= set(timm.list_models(module="zoo"))
    assert all(timm.is_model(name) for name in NETWORKS)


def test_the_demo_student_has_at_most_a_fifth_of_its_teachers_parameters():
    sizes = [sum(p.numel() for p in network(name).parameters()) for name in ("convnet_w16", "convnet_w64")]
    assert sizes[0] <= sizes[1] / 5


def test_only_lenet5_has_no_batch_norm():
    assert {name for name in NETWORKS if not any(isinstance(m, nn.BatchNorm2d) for m in network(name).modules())} == {
        "lenet5",
        "lenet5_half",
    }


def test_the_depth_of_a_wide_resnet_is_in_its_name():
    convolutions = [m for m in network("wrn_40_2").modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert (
        len(convolutions) == 40 - 3
    )  # the depth in the name includes one linear layer and two shortcuts; see the next line
    assert sum(isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1) for m in network("wrn_40_2").modules()) == 3


def test_every_parameter_has_a_gradient():
    for name in ("lenet5", "wrn_16_1", "convnet_w16"):
        net = network(name).train()
        channels, height, width = NETWORKS[name][2]
        net(torch.rand(4, channels, height, width)).square().sum().backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters()), name


@pytest.mark.parametrize("size", [14, 32])
@pytest.mark.parametrize("bias", [True, False])
def test_pooled_convolution_equals_convolution_then_pooling(size: int, bias: bool):
    pooled, images = PooledConv2d(3, 5, 5, bias=bias), torch.randn(2, 3, size, size)
    expected = F.max_pool2d(F.conv2d(images, pooled.weight, pooled.bias), 2)
    assert torch.allclose(pooled(images), expected, atol=1e-5)


def test_lenet5_pads_images_from_28_pixels_to_its_own_size():
    network = timm.create_model("lenet5").eval()
    images = torch.rand(2, 1, 28, 29)
    assert torch.equal(network(images), network(torch.nn.functional.pad(images, (1, 2, 2, 2))))
    assert network(torch.rand(2, 1, 32, 32)).shape == (2, 10)
    with pytest.raises(RuntimeError, match="Kernel size"):
        network(torch.rand(2, 1, 24, 32))
