"""When images are made, kept and shown."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from datafree.callback import Callback
from datafree.synthesis import Schedule, Stream, Synthesizer, descend, total
from datafree.types import Batch, InputError


class Counting(Synthesizer):
    """Its images carry the number of their batch, counted from 1; it keeps the count between batches."""

    def __init__(self) -> None:
        self.count = 0
        self.seen: list[nn.Module | None] = []

    def synthesize(self, student: nn.Module | None = None) -> Batch:
        self.count += 1
        self.seen.append(student)
        return Batch(torch.rand(4, 1, 2, 2), torch.full((4,), self.count), {})

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count = state["count"]


def shown(schedule: Schedule, steps: int) -> tuple[list[int], list[set[int]]]:
    """For each step: batches made so far, and which of them were shown."""
    synthesizer = Counting()
    stream = Stream(synthesizer, None, schedule)
    made, seen = [], []
    for _ in range(steps):
        seen.append(set(next(stream).targets.tolist()))
        made.append(synthesizer.count)
    return made, seen


@pytest.mark.parametrize(
    ("schedule", "due"),
    [
        (Schedule(), [1, 2, 3, 4, 5, 6, 7]),
        (Schedule(warmup_batches=3, refresh_every=0), [3, 3, 3, 3, 3, 3, 3]),
        (Schedule(warmup_batches=2, refresh_every=3), [2, 2, 2, 3, 3, 3, 4]),
    ],
)
def test_batches_due_by_hand(schedule: Schedule, due: list[int]):
    assert [schedule.due(step) for step in range(7)] == due


@pytest.mark.parametrize("bad", [{"warmup_batches": 0}, {"refresh_every": -1}, {"pool_batches": 0}, {"batch_size": 0}])
def test_refuses_a_schedule_that_cannot_be(bad: dict[str, int]):
    with pytest.raises(InputError, match=f"{next(iter(bad))} is .*at least"):
        Schedule(**bad)


def test_all_first_makes_nothing_after_the_warmup():
    made, seen = shown(Schedule(warmup_batches=3, refresh_every=0, pool_batches=3, batch_size=12), 6)
    assert made == [3] * 6
    assert seen == [{1, 2, 3}] * 6


def test_alternating_shows_what_is_kept():
    made, seen = shown(Schedule(warmup_batches=2, refresh_every=3, pool_batches=2, batch_size=8), 7)
    assert made == [2, 2, 2, 3, 3, 3, 4]
    assert seen == [{1, 2}, {1, 2}, {1, 2}, {2, 3}, {2, 3}, {2, 3}, {3, 4}]


def test_always_fresh_shows_every_batch_once():
    assert shown(Schedule(), 5) == ([1, 2, 3, 4, 5], [{1}, {2}, {3}, {4}, {5}])


def test_draws_as_many_images_as_are_to_be_shown():
    stream = Stream(Counting(), None, Schedule(warmup_batches=4, refresh_every=0, pool_batches=4, batch_size=5))
    next(stream)
    assert len(next(stream)) == 5


def test_the_synthesizer_looks_at_the_student_as_it_is():
    synthesizer, student = Counting(), nn.Linear(1, 1)
    next(Stream(synthesizer, student, Schedule()))
    assert synthesizer.seen == [student]


def test_the_watch_is_told_of_every_batch():
    class Diary(Callback):
        def __init__(self) -> None:
            self.pages: list[tuple[int, int, int]] = []

        def made(self, batch: Batch, count: int, due: int) -> None:
            self.pages.append((len(batch), count, due))

    diary = Diary()
    next(Stream(Counting(), None, Schedule(warmup_batches=2), diary))
    assert diary.pages == [(4, 1, 2), (4, 2, 2)]


@pytest.mark.parametrize(
    "schedule",
    [
        Schedule(warmup_batches=3, refresh_every=0, pool_batches=3, batch_size=5),
        Schedule(warmup_batches=2, refresh_every=3, pool_batches=2),
        Schedule(),
    ],
)
@pytest.mark.parametrize("steps", [0, 1, 4])
def test_a_stream_goes_on_from_its_state_as_if_nothing_had_happened(schedule: Schedule, steps: int):
    stream = Stream(Counting(), None, schedule)
    for _ in range(steps):
        next(stream)
    state, random = copy.deepcopy(stream.state_dict()), torch.get_rng_state()
    expected = [next(stream) for _ in range(5)]

    other = Stream(Counting(), None, schedule)
    other.load_state_dict(state)
    torch.set_rng_state(random)
    for batch in expected:
        again = next(other)
        assert torch.equal(again.images, batch.images) and torch.equal(again.targets, batch.targets)


def test_descend_takes_one_step_down_the_sum_of_the_terms():
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    terms = descend({"square": (x**2).sum(), "line": 3 * x.sum()}, torch.optim.SGD([x], lr=0.1))
    assert x.tolist() == pytest.approx([1 - 0.1 * (2 + 3), 2 - 0.1 * (4 + 3)])
    assert {name: term.item() for name, term in terms.items()} == {"square": 5.0, "line": 9.0}
    assert not any(term.requires_grad for term in terms.values())


def test_descend_forgets_the_gradient_of_the_step_before():
    x = torch.tensor([1.0], requires_grad=True)
    optimizer = torch.optim.SGD([x], lr=0.1)
    for _ in range(2):
        descend({"line": x.sum()}, optimizer)
    assert x.item() == pytest.approx(0.8)


def test_the_objective_is_the_sum_of_its_terms():
    assert total({"a": torch.tensor(1.5), "b": torch.tensor(-0.5)}).item() == 1.0
