"""The networks that may be a student: they fit, are the largest within the limits, and are the same each time."""

import pytest
import torch
import toys

from datafree import teachers
from datafree.runs.tasks import Task
from datafree.teachers.candidates import GROUPS, candidates
from datafree.types import InputError


def test_the_largest_within_the_ratio_is_first():
    teacher = teachers.create("convnet_w64")  # 56,554 parameters
    state = torch.get_rng_state()
    found = candidates(teacher)
    assert [(one.name, one.parameters) for one in found] == [("convnet_w16", 9162)]
    larger = candidates(teacher, ratio=1.0)
    assert larger[0].name == "convnet_w64" and larger[0].parameters == 56554 and larger[-1] in found
    assert [one.parameters for one in larger] == sorted((one.parameters for one in larger), reverse=True)
    assert torch.equal(torch.get_rng_state(), state)


def test_limits_of_parameters_and_operations():
    teacher = teachers.create("wrn_40_2", classes=3)
    found = candidates(teacher, max_parameters=10**6)
    sizes = [one.parameters for one in found]
    assert sizes == sorted(sizes, reverse=True) and sizes[0] <= 10**6 < 2 * sizes[0]
    fewest = min(one.macs for one in found)
    assert {one.macs for one in candidates(teacher, max_parameters=10**6, max_macs=fewest)} == {fewest}
    assert {one.name for one in found} <= set(GROUPS["small"])


def test_no_network_is_small_enough():
    with pytest.raises(
        InputError, match="no network within 10 parameters is known for images of 1x8x8; the smallest is"
    ):
        candidates(teachers.create("convnet_w64"), max_parameters=10)


def test_a_task_names_the_student_it_chooses(digits_teacher):
    teacher = toys.conv_net()
    assert Task(teacher="t", student="lenet5").student_for(teacher) == "lenet5"
    task = Task(teacher=f"local-dir:{digits_teacher}", student="auto", max_parameters=10**4)
    assert task.student_for(task.load_teacher()) == "convnet_w16"
    with pytest.raises(InputError, match="max-parameters and max-macs limit the student auto; leave them out, or use"):
        Task(teacher="t", student="lenet5", max_macs=10**6)
    with pytest.raises(InputError, match="ratio is 0, but it must be at least"):
        Task(teacher="t", student="auto", ratio=0)
