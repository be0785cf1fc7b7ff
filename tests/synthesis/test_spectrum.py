"""Noise with the spectrum of natural images."""

import math

import pytest
import torch
from torch import nn

from datafree.classifier import Classifier
from datafree.synthesis.spectrum import noise, power_law


class TestNaturalNoise:
    @pytest.fixture
    def pixels(self) -> torch.Tensor:
        torch.manual_seed(0)
        return noise(200, Classifier(nn.Flatten(), shape=(3, 32, 48), classes=4608), "natural").double()

    def test_has_the_variance_of_white_noise(self, pixels: torch.Tensor):
        assert pixels.mean().item() == pytest.approx(0, abs=0.02) and pixels.std().item() == pytest.approx(1, abs=1e-6)

    def test_amplitudes_fall_with_the_frequency(self, pixels: torch.Tensor):
        power = torch.fft.fft2(pixels).abs().square().mean((0, 1))  # of frequency i / 32 down, j / 48 across
        frequency = {(i, j): math.hypot(i / 32, j / 48) for i in range(5) for j in range(5)}
        for (i, j), f in frequency.items():
            ratio = power[i, j].item() / power[2, 3].item()
            assert ratio == pytest.approx((frequency[2, 3] / max(f, 1 / 48)) ** 2, rel=0.3)

    def test_channels_share_most_of_their_variance(self, pixels: torch.Tensor):
        red, green, blue = pixels.transpose(0, 1)
        for first, second in ((red, green), (green, blue), (blue, red)):
            assert (first * second).mean().item() == pytest.approx(0.7, abs=0.05)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 9), (6, 16), (1, 5), (4, 1), (3, 2)])
@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_power_law_noise_has_mean_0_and_variance_1(height: int, width: int, exponent: float):
    torch.manual_seed(0)
    noise = power_law(torch.full((3000,), exponent), 1, height, width)
    assert noise.shape == (3000, 1, height, width)
    assert noise.mean((1, 2, 3)).abs().max() < 1e-5
    assert noise.square().mean().item() == pytest.approx(1, abs=0.08)


def test_amplitudes_of_power_law_noise_fall_with_the_frequency():
    torch.manual_seed(0)
    amplitude = torch.fft.rfft2(power_law(torch.full((500,), 1.5), 1, 16, 16)).abs().mean((0, 1))
    down, across = torch.fft.fftfreq(16)[:, None], torch.fft.rfftfreq(16)
    expected = torch.hypot(down, across).clamp_min(1 / 32) ** -1.5
    expected[0, 0] = 0
    inside = expected > 0
    assert (amplitude / expected)[inside].std() / (amplitude / expected)[inside].mean() < 0.06


def test_a_pixel_without_a_frequency_is_0():
    assert power_law(torch.ones(4), 2, 1, 1).abs().max() == 0
