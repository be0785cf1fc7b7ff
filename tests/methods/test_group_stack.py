"""Group-Stack: a generator is trained before its images are used, and its features have the signs of the teachers'."""

from dataclasses import replace

import pytest
import torch
import toys
from torch import nn

from datafree.applications.amalgamation import AmalgamationConfig, amalgamate
from datafree.applications.distillation import DistillationConfig, distill
from datafree.classifier import Classifier
from datafree.methods.group_stack import GroupStackConfig
from datafree.synthesis import Schedule, Stream
from datafree.types import InputError

STACK = GroupStackConfig(batch_size=4, latent_size=4, discard_first=3)


def test_the_images_of_a_new_generator_are_discarded_at_the_start_and_after_each_reset(teacher: Classifier):
    synthesizer = replace(STACK, reset_every=5).build(teacher)
    steps = []
    for _ in range(5):
        synthesizer.synthesize()
        steps.append(synthesizer.training.steps)
    assert steps == [4, 5, 4, 5, 4]


def test_a_generator_is_trained_for_300_steps_by_default():
    assert GroupStackConfig().discard_first == 300
    with pytest.raises(InputError, match="reset-every is 250, but it must be at least 301"):
        GroupStackConfig(reset_every=250)


@pytest.mark.parametrize("signed", [False, True])
def test_generated_features_can_be_negative_if_those_of_the_teacher_are(signed: bool):
    activation = nn.Hardswish() if signed else nn.ReLU()
    blocks = (nn.Conv2d(1, 4, 3, 2, 1), activation, nn.Conv2d(4, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU())
    net = toys.classifier(nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)))
    synthesizer = STACK.build(net)
    assert synthesizer.signed[:1] == [signed]
    deep_first = synthesizer.synthesize().block_inputs[::-1]
    assert [bool((features < 0).any()) for features in reversed(deep_first)] == synthesizer.signed


def test_the_notes_say_that_the_activation_loss_is_off():
    blocks = (nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 4, 4), nn.Flatten())
    assert "activation loss is off" in STACK.build(toys.classifier(nn.Sequential(*blocks))).notes[0]
    assert STACK.build(toys.conv_net()).notes == ()


def test_a_stream_stores_generated_features_only_for_the_application_that_reads_them(teacher: Classifier):
    schedule = Schedule(refresh_every=2, pool_batches=2, batch_size=4)
    distilled, amalgamated = (Stream(STACK.build(teacher), None, schedule) for _ in range(2))
    distill(toys.conv_net(), teacher, distilled, DistillationConfig(steps=2))
    torch.manual_seed(0)
    amalgamate(toys.conv_net(), teacher, amalgamated, AmalgamationConfig(steps=4, measure_batches=1))
    names = [set(stream.pool.state_dict()["store"]["blocks"][0]) for stream in (distilled, amalgamated)]
    assert names[0] == {"images", "targets", "teacher_logits"}
    assert names[1] - names[0] == {"block_inputs 0", "block_inputs 1"}
