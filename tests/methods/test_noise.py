"""The noise baseline."""

from typing import get_args

import pytest
import torch
import toys
from torch import nn

from datafree.classifier import Classifier
from datafree.methods import METHODS
from datafree.methods.noise import NoiseConfig
from datafree.synthesis.spectrum import Spectrum


def test_noise_is_gaussian_in_the_normalized_space():
    wide = Classifier(nn.Flatten(), shape=(1, 64, 64), classes=4096, mean=(0.5,), std=(0.1,))
    images = toys.synthesize(METHODS["noise"], wide, None).images
    assert images.mean().item() == pytest.approx(0.5, abs=0.001) and images.std().item() == pytest.approx(
        0.1, abs=0.001
    )


def test_targets_are_the_predictions_of_the_teacher(teacher: Classifier):
    batch = toys.synthesize(toys.TINY["noise"], teacher, None)
    assert torch.equal(batch.targets, teacher(batch.images).argmax(1))


def test_noise_can_have_a_natural_spectrum(teacher: Classifier):
    white, natural = (
        toys.synthesize(NoiseConfig(batch_size=64, spectrum=spectrum), teacher, None)
        .images.mean((1, 2, 3))
        .var()
        .item()
        for spectrum in get_args(Spectrum)
    )
    assert natural > 3 * white
