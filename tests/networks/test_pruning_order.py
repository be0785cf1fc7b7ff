"""The order in which channels are removed, and widths that are multiples of a number."""

import pytest
import torch
from torch import nn

from datafree import teachers
from datafree.networks.importance import lowest_scoring
from datafree.networks.pruning_order import Cut, cuts_for, cuts_in_order, least_widths, selected
from datafree.networks.pruning_surgery import Channels, Group, Reader


def group(width: int, writers: int = 1) -> Group:
    """Channels of some convolutions that one layer reads."""
    reader = Reader(nn.Conv2d(width, 1, 1), torch.arange(width), torch.arange(width))
    return Group(tuple(nn.Conv2d(1, width, 1) for _ in range(writers)), (reader,), None)


def test_least_widths_by_hand():
    groups = [group(31), group(16), group(6), group(36)]
    assert least_widths(groups, [1, 9, 1, 30]) == [1, 9, 1, 30]
    assert least_widths(groups, [1, 9, 1, 30], 8) == [8, 16, 6, 32]


def test_an_output_loses_nothing():
    outputs = Group((nn.Linear(4, 10),), (), None)
    assert least_widths([outputs], [1], 8) == [10] and cuts_in_order([outputs], [torch.rand(10)], [1]) == []


def test_cuts_by_hand():
    """The first cut of 11 channels leaves 8, the next one 4; the means of their scores set the order."""
    scores = [torch.tensor([9.0, 1, 2, 8, 7, 6, 5, 4, 3, 10, 11]), torch.tensor([4.0, 4, 4, 4, 9, 9])]
    cuts = cuts_in_order([group(11), group(6)], scores, [1, 1], 4)
    assert cuts == [Cut(0, (1, 2, 8)), Cut(1, (0, 1)), Cut(0, (7, 6, 5, 4))]
    assert selected(cuts[:2], 2) == [[1, 2, 8], [0, 1]]


def test_cuts_for_counts_the_filters_of_all_writers():
    groups = [group(4), group(4, writers=3)]
    cuts = [Cut(0, (0, 1)), Cut(1, (2,)), Cut(0, (3,))]
    assert [cuts_for(cuts, groups, filters) for filters in (0, 1, 2, 3, 5, 6, 7)] == [0, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("seed", range(3))
def test_single_channels_are_removed_as_one_list_of_all_channels_says(seed: int):
    """Against a slow reference: one walk over the sorted channels of all groups."""
    torch.manual_seed(seed)
    groups = [group(7), group(12, writers=2), group(3)]
    scores = [torch.randint(0, 6, (len(g),)).float() for g in groups]  # with equal scores
    order = sorted((float(s[c]), g, c) for g, s in enumerate(scores) for c in range(len(s)))
    for filters in (1, 5, 12, 40):
        expected, left = [[] for _ in groups], filters
        for _, g, c in order:
            if left > 0 and len(groups[g]) - len(expected[g]) > 2:
                expected[g].append(c)
                left -= len(groups[g].writers)
        assert lowest_scoring(groups, scores, [2, 2, 2], filters) == expected


@pytest.mark.parametrize("name", ["resnet18_cifar_w16", "lenet5"])
def test_every_group_that_loses_channels_keeps_a_multiple(name: str):
    torch.manual_seed(0)
    network = teachers.create(name)
    groups = Channels(network.model, network.shape).groups
    scores = [torch.rand(len(g)) for g in groups]
    for filters in (10, 60, 100):
        removed = lowest_scoring(groups, scores, [1] * len(groups), filters, 8)
        assert sum(len(r) * len(g.writers) for r, g in zip(removed, groups, strict=True)) >= filters
        assert all(not r or (len(g) - len(r)) % 8 == 0 for r, g in zip(removed, groups, strict=True))
