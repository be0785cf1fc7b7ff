"""Generators return images of the right shape and statistics."""

import pytest
import torch

from datafree.synthesis.generators.networks import GroupStackGenerator, PaperGenerator, SubpixelGenerator, binomial
from datafree.types import InputError

KINDS = [PaperGenerator, SubpixelGenerator]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (2, 8, 12)])
def test_returns_images_of_the_shape(kind: type, shape: tuple[int, int, int]):
    assert kind(10, shape)(torch.randn(4, 10)).shape == (4, *shape)


@pytest.mark.parametrize("kind", KINDS)
def test_images_are_standardised_over_the_batch(kind: type):
    images = kind(10, (3, 16, 16))(torch.randn(32, 10))
    assert torch.allclose(images.mean((0, 2, 3)), torch.zeros(3), atol=1e-4)
    assert torch.allclose(images.var((0, 2, 3)), torch.ones(3), atol=1e-2)


@pytest.mark.parametrize("kind", KINDS)
def test_different_latent_vectors_give_different_images(kind: type):
    images = kind(10, (1, 8, 8))(torch.randn(8, 10))
    assert torch.pdist(images.flatten(1)).min() > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_has_a_gradient(kind: type):
    generator = kind(10, (1, 8, 8))
    generator(torch.randn(8, 10)).pow(3).sum().backward()
    assert all(parameter.grad is not None for parameter in generator.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_refuses_a_size_that_is_not_divisible_by_4(kind: type):
    with pytest.raises(InputError, match="divisible by 4, but images are 28 x 30"):
        kind(10, (1, 28, 30))


def test_the_blur_by_hand():
    assert (16 * binomial(2)[1, 0]).tolist() == [[1, 2, 1], [2, 4, 2], [1, 2, 1]]


def test_features_end_in_a_relu_unless_those_of_the_teachers_can_be_negative():
    shapes, latents = ((1, 16, 16), (4, 8, 8), (6, 4, 4)), torch.randn(32, 5)
    for signed in ((), (False, False), (True, False), (True, True)):
        torch.manual_seed(0)
        deepest, middle, images = GroupStackGenerator(5, shapes, signed)(latents)
        assert [bool((features < 0).any()) for features in (middle, deepest)] == list(signed or (False, False))
        assert [tuple(x.shape[1:]) for x in (images, middle, deepest)] == list(shapes)
