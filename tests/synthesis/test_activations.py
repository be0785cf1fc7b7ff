"""Activations that compute out of place while images are optimized: which they are, and that the images are the same."""

from dataclasses import replace
from typing import Any, cast

import pytest
import torch
import toys
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from datafree.classifier import Classifier
from datafree.methods.deep_inversion import DeepInversionConfig
from datafree.synthesis.inversion.activations import copied_activations, out_of_place


def net(activation: nn.Module, kind: type[nn.Module] = nn.Identity) -> Classifier:
    layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), activation, kind(), nn.Flatten(), nn.Linear(144, 4)]
    torch.manual_seed(0)
    teacher = toys.classifier(nn.Sequential(*layers))
    with torch.no_grad():
        teacher.train()(torch.rand(8, *teacher.shape))  # running statistics
    return teacher.eval()


class Preactivated(nn.Module):
    """A block whose shortcut is what the activation leaves of its input."""

    def __init__(self) -> None:
        super().__init__()
        self.activation = nn.SiLU(inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        return self.activation(features) * 2 + features


class Copies(TorchDispatchMode):
    """Counts the copies of features."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten.clone.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", [nn.ReLU6, nn.Hardtanh, nn.SiLU, nn.Hardswish, nn.Mish])
def test_the_input_of_these_is_copied_in_place_and_not_out_of_place(kind: type[nn.Module]):
    teacher = net(kind(inplace=True))  # type: ignore[call-arg]
    found = copied_activations(teacher)
    assert [type(module) for module in found] == [kind]
    images = torch.rand(2, *teacher.shape).requires_grad_()
    with Copies() as before:
        in_place = torch.autograd.grad(teacher(images).sum(), images)[0]
    with out_of_place(found), Copies() as after:
        gradient = torch.autograd.grad(teacher(images).sum(), images)[0]
    assert after.count == before.count - 1 and torch.equal(gradient, in_place)
    assert cast(Any, found[0]).inplace


@pytest.mark.parametrize("activation", [nn.ReLU(inplace=True), nn.ReLU6(), nn.GELU()])
def test_others_are_left_alone(activation: nn.Module):
    assert copied_activations(net(activation)) == []


def test_what_a_shortcut_reads_stays_overwritten():
    teacher = net(nn.ReLU6(inplace=True), Preactivated)
    images = torch.rand(2, *teacher.shape)
    with out_of_place([module for module in teacher.modules() if isinstance(module, nn.SiLU)]):
        changed = teacher(images)
    assert not torch.allclose(changed, teacher(images))
    assert copied_activations(teacher) == []


def test_they_compute_in_place_again_after_an_exception():
    teacher = net(nn.SiLU(inplace=True))
    with pytest.raises(KeyError), out_of_place(copied_activations(teacher)):
        raise KeyError
    assert copied_activations(teacher)


def test_an_inversion_gives_the_same_images(monkeypatch: pytest.MonkeyPatch):
    teacher = net(nn.SiLU(inplace=True))
    config = replace(toys.tiny(DeepInversionConfig()), statistics=1.0)  # type: ignore[call-arg]
    expected = toys.synthesize(config, teacher, toys.conv_net()).images
    monkeypatch.setattr("datafree.synthesis.inversion.copied_activations", lambda teacher: [])
    assert torch.equal(toys.synthesize(config, teacher, toys.conv_net()).images, expected)
