"""A synthesis that is interrupted at any moment is continued by the same command, and writes the same set."""

import contextlib
from pathlib import Path
from typing import Any

import pytest
import toys
from sets.test_streaming import ALL_FORMATS, METHODS, digests

from datafree.classifier import Classifier
from datafree.commands.main import main
from datafree.methods.deep_inversion import DeepInversion
from datafree.runs.launching.due import Due
from datafree.runs.logger import RunLogger
from datafree.runs.synthesizing import job
from datafree.sets import image_set
from datafree.types import Diverged, InputError


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Save a checkpoint whenever it is possible, and write small shards whose index has no time."""
    monkeypatch.setattr(image_set, "SHARD_BYTES", 4000)
    monkeypatch.setattr(image_set, "AT_ONCE", 8)
    monkeypatch.setattr(Due, "check", lambda _, early=False: True)
    monkeypatch.setattr(RunLogger, "seconds", lambda _: 1.0)


class Interruptions:
    """Interrupts each command a little later than the one before, at the moments at which a checkpoint may be saved.

    Args:
        monkeypatch: Counts these moments.
        every: Number of moments between two interruptions.
        before: Whether it interrupts before the checkpoint of a moment, so that the work since the one before is lost.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, every: int, *, before: bool) -> None:
        self.moments, self.count = 0, 0
        original = RunLogger.save_if_due

        def interrupts(logger: RunLogger, *, early: bool = False) -> None:
            self.moments += 1
            if before and self.moments % every == 0:
                raise KeyboardInterrupt
            original(logger, early=early)
            if not before and self.moments % every == 0:
                raise KeyboardInterrupt

        monkeypatch.setattr(RunLogger, "save_if_due", interrupts)

    def repeat(self, out: Path, **settings: Any) -> None:
        """Repeat a synthesis until it ends."""
        while not out.exists():
            with contextlib.suppress(KeyboardInterrupt):
                self.count += 1
                job.synthesize(out=out, **settings)


@pytest.mark.parametrize(("every", "before", "memory"), [(3, False, ""), (4, True, "3kB")])
@pytest.mark.parametrize("name", METHODS)
def test_interrupted_again_and_again_it_writes_the_same_bytes(
    name: str,
    every: int,
    before: bool,
    memory: str,
    digits_teacher: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    method, wanted = METHODS[name]
    settings = {"method": method, "teacher": f"local-dir:{digits_teacher}", "format": ALL_FORMATS, **wanted}
    job.synthesize(out=tmp_path / "whole", **settings)
    interruptions = Interruptions(monkeypatch, every, before=before)
    interruptions.repeat(tmp_path / "again", memory=memory, **settings)
    assert interruptions.count > 1
    assert digests(tmp_path / "whole") == digests(tmp_path / "again")
    assert {path.name for path in tmp_path.iterdir()} == {"whole", "again"}


def test_a_kill_while_the_set_is_written_costs_no_image(
    digits_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    settings = {"method": toys.TINY["deep-inversion"], "teacher": f"local-dir:{digits_teacher}", "images": 24}
    job.synthesize(out=tmp_path / "whole", memory="3kB", **settings)
    in_order = image_set.in_order

    def killed(*given: Any) -> Any:
        yield next(in_order(*given))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(image_set, "in_order", killed)
        job.synthesize(out=tmp_path / "again", memory="3kB", **settings)
    assert {path.name for path in tmp_path.iterdir()} == {"whole", "again.unfinished"}

    def refuses(*_: Any) -> None:
        raise AssertionError("an image was synthesized again")

    monkeypatch.setattr(DeepInversion, "synthesize", refuses)
    job.synthesize(out=tmp_path / "again", memory="3kB", **settings)
    assert digests(tmp_path / "whole") == digests(tmp_path / "again")


@pytest.fixture
def unfinished(digits_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> list[str]:
    """The command of a set that was interrupted after one batch."""
    words = ["synthesize", "--teacher", f"local-dir:{digits_teacher}", "--method", "noise", "--images", "16"]
    words += ["--method.batch-size", "8", "--out", str(tmp_path / "set")]
    with monkeypatch.context() as patch:
        Interruptions(patch, 1, before=False)
        assert main(words) == 75
    assert "interrupted; run the command again" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"set.unfinished"}
    return words


def test_the_command_says_where_it_continues(unfinished: list[str], capsys: pytest.CaptureFixture[str]):
    assert main(unfinished) == 0
    assert "resumed  after 8 images" in capsys.readouterr().out
    assert {path.name for path in Path(unfinished[-1]).parent.iterdir()} == {"set"}


def test_another_command_is_refused_and_costs_nothing(unfinished: list[str], capsys: pytest.CaptureFixture[str]):
    assert main([*unfinished, "--seed", "1"]) == 2
    refusal = capsys.readouterr().err
    assert "set.unfinished has the images of another command that was interrupted; repeat that command" in refusal
    assert main(unfinished) == 0 and "after 8 images" in capsys.readouterr().out


def test_another_teacher_under_the_same_name_is_refused_and_costs_nothing(
    unfinished: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    with monkeypatch.context() as patch:
        patch.setattr("datafree.runs.dependencies.fingerprint", lambda _: "another")
        assert main(unfinished) == 2
        assert "the teacher has changed since this run was interrupted; restore it" in capsys.readouterr().err
    assert main(unfinished) == 0 and "after 8 images" in capsys.readouterr().out


@pytest.mark.parametrize("fault", [InputError("refused"), Diverged("not finite")])
def test_what_would_fail_again_leaves_nothing(
    fault: Exception, digits_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fails(*_: Any) -> None:
        raise fault

    monkeypatch.setattr(RunLogger, "warn_of_collapse", fails)
    with pytest.raises(type(fault)):
        job.synthesize(toys.TINY["noise"], teacher=f"local-dir:{digits_teacher}", out=tmp_path / "set", images=16)
    assert not list(tmp_path.iterdir())


def test_without_a_checkpoint_an_interrupt_leaves_nothing(
    digits_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Due, "check", lambda _, early=False: False)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Classifier, "predict", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        job.synthesize(toys.TINY["procedural"], teacher=f"local-dir:{digits_teacher}", out=tmp_path / "set", images=16)
    assert not list(tmp_path.iterdir())
