"""Budgets are read strictly, and divided as computed by hand."""

import pytest

from datafree.runs.planning.budget import Budget, Rates, Split, duration, parse_budget, split
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


def test_the_split_by_hand():
    rates = Rates(student=0.1, inversion=0.05, overhead=10)
    # 110 s - 10 s = 100 s; 40 s for batches of 100 * 0.05 = 5 s: 8 batches; 60 s for steps of 0.1 s: 600.
    assert split(Budget(seconds=110), rates, share=0.4, inversion_steps=100, max_batches=50) == Split(600, 8)
    # At most 4 batches take 20 s, so 80 s are left for the student.
    assert split(Budget(seconds=110), rates, share=0.4, inversion_steps=100, max_batches=4) == Split(800, 4)
    # No batch of 5 s fits into 40 % of 10 s.
    assert split(Budget(seconds=20), rates, share=0.4, inversion_steps=100, max_batches=50) == Split(100, 0)


def test_a_budget_in_steps_does_not_depend_on_the_overhead():
    rates = Rates(student=0.1, inversion=0.05, overhead=1000)
    # 500 steps take 50 s, which is 60 %; 40 % is 33.3 s: 6 batches of 5 s.
    assert split(Budget(steps=500), rates, share=0.4, inversion_steps=100, max_batches=50) == Split(500, 6)


def test_nothing_is_optimized_by_a_method_that_does_not_optimize():
    rates = Rates(student=0.1, overhead=10)
    assert split(Budget(seconds=110), rates, share=0.4, inversion_steps=100, max_batches=50) == Split(1000, 0)


def test_a_budget_below_one_step_names_the_least():
    with pytest.raises(InputError, match="a budget of 5 s is too short: .* take 20 s; give a longer --budget"):
        split(Budget(seconds=5), Rates(student=8, overhead=12), share=0, inversion_steps=1, max_batches=1)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "1 s"),
        (45, "45 s"),
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
