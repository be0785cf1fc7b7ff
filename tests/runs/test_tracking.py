"""Trackers get the values of the log; one that is not installed is one sentence."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import toys

from datafree.runs.experiment import run
from datafree.runs.tracking import TRACKERS, open_trackers
from datafree.types import InputError


class Library(SimpleNamespace):
    """What Weights & Biases and Trackio have in common."""

    def __init__(self, name: str) -> None:
        super().__init__(__name__=name, started=[], logged=[], finished=0, axes={})

    def init(self, **settings: Any) -> Any:
        self.started.append(settings)
        return SimpleNamespace(define_metric=self.define)

    def define(self, name: str, step_metric: str) -> None:
        self.axes[name] = step_metric

    def log(self, values: dict[str, float]) -> None:
        self.logged.append(values)

    def finish(self) -> None:
        self.finished += 1


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_run_writes_its_log_to_a_tracker(
    name: str, digits_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    library = Library(name)
    monkeypatch.setitem(sys.modules, name, library)
    run(toys.experiment(digits_teacher, trackers=(name,)), tmp_path / "run")
    (settings,) = library.started
    assert settings["project"] == "datafree" and settings["name"] == settings["group"] == "run"
    assert settings["config"]["application.steps"] == 12 and settings["config"]["task.student"] == "convnet_w16"
    assert library.finished == 1
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert len(library.logged) == len(lines)
    for line, values in zip(lines, library.logged, strict=True):
        phase, expected = line.pop("phase"), line
        assert {key: round(value, 6) for key, value in values.items()} == {
            f"{phase}/{key}": value for key, value in expected.items()
        }
    assert library.axes == (
        {f"{phase}/*": f"{phase}/step" for phase in ("synthesis", "application", "evaluation")}
        if name == "wandb"
        else {}
    )


@pytest.mark.parametrize("name", TRACKERS)
def test_a_tracker_that_is_not_installed_is_one_sentence(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard.writer" if name == "tensorboard" else name, None)
    with pytest.raises(
        InputError, match=rf"^{name} is not installed; run `pip install 'datafree\[{name}\]'`, or remove"
    ):
        open_trackers((name,), tmp_path, {})


def test_a_tracker_that_cannot_start_is_one_sentence_and_the_others_are_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(**_: Any) -> None:
        raise RuntimeError("no key\nmore")

    first, second = Library("trackio"), Library("wandb")
    second.init = refuse
    monkeypatch.setitem(sys.modules, "trackio", first)
    monkeypatch.setitem(sys.modules, "wandb", second)
    with pytest.raises(
        InputError, match=r"^wandb cannot start \(no key\); log in to it, or remove wandb from --trackers$"
    ):
        open_trackers(("trackio", "wandb"), tmp_path, {"a": 1, "b": [2]})
    assert first.finished == 1 and first.started[0]["config"] == {"a": 1, "b": "[2]"}


def test_tensorboard_still_writes_events(tmp_path: Path):
    (tracker,) = open_trackers(("tensorboard", "tensorboard"), tmp_path, {})
    tracker.log("application", 3, {"loss": 0.5})
    tracker.close()
    assert [path.name[:6] for path in (tmp_path / "tensorboard").iterdir()] == ["events"]
