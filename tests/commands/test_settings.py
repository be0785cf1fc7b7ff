"""Every numeric setting must be finite."""

import math
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest

from datafree.applications import APPLICATIONS
from datafree.applications.amalgamation import AmalgamationConfig
from datafree.applications.distillation import DistillationConfig
from datafree.commands.experiments import AMALGAMATE
from datafree.methods import METHODS
from datafree.runs.settings import RuntimeConfig
from datafree.runs.training import TrainingConfig
from datafree.synthesis.augmentation import Augmentation
from datafree.types import InputError, Preprocessing, require_at_least, require_at_most, require_seed

GROUPS: dict[str, Any] = {
    **METHODS,
    **APPLICATIONS,
    "runtime": RuntimeConfig(),
    "training": TrainingConfig(),
    "augmentation": Augmentation(),
    "preprocessing": Preprocessing(),
}


def numbers(group: Any) -> Iterator[str]:
    """The names of the settings that are real numbers or tuples of them."""
    for setting in fields(group):
        value = getattr(group, setting.name)
        if isinstance(value, float) or (isinstance(value, tuple) and value and isinstance(value[0], float)):
            yield setting.name


SETTINGS = [(name, setting) for name, group in GROUPS.items() if is_dataclass(group) for setting in numbers(group)]


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize(("group", "setting"), SETTINGS)
def test_a_number_that_is_not_finite_is_refused(group: str, setting: str, value: float):
    before = getattr(GROUPS[group], setting)
    with pytest.raises(InputError):
        replace(GROUPS[group], **{setting: (value, *before[1:]) if isinstance(before, tuple) else value})


def test_every_group_has_numeric_settings():
    assert len(SETTINGS) > 50 and {group for group, _ in SETTINGS} >= {
        "adi",
        "dafl",
        "runtime",
        "training",
        "augmentation",
    }


def test_bounds_at_their_edges():
    require_at_least(0, a=0, b=1e9)
    require_at_most(3, a=3, b=-math.inf)
    require_seed(2**63 - 1)
    with pytest.raises(InputError, match="two-words is -1, but it must be at least 0$"):
        require_at_least(0, two_words=-1)
    with pytest.raises(InputError, match="a is inf, but it must be at least 0 and finite"):
        require_at_least(0, a=math.inf)
    with pytest.raises(InputError, match="a is 4, but it must be at most 3"):
        require_at_most(3, a=4)


def test_amalgamation_into_one_student_uses_the_training_settings_of_the_method():
    application = AMALGAMATE.options("zskd", "student")(task=None).application
    assert (application.temperature, application.augment.rotate) == (20.0, 10.0)
    assert AMALGAMATE.options("zskd", "target-net")(task=None).application == AmalgamationConfig()
    assert AMALGAMATE.options("noise", "student")(task=None).application == DistillationConfig()
