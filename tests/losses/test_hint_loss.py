"""The loss of hints: values by hand, invariants, its gradient."""

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from datafree.losses import hint_loss

TARGET = torch.tensor([[[0.0, 2.0]], [[4.0, 2.0]]])  # two images, one channel, two positions: mean 2, variance 2


def test_by_hand():
    assert hint_loss([TARGET + 1], [TARGET]).item() == pytest.approx(1 / 2)
    assert hint_loss([TARGET + 1, TARGET], [TARGET, TARGET]).item() == pytest.approx(1 / 4), "a mean over layers"
    two = torch.cat([TARGET, 10 * TARGET], 1)  # the variances of two channels: 2 and 200
    assert hint_loss([two + 1], [two]).item() == pytest.approx(2 / 202), "variances are added over channels"


def test_equal_features_have_no_loss_and_means_explain_nothing():
    features = torch.randn(6, 3, 4, 4, dtype=torch.float64) + 5
    assert hint_loss([features], [features]) == 0
    means = features.mean((0, 2, 3), keepdim=True).expand_as(features)
    assert hint_loss([means], [features]).item() == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("shape", [(6, 3, 4, 5), (6, 3, 7), (6, 3)])
def test_does_not_change_with_scale_and_origin(shape: tuple[int, ...]):
    features, guess = torch.randn(2, *shape, dtype=torch.float64)
    expected = (
        (guess - features).square().mean() * 3 / features.movedim(1, -1).flatten(0, -2).var(0, correction=0).sum()
    )
    moved = hint_loss([100 * guess - 7], [100 * features - 7])
    torch.testing.assert_close(moved, expected, rtol=1e-10, atol=0)


def test_constant_features_give_a_finite_loss():
    assert hint_loss([torch.ones(2, 3)], [torch.ones(2, 3)]) == 0
    assert torch.isfinite(hint_loss([torch.zeros(2, 3)], [torch.ones(2, 3)]))


def test_only_predictions_get_a_gradient():
    features, guess = torch.randn(2, 5, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    loss: Tensor = hint_loss([guess], [features])
    assert torch.autograd.grad(loss, features, allow_unused=True, retain_graph=True) == (None,)
    fixed = features.detach()
    assert gradcheck(lambda x: hint_loss([x], [fixed]), guess.detach().requires_grad_())
