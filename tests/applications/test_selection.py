"""Selection of hard images."""

import pytest
import torch
import toys

from datafree.applications.selection import divergence_per_image, draw_in_proportion, joined
from datafree.classifier import Classifier
from datafree.types import Batch


def test_the_divergence_by_hand(teacher: Classifier):
    p, q = torch.tensor([[0.7, 0.1, 0.1, 0.1], [0.25] * 4]), torch.tensor([[0.1, 0.7, 0.1, 0.1], [0.25] * 4])
    divergence = divergence_per_image(teacher, 2 * p.log(), 2 * q.log(), 2.0)
    assert divergence.tolist() == pytest.approx([0.6 * torch.tensor(7.0).log().item(), 0], abs=1e-6)


def test_the_divergence_of_several_labels_is_their_sum(teacher: Classifier):
    several = Classifier(teacher.model, shape=toys.SHAPE, classes=4, multi_label=True)
    logits = torch.randn(2, 3, 4)
    p, q = logits.sigmoid()
    expected = (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).sum(1)
    assert torch.allclose(divergence_per_image(several, logits[0], logits[1], 1.0), expected, atol=1e-5)


def test_the_first_index_is_drawn_in_proportion():
    first = torch.stack([draw_in_proportion(torch.tensor([1.0, 2.0, 5.0]), 1) for _ in range(4000)]).flatten()
    assert (first.bincount(minlength=3) / 4000).tolist() == pytest.approx([1 / 8, 2 / 8, 5 / 8], abs=0.025)


def test_two_indices_are_drawn_one_after_another():
    """P({i, j}) = p_i p_j / (1 - p_i) + p_j p_i / (1 - p_j), as drawing without replacement does."""
    p = torch.tensor([0.5, 0.3, 0.2])
    pairs = torch.stack([draw_in_proportion(p, 2).sort().values for _ in range(4000)])
    for i, j in ((0, 1), (0, 2), (1, 2)):
        expected = float(p[i] * p[j] * (1 / (1 - p[i]) + 1 / (1 - p[j])))
        assert (pairs == torch.tensor([i, j])).all(1).float().mean().item() == pytest.approx(expected, abs=0.03)


def test_no_index_is_drawn_twice_and_weights_of_zero_come_last():
    weights = torch.zeros(50)
    weights[7] = 1e-3
    for _ in range(20):
        drawn = draw_in_proportion(weights, 25)
        assert len(drawn.unique()) == 25 and 7 in drawn
    assert draw_in_proportion(weights, 50).sort().values.tolist() == list(range(50))


def test_batches_are_joined_in_order():
    a, b = (Batch(torch.full((2, 1, 2, 2), i), torch.full((2,), int(i)), {}, torch.full((2, 3), i)) for i in (0.0, 1.0))
    both = joined([a, b])
    assert both.images[:, 0, 0, 0].tolist() == [0, 0, 1, 1] == both.targets.tolist()
    assert both.teacher_logits is not None and both.teacher_logits[:, 0].tolist() == [0, 0, 1, 1]
    assert joined([a]) is a
    assert joined([a, Batch(b.images, b.targets, {})]).teacher_logits is None
