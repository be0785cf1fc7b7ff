"""Targets of an inversion: random, balanced, or the balanced ones nearest to the teacher."""

from itertools import permutations

import pytest
import torch
import toys

from datafree.classifier import Classifier
from datafree.synthesis.inversion.targets import (
    balanced_labels,
    nearest_balanced_labels,
    nearest_targets,
    sample_targets,
)
from datafree.types import Batch


@pytest.mark.parametrize(("count", "classes"), [(12, 4), (13, 4), (3, 4), (1, 1), (7, 1)])
def test_balanced_labels_have_each_class_equally_often(count: int, classes: int):
    for labels in (balanced_labels(count, classes), nearest_balanced_labels(torch.randn(count, classes))):
        numbers = labels.bincount(minlength=classes)
        assert len(labels) == count and numbers.max() - numbers.min() <= 1 and len(numbers) == classes


def test_balanced_labels_are_in_random_order_and_the_rest_is_random():
    labels = [balanced_labels(5, 4) for _ in range(50)]
    assert len({tuple(row.tolist()) for row in labels}) > 20
    assert {int(row.bincount(minlength=4).argmax()) for row in labels} == {0, 1, 2, 3}


def test_the_nearest_assignment_has_the_highest_probability_of_all():
    logits = torch.randn(5, 5)
    best = max(permutations(range(5)), key=lambda order: logits.log_softmax(1)[range(5), order].sum().item())
    assert nearest_balanced_labels(logits).tolist() == list(best)


def test_the_nearest_assignment_by_hand():
    """All prefer class 0; the one that loses least gives way. Confident images keep their class."""
    logits = torch.tensor([[5.0, 0.0], [1.0, 0.0], [3.0, 0.0], [2.0, 0.0]])
    assert nearest_balanced_labels(logits).tolist() == [0, 1, 0, 1]
    assert nearest_balanced_labels(logits[:3]).tolist() == [0, 1, 0], "the third image goes to the better class"
    assert (
        nearest_balanced_labels(torch.full((4, 2), -torch.inf).index_fill(1, torch.tensor([1]), 0.0)).tolist().count(0)
        == 2
    )


def test_the_nearest_assignment_is_deterministic_and_draws_no_random_number():
    logits, random = torch.randn(40, 7), torch.get_rng_state()
    assert torch.equal(nearest_balanced_labels(logits), nearest_balanced_labels(logits.clone()))
    assert torch.equal(torch.get_rng_state(), random)


def test_images_of_all_classes_keep_their_classes(teacher: Classifier, bars: Batch):
    targets = nearest_targets(teacher, bars.images[:64])
    assert (targets == teacher(bars.images[:64]).argmax(1)).float().mean() > 0.95


@pytest.mark.parametrize("choice", ["balanced", "nearest"])
def test_only_the_wanted_classes_are_targets(choice: str, teacher: Classifier, bars: Batch):
    some = Classifier(teacher.model, shape=toys.SHAPE, classes=4).eval()
    some.target_classes = (3, 1)
    targets = (
        nearest_targets(some, bars.images[:6]) if choice == "nearest" else sample_targets(some, 6, "balanced", 0.0)
    )
    assert targets.bincount(minlength=4).tolist() == [0, 3, 0, 3]


@pytest.mark.parametrize("choice", ["balanced", "nearest"])
def test_targets_of_several_labels_have_a_balanced_first_one(choice: str, teacher: Classifier, bars: Batch):
    several = Classifier(teacher.model, shape=toys.SHAPE, classes=4, multi_label=True).eval()
    images = bars.images[:8]
    targets = nearest_targets(several, images) if choice == "nearest" else sample_targets(several, 8, "balanced", 0.0)
    assert targets.shape == (8, 4) and set(targets.unique().tolist()) <= {0.0, 1.0}
    if choice == "balanced":
        assert targets.sum(0).tolist() == [2] * 4
    else:
        assert ((targets == 1) | (several(images) <= 0)).all(), "labels that the teacher predicts are kept"
