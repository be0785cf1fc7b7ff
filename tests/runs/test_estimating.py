"""How a run knows whether its student can be estimated, how long that may take, and what it says at its end."""

import math
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import toys

from datafree import InputError
from datafree.applications.continual import ExtensionConfig
from datafree.applications.pruning import PruningConfig
from datafree.applications.trainer import fabric_for
from datafree.classifier import Classifier
from datafree.estimation.families import families_of
from datafree.estimation.result import not_estimated
from datafree.files import read_json, write_json
from datafree.methods.pictures import PicturesConfig
from datafree.real.ledger import Entry, Ledger
from datafree.runs.estimating import at_end
from datafree.runs.estimating.at_end import estimate_of
from datafree.runs.estimating.duration import seconds_after, seconds_within
from datafree.runs.estimating.history import REAL, TEACHER, UNKNOWN, WEIGHTS, history_in, history_of, known_accuracy
from datafree.runs.experiment import Result, run
from datafree.runs.planning.setup import Setup
from datafree.runs.settings import Experiment
from datafree.runs.synthesizing.job import synthesize
from datafree.runs.task_data import TaskData
from datafree.runs.tasks import AmalgamationTask, ExtensionTask
from datafree.sets.saved import SavedConfig
from datafree.synthesis.image_sets.index import read_index, write_index
from datafree.synthesis.mixture import Mixture, Part


def experiment(**changes: Any) -> Experiment:
    return toys.experiment(Path("teacher"), **changes)


def finished_setup(teacher: Classifier, test: Any = None, **changes: Any) -> Setup:
    """A run that is finished."""
    data: Any = object.__new__(TaskData)
    for name, value in {"ledger": Ledger(), "test": test, "new_classes": None}.items():
        object.__setattr__(data, name, value)
    fabric: Any = fabric_for(teacher)
    return Setup(experiment(**changes), fabric, teacher, teacher, data)


class TestHistory:
    def test_a_student_of_synthesized_images_can_be_estimated(self):
        found = history_of(experiment(), Ledger())
        assert (found.reason, found.method) == ("", experiment().method)

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"method": None}, REAL),
            ({"method": PicturesConfig(images="photos")}, REAL),
            ({"method": SavedConfig(images="set")}, UNKNOWN),
            ({"application": PruningConfig()}, TEACHER),
        ],
    )
    def test_what_cannot_be_estimated(self, changes: dict[str, Any], reason: str):
        assert history_of(experiment(**changes), Ledger()).reason == reason

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"inherit": True}, TEACHER),
            ({"student": ""}, TEACHER),
            ({"student": "local-dir:elsewhere"}, WEIGHTS),
        ],
    )
    def test_where_the_student_starts(self, changes: dict[str, Any], reason: str):
        base = experiment()
        assert history_of(replace(base, task=replace(base.task, **changes)), Ledger()).reason == reason

    def test_a_student_that_starts_from_random_weights_of_a_folder_is_new(self):
        base = experiment()
        task = replace(base.task, student="local-dir:elsewhere", student_init="random")
        assert history_of(replace(base, task=task), Ledger()).reason == ""

    def test_an_extension_saw_real_images_of_its_new_classes(self):
        task = ExtensionTask(teacher="local-dir:teacher", new_data="digits")
        assert history_of(experiment(task=task, application=ExtensionConfig()), Ledger()).reason == REAL

    def test_an_amalgamation_makes_a_new_network(self):
        task = AmalgamationTask(teacher=("local-dir:a", "local-dir:b"))
        assert history_of(experiment(task=task), Ledger()).reason == ""

    def test_the_images_of_a_saved_set_are_known_by_its_index(self, digits_teacher: Path, tmp_path: Path):
        method = toys.TINY["deep-inversion"]
        synthesize(method, teacher=f"local-dir:{digits_teacher}", out=tmp_path / "set", images=8, format=())
        saved = SavedConfig(images=str(tmp_path / "set"))
        found = history_of(experiment(method=saved), Ledger())
        assert (found.reason, found.method) == ("", method)
        parts = (
            Part(name="drawn", method=toys.TINY["procedural"], share=0.5),
            Part(name="saved", method=saved, share=0.5),
        )
        mixed = history_of(experiment(method=Mixture(parts=parts)), Ledger())
        assert mixed.reason == "" and families_of(mixed.method) == {"procedural", "deep-inversion"}
        index = read_index(tmp_path / "set")
        for made_by, reason in (
            ("SavedConfig(images='other'), seed 0", UNKNOWN),
            ("my own pictures", UNKNOWN),
            ("PicturesConfig(images='photos'), seed 0", REAL),
            (f"{method!r}, seed 0, without a student", ""),
        ):
            write_index(replace(index, made_by=made_by), tmp_path / "set")
            assert history_of(experiment(method=saved), Ledger()).reason == reason

    def test_a_student_that_started_from_one_of_synthesized_images_is_like_both(self, finished: Result):
        base = experiment(method=toys.TINY["zskd"])
        task = replace(base.task, student=f"local-dir:{finished.path / 'student'}")
        for application in (base.application, PruningConfig()):
            found = history_of(replace(base, task=task, application=application), Ledger())
            assert found.reason == ""
            expected = families_of(base.method) | families_of(experiment().method)
            assert families_of(found.method) == expected
        assert history_of(replace(base, task=task), Ledger(), starts=0).reason == WEIGHTS

    def test_a_student_that_started_from_itself_is_refused(self, finished: Result, tmp_path: Path):
        """A folder from elsewhere may name itself as the start."""
        shutil.copytree(finished.path, tmp_path / "run")
        stored = read_json(tmp_path / "run" / "experiment.json")
        stored["task"]["student"] = f"local-dir:{tmp_path / 'run' / 'student'}"
        write_json(tmp_path / "run" / "experiment.json", stored)
        found = history_in(tmp_path / "run")
        assert found is not None and found.reason == WEIGHTS

    def test_real_images_in_the_ledger_count(self):
        entry = Entry(source="photos", split="train", images=3, purpose="student training (pictures)")
        assert history_of(experiment(), Ledger([entry])).reason == REAL


class TestDuration:
    def test_a_quarter_of_a_run_is_a_fifth_of_the_whole(self):
        assert seconds_after(80) == pytest.approx(20)
        assert seconds_within(100) == pytest.approx(20)

    def test_never_more_than_a_minute(self):
        assert seconds_after(1e6) == 60
        assert seconds_within(math.inf) == 60


class TestKnownAccuracy:
    def test_it_is_that_of_a_trained_teacher(self, digits_teacher: Path):
        accuracy = known_accuracy(f"local-dir:{digits_teacher}")
        assert accuracy is not None
        assert 0.5 < accuracy <= 1

    @pytest.mark.parametrize("content", [{}, {"held_out": 7.0}, {"held_out": "x"}, []])
    def test_anything_else_is_not_known(self, tmp_path: Path, content: Any):
        assert known_accuracy("resnet18") is None
        write_json(tmp_path / "training.json", content)
        assert known_accuracy(str(tmp_path)) is None


@pytest.fixture(scope="module")
def finished(digits_teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A short run without real images."""
    return run(toys.experiment(digits_teacher), tmp_path_factory.mktemp("runs") / "run")


class TestAtTheEnd:
    def test_a_run_without_labelled_images_is_estimated(self, finished: Result):
        estimate = finished.summary["estimate"]
        assert estimate["word"] in ("good", "doubtful", "collapsed", "not estimated")
        assert estimate["sentence"]
        assert set(estimate) == set(not_estimated("x").as_dict())

    def test_its_time_is_listed_after_the_others(self, finished: Result):
        times = finished.summary["times"]
        assert list(times)[-1] == "estimate"
        assert times["estimate"] > 0

    def test_its_folder_knows_the_history(self, finished: Result, tmp_path: Path):
        for folder in (finished.path, finished.path / "student"):
            found = history_in(folder)
            assert found is not None
            assert (found.reason, found.method) == ("", toys.experiment(Path("x")).method)
        assert history_in(tmp_path) is None

    def test_a_run_with_labelled_images_is_not(self, teacher: Classifier):
        assert estimate_of(finished_setup(teacher, test=SimpleNamespace(labelled=True)), 10.0, None) is None

    @pytest.mark.parametrize("fault", [RuntimeError("out of\nmemory"), InputError("no pool"), ValueError()])
    def test_a_fault_in_a_pool_leaves_the_run_as_it_is(
        self, teacher, monkeypatch: pytest.MonkeyPatch, fault: Exception
    ):
        def fail(*_: Any, **__: Any) -> None:
            raise fault

        monkeypatch.setattr(at_end, "estimate", fail)
        found = estimate_of(finished_setup(teacher), 10.0, None)
        assert found is not None
        assert found.word == "not estimated"
        assert found.sentence.startswith("Retention was not estimated: a pool could not be made (")
        assert "\n" not in found.sentence

    def test_a_student_that_cannot_be_estimated_says_why(self, teacher):
        found = estimate_of(finished_setup(teacher, method=None), 10.0, None)
        assert found is not None
        assert REAL in found.sentence
