"""Pictures drawn by program."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from datafree.classifier import Classifier
from datafree.synthesis.drawings import DRAWINGS, PHOTOGRAPHS, SYMBOLS, Artist, draw
from datafree.synthesis.drawings.canvas import random_canvas
from datafree.synthesis.drawings.drawing import allocate
from datafree.synthesis.drawings.leaves import DEAD_LEAVES, radii
from datafree.synthesis.drawings.levels import has_plain_ground, known_levels, light_ground
from datafree.synthesis.drawings.palette import palette
from datafree.synthesis.drawings.strokes import approach
from datafree.types import InputError

SHAPES = [(1, 12, 12), (3, 8, 20), (5, 9, 7), (3, 1, 1), (1, 1, 6), (2, 5, 1), (1, 2, 2)]


def classifier(shape: tuple[int, int, int], mean: tuple[float, ...], std: tuple[float, ...]) -> Classifier:
    """A teacher with a normalisation, which is never run."""
    return Classifier(nn.Flatten(), shape=shape, classes=shape[0] * shape[1] * shape[2], mean=mean, std=std)


def spectrum_slope(pictures: Tensor) -> float:
    """The slope of the logarithm of the mean amplitude over the logarithm of the spatial frequency."""
    size = pictures.shape[-1]
    amplitude = torch.fft.fft2(pictures - pictures.mean((2, 3), keepdim=True)).abs().mean((0, 1))
    frequency = torch.hypot(torch.fft.fftfreq(size)[:, None], torch.fft.fftfreq(size))
    within = (frequency > 0) & (frequency < 0.4)
    x, y = frequency[within].log(), amplitude[within].log()
    return float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum())


@pytest.mark.parametrize("family", DRAWINGS)
class TestEveryFamily:
    @pytest.mark.parametrize("shape", SHAPES, ids=str)
    def test_draws_any_shape_in_the_unit_range(self, family: str, shape: tuple[int, int, int]):
        for count in (1, 2, 9):
            pictures = draw(count, shape, {family: 1})
            assert pictures.shape == (count, *shape) and pictures.dtype == torch.float32
            assert pictures.min() >= 0 and pictures.max() <= 1

    def test_uses_much_of_the_range(self, family: str):
        torch.manual_seed(0)
        pictures = draw(300, (3, 8, 8), {family: 1})
        assert 0.1 < pictures.mean() < 0.7 and pictures.std() > 0.15

    def test_amplitudes_fall_with_the_frequency_about_as_in_photographs(self, family: str):
        torch.manual_seed(0)
        assert -2.2 < spectrum_slope(draw(200, (1, 32, 32), {family: 1})) < -0.8

    def test_is_deterministic_and_draws_from_the_global_generator_only(self, family: str):
        pictures: list[Tensor] = []
        for seed in (4, 4, 5):
            torch.manual_seed(seed)
            pictures.append(draw(6, (2, 6, 6), {family: 1}))
        assert torch.equal(pictures[0], pictures[1]) and not torch.equal(pictures[0], pictures[2])

    def test_pictures_differ(self, family: str):
        torch.manual_seed(0)
        pictures = draw(40, (3, 8, 8), {family: 1}).flatten(1)
        assert len(pictures.unique(dim=0)) == 40


def test_directions_are_not_preferred():
    """A picture mirrored left to right, or one with another left half, is as probable."""
    torch.manual_seed(0)
    mean = draw(4000, (1, 4, 4)).mean(0)[0]
    assert torch.allclose(mean, mean.flip(1), atol=0.05)


def test_shares_are_met_within_one_picture():
    for _ in range(20):
        counts = allocate(10, {"leaves": 3, "noise": 1})
        assert sum(counts.values()) == 10 and counts["leaves"] in (7, 8)
    assert allocate(12, PHOTOGRAPHS) == PHOTOGRAPHS
    assert allocate(5, {"leaves": 0, "noise": 2}) == {"noise": 5}


def test_a_single_picture_is_of_every_family_in_turn():
    torch.manual_seed(0)
    drawn = [next(iter(allocate(1, SYMBOLS))) for _ in range(300)]
    assert set(drawn) == set(DRAWINGS) and 110 < drawn.count("strokes") < 190


@pytest.mark.parametrize(
    ("families", "message"),
    [
        ({"leafs": 1}, "family 'leafs' is unknown; did you mean leaves"),
        ({"leaves": -1}, "leaves is -1, but it must be at least 0"),
        ({"leaves": 0}, "the shares of all families are 0"),
        ({}, "the shares of all families are 0"),
    ],
)
def test_invalid_shares_are_refused(families: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        draw(4, (1, 4, 4), families)


class TestCanvas:
    def test_the_whole_scene_is_from_minus_one_to_one(self):
        canvas = random_canvas(8, (1, 4, 4), (1.0, 1.0))
        assert torch.allclose(canvas.y[:, :, 0], torch.tensor([-0.75, -0.25, 0.25, 0.75]).expand(8, 4))
        assert torch.allclose(canvas.x[:, 0].abs(), torch.tensor([0.75, 0.25, 0.25, 0.75]).expand(8, 4))
        assert torch.allclose(canvas.pixel, torch.tensor(0.5))

    def test_pixels_of_a_long_picture_are_square_and_its_scene_has_the_same_area(self):
        canvas = random_canvas(3, (1, 2, 8), (0.5, 1.0))
        across, down = canvas.x.diff(dim=2).abs(), canvas.y.diff(dim=1)
        assert torch.allclose(across, canvas.pixel.expand_as(across)) and torch.allclose(down, canvas.pixel)
        assert canvas.extent[0] * canvas.extent[1] == pytest.approx(1) and canvas.extent[0] == pytest.approx(2)

    def test_crops_stay_inside_the_scene_and_half_are_mirrored(self):
        canvas = random_canvas(500, (1, 5, 5), (0.35, 1.0))
        assert canvas.x.abs().max() < 1 and canvas.y.abs().max() < 1
        mirrored = (canvas.x[:, 0, 0] > canvas.x[:, 0, -1]).float().mean()
        assert 0.4 < mirrored < 0.6


def test_colours_of_a_picture_are_related():
    colours = palette(random_canvas(2000, (3, 1, 1), (1.0, 1.0)), 2)
    assert colours.shape == (2, 2000, 3, 1, 1) and colours.min() >= 0 and colours.max() <= 1
    light = colours.mean((2, 3, 4))
    assert torch.corrcoef(light)[0, 1] > 0.2
    assert torch.corrcoef(colours[0, :, :, 0, 0].T)[0, 1] > 0.7


def test_radii_have_the_density_of_dead_leaves():
    r"""The share below the median of the density r^-2.2, by hand: P(r < t) = (s^-1.2 - t^-1.2) / (s^-1.2 - l^-1.2)."""
    drawn = radii(random_canvas(4000, (1, 1, 1), (1.0, 1.0)), DEAD_LEAVES)
    assert drawn.min() >= 0.08 and drawn.max() <= 0.9
    expected = (0.08**-1.2 - 0.2**-1.2) / (0.08**-1.2 - 0.9**-1.2)
    assert (drawn < 0.2).float().mean().item() == pytest.approx(expected, abs=0.03)


def test_distance_from_a_segment_by_hand():
    """The segment from (-0.5, 0) to (0.5, 0), seen from the corners of the middle and from beyond its ends."""
    canvas = random_canvas(1, (1, 2, 4), (1.0, 1.0))
    nearest = torch.full((1, 2, 4), 9.0)
    approach(nearest, canvas, torch.tensor([[-0.5, 0.0]]), torch.tensor([[0.5, 0.0]]))
    x, y = canvas.x.expand(1, 2, 4), canvas.y.expand(1, 2, 4)
    expected = (x.abs() - 0.5).clamp_min(0).square() + y.square()
    assert torch.allclose(nearest, expected, atol=1e-6)


def test_strokes_are_light_on_black():
    torch.manual_seed(0)
    pictures = draw(100, (3, 16, 16), {"strokes": 1})
    assert (pictures == 0).float().mean() > 0.4
    assert (pictures.amax((1, 2, 3)) > 0.5).float().mean() > 0.95


class TestLevels:
    def test_pictures_get_mean_and_standard_deviation_of_the_normalisation(self):
        teacher = classifier((3, 8, 8), (0.5, 0.45, 0.4), (0.2, 0.18, 0.22))
        pictures = Artist(teacher).draw(2000)
        assert torch.allclose(pictures.mean((0, 2, 3)), torch.tensor([0.5, 0.45, 0.4]), atol=0.03)
        assert torch.allclose(pictures.std((0, 2, 3)), torch.tensor([0.2, 0.18, 0.22]), atol=0.03)

    @pytest.mark.parametrize(("mean", "std"), [((0.0,), (1.0,)), ((0.5,), (0.5,)), ((1.2,), (0.1,)), ((0.1,), (0.4,))])
    def test_a_normalisation_that_no_images_have_tells_nothing(self, mean: tuple[float], std: tuple[float]):
        teacher = classifier((3, 8, 8), mean, std)
        assert known_levels(teacher) is None and light_ground(teacher) == 0.5 and not has_plain_ground(teacher)
        assert Artist(teacher).draw(1000).mean().item() == pytest.approx(0.45, abs=0.05)

    @pytest.mark.parametrize(("mean", "light"), [(0.13, 0.0), (0.87, 1.0), (0.45, 0.5)])
    def test_the_ground_of_strokes_is_that_of_the_normalisation(self, mean: float, light: float):
        artist = Artist(classifier((1, 12, 12), (mean,), (0.3,)), {"strokes": 1})
        assert artist.levels.light_ground == light
        grounds = artist.draw(200).flatten(1).median(1)[0]
        assert (grounds > 0.5).float().mean().item() == pytest.approx(light, abs=0.15)

    def test_strokes_are_drawn_for_grey_teachers_and_for_dark_or_light_ones(self):
        usual = (0.2,)
        assert has_plain_ground(classifier((1, 4, 4), (0.45,), usual))
        assert has_plain_ground(classifier((3, 4, 4), (0.1, 0.2, 0.1), usual))
        assert has_plain_ground(classifier((3, 4, 4), (0.8, 0.9, 0.85), usual))
        assert has_plain_ground(classifier((3, 4, 4), (0.3,), (0.38,)))
        assert not has_plain_ground(classifier((3, 4, 4), (0.2, 0.45, 0.2), usual))
        assert Artist(classifier((3, 4, 4), (0.45,), usual)).families == PHOTOGRAPHS
        assert Artist(classifier((1, 4, 4), (0.45,), usual)).families == SYMBOLS

    def test_levels_are_restored_from_their_state(self):
        teacher = classifier((3, 6, 6), (0.5,), (0.2,))
        first, second = Artist(teacher), Artist(teacher)
        assert not torch.equal(first.levels.gain, second.levels.gain)
        second.load_state_dict(first.state_dict())
        assert torch.equal(first.levels.gain, second.levels.gain) and first.levels.pen == second.levels.pen

    @pytest.mark.parametrize(("mean", "std"), [(0.13, 0.3), (0.3, 0.37), (0.8, 0.33)])
    def test_strokes_cover_as_much_as_the_symbols_of_the_normalisation(self, mean: float, std: float):
        torch.manual_seed(0)
        artist = Artist(classifier((1, 10, 10), (mean,), (std,)), {"strokes": 1})
        assert artist.draw(1000).mean().item() == pytest.approx(mean, abs=0.03)


def test_levels_are_left_alone_if_they_are_not_matched():
    teacher = classifier((3, 12, 12), (0.2, 0.5, 0.8), (0.1, 0.1, 0.1))
    matched, own = (Artist(teacher, PHOTOGRAPHS, match=match).draw(1000).mean((0, 2, 3)) for match in (True, False))
    assert matched.tolist() == pytest.approx([0.2, 0.5, 0.8], abs=0.03)
    assert own.tolist() == pytest.approx([0.5, 0.5, 0.5], abs=0.08)


def test_a_whole_scene_has_smaller_parts():
    """A part of half the side shows everything twice as large, so neighbouring pixels differ less."""
    differences = {}
    for view in (0.0, 1.0):
        torch.manual_seed(0)
        pictures = draw(400, (3, 24, 24), {"leaves": 1}, view=view)
        differences[view] = float(pictures.diff(dim=-1).abs().mean())
    assert differences[1.0] > 1.05 * differences[0.0]
    torch.manual_seed(0)
    least = draw(50, (3, 24, 24), {"leaves": 1}, view=0.2)  # less than that of the family
    torch.manual_seed(0)
    assert torch.equal(least, draw(50, (3, 24, 24), {"leaves": 1}))
