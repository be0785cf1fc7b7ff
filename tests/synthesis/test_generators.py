"""Networks that make images: the right shape, the right statistics, nothing checkered."""

from dataclasses import replace

import pytest
import torch
import toys

from datafree.classifier import Classifier
from datafree.methods.dafl import DAFL
from datafree.synthesis.generators import PaperGenerator, SubpixelGenerator, binomial
from datafree.teachers.doctor import require
from datafree.types import InputError

KINDS = [PaperGenerator, SubpixelGenerator]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (2, 8, 12)])
def test_makes_images_of_the_shape(kind: type, shape: tuple[int, int, int]):
    assert kind(10, shape)(torch.randn(4, 10)).shape == (4, *shape)


@pytest.mark.parametrize("kind", KINDS)
def test_what_it_makes_is_standardised_over_the_batch(kind: type):
    images = kind(10, (3, 16, 16))(torch.randn(32, 10))
    assert torch.allclose(images.mean((0, 2, 3)), torch.zeros(3), atol=1e-4)
    assert torch.allclose(images.var((0, 2, 3)), torch.ones(3), atol=1e-2)


@pytest.mark.parametrize("kind", KINDS)
def test_different_latents_make_different_images(kind: type):
    images = kind(10, (1, 8, 8))(torch.randn(8, 10))
    assert torch.pdist(images.flatten(1)).min() > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_learns(kind: type):
    generator = kind(10, (1, 8, 8))
    generator(torch.randn(8, 10)).pow(3).sum().backward()
    assert all(parameter.grad is not None for parameter in generator.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_refuses_a_size_it_cannot_double_twice_to(kind: type):
    with pytest.raises(InputError, match="28 x 30 is not divisible by 4"):
        kind(10, (1, 28, 30))


def test_the_blur_by_hand():
    assert (16 * binomial(2)[1, 0]).tolist() == [[1, 2, 1], [2, 4, 2], [1, 2, 1]]


class Opaque(torch.nn.Module):
    """A teacher of which only input and output are to be seen."""

    def __init__(self, teacher: Classifier) -> None:
        super().__init__()
        self.answer = [teacher]  # a list hides it from `modules`

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.answer[0].model(images)


def test_dafl_works_on_input_and_output_alone_and_says_what_is_off(plain_teacher: Classifier):
    black_box = toys.classifier(Opaque(plain_teacher))
    method = DAFL(black_box, replace(toys.TINY["dafl"], activation=1.0))
    assert "activation loss is off" in method.notes[0]
    assert set(method.synthesize().terms) == {"one-hot", "entropy"}


def test_dafl_is_silent_where_features_are_to_be_seen(plain_teacher: Classifier):
    method = DAFL(plain_teacher, toys.TINY["dafl"])
    assert method.notes == ()
    assert "activation" in method.synthesize().terms


def test_zskd_refuses_input_and_output_alone(plain_teacher: Classifier):
    with pytest.raises(InputError, match="no last layer; methods that work with it: noise, deep-dream, dafl"):
        require(toys.classifier(Opaque(plain_teacher)), toys.TINY["zskd"])
