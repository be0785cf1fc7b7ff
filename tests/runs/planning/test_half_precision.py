"""The ratio of the times of bf16 and float32, and when it is said."""

from collections.abc import Iterator

import pytest
import torch

from datafree.runs.planning.half_precision import REPEATS, bf16_ratio, note_on_bf16


def ticks(durations: list[float]) -> Iterator[float]:
    """Yield a clock that advances by these durations between every second call."""
    now = 0.0
    for duration in durations:
        yield now
        now += duration
        yield now


def test_the_shortest_times_are_compared_and_the_first_is_not_counted():
    rest = [9.0] * (REPEATS - 2)
    clock = ticks([0.1, 6.0, 8.0, *rest, 0.1, 3.0, 2.0, *rest])
    assert bf16_ratio("cpu", lambda: next(clock)) == pytest.approx(6 / 2)


def test_no_random_number_is_drawn():
    before = torch.get_rng_state()
    assert bf16_ratio() > 0
    assert torch.equal(torch.get_rng_state(), before)


def test_only_slow_bf16_is_said():
    assert note_on_bf16(0.6) == note_on_bf16(1.1) == ""
    expected = "this processor takes 25.3 times as long in bf16 as in float32; leave --precision 32-true"
    assert note_on_bf16(25.31) == expected
