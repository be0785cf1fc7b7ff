"""Noise with the spectrum of natural images."""

import math

import pytest
import torch
from torch import nn

from datafree.classifier import Classifier
from datafree.synthesis.spectrum import noise


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
