"""Functions of images as networks: anything that maps images to logits."""

from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
import toys
from torch import Tensor, nn

from datafree.applications.distillation import DistillationConfig
from datafree.classifier import Classifier, fingerprint, frozen
from datafree.ensemble import Ensemble
from datafree.evaluation import measure
from datafree.methods import METHODS
from datafree.networks.blocks import Blocks
from datafree.synthesis import Schedule, Stream
from datafree.synthesis.method import capabilities
from datafree.types import InputError

WEIGHTS = torch.linspace(-1, 1, 64 * 4).view(64, 4)


def classifier(function: Any) -> Classifier:
    return Classifier(function, shape=toys.SHAPE, classes=toys.CLASSES, mean=(0.4,), std=(0.3,)).eval()


def by_numpy(images: Tensor) -> Any:
    return images.flatten(1).numpy() @ WEIGHTS.numpy()


IMAGES = torch.rand(3, *toys.SHAPE)


@pytest.mark.parametrize(
    "function", [by_numpy, lambda x: by_numpy(x).tolist(), lambda x: (x.flatten(1) @ WEIGHTS).detach()]
)
def test_what_torch_cannot_differentiate_is_forward_only(function: Any):
    network = classifier(function)
    assert torch.allclose(network(IMAGES), ((IMAGES - 0.4) / 0.3).flatten(1) @ WEIGHTS, atol=1e-4)
    assert not network.differentiable and not capabilities(network)
    assert not network(IMAGES.clone().requires_grad_()).requires_grad
    with frozen(network):
        assert network.feature_layers() == [] and network.class_weights() is None
    assert measure(network).parameters == 0
    with pytest.raises(InputError, match="no gradients"):
        METHODS["deep-dream"].build(network)
    with pytest.raises(InputError, match="cannot be split into blocks, because it is forward-only;"):
        Blocks(network)


def test_a_function_of_torch_is_differentiable_and_its_weights_get_no_gradient():
    hidden = toys.plain_net()
    network = classifier(lambda images: hidden.model(images))
    with pytest.raises(InputError, match="cannot be split into blocks, because it has no layers;"):
        Blocks(network)
    images = IMAGES.clone().requires_grad_()
    network(images).square().sum().backward()
    theirs = IMAGES.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(hidden(theirs).square().sum(), theirs)
    assert network.differentiable and images.grad is not None and torch.allclose(images.grad, gradient, atol=1e-5)
    assert all(parameter.grad is None for parameter in hidden.parameters())
    assert toys.synthesize(toys.TINY["deep-dream"], network, None).images.shape == (8, *toys.SHAPE)


def test_a_copy_calls_the_same_function_and_other_functions_have_other_fingerprints():
    network, other = classifier(by_numpy), classifier(lambda x: by_numpy(x) + 1)
    copy = deepcopy(network)
    assert torch.equal(copy(IMAGES), network(IMAGES))
    assert fingerprint(copy.model) == fingerprint(network.model) != fingerprint(other.model)
    assert not Ensemble([network, other]).differentiable and Ensemble([toys.plain_net()]).differentiable


def test_a_student_learns_from_a_function():
    teacher, student = classifier(by_numpy), toys.plain_net()
    stream = Stream.of(toys.TINY["noise"], teacher, student, Schedule(pool_batches=2, batch_size=8))
    before = fingerprint(student)
    DistillationConfig(steps=3).build()(student, teacher, stream)
    assert fingerprint(student) != before


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: {"a": x}, "the network returns a dict; return one tensor of logits"),
        (lambda x: None, "the network returns a NoneType; return one tensor of logits"),
        (lambda x: x @ np.zeros(3), r"the network fails on images of shape \(1, 8, 8\)"),
        (lambda x: 1 / 0, r"fails on images of shape \(1, 8, 8\) \(division by zero\); correct it or its shape"),
    ],
)
def test_functions_that_return_no_logits_are_refused(function: Any, message: str):
    with pytest.raises(InputError, match=message):
        classifier(function)


@pytest.mark.parametrize("channels_last", [False, True])
def test_a_network_that_is_handed_in_is_not_changed(channels_last: bool):
    """Its memory format may become channels-last, where that gives the same outputs."""
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Dropout(), nn.Linear(144, 4)).train()
    model[1].eval()
    model[0].weight.requires_grad_(False)
    if channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    before = toys.snapshot(model)
    network = classifier(model).train()
    model[1].eval()
    assert capabilities(network) == {"gradients", "last layer"} and network.feature_layers()
    METHODS["dafl"].build(network)
    toys.synthesize(toys.TINY["deep-dream"], network, None)
    assert toys.same(toys.snapshot(model), before)
