"""Shrinkage and stability-weighted agreement, by hand."""

import pytest
import torch

from datafree.estimation.agreement import shrunk_cells, weighted_agreement

EDGES, SHARES = (9, 10), (0.25, 0.75)


def bits(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.bool)


class TestByHand:
    """Two bins and two classes. Low bin: class 0 agrees on 1 of 2, class 1 on 0 of 1. High bin: 3 of 3, and 1 of 2."""

    agrees = bits(1, 0, 0, 1, 1, 1, 1, 0)
    decisions = torch.tensor([0, 0, 1, 0, 0, 0, 1, 1])
    kept = torch.tensor([3, 9, 0, 10, 10, 10, 10, 10])

    def expected(self) -> list[list[float]]:
        whole = 5 / 8
        low = (1 + 10 * whole) / (3 + 10)
        high = (4 + 10 * low) / (5 + 10)
        return [
            [(1 + 5 * low) / (2 + 5), (0 + 5 * low) / (1 + 5)],
            [(3 + 5 * high) / (3 + 5), (1 + 5 * high) / (2 + 5)],
        ]

    def test_cells_are_shrunk_towards_their_bin_and_bins_towards_the_one_below(self):
        cells, counts = shrunk_cells(self.agrees, self.decisions, self.kept, 2, EDGES)
        assert cells.tolist() == [pytest.approx(row) for row in self.expected()]
        assert counts.tolist() == [[2, 1], [3, 2]]

    def test_the_total_weighs_bins_by_real_images_and_classes_equally(self):
        (a, b), (c, d) = self.expected()
        found = weighted_agreement(self.agrees, self.decisions, self.kept, 2, SHARES, EDGES)
        assert found.per_class == pytest.approx((0.25 * a + 0.75 * c, 0.25 * b + 0.75 * d))
        assert found.total == pytest.approx(sum(found.per_class) / 2)
        assert found.images == 8

    def test_the_error_is_that_of_the_cells(self):
        (a, b), (c, d) = self.expected()
        variance = 0.25**2 * (a * (1 - a) / 7 + b * (1 - b) / 6) + 0.75**2 * (c * (1 - c) / 8 + d * (1 - d) / 7)
        found = weighted_agreement(self.agrees, self.decisions, self.kept, 2, SHARES, EDGES)
        assert found.error == pytest.approx(variance**0.5 / 2)


def many(agrees: float, classes: int = 4, count: int = 4000) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    decisions, kept = torch.randint(classes, (count,)), torch.randint(11, (count,))
    return torch.rand(count) < agrees, decisions, kept


def test_a_student_that_always_agrees_has_one_and_one_that_never_does_has_zero():
    for agrees in (1.0, 0.0):
        found = weighted_agreement(*many(agrees), 4)
        assert found.total == pytest.approx(agrees)
        assert found.error == pytest.approx(0, abs=1e-9)


def test_with_many_images_the_shrinkage_disappears():
    agrees, decisions, kept = many(0.5, count=40000)
    agrees = torch.where(kept == 10, True, agrees)
    assert weighted_agreement(agrees, decisions, kept, 4).total == pytest.approx(0.632 + 0.368 * 0.5, abs=0.01)


def test_a_class_without_images_takes_the_agreement_of_its_bins():
    agrees, decisions, kept = many(0.8, classes=3)
    found = weighted_agreement(agrees, decisions, kept, 4)
    assert found.per_class[3] == pytest.approx(0.8, abs=0.05)


def test_the_order_of_images_does_not_matter():
    agrees, decisions, kept = many(0.7, count=100)
    order = torch.randperm(100)
    mixed = weighted_agreement(agrees[order], decisions[order], kept[order], 4)
    assert mixed.per_class == pytest.approx(weighted_agreement(agrees, decisions, kept, 4).per_class)


def test_more_images_have_a_smaller_error():
    few, more = many(0.7, count=200), many(0.7, count=20000)
    assert weighted_agreement(*more, 4).error < weighted_agreement(*few, 4).error / 3


class TestFamilies:
    def test_families_that_differ_widen_the_error(self):
        """Without shrinkage to speak of, S is 1 without one family and 0 without the other: the jackknife adds 1/4."""
        count = 400_000
        agrees, families = torch.arange(2 * count) < count, (torch.arange(2 * count) >= count).long()
        decisions, kept = torch.zeros(2 * count, dtype=torch.int64), torch.full((2 * count,), 10)
        found = weighted_agreement(agrees, decisions, kept, 1, (0.0, 1.0), (9, 10), families)
        assert found.total == pytest.approx(0.5, abs=1e-3)
        assert found.error == pytest.approx(0.5, abs=1e-3)

    def test_families_do_not_change_the_estimate(self):
        agrees, decisions, kept = many(0.7, count=400)
        plain = weighted_agreement(agrees, decisions, kept, 4)
        found = weighted_agreement(agrees, decisions, kept, 4, families=torch.arange(400) % 4)
        assert found.per_class == plain.per_class
        assert found.error > plain.error

    def test_one_family_adds_nothing(self):
        agrees, decisions, kept = many(0.7, count=400)
        one = weighted_agreement(agrees, decisions, kept, 4, families=torch.zeros(400, dtype=torch.int64))
        assert one.error == pytest.approx(weighted_agreement(agrees, decisions, kept, 4).error)
