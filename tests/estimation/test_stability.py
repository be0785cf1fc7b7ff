"""Perturbations keep the shape and the range of images; stability counts the decisions that survive them."""

import math

import pytest
import torch
import toys
from torch import Tensor, nn

from datafree.classifier import Classifier
from datafree.estimation import stability
from datafree.estimation.perturbations import KINDS, PERTURBATIONS, Perturbation, add_noise, blur, paste, shift, turn
from datafree.types import Images


class Brightness(nn.Module):
    """Class 1 if the mean of an image is above one half, else class 0."""

    def forward(self, images: Tensor) -> Tensor:
        mean = images.mean((1, 2, 3))
        return torch.stack([0.5 - mean, mean - 0.5], 1)


@pytest.fixture
def brightness() -> Classifier:
    return Classifier(Brightness(), shape=(1, 8, 8), classes=2).eval()


@pytest.mark.parametrize("perturb", [*KINDS, paste])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 12, 16)])
def test_perturbed_images_have_the_same_shape_and_range(perturb, shape: tuple[int, int, int]):
    images = torch.rand(6, *shape)
    before = images.clone()
    changed = perturb(images)
    assert changed.shape == images.shape
    assert 0 <= changed.min() <= changed.max() <= 1
    assert not torch.equal(changed, images)
    assert torch.equal(images, before)


def test_a_rectangle_of_another_image_is_pasted():
    """Each image has one value, so what is pasted shows: a quarter to a half of each side, in one piece."""
    images = torch.arange(40).view(-1, 1, 1, 1).expand(-1, 1, 8, 12) / 40
    changed = paste(images)
    other = changed != images
    assert 30 <= int(other.flatten(1).any(1).sum()) <= 40  # a few get a rectangle of themselves
    for image, place in zip(changed, other, strict=True):
        rows, columns = place[0].any(1), place[0].any(0)
        if place.any():
            assert 2 <= int(rows.sum()) <= 4
            assert 3 <= int(columns.sum()) <= 6
            assert int(place.sum()) == int(rows.sum()) * int(columns.sum())
            assert len(image[place].unique()) == 1


def test_ten_perturbations_are_drawn_and_each_kind_twice():
    assert len(PERTURBATIONS) == 10
    assert all(PERTURBATIONS.count(kind) == 2 for kind in KINDS)


def test_shifts_reach_an_eighth_of_the_side():
    """The centre of mass of a dot moves by up to 2 of 16 pixels."""
    images = torch.zeros(400, 1, 16, 16)
    images[:, :, 7:9, 7:9] = 1
    columns = torch.arange(16.0)
    moved = shift(images)
    centre = (moved.sum((1, 2)) * columns).sum(1) / moved.sum((1, 2, 3))
    assert 1.8 < (centre - 7.5).abs().max() <= 2.01


def test_rotations_leave_the_centre_of_an_image():
    images = torch.zeros(50, 1, 17, 17)
    images[:, :, 8, 8] = 1
    assert bool((turn(images)[:, 0, 8, 8] > 0.5).all())


def test_noise_has_the_given_deviation():
    grey = torch.full((4, 1, 64, 64), 0.5)
    assert float((add_noise(grey, 0.1) - 0.5).std()) == pytest.approx(0.1, rel=0.03)


def test_blur_lowers_the_contrast_around_the_mean():
    images = torch.rand(8, 1, 16, 16)
    blurred = blur(images)
    assert bool((blurred.std((1, 2, 3)) < 0.8 * images.std((1, 2, 3))).all())
    assert torch.allclose(blurred.mean((1, 2, 3)), images.mean((1, 2, 3)), atol=0.03)
    plain = torch.full((2, 3, 8, 8), 0.3)
    assert torch.allclose(blur(plain), plain, atol=1e-6)


def test_a_perturbation_is_an_augmentation_of_a_random_kind():
    images = torch.rand(4, 1, 8, 8)
    perturb = Perturbation()
    assert bool(perturb)
    assert not perturb.combines
    assert perturb(images).shape == images.shape


class TestKeptDecisions:
    def test_it_counts_the_perturbations_that_keep_the_decision(self, brightness, monkeypatch: pytest.MonkeyPatch):
        """Of four perturbations, two invert an image; the third keeps it; the last darkens it to black."""

        def invert(images: Images) -> Images:
            return 1 - images

        def keep(images: Images) -> Images:
            return images

        def blacken(images: Images) -> Images:
            return torch.zeros_like(images)

        monkeypatch.setattr(stability, "PERTURBATIONS", (invert, invert, keep, blacken))
        light, dark = torch.full((1, 1, 8, 8), 0.9), torch.full((1, 1, 8, 8), 0.1)
        assert stability.kept_decisions(brightness, torch.cat([light, dark])).tolist() == [1, 2]

    def test_images_far_from_the_border_keep_all_and_those_at_the_border_do_not(self, brightness):
        far, near = torch.full((20, 1, 8, 8), 0.9), torch.full((20, 1, 8, 8), 0.5) + 1e-4
        assert stability.kept_decisions(brightness, far).tolist() == [10] * 20
        assert float(stability.kept_decisions(brightness, near).float().mean()) < 9

    def test_it_does_not_change_the_teacher(self, teacher: Classifier):
        before = toys.snapshot(teacher)
        stability.kept_decisions(teacher, torch.rand(300, *toys.SHAPE))
        assert toys.same(toys.snapshot(teacher), before)

    def test_batches_do_not_matter(self, brightness, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(stability, "PERTURBATIONS", (lambda images: 1 - images,))
        monkeypatch.setattr(stability, "BATCH", 3)
        images = torch.rand(8, 1, 8, 8)
        assert stability.kept_decisions(brightness, images).tolist() == [0] * 8


class TestBins:
    def test_the_bins_are_those_of_the_shares(self):
        kept = torch.arange(11)
        assert stability.bin_of(kept).tolist() == [0, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6]
        assert len(stability.EDGES) == len(stability.REAL_SHARES)

    def test_the_shares_of_real_images_sum_to_one(self):
        assert math.fsum(stability.REAL_SHARES) == pytest.approx(1)

    def test_a_histogram_counts_by_bin(self):
        assert stability.histogram(torch.tensor([10, 10, 9, 0])) == [0.25, 0, 0, 0, 0, 0.25, 0.5]
        assert stability.histogram(torch.tensor([], dtype=torch.int64)) == [0.0] * 7
