"""DAFL: the definitions of paper and code, and the life of a generator."""

import math
from dataclasses import replace
from typing import cast

import pytest
import torch
import toys
from torch import nn

from datafree.classifier import Classifier
from datafree.losses import activation_loss, information_entropy_loss
from datafree.methods import METHODS
from datafree.methods.dafl import DAFL, DAFLConfig, log10_entropy, mean_activation
from datafree.networks.zoo import LeNet5
from datafree.synthesis import total

TINY = cast(DAFLConfig, toys.TINY["dafl"])


class TestDAFL:
    def test_the_losses_of_the_authors_code_are_multiples_of_those_of_the_paper(self):
        features, logits = torch.randn(6, 12), torch.randn(6, 5)
        assert mean_activation(features).item() == pytest.approx(activation_loss(features).item() / 12, rel=1e-5)
        assert log10_entropy(logits).item() == pytest.approx(
            information_entropy_loss(logits).item() * 5 / math.log(10), rel=1e-5
        )

    def test_both_presets_have_the_same_objective_on_lenet5(self):
        teacher = Classifier(LeNet5(), shape=(1, 32, 32), classes=10).eval()
        images = torch.rand(16, 1, 32, 32)
        paper, authors = (
            {name: term.item() for name, term in DAFL(teacher, config).objective(images).items()}
            for config in (METHODS["dafl"], METHODS["dafl-authors"])
        )
        assert paper == pytest.approx(authors, rel=2e-3)

    def test_the_generator_learns(self, teacher: Classifier):
        synthesizer = DAFL(teacher, DAFLConfig(batch_size=64, student_batch_size=64, lr=0.01, latent_size=16))
        totals = [float(total(synthesizer.synthesize().terms)) for _ in range(25)]
        assert sum(totals[-5:]) < sum(totals[:5]) - 1

    def test_the_generator_is_reset_on_schedule_and_its_first_images_are_discarded(self, teacher: Classifier):
        synthesizer = DAFL(teacher, replace(TINY, reset_every=3, discard_first=1))
        steps = []
        for _ in range(5):
            synthesizer.synthesize()
            steps.append(synthesizer.training.steps)
        assert steps == [2, 3, 2, 3, 2]

    def test_two_generators_are_initialised_differently(self, teacher: Classifier):
        first, second = (DAFL(teacher, TINY) for _ in range(2))
        torch.manual_seed(1)
        images = first.generate(4)
        torch.manual_seed(1)
        assert not torch.equal(second.generate(4), images)

    def test_notes_a_teacher_without_a_feature_layer(self):
        no_features = toys.classifier(nn.Sequential(nn.Conv2d(1, 4, 8), nn.Flatten()))
        assert "activation loss is off" in DAFL(no_features, TINY).notes[0]
        assert DAFL(toys.conv_net(), TINY).notes == ()


def test_a_black_box_teacher_works_without_the_activation_loss_and_the_notes_say_so(plain_teacher: Classifier):
    black_box = toys.classifier(toys.BlackBox(plain_teacher))
    synthesizer = DAFL(black_box, replace(TINY, activation=1.0))
    assert "activation loss is off" in synthesizer.notes[0]
    assert set(synthesizer.synthesize().terms) == {"one-hot", "entropy"}


def test_a_teacher_with_a_feature_layer_needs_no_note(plain_teacher: Classifier):
    synthesizer = DAFL(plain_teacher, TINY)
    assert synthesizer.notes == ()
    assert "activation" in synthesizer.synthesize().terms
