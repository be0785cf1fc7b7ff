"""When batches are synthesized, stored and seen by the student."""

import copy
from typing import Any

import pytest
import torch
import toys
from torch import nn

from datafree.callback import Callback
from datafree.classifier import frozen
from datafree.synthesis import Schedule, Stream, Synthesizer, descend, loss_scaler, total
from datafree.types import Batch, InputError


class Counting(Synthesizer):
    """Its targets are the number of the batch, counted from 1. The count is part of its state."""

    def __init__(self) -> None:
        self.count = 0
        self.students: list[nn.Module | None] = []

    def synthesize(self, student: nn.Module | None = None) -> Batch:
        self.count += 1
        self.students.append(student)
        return Batch(torch.rand(4, 1, 2, 2), torch.full((4,), self.count), {})

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count = state["count"]


def follow(schedule: Schedule, steps: int) -> tuple[list[int], list[set[int]]]:
    """For each step, the number of batches synthesized so far, and the batches that the student sees."""
    synthesizer = Counting()
    stream = Stream(synthesizer, None, schedule)
    counts, seen = [], []
    for _ in range(steps):
        seen.append(set(next(stream).targets.tolist()))
        counts.append(synthesizer.count)
    return counts, seen


@pytest.mark.parametrize(
    ("schedule", "needed"),
    [
        (Schedule(), [1, 2, 3, 4, 5, 6, 7]),
        (Schedule(warmup_batches=3, refresh_every=0), [3, 3, 3, 3, 3, 3, 3]),
        (Schedule(warmup_batches=2, refresh_every=3), [2, 2, 2, 3, 3, 3, 4]),
    ],
)
def test_batches_needed_by_hand(schedule: Schedule, needed: list[int]):
    assert [schedule.batches_needed(step) for step in range(7)] == needed


@pytest.mark.parametrize("bad", [{"warmup_batches": 0}, {"refresh_every": -1}, {"pool_batches": 0}, {"batch_size": 0}])
def test_refuses_an_invalid_schedule(bad: dict[str, int]):
    with pytest.raises(InputError, match=f"{next(iter(bad)).replace('_', '-')} is .*at least"):
        Schedule(**bad)


def test_without_refresh_nothing_is_synthesized_after_the_warmup():
    counts, seen = follow(Schedule(warmup_batches=3, refresh_every=0, pool_batches=3, batch_size=12), 6)
    assert counts == [3] * 6
    assert seen == [{1, 2, 3}] * 6


def test_alternating_draws_from_the_stored_batches():
    counts, seen = follow(Schedule(warmup_batches=2, refresh_every=3, pool_batches=2, batch_size=8), 7)
    assert counts == [2, 2, 2, 3, 3, 3, 4]
    assert seen == [{1, 2}, {1, 2}, {1, 2}, {2, 3}, {2, 3}, {2, 3}, {3, 4}]


def test_refresh_at_every_step_uses_each_batch_once():
    assert follow(Schedule(), 5) == ([1, 2, 3, 4, 5], [{1}, {2}, {3}, {4}, {5}])


def test_draws_batch_size_images():
    stream = Stream(Counting(), None, Schedule(warmup_batches=4, refresh_every=0, pool_batches=4, batch_size=5))
    next(stream)
    assert len(next(stream)) == 5


def test_the_synthesizer_receives_the_student_after_its_first_step():
    synthesizer, student = Counting(), nn.Linear(1, 1)
    stream = Stream(synthesizer, student, Schedule(warmup_batches=2, refresh_every=1))
    for _ in range(3):
        next(stream)
    assert synthesizer.students == [None, None, student, student]


def test_images_for_a_set_are_synthesized_with_the_student_that_is_given():
    synthesizer, student = Counting(), nn.Linear(1, 1)
    Stream(synthesizer, student, Schedule()).synthesize_until(2)
    assert synthesizer.students == [student, student]


def test_the_callback_is_called_for_every_batch():
    class Recorder(Callback):
        def __init__(self) -> None:
            self.calls: list[tuple[int, int, int]] = []

        def on_batch(self, batch: Batch, count: int, due: int) -> None:
            self.calls.append((len(batch), count, due))

    recorder = Recorder()
    next(Stream(Counting(), None, Schedule(warmup_batches=2), recorder))
    assert recorder.calls == [(4, 1, 2), (4, 2, 2)]


@pytest.mark.parametrize(
    "schedule",
    [
        Schedule(warmup_batches=3, refresh_every=0, pool_batches=3, batch_size=5),
        Schedule(warmup_batches=2, refresh_every=3, pool_batches=2),
        Schedule(),
    ],
)
@pytest.mark.parametrize("steps", [0, 1, 4])
def test_a_restored_stream_continues_identically(schedule: Schedule, steps: int):
    stream = Stream(Counting(), None, schedule)
    for _ in range(steps):
        next(stream)
    state, random = copy.deepcopy(stream.state_dict()), torch.get_rng_state()
    expected = [next(stream) for _ in range(5)]

    restored = Stream(Counting(), None, schedule)
    restored.load_state_dict(state)
    torch.set_rng_state(random)
    for batch in expected:
        again = next(restored)
        assert torch.equal(again.images, batch.images) and torch.equal(again.targets, batch.targets)


def test_descend_takes_one_step_on_the_sum_of_the_terms():
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    terms = descend({"square": (x**2).sum(), "line": 3 * x.sum()}, torch.optim.SGD([x], lr=0.1))
    assert x.tolist() == pytest.approx([1 - 0.1 * (2 + 3), 2 - 0.1 * (4 + 3)])
    assert {name: term.item() for name, term in terms.items()} == {"square": 5.0, "line": 9.0}
    assert not any(term.requires_grad for term in terms.values())


def test_descend_clears_the_previous_gradient():
    x = torch.tensor([1.0], requires_grad=True)
    optimizer = torch.optim.SGD([x], lr=0.1)
    for _ in range(2):
        descend({"line": x.sum()}, optimizer)
    assert x.item() == pytest.approx(0.8)


def test_the_objective_is_the_sum_of_its_terms():
    assert total({"a": torch.tensor(1.5), "b": torch.tensor(-0.5)}).item() == 1.0


class TestFloat16:
    """Gradients below 6e-8, the smallest number of float16, become 0 without a scaled loss."""

    def gradients(self, precision: torch.dtype, scaled: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the gradients of pixels, and the step that an optimizer takes along them."""
        torch.manual_seed(0)
        teacher = toys.conv_net()
        teacher.precision = precision
        pixels = torch.rand(16, *toys.SHAPE, requires_grad=True)
        optimizer = torch.optim.SGD([pixels], lr=1.0)
        before = pixels.detach().clone()
        scaler = loss_scaler(teacher) if scaled else None
        with frozen(teacher):
            descend({"small": 1e-4 * teacher(pixels).square().mean()}, optimizer, scaler)
        assert pixels.grad is not None
        return pixels.grad, before - pixels.detach()

    def test_pixels_keep_their_gradients(self):
        lost = [float((self.gradients(torch.float16, scaled)[0] == 0).float().mean()) for scaled in (False, True)]
        assert lost[0] > 0.05 and lost[1] < 0.01

    def test_the_step_is_not_scaled(self):
        half, exact = self.gradients(torch.float16, True)[1], self.gradients(torch.float32, True)[1]
        assert (half - exact).norm() < 0.05 * exact.norm()

    def test_nothing_is_scaled_in_other_precisions(self):
        for precision in (torch.float32, torch.bfloat16):
            assert toys.same(self.gradients(precision, True), self.gradients(precision, False))

    def test_a_step_with_an_infinite_gradient_is_skipped(self):
        x = torch.ones(1, requires_grad=True)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
        descend({"overflow": x.sum() * 1e38}, torch.optim.Adam([x], fused=True), scaler)
        assert x.item() == 1 and scaler.get_scale() == 2.0**11
