"""A batch size that is halved until it fits, and the sentence where a step does not; memory faults are faked."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import toys
from torch import nn

from datafree.classifier import Classifier
from datafree.commands.main import main
from datafree.commands.verbs import OUT_OF_MEMORY
from datafree.methods import METHODS
from datafree.methods.noise import Noise
from datafree.runs.experiment import resume, run
from datafree.runs.planning import halving
from datafree.runs.planning.auto import Auto
from datafree.runs.planning.halving import largest_batch, try_step, with_batches_that_fit, without_auto
from datafree.runs.settings import read_settings
from datafree.synthesis import Method, Schedule
from datafree.synthesis.mixture import Mixture, Part
from datafree.types import Batch, InputError, OutOfMemory

CUDA = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has ...")
CPU = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 5000000000 bytes."
)


def failing(bound: int, sizes: list[int]) -> Callable[[Method, Classifier, nn.Module], None]:
    """Return a step that fits up to a batch size, and notes which sizes were tried."""

    def attempt(method: Method, teacher: Classifier, student: nn.Module) -> None:
        sizes.append(method.batch_size)
        if method.batch_size > bound:
            raise OutOfMemory("the memory is not sufficient")

    return attempt


@pytest.mark.parametrize(("bound", "tried"), [(256, [256]), (200, [256, 128]), (3, [256, 128, 64, 32, 16, 8, 4, 2])])
def test_a_batch_is_halved_until_it_fits(bound: int, tried: list[int]):
    sizes: list[int] = []
    fitted = largest_batch(METHODS["noise"], toys.conv_net(), toys.conv_net(), failing(bound, sizes))
    assert sizes == tried and fitted == replace(METHODS["noise"], batch_size=tried[-1])


def test_a_machine_that_is_too_small_is_named():
    with pytest.raises(OutOfMemory, match="not sufficient for a batch of 2 images; use a smaller teacher"):
        largest_batch(METHODS["noise"], toys.conv_net(), toys.conv_net(), failing(0, []))


@pytest.mark.parametrize("fault", [CUDA, CPU, MemoryError()])
def test_every_kind_of_fault_is_understood(fault: Exception, monkeypatch: pytest.MonkeyPatch):
    def synthesize(self: Any, student: nn.Module | None = None) -> Batch:
        raise fault

    monkeypatch.setattr(Noise, "synthesize", synthesize)
    with pytest.raises(OutOfMemory, match="the memory is not sufficient"):
        try_step(METHODS["noise"], toys.conv_net(), toys.conv_net())


def test_a_step_is_tried_with_random_numbers_of_its_own_and_changes_nothing():
    teacher, student = toys.teach(toys.conv_net(), toys.bars(64), 2), toys.conv_net()
    before, state = toys.snapshot(student), torch.get_rng_state()
    for name in ("adi", "dafl", "noise", "procedural"):
        try_step(toys.TINY[name], teacher, student)
    assert toys.same(toys.snapshot(student), before) and torch.equal(torch.get_rng_state(), state)


def test_a_step_that_the_machine_would_not_survive_is_not_tried(monkeypatch: pytest.MonkeyPatch):
    teacher, method, sizes = toys.conv_net(), METHODS["deep-inversion"], []
    each = halving.pass_cost(teacher).kept + 8 * 4 * 64
    monkeypatch.setattr(halving, "free_memory", lambda: each * 100.0)
    assert largest_batch(method, teacher, teacher, failing(1000, sizes)).batch_size == 64 and sizes == [64]


def test_only_the_parts_that_are_named_are_halved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(halving, "largest_batch", lambda method, *_: replace(method, batch_size=method.batch_size // 4))
    parts = tuple(Part(name=name, method=METHODS[name], share=1) for name in ("noise", "procedural"))
    mixture = Mixture(parts=parts)
    begin = toys.experiment(tmp_path, method=mixture, schedule=mixture.schedule, fit_memory=("noise",))
    decided, notes = with_batches_that_fit(begin, toys.conv_net(), toys.conv_net())
    assert isinstance(decided.method, Mixture)
    assert [part.method.batch_size for part in decided.method.parts] == [64, 256] and decided.fit_memory == ()
    assert notes == ("the batch size of noise is 64, because a step with 128 does not fit into the memory",)
    with pytest.raises(InputError, match=r"--method\.adi\.batch-size is no option of this method; leave it out"):
        with_batches_that_fit(replace(begin, fit_memory=("adi",)), toys.conv_net(), toys.conv_net())
    with pytest.raises(InputError, match="auto chooses the batch sizes"):
        with_batches_that_fit(replace(begin, method=Auto()), toys.conv_net(), toys.conv_net())


@pytest.mark.parametrize(
    ("words", "kept", "names"),
    [
        (["--steps", "3"], ["--steps", "3"], ()),
        (["--method.batch-size", "auto", "--steps", "3"], ["--steps", "3"], ("",)),
        (["--method.batch_size=auto"], [], ("",)),
        (["--method.batch-size", "12"], ["--method.batch-size", "12"], ()),
        (["--method.adi.batch-size", "auto", "--method.batch-size"], ["--method.batch-size"], ("adi",)),
        (["--out", "auto"], ["--out", "auto"], ()),
    ],
)
def test_the_word_auto_is_taken_out(words: list[str], kept: list[str], names: tuple[str, ...]):
    assert without_auto(words) == (kept, names)


def faulty(monkeypatch: pytest.MonkeyPatch, kind: type[Any], name: str, bound: int, first: int = 0) -> None:
    """Let a function fail for lack of memory if it gets or makes more than a number of images."""
    original, calls = getattr(kind, name), [0]

    def call(self: Any, *arguments: Any, **settings: Any) -> Any:
        calls[0] += 1
        size = len(arguments[0]) if arguments and isinstance(arguments[0], torch.Tensor) else self.config.batch_size
        if size > bound and calls[0] > first:
            raise CPU
        return original(self, *arguments, **settings)

    monkeypatch.setattr(kind, name, call)


def sentence(capsys: pytest.CaptureFixture[str]) -> str:
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("datafree:")]
    assert len(lines) == 1
    return lines[0]


def test_auto_is_decided_once_and_repeated(
    digits_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    words = ["distill", "--teacher", f"local-dir:{digits_teacher}", "--student", "convnet_w16", "--method", "noise"]
    words += ["--data", "digits", "--steps", "2"]
    with monkeypatch.context() as patch:
        faulty(patch, Noise, "synthesize", 40)
        assert main([*words, "--method.batch-size", "auto", "--out", str(tmp_path / "run")]) == 0
    printed = capsys.readouterr().out
    assert "the batch size of the method is 32, because a step with 64 does not fit" in printed
    experiment = read_settings(tmp_path / "run")
    assert experiment.method is not None and experiment.method.batch_size == 32 and experiment.fit_memory == ()
    assert "--method.batch-size 32" in re.sub(r"\s+", " ", printed.partition("repeat")[2])
    assert main([*words, "--method.batch-size", "32", "--out", str(tmp_path / "again")]) == 0
    hashes = [json.loads((tmp_path / run / "summary.json").read_text())["student_sha256"] for run in ("run", "again")]
    assert hashes[0] == hashes[1]


def test_a_batch_that_does_not_fit_is_one_sentence_with_a_smaller_size(
    digits_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    faulty(monkeypatch, Noise, "synthesize", 100)
    words = ["distill", "--teacher", f"local-dir:{digits_teacher}", "--student", "convnet_w16", "--method", "noise"]
    assert main([*words, "--steps", "2", "--out", str(tmp_path / "run")]) == OUT_OF_MEMORY
    assert sentence(capsys).endswith("(5.0 GB at once); lower --method.batch-size to 128 in a new run")
    assert not (tmp_path / "run").exists()


def test_a_step_of_the_student_that_does_not_fit_keeps_the_checkpoint(
    digits_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    schedule = Schedule(warmup_batches=2, refresh_every=0, pool_batches=2, batch_size=12)
    settings = toys.experiment(digits_teacher, method=toys.TINY["noise"], schedule=schedule)
    settings = replace(settings, task=replace(settings.task, data="digits"))
    expected = run(settings, tmp_path / "whole").summary["student_sha256"]
    with monkeypatch.context() as patch:
        faulty(patch, Classifier, "forward", 11, first=20)
        with pytest.raises(OutOfMemory, match=r"lower --batch-size to 6 in a new run, or resume this one where more"):
            run(settings, tmp_path / "run")
    assert (tmp_path / "run" / "checkpoints").exists()
    assert resume(tmp_path / "run").summary["student_sha256"] == expected
