"""A generator that has collapsed is re-initialised once; the event is kept in checkpoints."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import toys

from datafree.applications.distillation import DistillationConfig
from datafree.callback import Callback
from datafree.classifier import Classifier
from datafree.methods import METHODS
from datafree.runs.experiment import resume, run
from datafree.runs.logger import RunLogger
from datafree.synthesis import Method, Schedule
from datafree.synthesis.generators import training
from datafree.synthesis.generators.training import is_collapsed

SMALL = {"batch_size": 16, "student_batch_size": 16, "latent_size": 4, "reset_every": 0, "discard_first": 0}


class Notes(Callback):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def small(name: str, lr: float) -> Method:
    """A method with a small generator that is never reset."""
    method = METHODS[name]
    return replace(method, lr=lr, **{key: value for key, value in SMALL.items() if hasattr(method, key)})


def test_images_that_are_the_same_are_a_collapse():
    image = torch.rand(1, 1, 4, 4)
    assert is_collapsed(image.expand(8, 1, 4, 4)) and is_collapsed(image + torch.rand(8, 1, 4, 4) / 300)
    one_pixel = image.expand(8, 1, 4, 4).clone()
    one_pixel[0, 0, 0, 0] += 0.1
    assert not is_collapsed(one_pixel)  # its standard deviation is 0.1 sqrt(7) / 8 = 0.033
    assert not is_collapsed(image)


@pytest.mark.parametrize("name", ["group-stack"])
def test_a_generator_that_collapses_in_training_is_re_initialised_once(name: str, teacher: Classifier):
    synthesizer: Any = small(name, lr=5.0).build(teacher)
    synthesizer.callback = Notes()
    for _ in range(220):
        synthesizer.synthesize()
    (note,) = synthesizer.callback.notes
    assert note.startswith("the generator has collapsed after 1") and synthesizer.restarts == 1


def test_nothing_changes_for_a_generator_that_does_not_collapse(teacher: Classifier, monkeypatch: pytest.MonkeyPatch):
    def images(check_every: int) -> torch.Tensor:
        monkeypatch.setattr(training, "CHECK_EVERY", check_every)
        torch.manual_seed(0)
        synthesizer = small("dafl", lr=1e-3).build(teacher)
        return torch.stack([synthesizer.synthesize().images for _ in range(12)])

    assert torch.equal(images(1), images(1000))


def test_a_run_that_is_interrupted_after_the_remedy_equals_one_that_is_not(
    digits_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(training, "CHECK_EVERY", 2)
    monkeypatch.setattr(training, "is_collapsed", lambda images: True)
    changes = {"method": small("dafl", lr=0.01), "schedule": Schedule(), "application": DistillationConfig(steps=12)}
    planned = toys.experiment(digits_teacher, **changes)
    whole = run(planned, tmp_path / "whole")
    (note,) = [note for note in whole.summary["notes"] if "collapsed" in note]
    assert "after 4 steps" in note
    original = RunLogger.log

    def interrupted(self: RunLogger, step: int, terms: Any) -> None:
        original(self, step, terms)
        if step == 8:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(RunLogger, "log", interrupted)
        run(planned, tmp_path / "resumed")
    resumed = resume(tmp_path / "resumed")
    assert resumed.summary["student_sha256"] == whole.summary["student_sha256"]
    assert [note for note in resumed.summary["notes"] if "collapsed" in note] == [note]
