"""A student is initialised with the strongest channels of its teacher."""

import pytest
import torch
import toys

from datafree.classifier import Classifier
from datafree.networks.inheritance import inherit
from datafree.types import Batch, InputError

pytest.importorskip("torch_pruning")


def test_a_student_as_wide_as_its_teacher_equals_the_teacher(teacher: Classifier, bars: Batch):
    student = toys.conv_net((8, 8))
    inherit(student, teacher)
    assert torch.allclose(student(bars.images), teacher(bars.images), atol=1e-5)


def test_the_filters_of_a_narrow_student_are_those_of_its_teacher(teacher: Classifier):
    student = toys.conv_net((5, 8))
    inherit(student, teacher)
    teacher_filters = teacher.model.blocks[0][1].weight  # type: ignore[union-attr,index]
    strongest = teacher_filters.flatten(1).abs().sum(1).topk(8).indices
    for student_filter in student.model.blocks[0][1].weight:  # type: ignore[union-attr,index]
        assert any(torch.allclose(student_filter, teacher_filters[index], atol=1e-6) for index in strongest)


def test_an_inherited_student_is_better_than_chance(teacher: Classifier, bars: Batch):
    student = toys.conv_net((6, 6))
    inherit(student, teacher)
    assert (student(bars.images).argmax(1) == bars.targets).float().mean() > 0.4


def test_the_teacher_is_not_changed(teacher: Classifier):
    before = toys.snapshot(teacher)
    inherit(toys.conv_net((4, 4)), teacher)
    assert toys.same(toys.snapshot(teacher), before)


def test_a_student_with_other_layers_is_refused(teacher: Classifier):
    with pytest.raises(InputError, match="does not have the same layers as the teacher; remove --inherit"):
        inherit(toys.conv_net((4, 4, 4)), teacher)


def test_a_wider_student_is_refused(teacher: Classifier):
    with pytest.raises(InputError, match="not a narrower version of the teacher"):
        inherit(toys.conv_net((16, 8)), teacher)
