"""A batch in progress: a run that is interrupted at any step inside of a batch ends with the same bits."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import toys
from torch import nn

from datafree.applications.distillation import DistillationConfig
from datafree.callback import Callback
from datafree.classifier import Classifier
from datafree.ensemble import Ensemble
from datafree.methods import METHODS
from datafree.randomness import RandomNumbers, RandomState
from datafree.runs.experiment import resume, run
from datafree.runs.logger import RunLogger
from datafree.synthesis import Method, Schedule, Stream
from datafree.synthesis.turns import PerTeacher
from datafree.types import Batch

GENERATOR = {"batch_size": 4, "latent_size": 4, "reset_every": 5, "discard_first": 3}
SLOW: dict[str, Method] = {
    "deep-inversion": replace(METHODS["adi"], batch_size=4, steps=(1, 2), cosine=True),
    "zskd": replace(METHODS["zskd"], batch_size=4, steps=3),
    "fast": replace(METHODS["fast"], **GENERATOR),
    "group-stack": replace(METHODS["group-stack"], **GENERATOR),
    "per teacher": PerTeacher(method=replace(METHODS["deep-inversion"], batch_size=4, steps=(2,)), origin=True),
}


class Interrupted(Exception):
    pass


class Interrupt(Callback):
    """Takes a checkpoint at one step inside of a batch, and stops there."""

    def __init__(self, at: int) -> None:
        self.at, self.steps = at, 0
        self.stateful: dict[str, Any] = {}
        self.checkpoint: dict[str, Any] = {}

    def on_step(self) -> None:
        self.steps += 1
        if self.steps == self.at:
            states = {name: stateful.state_dict() for name, stateful in self.stateful.items()}
            self.checkpoint = {name: clone(state) for name, state in states.items()}
            raise Interrupted


def clone(state: Any) -> Any:
    if isinstance(state, torch.Tensor):
        return state.clone()
    if isinstance(state, dict):
        return {key: clone(value) for key, value in state.items()}
    return [clone(value) for value in state] if isinstance(state, list) else state


def start(method: Method, teacher: Classifier, student: nn.Module, callback: Interrupt) -> Stream:
    """Return a new stream, with everything that a checkpoint of it holds."""
    torch.manual_seed(0)
    stream = Stream.of(method, teacher, student, Schedule(refresh_every=1), callback)
    callback.stateful = {"stream": stream, "random": RandomState()}
    return stream


def rest(stream: Stream, count: int) -> tuple[list[Batch], torch.Tensor]:
    """Return the next batches, and a random number of the student's after them."""
    return [next(stream) for _ in range(count)], torch.rand(3)


@pytest.mark.parametrize("name", SLOW)
def test_a_run_interrupted_inside_of_a_batch_ends_with_the_same_bits(name: str, teacher: Classifier):
    if name == "per teacher":
        teacher = Ensemble([teacher, toys.teach(toys.conv_net(), toys.bars(16), 2)]).eval()
    student, whole = toys.conv_net(), Interrupt(0)
    batches, number = rest(start(SLOW[name], teacher, student, whole), 2)
    assert whole.steps >= 3
    for at in range(1, whole.steps + 1):
        interrupted = Interrupt(at)
        stream = start(SLOW[name], teacher, student, interrupted)
        done: list[Batch] = []
        with pytest.raises(Interrupted):
            while True:
                done.append(next(stream))
        resumed = start(SLOW[name], teacher, student, Interrupt(0))
        torch.rand(7)
        resumed.load_state_dict(interrupted.checkpoint["stream"])
        RandomState().load_state_dict(interrupted.checkpoint["random"])
        again, number_again = rest(resumed, 2 - len(done))
        assert torch.equal(number, number_again), f"step {at}: random numbers of the student"
        for batch, other in zip(batches[len(done) :], again, strict=True):
            assert torch.equal(batch.images, other.images) and torch.equal(batch.targets, other.targets), f"step {at}"
            assert toys.same(dict(batch.terms), dict(other.terms))
            assert toys.same(batch.teacher_logits, other.teacher_logits)


def test_the_state_of_torch_inside_of_a_sequence_is_the_one_that_it_returns_to():
    before, numbers, inner = RandomState().state_dict(), RandomNumbers(1), RandomNumbers(2)
    with numbers:
        first = torch.rand(2)
        assert toys.same(RandomState().state_dict(), before)
        with inner:
            torch.rand(2)
            assert toys.same(RandomState().state_dict(), before)
        state = clone(numbers.state_dict())
        second = torch.rand(2)
    assert toys.same(RandomState().state_dict(), before)
    again = RandomNumbers(1)
    again.load_state_dict(state)
    with again:
        assert torch.equal(torch.rand(2), second) and not torch.equal(first, second)


def test_a_run_that_is_killed_inside_of_a_batch_resumes_there(
    digits_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    experiment = toys.experiment(digits_teacher, method=SLOW["deep-inversion"], application=DistillationConfig(steps=3))
    whole = run(experiment, tmp_path / "whole").summary
    steps = 0

    def kill(logger: RunLogger) -> None:
        nonlocal steps
        steps += 1
        if steps == 5:
            logger.keep_folder()
            logger.save()
            raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(RunLogger, "on_step", kill)
        with pytest.raises(Interrupted):
            run(experiment, tmp_path / "killed")
    resumed = resume(tmp_path / "killed").summary
    assert resumed["student_sha256"] == whole["student_sha256"]
    assert resumed["images_synthesized"] == whole["images_synthesized"]
