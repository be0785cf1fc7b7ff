"""Budgets are read strictly."""

import pytest

from datafree.runs.planning.budget import Budget, duration, parse_budget
from datafree.types import InputError


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("90s", Budget(seconds=90)),
        ("10m", Budget(seconds=600)),
        ("1.5 min", Budget(seconds=90)),
        ("2H", Budget(seconds=7200)),
        ("1d", Budget(seconds=86400)),
        ("500steps", Budget(steps=500)),
        ("500 steps", Budget(steps=500)),
    ],
)
def test_a_budget_is_read(text: str, budget: Budget):
    assert parse_budget(text) == budget


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0", "the budget is 0"),
        ("0m", "the budget is 0"),
        ("5", "budget '5' has no unit; write it as 90s, 10m, 2h or 500steps"),
        ("5 weeks", "unknown unit 'weeks'"),
        ("-5m", "is not a time or a number of steps"),
        ("soon", "is not a time or a number of steps"),
        ("1.5steps", "must be a whole number of steps"),
        ("9000000000steps", "at most 1,000,000,000"),
        ("400d", "longer than 30 days"),
        ("nan", "is not a time"),
        ("9" * 400 + "m", "is not a time"),
    ],
)
def test_a_wrong_budget_is_refused(text: str, message: str):
    with pytest.raises(InputError, match=message):
        parse_budget(text)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "1 s"),
        (45, "45 s"),
        (90, "90 s"),
        (119.7, "2 min"),
        (540, "9 min"),
        (3540, "59 min"),
        (3600, "1 h"),
        (7800, "2 h 10 min"),
        (259200, "3 days"),
    ],
)
def test_durations_in_words(seconds: float, words: str):
    assert duration(seconds) == words


def test_budgets_in_words():
    assert (str(Budget(seconds=600)), str(Budget(steps=1500))) == ("10 min", "1,500 steps")
