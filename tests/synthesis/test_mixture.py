"""Mixtures: counts by hand, one pool for each part, resumption at any point, composition with every application."""

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
import toys
from torch import nn

from datafree.applications import APPLICATIONS
from datafree.callback import Callback
from datafree.classifier import Classifier
from datafree.ensemble import Ensemble
from datafree.methods import METHODS
from datafree.methods.noise import NoiseConfig
from datafree.synthesis import Schedule, Stream, Synthesizer
from datafree.synthesis.mixture import Mixture, Part, join, next_counts, of_each_part
from datafree.synthesis.turns import PerTeacher
from datafree.types import Batch, InputError

INVERSION = replace(METHODS["deep-inversion"], batch_size=8, steps=(3,))
TWO = Mixture(
    parts=(
        Part(name="noise", method=toys.TINY["noise"], share=0.75),
        Part(
            name="inversion",
            method=INVERSION,
            share=0.25,
            schedule=Schedule(warmup_batches=2, refresh_every=3, pool_batches=3),
        ),
    ),
    batch_size=8,
)
ADAPTIVE = Mixture(
    parts=(
        Part(name="adi", method=toys.TINY["adi"], share=0.5, schedule=Schedule(refresh_every=2, pool_batches=2)),
        Part(name="fast", method=toys.TINY["fast"], share=0.25, schedule=Schedule(refresh_every=2, pool_batches=2)),
        Part(name="zskd", method=toys.TINY["zskd"], share=0.25, schedule=Schedule(refresh_every=0)),
    ),
    batch_size=8,
)


class Recorder(Callback):
    """Keeps what the loop reports."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, int, int]] = []

    def on_batch(self, batch: Batch, count: int, due: int) -> None:
        self.batches.append((batch.part, count, len(batch)))


class Killed(Exception):
    """The process ends here."""


class Killer(Callback):
    """Saves a stream at a point of its work, and ends it there."""

    def __init__(self, point: int) -> None:
        self.left = point
        self.stream: Stream | None = None
        self.saved: dict[str, Any] = {}

    def _count(self) -> None:
        self.left -= 1
        if self.left == 0:
            assert self.stream is not None
            self.saved = copy.deepcopy(self.stream.state_dict())
            raise Killed

    def on_step(self) -> None:
        self._count()

    def on_batch(self, batch: Batch, count: int, due: int) -> None:
        self._count()


def test_counts_by_hand():
    drawn, counts = [0, 0], []
    for _ in range(4):
        counts.append(next_counts([0.7, 0.3], drawn, 5))
        drawn = [a + b for a, b in zip(drawn, counts[-1], strict=True)]
    assert counts == [[4, 1], [3, 2], [4, 1], [3, 2]]
    assert drawn == [14, 6]


@pytest.mark.parametrize("shares", [(0.5, 0.3, 0.2), (0.9, 0.05, 0.05), (1 / 3, 1 / 3, 1 / 3), (0.97, 0.03)])
@pytest.mark.parametrize("size", [1, 3, 128])
def test_counts_keep_the_shares(shares: tuple[float, ...], size: int):
    drawn = [0] * len(shares)
    for step in range(1, 60):
        counts = next_counts(shares, drawn, size)
        assert sum(counts) == size and min(counts) >= 0
        drawn = [a + b for a, b in zip(drawn, counts, strict=True)]
        assert all(abs(n - share * size * step) < 1 + 1e-6 for n, share in zip(drawn, shares, strict=True))


def test_each_part_has_its_schedule_and_its_pool(teacher: Classifier):
    recorder = Recorder()
    stream = Stream.of(TWO, teacher, callback=recorder)
    for _ in range(7):
        assert len(next(stream)) == 8
    assert isinstance(stream.synthesizer, Synthesizer)
    assert [entry for entry in recorder.batches if entry[0] == "noise"] == [("noise", n, 8) for n in range(1, 8)]
    assert [entry for entry in recorder.batches if entry[0] == "inversion"] == [
        ("inversion", n, 8) for n in range(1, 5)
    ]
    streams: dict[str, Stream] = stream.synthesizer.streams  # type: ignore[attr-defined]
    assert {name: len(part.pool) for name, part in streams.items()} == {"noise": 8, "inversion": 24}
    assert stream.synthesizer.state_dict()["drawn"] == [42, 14]


def test_images_come_from_the_parts_in_their_shares(teacher: Classifier):
    stream = Stream.of(TWO, teacher)
    batch = next(stream)
    parts: dict[str, Stream] = stream.synthesizer.streams  # type: ignore[attr-defined]
    found = {
        name: sum(any(torch.equal(image, other) for other in part.pool.all().images) for image in batch.images)
        for name, part in parts.items()
    }
    assert found == {"noise": 6, "inversion": 2}
    assert batch.teacher_logits is None and batch.targets.shape == (8,)


def test_a_pool_smaller_than_its_share_is_drawn_with_repetitions(teacher: Classifier):
    small = replace(
        TWO.parts[1], method=replace(INVERSION, batch_size=1), schedule=Schedule(refresh_every=0), share=9.0
    )
    assert len(next(Stream.of(replace(TWO, parts=(TWO.parts[0], small)), teacher))) == 8


@pytest.mark.parametrize(
    ("mixture", "every"),
    [(TWO, 1), (ADAPTIVE, 5), pytest.param(ADAPTIVE, 1, marks=pytest.mark.slow)],
    ids=["two", "adaptive", "adaptive, at every point"],
)
def test_a_mixture_killed_at_any_point_continues_identically(
    mixture: Mixture, every: int, teacher: Classifier, student: Classifier
):
    def stream(callback: Callback) -> Stream:
        torch.manual_seed(3)
        return Stream.of(mixture, teacher, student, callback=callback)

    whole = stream(Recorder())
    expected = [next(whole) for _ in range(4)]
    point = 0
    for point in range(1, 1000, every):
        killer = Killer(point)
        killer.stream = interrupted = stream(killer)
        done = 0
        try:
            for _ in range(4):
                next(interrupted)
                done += 1
        except Killed:
            pass
        else:
            break
        restored = stream(Recorder())
        restored.load_state_dict(killer.saved)
        for batch in expected[done:]:
            again = next(restored)
            assert torch.equal(again.images, batch.images) and torch.equal(again.targets, batch.targets)
    assert point > 10


@pytest.mark.parametrize("name", APPLICATIONS)
def test_feeds_every_application(name: str, teacher: Classifier, student: Classifier):
    application: Any = replace(APPLICATIONS[name], steps=4)  # type: ignore[type-var]
    learner, seen, more = toys.application_inputs(name, teacher, student)
    before = toys.snapshot(teacher)
    result = application.build()(learner, teacher, Stream.of(ADAPTIVE, teacher, seen), **more)
    assert result(torch.rand(2, *toys.SHAPE)).isfinite().all()
    assert toys.same(toys.snapshot(teacher), before)


def test_feeds_an_amalgamation_of_several_teachers(teacher: Classifier):
    other = copy.deepcopy(teacher)
    other.classes = ("a", "b", "c", "d")
    ensemble = Ensemble([teacher, other]).eval()
    mixture = of_each_part(TWO, lambda method: PerTeacher(method=method, origin=True))
    batch = next(Stream.of(mixture, ensemble))
    assert batch.teacher_logits is not None and batch.teacher_logits.shape == (8, 8)
    assert batch.targets.max() < 8


def test_adaptive_parts_see_the_student_after_its_first_step(teacher: Classifier, student: Classifier):
    seen: list[nn.Module | None] = []

    class Spy(Synthesizer):
        def synthesize(self, student: nn.Module | None = None) -> Batch:
            seen.append(student)
            return Batch(torch.rand(8, *toys.SHAPE), torch.zeros(8, dtype=torch.long), {})

    stream = Stream.of(TWO, teacher, student)
    stream.synthesizer.streams["noise"].synthesizer = Spy()  # type: ignore[attr-defined]
    for _ in range(3):
        next(stream)
    assert seen == [None, student, student]


class TestProperties:
    def test_they_are_those_of_the_parts(self):
        assert ADAPTIVE.adaptive and not TWO.adaptive
        assert set(ADAPTIVE.needs) == {need for part in ADAPTIVE.parts for need in part.method.needs}
        assert TWO.passes == pytest.approx(0.25 * INVERSION.passes)
        assert TWO.label == "noise:0.75,inversion:0.25"
        assert TWO.schedule == Schedule(batch_size=8)

    def test_the_largest_part_prescribes_the_training(self):
        zskd = Part(name="zskd", method=METHODS["zskd"], share=2.0)
        assert replace(TWO, parts=(*TWO.parts, zskd)).distillation == METHODS["zskd"].distillation
        assert replace(TWO, parts=(*TWO.parts, replace(zskd, share=0.1))).distillation == {}

    def test_shares_that_do_not_sum_to_one_are_normalised_and_said(self, teacher: Classifier):
        mixture = replace(TWO, parts=(replace(TWO.parts[0], share=1.5), TWO.parts[1]))
        assert mixture.shares == pytest.approx((6 / 7, 1 / 7))
        assert mixture.build(teacher).notes[0] == (
            "the shares of the mixture sum to 1.75, not to 1: they are normalised to 0.857 and 0.143"
        )
        assert not TWO.build(teacher).notes

    def test_a_share_of_less_than_an_image_of_a_batch_is_said(self, teacher: Classifier):
        mixture = replace(TWO, parts=(TWO.parts[0], replace(TWO.parts[1], share=1e-3 * TWO.parts[0].share)))
        name = TWO.parts[1].name
        assert f"{name} gives only one of 1,001 images; give it a larger share" in mixture.build(teacher).notes

    def test_notes_name_the_part(self, teacher: Classifier):
        class Noted(NoiseConfig):
            def build(self, teacher: Classifier) -> Any:
                synthesizer: Any = super().build(teacher)
                type(synthesizer).notes = ("something",)
                return synthesizer

        original = Synthesizer.notes
        mixture = replace(TWO, parts=(Part(name="noted", method=Noted(batch_size=8), share=0.75), TWO.parts[1]))
        synthesizer = mixture.build(teacher)
        noise = type(synthesizer.streams["noted"].synthesizer)
        try:
            assert synthesizer.notes == ("noted: something",)
        finally:
            noise.notes = original  # type: ignore[method-assign]


class TestRefusals:
    def test_a_teacher_that_lacks_something_names_the_part(self, plain_teacher: Classifier):
        with pytest.raises(InputError, match=r"no batch-norm statistics \(needed by inversion\)"):
            TWO.build(plain_teacher)

    def test_a_method_that_refuses_the_teacher_is_named(self, teacher: Classifier):
        parts = (TWO.parts[0], Part(name="deep", method=replace(INVERSION, steps=(3, 3, 3, 3, 3)), share=1.0))
        with pytest.raises(InputError, match="deep in the mixture: "):
            replace(TWO, parts=parts).build(teacher)

    @pytest.mark.parametrize("share", [0.0, -1.0, float("inf"), float("nan")])
    def test_a_share_that_is_not_above_zero(self, share: float):
        with pytest.raises(InputError, match=r"the share of noise is \S+, but it must be above 0"):
            replace(TWO.parts[0], share=share)

    def test_fewer_than_two_parts(self):
        with pytest.raises(InputError, match="a mixture needs two or more parts"):
            Mixture(parts=TWO.parts[:1])

    def test_a_name_twice(self):
        with pytest.raises(InputError, match="noise is twice in the mixture"):
            Mixture(parts=(TWO.parts[0], TWO.parts[0]))

    @pytest.mark.parametrize("name", ["", "a/b", "..", "-x", "a" * 41, "a b"])
    def test_a_name_that_is_no_plain_word(self, name: str):
        with pytest.raises(InputError, match="use letters, digits and dashes"):
            replace(TWO.parts[0], name=name)

    def test_a_mixture_in_a_mixture(self):
        with pytest.raises(InputError, match="inner is a mixture in a mixture; list its parts instead"):
            Part(name="inner", method=TWO, share=1.0)


def test_targets_of_two_kinds_become_soft_labels(teacher: Classifier):
    hard = Batch(torch.rand(2, *toys.SHAPE), torch.tensor([1, 3]), {})
    soft = Batch(torch.rand(1, *toys.SHAPE), torch.tensor([[0.25, 0.25, 0.5, 0.0]]), {})
    assert join([hard, soft], teacher).targets.tolist() == [[0, 1, 0, 0], [0, 0, 0, 1], [0.25, 0.25, 0.5, 0]]


def test_logits_are_kept_if_all_parts_have_them(teacher: Classifier):
    with_logits = Batch(torch.rand(1, *toys.SHAPE), torch.tensor([1]), {}, torch.ones(1, 4))
    assert join([with_logits, with_logits], teacher).teacher_logits is not None
    assert join([with_logits, replace(with_logits, teacher_logits=None)], teacher).teacher_logits is None
