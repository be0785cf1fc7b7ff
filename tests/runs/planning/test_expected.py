"""What is said about the length of a run."""

from dataclasses import replace

import pytest
import toys

from datafree.applications.distillation import DistillationConfig
from datafree.classifier import Classifier
from datafree.methods import METHODS
from datafree.progress import Work
from datafree.runs.planning import work
from datafree.runs.planning.expected import networks, note_on_length
from datafree.runs.planning.timing import SynthesisTime
from datafree.synthesis import Method, Schedule


@pytest.mark.parametrize(
    ("synthesis", "student", "synthesizes", "note"),
    [
        (1800.0, 1800.0, True, ""),
        (None, None, True, ""),
        (
            82800.0,
            3600.0,
            True,
            "this run takes about 24 h: --budget 30m does the same with fewer images and steps",
        ),
        (
            600.0,
            6600.0,
            True,
            "this run takes about 2 h: --budget 30m does the same with fewer images and steps, and so does a lower --steps",
        ),
        (0.0, 7200.0, False, "this run takes about 2 h: lower --steps"),
    ],
)
def test_a_run_of_more_than_an_hour_says_how_to_shorten_it(
    synthesis: float | None, student: float | None, synthesizes: bool, note: str
):
    expected = Work(steps=10, synthesis_seconds=synthesis, student_seconds=student)
    assert note_on_length(expected, synthesizes=synthesizes) == note


def test_selection_makes_the_steps_of_the_student_longer(
    teacher: Classifier, student: Classifier, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(work, "expected_cost", lambda *_: (0.0, 40.0, 0))
    cheap = toys.TINY["noise"]
    plain, selecting = (
        work.work_of(cheap, Schedule(), 10, teacher, student, passes=DistillationConfig(select=select).passes)
        for select in (1, 2)
    )
    assert (plain.student_seconds, selecting.student_seconds) == (40.0, 70.0)


def test_the_time_to_the_end_is_said(teacher: Classifier, student: Classifier):
    expected = Work(steps=10, synthesis_seconds=10.0, student_seconds=20.0, bytes=0)
    assert ", about 30 s and " in networks(teacher, student, expected)
    assert ", about 42 s and " in networks(teacher, student, expected, closing=12.0)


class TestGenerators:
    def seconds(self, method: Method, teacher: Classifier, student: Classifier, steps: int = 10) -> float:
        return work.seconds_of_generator(method, Schedule(refresh_every=2), steps, teacher, student)

    def test_their_measured_time_counts_besides_the_passes(
        self, teacher: Classifier, student: Classifier, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(work, "time_synthesis", lambda *_: SynthesisTime(1000.0))
        # Five batches: the first, and one after every second of ten steps.
        found = self.seconds(toys.TINY["dafl"], teacher, student)
        assert 4900 < found <= 5000
        assert work.work_of(toys.TINY["dafl"], Schedule(refresh_every=2), 10, teacher, student).synthesis_seconds > 4900  # type: ignore[operator]

    def test_steps_of_a_new_generator_count_too(
        self, teacher: Classifier, student: Classifier, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(work, "time_synthesis", lambda *_: SynthesisTime(1000.0))
        fresh = replace(toys.TINY["group-stack"], discard_first=20, reset_every=0)
        # Five batches, and the steps of twenty more.
        assert 24_000 < self.seconds(fresh, teacher, student) <= 25_000

    def test_other_methods_are_not_measured(
        self, teacher: Classifier, student: Classifier, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(work, "time_synthesis", lambda *_: pytest.fail("measured"))
        assert not self.seconds(toys.TINY["deep-inversion"], teacher, student)
        assert not self.seconds(toys.TINY["noise"], teacher, student)
        assert not self.seconds(toys.TINY["dafl"], teacher, student, steps=0)

    def test_a_student_of_other_classes_is_not_asked(self, teacher: Classifier, student: Classifier):
        other = Classifier(student.model, shape=student.shape, classes=len(student.classes) + 1)
        assert METHODS["fast"].adaptive
        assert not self.seconds(replace(toys.TINY["fast"], adversary=1.0), teacher, other)
