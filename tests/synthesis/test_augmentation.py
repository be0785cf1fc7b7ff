"""Small movements, a different one for each image."""

import math
from dataclasses import replace

import pytest
import torch

from datafree.applications.continual import ExtensionConfig
from datafree.runs.training import TrainingConfig
from datafree.synthesis.augmentation import Augmentation
from datafree.types import Images, InputError

ALL = Augmentation(shift=1.0, rotate=10, scale=0.1, flip=True, mix=0.5)


def centres(images: Images) -> torch.Tensor:
    """Where the brightness of each image is, in pixels."""
    ys, xs = torch.meshgrid(torch.arange(images.shape[2]), torch.arange(images.shape[3]), indexing="ij")
    mass = images.sum((1, 2, 3))
    return torch.stack([(images[:, 0] * ys).sum((1, 2)) / mass, (images[:, 0] * xs).sum((1, 2)) / mass], 1)


def spots(count: int) -> Images:
    """A soft spot in the middle of a large dark image."""
    images = torch.zeros(count, 1, 21, 21)
    images[:, :, 8:13, 8:13] = 1
    return images


def test_nothing_asked_for_is_nothing_done():
    images, random = torch.rand(4, 1, 8, 8), torch.get_rng_state()
    assert Augmentation()(images) is images
    assert torch.equal(torch.get_rng_state(), random)


def test_flip_mirrors_about_half_of_the_images_and_changes_no_other():
    images = torch.rand(200, 1, 4, 4)
    flipped = Augmentation(flip=True)(images)
    mirrored = [torch.equal(new, old.flip(-1)) for new, old in zip(flipped, images, strict=True)]
    kept = [torch.equal(new, old) for new, old in zip(flipped, images, strict=True)]
    assert all(a != b for a, b in zip(mirrored, kept, strict=True))
    assert 70 < sum(mirrored) < 130


def test_shift_moves_by_up_to_its_bound_in_both_directions():
    moved = centres(Augmentation(shift=3.0)(spots(300))) - 10
    assert 2.7 < moved.max() <= 3.01 and -3.01 <= moved.min() < -2.7


def test_scale_changes_the_size_by_up_to_its_bound():
    areas = Augmentation(scale=0.2)(spots(300)).sum((1, 2, 3)) / 25
    assert areas.max() < 1 / 0.8**2 + 0.1 and areas.min() > 1 / 1.2**2 - 0.1
    assert areas.max() > 1.3 and areas.min() < 0.8


def test_rotation_keeps_the_middle_and_turns_a_bar():
    bar = torch.zeros(200, 1, 21, 21)
    bar[:, :, 10, 3:18] = 1
    turned = Augmentation(rotate=20)(bar)
    assert (centres(turned) - 10).abs().max() < 0.1
    heights = turned[:, 0, :, 17].argmax(1) - 10  # 7 tan(20 degrees) is about 2.5 pixels
    assert heights.min() == -3 or heights.min() == -2
    assert heights.max() == 3 or heights.max() == 2


def test_each_image_moves_in_its_own_way():
    moved = replace(ALL, mix=0.0)(torch.rand(1, 1, 8, 8).repeat(20, 1, 1, 1))
    assert len({round(image.sum().item(), 4) for image in moved}) > 15


def test_pixels_stay_between_those_that_were_there():
    moved = ALL(0.2 + 0.5 * torch.rand(50, 3, 8, 8))
    assert moved.min() >= 0.2 and moved.max() <= 0.7 + 1e-6


def test_one_colour_stays_one_colour():
    assert torch.allclose(ALL(torch.full((5, 3, 8, 6), 0.4)), torch.tensor(0.4))


def test_gradients_pass():
    images = torch.rand(2, 1, 8, 8, requires_grad=True)
    ALL(images).sum().backward()
    assert images.grad is not None and images.grad.abs().sum() > 0


class TestMix:
    def test_so_many_images_are_blends_of_two(self):
        images = torch.eye(400)[:, None, None]
        mixed = Augmentation(mix=0.5)(images)[:, 0, 0]
        assert 150 < (mixed.amax(1) < 1).sum() < 250
        assert ((mixed > 0).sum(1) <= 2).all() and torch.allclose(mixed.sum(1), torch.ones(400))

    def test_an_image_that_is_not_blended_stays_in_its_place(self):
        images = torch.eye(400)[:, None, None]
        mixed = Augmentation(mix=0.5)(images)[:, 0, 0]
        whole = mixed.amax(1) == 1
        assert torch.equal(mixed[whole].argmax(1), torch.arange(400)[whole])

    def test_shares_are_spread_evenly(self):
        images = torch.eye(2000)[:, None, None]
        own = Augmentation(mix=1.0)(images)[:, 0, 0].diagonal()
        assert own.mean() == pytest.approx(0.5, abs=0.03) and own.std() == pytest.approx(12**-0.5, abs=0.02)

    @pytest.mark.parametrize("mix", [-0.1, 1.1, math.nan])
    def test_refuses_what_is_no_part(self, mix: float):
        with pytest.raises(InputError, match="mix is .*, but a part is from 0 to 1"):
            Augmentation(mix=mix)

    def test_is_refused_where_labels_are_learned(self):
        for config in (TrainingConfig, ExtensionConfig):
            with pytest.raises(InputError, match="a blend of two images has no label of its own; leave mix out"):
                config(augment=Augmentation(mix=0.5))


@pytest.mark.parametrize("name", ["shift", "rotate", "scale"])
def test_refuses_a_negative_movement(name: str):
    with pytest.raises(InputError, match=f"{name} is -1"):
        Augmentation(**{name: -1})
