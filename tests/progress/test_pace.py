"""The time left, by hand: an artificial clock makes every batch and step take a known time."""

import pytest

from datafree.progress import Pace, Work
from datafree.progress.words import duration


class Clock:
    """A clock that only moves when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def pace(**work: object) -> tuple[Pace, Clock]:
    clock = Clock()
    return Pace(Work(**work), clock), clock  # type: ignore[arg-type]


def test_nothing_is_known_before_anything_was_measured_or_expected():
    new, _ = pace(steps=10, batches={"": 4})
    assert new.seconds_left is None and new.fraction == 0 and new.describe() == "0/4 batches, 0/10 steps"


def test_the_expected_time_is_used_until_the_work_was_measured():
    new, clock = pace(steps=10, batches={"": 4}, synthesis_seconds=40.0, student_seconds=20.0)
    assert new.seconds_left == pytest.approx(60)
    clock.now += 5
    new.on_batch()  # a batch takes 5 s, not the expected 10 s: 3 x 5 s + 20 s are left
    assert new.seconds_left == pytest.approx(35)
    for _ in range(3):
        clock.now += 5
        new.on_batch()
    assert new.seconds_left == pytest.approx(20) and new.synthesized == 1
    clock.now += 8
    new.on_student_step(2)  # 4 s each: 8 more steps
    assert new.seconds_left == pytest.approx(32)
    assert new.fraction == pytest.approx((20 + 8) / (20 + 40))


def test_a_batch_in_progress_counts_by_its_steps():
    new, clock = pace(batches={"": 2}, steps_per_batch={"": 10})
    for _ in range(5):
        clock.now += 2
        new.on_step()
    assert new.synthesized == pytest.approx(0.25) and new.seconds_left == pytest.approx(30)


def test_parts_of_a_mixture_count_by_their_cost():
    new, clock = pace(batches={"cheap": 3, "dear": 1}, weights={"cheap": 1.0, "dear": 7.0})
    clock.now += 3
    for _ in range(3):
        new.on_batch("cheap")
    assert new.synthesized == pytest.approx(0.3) and new.seconds_left == pytest.approx(7)


def test_what_was_done_before_a_resumption_costs_nothing():
    first, clock = pace(steps=100)
    clock.now += 1000
    first.on_student_step(50)  # slow: 20 s a step
    second, later = pace(steps=100)
    second.load_state_dict(first.state_dict(), 50)
    assert second.trained == 0.5 and second.seconds_left is None
    later.now += 10
    second.on_student_step(60)  # 1 s a step from now on
    assert second.seconds_left == pytest.approx(40)
    assert second.seconds["application"] == pytest.approx(1010)


def test_a_batch_in_progress_is_continued():
    first, clock = pace(batches={"": 2}, steps_per_batch={"": 10})
    clock.now += 9
    for _ in range(9):
        first.on_step()
    second, later = pace(batches={"": 2}, steps_per_batch={"": 10})
    second.load_state_dict(first.state_dict(), 0)
    assert second.synthesized == pytest.approx(0.45)
    later.now += 3
    second.on_step()
    second.on_batch()
    assert second.synthesized == pytest.approx(0.5) and second.seconds_left == pytest.approx(30)


def test_time_between_can_be_left_out():
    new, clock = pace(steps=2)
    clock.now += 100  # an evaluation
    new.skip()
    clock.now += 2
    new.on_student_step(1)
    assert new.seconds_left == pytest.approx(2)


def test_work_that_takes_longer_than_planned_is_never_more_than_all():
    new, clock = pace(steps=2, batches={"": 1})
    for _ in range(3):
        clock.now += 1
        new.on_batch()
    assert new.synthesized == 1 and new.describe() == "1/1 batches, 0/2 steps"
    assert new.counts()["batches"] == 3


@pytest.mark.parametrize(("seconds", "words"), [(0.2, "1 s"), (90, "90 s"), (540, "9 min"), (7800, "2 h 10 min")])
def test_durations_in_words(seconds: float, words: str):
    assert duration(seconds) == words
