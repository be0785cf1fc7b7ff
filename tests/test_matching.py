"""Networks and images are matched: classes by name, images by size."""

import pytest
import torch
import toys
from torch import nn

from datafree.classifier import Classifier, ClassSubset
from datafree.matching import is_numbered, match_classes, resized_to
from datafree.types import InputError

NUMBERS = tuple("0123456789")


def test_images_are_resized_to_each_network():
    images = torch.rand(2, 1, 8, 8)
    small = Classifier(nn.Flatten(), shape=(1, 4, 6), classes=24)
    resized = resized_to(images, small)
    assert resized.shape == (2, 1, 4, 6)
    assert torch.allclose(resized.mean(), images.mean(), atol=0.05)
    assert resized_to(images, ClassSubset(small, [0])).shape == (2, 1, 4, 6)


def test_images_of_the_right_size_and_networks_without_a_size_leave_them_unchanged(teacher: Classifier):
    images = torch.rand(2, *toys.SHAPE)
    assert resized_to(images, teacher) is images and resized_to(images, nn.Flatten()) is images


def test_resizing_is_differentiable():
    images = torch.rand(1, 1, 8, 8, requires_grad=True)
    resized_to(images, Classifier(nn.Flatten(), shape=(1, 4, 4), classes=16)).sum().backward()
    assert images.grad is not None and images.grad.sum().item() == pytest.approx(16)


def test_equal_names_in_another_order_are_permuted():
    assert match_classes(("a", "b", "c"), ("c", "a", "b")) == ((1, 2, 0), "")
    assert match_classes(NUMBERS, NUMBERS[::-1]).order == tuple(range(9, -1, -1))
    assert not match_classes(("a", "b"), ("a", "b")).changes_order


def test_names_that_occur_twice_are_matched_if_the_order_is_the_same():
    assert match_classes(("crane", "crane", "b"), ("crane", "crane", "b")) == ((0, 1, 2), "")
    with pytest.raises(InputError, match="different classes"):
        match_classes(("crane", "crane", "b"), ("b", "crane", "crane"))


def test_numbers_are_no_names_and_are_matched_by_position_with_a_note():
    order, note = match_classes(("cat", "dog"), ("0", "1"), "the data", "the network")
    assert order == (0, 1) and "matched by position: those of the network have no names" in note
    assert match_classes(("0000", "0001"), ("cat", "dog"), "the data").note.endswith("those of the data have no names")


def test_different_names_are_refused():
    with pytest.raises(InputError, match="the data and the network have different classes: 'dog' of the data has no"):
        match_classes(("cat", "dog"), ("cat", "cow"), "the data", "the network")
    with pytest.raises(InputError, match="the data has 2 classes, but the network has 3"):
        match_classes(("cat", "dog"), ("0", "1", "2"), "the data", "the network")


def test_twelve_numbers_are_numbered_in_numeric_order_only():
    twelve = tuple(map(str, range(12)))
    assert is_numbered(twelve) and is_numbered(("000", "001")) and not is_numbered(sorted(twelve))
    assert not is_numbered(("1", "2")) and not is_numbered(("0", "¹"))
