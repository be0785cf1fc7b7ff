"""A student that begins as its teacher's strongest channels."""

import pytest
import torch
import toys

from datafree.classifier import Classifier
from datafree.networks.inheritance import inherit
from datafree.types import Batch, InputError

pytest.importorskip("torch_pruning")


def test_a_student_as_wide_as_its_teacher_becomes_its_teacher(teacher: Classifier, bars: Batch):
    student = toys.conv_net((8, 8))
    inherit(student, teacher)
    assert torch.allclose(student(bars.images), teacher(bars.images), atol=1e-5)


def test_a_narrow_student_has_rows_of_its_teacher(teacher: Classifier):
    student = toys.conv_net((5, 8))
    inherit(student, teacher)
    theirs = teacher.model.blocks[0][1].weight  # type: ignore[union-attr,index]
    strongest = theirs.flatten(1).abs().sum(1).topk(8).indices
    for row in student.model.blocks[0][1].weight:  # type: ignore[union-attr,index]
        assert any(torch.allclose(row, theirs[place], atol=1e-6) for place in strongest)


def test_what_was_inherited_is_a_better_beginning_than_chance(teacher: Classifier, bars: Batch):
    heir = toys.conv_net((6, 6))
    inherit(heir, teacher)
    assert (heir(bars.images).argmax(1) == bars.targets).float().mean() > 0.4


def test_the_teacher_is_left_as_it_was(teacher: Classifier):
    before = toys.snapshot(teacher)
    inherit(toys.conv_net((4, 4)), teacher)
    assert toys.same(toys.snapshot(teacher), before)


def test_refuses_a_student_of_other_layers(teacher: Classifier):
    with pytest.raises(InputError, match="leave --inherit out"):
        inherit(toys.conv_net((4, 4, 4)), teacher)


def test_refuses_a_student_that_is_wider(teacher: Classifier):
    with pytest.raises(InputError, match="not the teacher made narrower"):
        inherit(toys.conv_net((16, 8)), teacher)
