"""Hints: which layers they are learned from, what the student gains, and what is left behind."""

from copy import deepcopy
from dataclasses import replace

import pytest
import timm
import torch
import toys
from torch import nn

from datafree.applications.distillation import DistillationConfig, distill
from datafree.applications.hints import HintedStudent, last_calls, shared_layers
from datafree.applications.pruning import PruningConfig, prune
from datafree.callback import Callback
from datafree.classifier import Classifier, record
from datafree.ensemble import Ensemble
from datafree.types import Batch, InputError, Terms

HINTED = DistillationConfig(steps=60, lr=1e-2, hints=1.0)


class Losses(Callback):
    """Keeps the terms of each step."""

    def __init__(self) -> None:
        self.terms: list[dict[str, float]] = []

    def log(self, step: int, terms: Terms) -> None:
        self.terms.append({name: float(term) for name, term in terms.items()})


def classifier(name: str, side: int, **arguments: object) -> Classifier:
    model = timm.create_model(name, num_classes=5, **arguments)
    return Classifier(model, shape=(3, side, side), classes=tuple("abcde"))


def names_of(student: Classifier, teacher: Classifier) -> list[tuple[str, str, int]]:
    names = [{module: name for name, module in network.model.named_modules()} for network in (student, teacher)]
    return [(names[0][one.module], names[1][two.module], two.channels) for one, two in shared_layers(student, teacher)]


def test_a_resnet_gives_the_outputs_of_its_stages():
    teacher, student = classifier("resnet18", 64), classifier("test_resnet", 64)
    assert names_of(student, teacher) == [
        ("layer2", "layer2", 128),
        ("layer3", "layer3", 256),
        ("layer4", "layer4", 512),
    ]


def test_the_inside_of_a_block_that_leads_to_the_next_size_is_passed_over():
    """In a bottleneck, the second convolution has the stride: the last features of a size are inside of the next stage."""
    network = classifier("test_resnet", 64)
    assert [one for one, *_ in names_of(network, network)] == ["layer2", "layer3", "layer4"]


def test_a_transformer_gives_its_last_tokens():
    arguments = {"patch_size": 8, "img_size": 32, "depth": 2, "num_heads": 2}
    teacher = classifier("vit_tiny_patch16_224", 32, embed_dim=32, **arguments)
    student = classifier("vit_tiny_patch16_224", 32, embed_dim=16, **arguments)
    pairs = shared_layers(student, teacher)
    assert names_of(student, teacher) == [("norm", "norm", 32)], "not the patches"
    assert [(one.channels, one.dim) for one, _ in pairs] == [(16, 2)]


def test_channels_may_come_last():
    teacher = classifier(
        "swin_tiny_patch4_window7_224", 32, img_size=32, window_size=4, embed_dim=24, depths=(1, 1), num_heads=(2, 2)
    )
    student = classifier("test_convnext", 32)
    one, two = shared_layers(student, teacher)[-1]
    assert (one.dim, two.dim) == (1, 3)
    logits, predicted = HintedStudent(student, teacher)(torch.rand(3, 3, 32, 32))
    _, features = HintedStudent(student, teacher).answers(teacher, torch.rand(3, 3, 32, 32))
    assert logits.shape == (3, 5) and [x.shape for x in predicted] == [x.shape for x in features]


def test_images_of_other_aspects_have_features():
    teacher, student = classifier("resnet18", 64), classifier("test_resnet", 64)
    for network in (teacher, student):
        network.shape = (3, 50, 70)
    assert [two for _, two, _ in names_of(student, teacher)] == ["layer2", "layer3", "layer4"]


def test_gates_of_one_position_and_images_are_no_features(teacher: Classifier):
    gates = names_of(classifier("test_efficientnet", 64), classifier("test_efficientnet", 64))
    assert not any("se." in name for pair in gates for name in pair[:2])
    outer = toys.classifier(nn.Sequential(nn.Identity(), teacher.model))
    assert [one.module for one, _ in shared_layers(outer, teacher)] == [
        two.module for _, two in shared_layers(teacher, teacher)
    ]


def test_networks_without_features_of_one_size_are_refused(teacher: Classifier, bars: Batch):
    flat = toys.classifier(nn.Sequential(nn.Flatten(), nn.Linear(64, 4)))
    with pytest.raises(InputError, match="student and teacher have no features of the same size; leave out --hints"):
        distill(flat, teacher, [bars], replace(HINTED, steps=1))
    assert shared_layers(teacher, Ensemble([teacher, teacher])) == []


def test_negative_hints_are_refused():
    with pytest.raises(InputError, match="hints is -1, but it must be at least 0"):
        DistillationConfig(hints=-1)


def test_the_student_learns_the_features(teacher: Classifier, student: Classifier, bars: Batch):
    losses = Losses()
    distill(student, teacher, [bars] * 150, replace(HINTED, steps=150, lr=3e-2), callback=losses)
    assert losses.terms[-1]["hints"] < 0.5 * losses.terms[0]["hints"]
    assert (student(bars.images).argmax(1) == teacher(bars.images).argmax(1)).float().mean() > 0.95


def test_the_weight_multiplies_the_hints(teacher: Classifier, bars: Batch):
    first = []
    for weight in (1.0, 5.0):
        torch.manual_seed(0)
        losses = Losses()
        distill(toys.conv_net(), teacher, [bars], replace(HINTED, hints=weight, steps=1), callback=losses)
        first.append(losses.terms[0])
    assert first[1]["hints"] == pytest.approx(5 * first[0]["hints"], rel=1e-5)
    assert first[1]["distillation"] == pytest.approx(first[0]["distillation"], rel=1e-5)


def test_nothing_is_left_behind(teacher: Classifier, student: Classifier, bars: Batch):
    before, names = toys.snapshot(teacher), list(student.state_dict())
    distill(student, teacher, [bars] * 2, replace(HINTED, steps=2))
    assert toys.same(toys.snapshot(teacher), before)
    assert list(student.state_dict()) == names
    assert not any(module._forward_hooks for network in (student, teacher) for module in network.modules())


def test_finding_the_layers_changes_nothing(teacher: Classifier, student: Classifier):
    before, numbers = toys.snapshot(student.train()), torch.get_rng_state()
    assert shared_layers(student, teacher)
    assert toys.same(toys.snapshot(student), before) and torch.equal(torch.get_rng_state(), numbers)


def test_of_several_calls_the_last_one_counts():
    layer = nn.ReLU()
    with record(layer) as calls:
        layer(torch.zeros(2))
        layer(torch.ones(2))
    assert torch.equal(last_calls(calls)[layer].output, torch.ones(2))


def test_the_teacher_sees_stored_images_again(teacher: Classifier, student: Classifier, bars: Batch):
    """Stored logits are not enough: its features are not stored."""
    stored = Batch(bars.images, bars.targets, {}, teacher(bars.images).detach())
    with record(teacher) as calls:
        distill(student, teacher, [stored], replace(HINTED, steps=1))
        assert teacher in last_calls(calls)


def test_a_pruned_network_learns_the_features_of_the_whole_one(teacher: Classifier, bars: Batch):
    losses = Losses()
    config = PruningConfig(steps=12, rounds=2, ratio=0.4, importance_batches=1, hints=1.0)
    student = prune(deepcopy(teacher), teacher, [bars] * 20, config, callback=losses)
    hints = [terms["hints"] for terms in losses.terms if "hints" in terms]
    assert len(hints) == 12 and sum(p.numel() for p in student.parameters()) < sum(
        p.numel() for p in teacher.parameters()
    )
    assert not any(name.startswith("maps") for name in student.state_dict())


def test_modules_that_are_called_by_keyword_are_recorded():
    layer = nn.Linear(2, 2)
    with record(layer) as calls:
        layer(input=torch.zeros(1, 2))
    assert last_calls(calls)[layer].input.shape == (1, 2)
