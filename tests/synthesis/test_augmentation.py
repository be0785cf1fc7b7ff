"""Random augmentation, different for each image."""

import math
from dataclasses import replace

import pytest
import torch
import toys

from datafree.applications.continual import ExtensionConfig
from datafree.classifier import Classifier
from datafree.runs.training import TrainingConfig
from datafree.synthesis.augmentation import Augmentation, flip_divergence, is_flip_invariant, jitter
from datafree.types import Batch, Images, InputError

ALL = Augmentation(shift=1.0, rotate=10, scale=0.1, flip=True, mix=0.5, cutmix=0.5)


def centres(images: Images) -> torch.Tensor:
    """The centre of mass of each image, in pixels."""
    ys, xs = torch.meshgrid(torch.arange(images.shape[2]), torch.arange(images.shape[3]), indexing="ij")
    mass = images.sum((1, 2, 3))
    return torch.stack([(images[:, 0] * ys).sum((1, 2)) / mass, (images[:, 0] * xs).sum((1, 2)) / mass], 1)


def spots(count: int) -> Images:
    """A bright square in the middle of a large dark image."""
    images = torch.zeros(count, 1, 21, 21)
    images[:, :, 8:13, 8:13] = 1
    return images


def test_the_defaults_change_nothing_and_draw_nothing():
    images, random = torch.rand(4, 1, 8, 8), torch.get_rng_state()
    assert Augmentation()(images) is images
    assert torch.equal(torch.get_rng_state(), random)


def test_flip_mirrors_about_half_of_the_images_and_leaves_the_others_unchanged():
    images = torch.rand(200, 1, 4, 4)
    flipped = Augmentation(flip=True)(images)
    mirrored = [torch.equal(new, old.flip(-1)) for new, old in zip(flipped, images, strict=True)]
    unchanged = [torch.equal(new, old) for new, old in zip(flipped, images, strict=True)]
    assert all(a != b for a, b in zip(mirrored, unchanged, strict=True))
    assert 70 < sum(mirrored) < 130


@pytest.mark.parametrize(
    "augmentation",
    [Augmentation(shift=3.0), Augmentation(relative_shift=3 / 21), Augmentation(shift=1.0, relative_shift=2 / 21)],
    ids=["pixels", "fraction", "both"],
)
def test_shift_reaches_its_maximum_in_both_directions(augmentation: Augmentation):
    shifts = centres(augmentation(spots(300))) - 10
    assert 2.7 < shifts.max() <= 3.01 and -3.01 <= shifts.min() < -2.7


def test_a_relative_shift_is_a_fraction_of_height_and_of_width():
    ramp = torch.arange(12.0).expand(400, 1, 6, 12)
    right = Augmentation(relative_shift=0.25)(ramp)[:, 0, 3, 6] - 6
    down = Augmentation(relative_shift=0.25)(ramp.mT)[:, 0, 6, 3] - 6
    assert right.abs().max().item() == pytest.approx(3, abs=0.1)
    assert down.abs().max().item() == pytest.approx(3, abs=0.1)


def test_scale_changes_the_size_up_to_its_maximum():
    areas = Augmentation(scale=0.2)(spots(300)).sum((1, 2, 3)) / 25
    assert areas.max() < 1 / 0.8**2 + 0.1 and areas.min() > 1 / 1.2**2 - 0.1
    assert areas.max() > 1.3 and areas.min() < 0.8


def test_rotation_keeps_the_centre_and_turns_a_bar():
    bar = torch.zeros(200, 1, 21, 21)
    bar[:, :, 10, 3:18] = 1
    turned = Augmentation(rotate=20)(bar)
    assert (centres(turned) - 10).abs().max() < 0.1
    heights = turned[:, 0, :, 17].argmax(1) - 10  # 7 tan(20 degrees) is about 2.5 pixels
    assert heights.min() == -3 or heights.min() == -2
    assert heights.max() == 3 or heights.max() == 2


def test_rotation_does_not_shear_images_that_are_not_square():
    """A small square rotated in an image twice as wide as high keeps its angles: equal spread along both axes."""
    images = torch.zeros(100, 1, 21, 42)
    images[:, :, 7:14, 17:24] = 1
    turned = Augmentation(rotate=45)(images)[:, 0]
    rows, columns = torch.arange(21.0), torch.arange(42.0)
    mass = turned.sum((1, 2))
    down, right = (turned.sum(2) * rows).sum(1) / mass, (turned.sum(1) * columns).sum(1) / mass
    tall = (turned.sum(2) * (rows - down[:, None]).square()).sum(1) / mass
    wide = (turned.sum(1) * (columns - right[:, None]).square()).sum(1) / mass
    assert torch.allclose(tall, wide, rtol=0.05)
    assert torch.allclose(mass, torch.tensor(49.0), rtol=0.05)


def test_square_images_are_rotated_as_the_grid_says():
    images = torch.rand(6, 2, 8, 8)
    torch.manual_seed(1)
    turned = Augmentation(rotate=30, scale=0.2, shift=1)(images)
    torch.manual_seed(1)
    uniform = torch.rand(4, 6) * 2 - 1
    angle, size = uniform[0] * 30 * torch.pi / 180, 1 + uniform[1] * 0.2
    rows = [angle.cos() * size, -(angle.sin() * size), uniform[2] * 2 / 8, angle.sin() * size, angle.cos() * size]
    affine = torch.stack([*rows, uniform[3] * 2 / 8], 1).view(6, 2, 3)
    grid = torch.nn.functional.affine_grid(affine, [6, 2, 8, 8], align_corners=False)
    expected = torch.nn.functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    assert torch.equal(turned, expected)


def test_each_image_is_transformed_differently():
    augmented = replace(ALL, mix=0.0, cutmix=0.0)(torch.rand(1, 1, 8, 8).repeat(20, 1, 1, 1))
    assert len({round(image.sum().item(), 4) for image in augmented}) > 15


def test_pixels_stay_within_the_range_of_the_input():
    augmented = ALL(0.2 + 0.5 * torch.rand(50, 3, 8, 8))
    assert augmented.min() >= 0.2 and augmented.max() <= 0.7 + 1e-6


def test_a_uniform_image_stays_uniform():
    assert torch.allclose(ALL(torch.full((5, 3, 8, 6), 0.4)), torch.tensor(0.4))


def test_gradients_pass():
    images = torch.rand(2, 1, 8, 8, requires_grad=True)
    ALL(images).sum().backward()
    assert images.grad is not None and images.grad.abs().sum() > 0


class TestMix:
    def test_the_given_fraction_of_images_is_blended_from_two(self):
        images = torch.eye(400)[:, None, None]
        mixed = Augmentation(mix=0.5)(images)[:, 0, 0]
        assert 150 < (mixed.amax(1) < 1).sum() < 250
        assert ((mixed > 0).sum(1) <= 2).all() and torch.allclose(mixed.sum(1), torch.ones(400))

    def test_an_image_that_is_not_blended_keeps_its_position(self):
        images = torch.eye(400)[:, None, None]
        mixed = Augmentation(mix=0.5)(images)[:, 0, 0]
        whole = mixed.amax(1) == 1
        assert torch.equal(mixed[whole].argmax(1), torch.arange(400)[whole])

    def test_weights_are_uniform(self):
        images = torch.eye(2000)[:, None, None]
        weights = Augmentation(mix=1.0)(images)[:, 0, 0].diagonal()
        assert weights.mean() == pytest.approx(0.5, abs=0.03) and weights.std() == pytest.approx(12**-0.5, abs=0.02)

    @pytest.mark.parametrize("mix", [-0.1, 1.1, math.nan])
    def test_refuses_an_invalid_fraction(self, mix: float):
        with pytest.raises(InputError, match="mix is .*, but it must be between 0 and 1"):
            Augmentation(mix=mix)

    def test_is_refused_where_labels_are_learned(self):
        for config in (TrainingConfig, ExtensionConfig):
            with pytest.raises(InputError, match="a blended image has no label.*; set mix to 0"):
                config(augment=Augmentation(mix=0.5))


class TestCutmix:
    def cut(self, count: int, fraction: float = 1.0, height: int = 20, width: int = 30) -> tuple[Images, torch.Tensor]:
        """Return cut images whose pixels are the number of the image they come from, and which pixels are another's."""
        numbers = torch.arange(float(count))[:, None, None, None].expand(count, 2, height, width)
        images = Augmentation(cutmix=fraction)(numbers)
        return images, (images != numbers)[:, 0]

    def test_replaces_one_rectangle_of_one_other_image(self):
        images, other = self.cut(300)
        assert torch.equal(images[:, 0], images[:, 1]), "the same in every channel"
        for image, mask in zip(images[:, 0], other, strict=True):
            rows, columns = mask.any(1), mask.any(0)
            assert torch.equal(mask, rows[:, None] & columns), "a rectangle"
            for line in (rows, columns):
                inside = line.nonzero().flatten()
                assert inside.numel() == 0 or inside[-1] - inside[0] + 1 == len(inside)
            assert len(image[mask].unique()) <= 1, "from one image"

    def test_the_given_fraction_of_images_is_cut(self):
        _, other = self.cut(2000, 0.3)
        # Some rectangles are smaller than a pixel.
        assert other.flatten(1).any(1).float().mean().item() == pytest.approx(0.3, abs=0.04)

    def test_the_area_is_uniform_and_the_aspect_that_of_the_image(self):
        _, other = self.cut(4000, height=40, width=80)
        rows, columns = other.any(2), other.any(1)
        whole = ~(rows[:, 0] | rows[:, -1] | columns[:, 0] | columns[:, -1]) & rows.any(1)
        assert (columns.sum(1) / rows.sum(1))[whole & (rows.sum(1) > 5)].mean().item() == pytest.approx(2, abs=0.05)
        # E[covered share of a pixel] = E over the side s of (the share of [0, 1] that a centred interval of s covers)^2:
        # 1 - s / 4 of a side s lies inside of the image on average, so E[s^2 (1 - s / 4)^2] with s^2 uniform.
        expected = 1 / 2 - 2 / 5 / 2 + 1 / 3 / 16
        assert other.float().mean().item() == pytest.approx(expected, abs=0.02)

    def test_gradients_pass_to_the_image_a_pixel_comes_from(self):
        images = torch.rand(8, 1, 6, 6, requires_grad=True)
        Augmentation(cutmix=1.0)(images).sum().backward()
        assert images.grad is not None and images.grad.sum().item() == images.numel()

    @pytest.mark.parametrize("cutmix", [-0.1, 1.1, math.nan])
    def test_refuses_an_invalid_fraction(self, cutmix: float):
        with pytest.raises(InputError, match="cutmix is .*, but it must be between 0 and 1"):
            Augmentation(cutmix=cutmix)

    def test_is_refused_where_labels_are_learned(self):
        for config in (TrainingConfig, ExtensionConfig):
            with pytest.raises(InputError, match="an image with a part of another one has no label.*set cutmix to 0"):
                config(augment=Augmentation(cutmix=0.5))

    def test_a_single_image_is_not_changed(self):
        images = torch.rand(1, 3, 5, 5)
        assert torch.equal(Augmentation(cutmix=1.0, mix=1.0)(images), images)


class TestFlipInvariance:
    def test_a_teacher_of_edges_depends_on_left_and_right(self, teacher: Classifier, bars: Batch):
        assert flip_divergence(teacher, bars.images) > 0.4
        upright = bars.images[bars.targets < 2]
        assert flip_divergence(teacher, upright) < 0.1 and is_flip_invariant(teacher, upright)

    def test_by_hand(self):
        """Classes left and right, by the side of the one bright pixel; the second half of the images is empty."""
        images = torch.zeros(4, 1, 1, 2)
        images[0, 0, 0, 0] = images[1, 0, 0, 1] = 20
        halves = Classifier(torch.nn.Flatten(), shape=(1, 1, 2), classes=2)
        # predictions L, R, ?, ?: mirrored R, L, ?, ?; of the next image: R, ?, ?, L
        far, near = math.log(2), 0.5 * math.log(4 / 3) + 0.5 * (0.5 * math.log(2 / 3) + 0.5 * math.log(2))
        expected = 2 * far / (far + 2 * near)
        assert flip_divergence(halves, images) == pytest.approx(expected, rel=1e-3)

    def test_a_teacher_that_always_predicts_the_same_is_not_invariant(self, teacher: Classifier):
        assert flip_divergence(teacher, torch.full((4, *toys.SHAPE), 0.5)) == 1.0

    def test_the_teacher_is_not_changed_and_no_random_number_is_drawn(self, teacher: Classifier, bars: Batch):
        before, random = toys.snapshot(teacher), torch.get_rng_state()
        is_flip_invariant(teacher, bars.images[:8])
        assert toys.same(toys.snapshot(teacher), before) and torch.equal(torch.get_rng_state(), random)

    def test_one_image_is_refused(self, teacher: Classifier):
        with pytest.raises(InputError, match="1 image cannot show what mirroring changes; give two or more"):
            flip_divergence(teacher, torch.rand(1, *toys.SHAPE))


@pytest.mark.parametrize("name", ["shift", "relative_shift", "rotate", "scale"])
def test_refuses_a_negative_maximum(name: str):
    with pytest.raises(InputError, match=f"{name.replace('_', '-')} is -1"):
        Augmentation(**{name: -1})


class TestJitter:
    def test_without_shift_and_flip_changes_nothing(self):
        images = torch.rand(4, 3, 5, 6)
        assert torch.equal(jitter(images, 0, False), images)

    @pytest.mark.parametrize("flip", [True, False])
    def test_shifts_each_image_cyclically_up_to_the_maximum(self, flip: bool):
        images = torch.rand(40, 2, 6, 5)
        shifts = set()
        for old, new in zip(images, jitter(images, 2, flip), strict=True):
            shifts |= {
                (down, right, mirrored)
                for down in range(-2, 3)
                for right in range(-2, 3)
                for mirrored in ((False, True) if flip else (False,))
                if torch.equal(new, (old.flip(-1) if mirrored else old).roll((down, right), (-2, -1)))
            }
        assert len(shifts) > 10, "each image has its own shift"
        assert {mirrored for _, _, mirrored in shifts} == ({True, False} if flip else {False})

    def test_every_pixel_is_still_there(self):
        images = torch.rand(30, 1, 4, 4)
        assert torch.allclose(jitter(images, 3, True).flatten(1).sort(1).values, images.flatten(1).sort(1).values)

    def test_passes_gradients_to_every_pixel(self):
        images = torch.rand(5, 1, 4, 4, requires_grad=True)
        jitter(images, 2, True).sum().backward()
        assert torch.equal(images.grad, torch.ones_like(images))  # type: ignore[arg-type]

    @pytest.mark.parametrize("flip", [False, True])
    def test_the_gradient_returns_to_the_pixel_it_belongs_to(self, flip: bool):
        images, weight = torch.rand(5, 2, 4, 6, requires_grad=True), torch.rand(5, 2, 4, 6)
        jittered = jitter(images, 2, flip)
        (jittered * weight).sum().backward()
        moved = [torch.isin(jittered[i].flatten(), images[i].flatten()).all() for i in range(5)]
        assert all(moved) and images.grad is not None
        for image, gradient, new, factor in zip(images, images.grad, jittered, weight, strict=True):
            order = new.flatten().argsort()[image.flatten().argsort().argsort()]  # where each pixel has gone
            assert torch.equal(gradient.flatten(), factor.flatten()[order])
