"""When checkpoints are saved: a kill costs at most the interval, and saving takes at most a part of the time."""

import itertools
from collections.abc import Callable, Iterator

import pytest

from datafree.runs.launching.due import EARLY, MOST, UNKNOWN, Due


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def work(interval: float, steps: Iterator[float], saving: float, seconds: float = 1000.0) -> tuple[list[float], float]:
    """Return what a kill at the worst time before each checkpoint costs, and the part of the time that saving takes."""
    clock = Clock()
    due, costs, spent, last = Due(interval, clock), [], 0.0, clock.now
    while clock.now < 100 + seconds:
        clock.now += next(steps)
        if due.check():
            start = clock.now
            clock.now += saving
            costs.append(clock.now - last)  # just before it is complete
            spent, last = spent + saving, clock.now
            due.saved(start)
    return costs, spent / (clock.now - 100)


def always(step: float) -> Callable[[], Iterator[float]]:
    return lambda: itertools.repeat(step)


@pytest.mark.parametrize("step", [0.01, 1.0, 7.0, 9.0, 19.0])
@pytest.mark.parametrize("saving", [0.001, 0.5, 2.0])
def test_a_kill_costs_at_most_the_interval(step: float, saving: float):
    """Also during the first checkpoint, before the time of saving is known; longer steps are the only exception."""
    costs, spent = work(20.0, itertools.repeat(step), saving)
    assert max(costs) <= max(20.0, step + saving) + 1e-6
    assert spent <= 2 * MOST + 1e-6
    if step <= 1:
        assert (
            spent <= MOST * 1.2 and sum(costs[1:]) / len(costs[1:]) > 20 - 2 * step - 0.1
        )  # no more often than needed


def test_a_kill_costs_at_most_a_step_if_it_is_longer_than_the_interval():
    costs, _ = work(20.0, itertools.repeat(50.0), 1.0)
    assert set(costs) == {51.0}


def test_steps_of_changing_length():
    costs, _ = work(20.0, itertools.cycle([0.1] * 50 + [4.0]), 0.5)
    assert max(costs) <= 20 + 4


def test_where_saving_is_slow_the_interval_is_longer_and_it_is_said_once():
    costs, spent = work(20.0, itertools.repeat(0.1), 5.0)
    assert max(costs[1:]) <= 5.0 / MOST + 1e-6 and spent <= MOST + 0.01
    clock = Clock()
    due = Due(20.0, clock)
    assert due.note() == "" and due.interval == 20
    clock.now += 5
    due.saved(clock.now - 5)
    assert due.interval == pytest.approx(50)
    assert due.note() == (
        "saving a checkpoint takes 5.0 s, so one is saved every 50 s instead of every 20 s, and a kill costs at most that"
    )
    assert due.note() == ""


@pytest.mark.parametrize(("interval", "saving"), [(0.0, 5.0), (1e-3, 0.09), (20.0, 1.9), (1e6, 100.0)])
def test_nothing_is_said_if_the_interval_holds_or_is_below_a_second(interval: float, saving: float):
    clock = Clock()
    due = Due(interval, clock)
    clock.now += saving
    due.saved(clock.now - saving)
    assert due.note() == ""


def test_the_first_checkpoint_comes_after_half_of_the_interval_and_one_before_dangerous_work_after_a_tenth():
    clock = Clock()
    due = Due(20.0, clock)

    def checks(seconds: float, **options: bool) -> list[bool]:
        found = []
        for _ in range(round(seconds * 10)):
            clock.now += 0.1
            found.append(due.check(**options))
        return found

    assert not any(checks(20 * EARLY - 0.1, early=True))
    clock.now += 0.2
    assert due.check(early=True) and not due.check()
    assert not any(checks(20 * (UNKNOWN - EARLY) - 0.4))
    assert checks(0.4)[-1]
    due.saved(clock.now)
    assert not any(checks(20 * EARLY - 0.1, early=True))
    clock.now += 0.2
    assert due.check(early=True) and not due.check()


def test_processes_that_must_agree_save_earlier():
    clock = Clock()
    due = Due(20.0, clock)
    due.saved(clock.now)
    due.slack = 1.0
    for _ in range(188):
        clock.now += 0.1
        assert not due.check()
    clock.now += 0.2
    assert due.check()
