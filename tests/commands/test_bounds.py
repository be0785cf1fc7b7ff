"""Bounds of settings in the table of options are those of the dataclasses."""

from dataclasses import dataclass, replace

import pytest

from datafree.applications.continual import ExtensionConfig
from datafree.applications.distillation import DistillationConfig
from datafree.applications.pruning import PruningConfig
from datafree.commands.options.bounds import bounds_of
from datafree.commands.options.table import check, commands
from datafree.methods import METHODS
from datafree.runs.hardware import MAX_DEVICES, MAX_THREADS
from datafree.runs.settings import RuntimeConfig
from datafree.runs.training import TrainingConfig
from datafree.synthesis import Schedule
from datafree.types import InputError, require_at_least, require_at_most

SETTINGS = [
    *{type(method): method for method in METHODS.values()}.values(),
    *(DistillationConfig(), PruningConfig(), ExtensionConfig(), TrainingConfig(), Schedule(), RuntimeConfig()),
]


@dataclass(frozen=True)
class Parent:
    count: int = 3
    share: float = 0.5
    limit: int = 9
    above: int = 10

    def __post_init__(self) -> None:
        require_at_least(1, count=self.count)
        require_at_least(self.limit + 1, above=self.above)
        require_at_most(1, share=self.share)
        if self.limit:
            require_at_least(2, limit=self.limit)


@dataclass(frozen=True)
class Child(Parent):
    rate: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1e-9, rate=self.rate, share=max(self.share, 0))


@dataclass(frozen=True)
class Unchecked(Parent):
    def __post_init__(self) -> None:
        require_at_least(0, count=self.count)


def test_bounds_by_hand():
    assert bounds_of(Parent) == {"count": (1, None), "share": (None, 1)}
    assert bounds_of(Child) == {"count": (1, None), "share": (None, 1), "rate": (1e-9, None)}
    assert bounds_of(Unchecked) == {"count": (0, None)}


def test_bounds_of_real_settings():
    runtime = bounds_of(RuntimeConfig)
    assert runtime["devices"] == (1, MAX_DEVICES) and runtime["threads"] == (1, MAX_THREADS)
    assert runtime["seed"] == (0, 2**63 - 1)
    assert bounds_of(DistillationConfig)["steps"] == (1, None) and bounds_of(PruningConfig)["steps"] == (0, None)


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: type(settings).__name__)
def test_what_the_table_refuses_is_what_the_dataclass_refuses(settings: object):
    bounds = bounds_of(type(settings))
    assert bounds
    for name, (minimum, maximum) in bounds.items():
        value = getattr(settings, name)
        for wrong in [*([minimum - 1] if minimum is not None else []), *([maximum + 1] if maximum is not None else [])]:
            with pytest.raises(InputError, match=f"is {wrong}, but it must be at (least|most)"):
                replace(settings, **{name: (wrong,) * len(value) if isinstance(value, tuple) else wrong})  # type: ignore[type-var]


def test_every_default_is_within_its_bounds():
    options = [option for command in commands().values() for each in command.options.values() for option in each]
    assert any(option.maximum is not None for option in options)
    for option in options:
        if option.default and option.count:
            option.check(option.default.split(" ") if option.count != 1 else [option.default])


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["--steps", "0"], "--steps is 0, but it must be at least 1"),
        (["--method", "deep-inversion", "--method.steps", "2", "0"], "--method.steps is 0, but it must be at least 1"),
        (["--lr", "inf"], "--lr is inf, but it must be at least 1e-09 and finite"),
        (["--lr", "nan"], "--lr is nan, but it must be at least 1e-09"),
        (["--lr-warmup", "1.5"], "--lr-warmup is 1.5, but it must be at most 1"),
        (["--seed", "-1"], "--seed is -1, but it must be at least 0"),
    ],
)
def test_a_number_out_of_bounds_is_refused_before_anything_is_imported(words: list[str], fault: str):
    with pytest.raises(InputError) as refused:
        check("distill", ["--teacher", "x", "--student", "y", *words])
    assert str(refused.value) == fault
