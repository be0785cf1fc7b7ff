"""A race that is killed goes on where it was, and gives the student of an uninterrupted one."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import toys
from torture.forks import fork

from datafree.files import read_json, write_json
from datafree.runs.experiment import resume, run
from datafree.runs.hardware import launch
from datafree.runs.launching.racing import Counts, TrialLogger, Trials
from datafree.runs.launching.together import Together
from datafree.runs.planning import deciding
from datafree.runs.planning.auto import Auto, Recipe
from datafree.runs.planning.timing import SynthesisTime
from datafree.runs.settings import Experiment
from datafree.synthesis import Schedule
from datafree.types import InputError

FIRST = Schedule(warmup_batches=1, refresh_every=0, pool_batches=1, batch_size=8)


@pytest.fixture(autouse=True)
def small_race(monkeypatch: pytest.MonkeyPatch) -> None:
    """A race of three tiny methods, whose steps take the same time in every run."""
    recipes = [Recipe(name, toys.TINY[name], "") for name in ("noise", "deep-inversion", "procedural")]
    monkeypatch.setattr(deciding, "race_of", lambda *_: recipes)
    monkeypatch.setattr(deciding, "RACE_IMAGES", 16)
    monkeypatch.setattr(deciding, "time_student", lambda *_: 0.01)
    monkeypatch.setattr(deciding, "time_synthesis", lambda *_: SynthesisTime(0.01))


def race(teacher: Path) -> Experiment:
    return toys.experiment(teacher, method=Auto(race=True), schedule=FIRST, budget="60steps", checkpoint_interval=1e6)


def test_a_killed_race_goes_on_and_gives_the_same_student(
    digits_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = run(race(digits_teacher), tmp_path / "whole")
    assert whole.summary["experiment"]["application"]["steps"] == 42
    assert not (tmp_path / "whole" / "race").exists()
    real = TrialLogger.log

    def killed(self: TrialLogger, step: int, terms: Any) -> None:
        real(self, step, terms)
        if self.folder and self.folder.path.name == "deep-inversion" and step == 3:
            self.save()
            os.kill(os.getpid(), signal.SIGKILL)

    def child() -> None:
        TrialLogger.log = killed  # type: ignore[method-assign]
        run(race(digits_teacher), tmp_path / "run")

    assert fork(child).code == -signal.SIGKILL
    assert read_json(tmp_path / "run" / "experiment.json")["method"]["config"] == "Auto"
    steps: list[tuple[str, int]] = []

    def counted(self: TrialLogger, step: int, terms: Any) -> None:
        real(self, step, terms)
        steps.append((self.folder.path.name if self.folder else "", step))

    monkeypatch.setattr(TrialLogger, "log", counted)
    resumed = resume(tmp_path / "run")
    assert steps == [
        *(("deep-inversion", step) for step in (4, 5, 6)),
        *(("procedural", step) for step in range(1, 7)),
    ]
    assert resumed.summary["student_sha256"] == whole.summary["student_sha256"]
    assert resumed.summary["experiment"] == whole.summary["experiment"]
    assert not (tmp_path / "run" / "race").exists()


def test_the_time_before_a_kill_counts_and_damage_is_refused(teacher, tmp_path: Path):
    trials = Trials(tmp_path, 1e6, Together(launch("cpu"), tmp_path), lambda: None)
    counts = Counts(toys.TINY["noise"], FIRST, 5)
    assert trials.counts("noise", lambda: counts) is counts

    def work(logger: Any) -> str:
        logger.start -= 100  # as if it was resumed
        return "done"

    assert trials.carry_out("noise", counts, teacher, work) == "done"
    assert trials.earlier == pytest.approx(100, abs=5)
    assert trials.counts("noise", lambda: pytest.fail("it is stored")) == counts
    stored = read_json(tmp_path / "noise" / "experiment.json")
    for edit in ({"steps": 0}, {"steps": True}, {"method": stored["schedule"]}, {"schedule": stored["method"]}):
        write_json(tmp_path / "noise" / "experiment.json", stored | edit)
        with pytest.raises(InputError, match="is damaged; start a new run"):
            trials.counts("noise", lambda: counts)
