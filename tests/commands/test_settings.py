"""Every number that can be set is a finite one, wherever it is set."""

import math
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest

from datafree.applications import APPLICATIONS
from datafree.methods import METHODS
from datafree.runs.experiment import RuntimeConfig
from datafree.runs.training import TrainingConfig
from datafree.synthesis.augmentation import Augmentation
from datafree.types import InputError, Preprocessing, require_at_least, require_at_most, require_seed

PARTS: dict[str, Any] = {
    **METHODS,
    **APPLICATIONS,
    "machine": RuntimeConfig(),
    "training": TrainingConfig(),
    "augmentation": Augmentation(),
    "preprocessing": Preprocessing(),
}


def numbers(part: Any) -> Iterator[str]:
    """The names of the settings that are real numbers, or several of them."""
    for setting in fields(part):
        value = getattr(part, setting.name)
        if isinstance(value, float) or (isinstance(value, tuple) and value and isinstance(value[0], float)):
            yield setting.name


SETTINGS = [(name, setting) for name, part in PARTS.items() if is_dataclass(part) for setting in numbers(part)]


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize(("part", "setting"), SETTINGS)
def test_what_is_no_finite_number_is_refused(part: str, setting: str, value: float):
    before = getattr(PARTS[part], setting)
    with pytest.raises(InputError):
        replace(PARTS[part], **{setting: (value, *before[1:]) if isinstance(before, tuple) else value})


def test_there_are_such_settings_in_every_part():
    assert len(SETTINGS) > 50 and {part for part, _ in SETTINGS} >= {
        "adi",
        "dafl",
        "machine",
        "training",
        "augmentation",
    }


def test_bounds_by_hand():
    require_at_least(0, a=0, b=1e9)
    require_at_most(3, a=3, b=-math.inf)
    require_seed(2**63 - 1)
    with pytest.raises(InputError, match="two-words is -1, but it must be at least 0$"):
        require_at_least(0, two_words=-1)
    with pytest.raises(InputError, match="a is inf, but it must be at least 0 and finite"):
        require_at_least(0, a=math.inf)
    with pytest.raises(InputError, match="a is 4, but it must be at most 3"):
        require_at_most(3, a=4)
