"""Teachers that return probabilities, one output, or several."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import toys
from torch import Tensor, nn

from datafree.classifier import Classifier
from datafree.ensemble import SingleTeacher
from datafree.networks.blocks import Blocks
from datafree.synthesis.outputs import inspect_outputs
from datafree.types import InputError


def ending(network: Classifier, *layers: nn.Module, **settings: Any) -> Classifier:
    """Return a classifier with layers after the logits of another one."""
    model = nn.Sequential(network.model, *layers)
    return Classifier(
        model, **{"shape": toys.SHAPE, "classes": toys.CLASSES, "mean": (0.4,), "std": (0.3,)} | settings
    ).eval()


IMAGES = torch.rand(5, *toys.SHAPE)


class TestProbabilities:
    def test_the_logarithm_of_a_softmax_is_taken(self, teacher: Classifier):
        found = ending(teacher, nn.Softmax(1))
        inspect_outputs(found, "x")
        assert found.outputs == "softmax" and len(found.notes) == 1 and "returns probabilities" in found.notes[0]
        assert torch.allclose(found(IMAGES), teacher(IMAGES).log_softmax(1), atol=1e-4)
        inspect_outputs(found, "x")
        assert found.outputs == "softmax" and len(found.notes) == 1

    def test_the_log_odds_of_sigmoids_are_taken(self, teacher: Classifier):
        found = ending(teacher, nn.Sigmoid(), multi_label=True)
        inspect_outputs(found, "x")
        assert found.outputs == "sigmoid"
        near = teacher(IMAGES).abs() < 8
        assert torch.allclose(found(IMAGES)[near], teacher(IMAGES)[near], atol=2e-3)

    @pytest.mark.parametrize("layers", [(), (nn.LogSoftmax(1),), (nn.ReLU(),)], ids=str)
    def test_other_outputs_stay(self, teacher: Classifier, layers: tuple[nn.Module, ...]):
        found = ending(teacher, *layers)
        inspect_outputs(found, "x")
        assert found.outputs == "logits" and found.notes == ()

    def test_a_method_in_python_finds_it_too(self, teacher: Classifier):
        found = ending(teacher, nn.Softmax(1))
        toys.TINY["noise"].build(found)
        assert found.outputs == "softmax"

    def test_blocks_and_single_teachers_return_the_same_logits(self, teacher: Classifier):
        found = ending(teacher, nn.Softmax(1))
        inspect_outputs(found, "x")
        assert torch.allclose(Blocks(found)(IMAGES), found(IMAGES), atol=1e-5)
        alone = SingleTeacher(found, toys.CLASSES)
        assert torch.allclose(alone(IMAGES), found(IMAGES).log_softmax(1), atol=1e-5)

    def test_gradients_are_finite(self, teacher: Classifier):
        found = ending(teacher, nn.Softmax(1))
        inspect_outputs(found, "x")
        images = (100 * IMAGES).requires_grad_(True)
        (gradient,) = torch.autograd.grad(found(images).sum(), images)
        assert torch.isfinite(gradient).all()

    def test_nothing_else_changes(self, teacher: Classifier):
        before, state = toys.snapshot(teacher), torch.get_rng_state()
        inspect_outputs(teacher, "x")
        assert toys.same(toys.snapshot(teacher), before) and torch.equal(torch.get_rng_state(), state)


class TestRefusals:
    def test_one_class_is_refused_unless_it_is_multi_label(self):
        with pytest.raises(InputError, match="single class.*make it multi-label"):
            inspect_outputs(toys_of(1), "x")
        yes_or_no = toys_of(1, multi_label=True)
        inspect_outputs(yes_or_no, "x")

    def test_a_wrong_shape_or_size_is_refused(self):
        with pytest.raises(InputError, match=r"x does not classify .*its output has shape .3, 5."):
            inspect_outputs(toys_of(5, classes=4), "x")
        with pytest.raises(InputError, match="x does not classify images of shape"):
            inspect_outputs(Classifier(nn.Linear(3, 4), shape=toys.SHAPE, classes=4), "x")

    def test_outputs_that_are_not_finite_are_refused(self):
        network = toys_of(4)
        network.model[1].weight.data[0] = float("nan")  # type: ignore[index, union-attr]
        with pytest.raises(InputError, match="NaN or infinite"):
            inspect_outputs(network, "x")


def toys_of(outputs: int, classes: int = 0, **settings: Any) -> Classifier:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, outputs))
    return Classifier(model, shape=toys.SHAPE, classes=classes or outputs, **settings)


def test_the_logits_of_a_network_with_auxiliary_heads_are_used():
    class WithHeads(nn.Module):
        def forward(self, x: Tensor) -> Any:
            logits = x.flatten(1)[:, :4]
            return SimpleNamespace(logits=logits, aux=logits) if self.training else logits

    network = Classifier(WithHeads(), shape=toys.SHAPE, classes=4)
    assert torch.equal(network.train()(IMAGES), network.eval()(IMAGES))
