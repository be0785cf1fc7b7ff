"""Networks that make images: the right shape, the right statistics, nothing checkered."""

import pytest
import torch

from datafree.generators import PaperGenerator, SubpixelGenerator, binomial
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
