"""The estimate of a student: what it says, what it refuses, and what it leaves alone."""

import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import toys
from torch import nn

from datafree import Estimate, InputError, estimate
from datafree.classifier import Classifier
from datafree.ensemble import Ensemble
from datafree.estimation import estimate as module
from datafree.estimation import planning
from datafree.estimation.agreement import Agreement
from datafree.estimation.estimate import Settings, named_method, pools_for
from datafree.estimation.families import Source, families_of
from datafree.estimation.planning import Speed, plan, seconds_for
from datafree.estimation.pools import Pool, is_fragile
from datafree.methods import METHODS
from datafree.types import Batch

QUICK = {"batch_size": 64, "steps": (5,), "jitter": 0}
FEW = {
    "robust": (Source(method=replace(METHODS["deep-dream"], robust=1.0, **QUICK)),),
    "zskd": (Source(method=replace(METHODS["zskd"], batch_size=64, steps=5)),),
    "deep-dream": (Source(method=replace(METHODS["deep-dream"], **QUICK)),),
}
"""three families that take no time"""


@pytest.fixture(autouse=True)
def few_families(monkeypatch: pytest.MonkeyPatch) -> None:
    """The teacher's decisions do not survive much on images of five steps, which has tests of its own."""
    monkeypatch.setattr(module, "sources", lambda teacher: FEW)
    monkeypatch.setattr(module, "is_fragile", lambda pools: False)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The pools of the teacher are made once for most tests."""
    return Settings(images=96, seconds=1e6, folder=tmp_path_factory.mktemp("estimates") / "pools")


@pytest.fixture
def empty(settings: Settings, tmp_path: Path) -> Settings:
    return replace(settings, folder=tmp_path / "pools")


class Fixed(nn.Module):
    """Always predicts one class."""

    def __init__(self, place: int, classes: int = 4) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.eye(classes)[place])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.logits.expand(len(images), -1)


class Without(nn.Module):
    """A teacher that never predicts one of its classes."""

    def __init__(self, teacher: Classifier, place: int) -> None:
        super().__init__()
        self.model, self.place = teacher.model, place

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = self.model(images).clone()
        logits[:, self.place] = -1e3
        return logits


class TestWords:
    def test_the_teacher_itself_is_good(self, teacher: Classifier, settings: Settings):
        found = estimate(teacher, teacher, method="noise", settings=settings, accuracy=0.98)
        assert isinstance(found, Estimate)
        assert (found.retention, found.word, found.often_overrated) == (pytest.approx(1), "good", False)
        assert found.accuracy == pytest.approx(0.98)
        assert found.lost_classes == []
        assert found.images == sum(found.pools.values()) == 3 * 96
        assert set(found.pools) == set(FEW)

    def test_a_student_that_predicts_one_class_has_collapsed_and_lost_the_others(self, teacher, settings: Settings):
        found = estimate(toys.classifier(Fixed(1)), teacher, method="noise", settings=settings)
        assert (found.word, found.often_overrated, found.accuracy) == ("collapsed", True, None)
        assert found.lost_classes == ["top", "left", "right"]
        assert "Classes top, left, right were lost." in found.sentence

    def test_a_lost_class_is_named(self, teacher: Classifier, settings: Settings):
        found = estimate(toys.classifier(Without(teacher, 2)), teacher, method="noise", settings=settings)
        assert found.lost_classes == ["left"]
        assert found.retention == pytest.approx(0.75, abs=0.08)

    def test_an_untrained_student_is_not_good(self, teacher: Classifier, settings: Settings):
        assert estimate(toys.conv_net(), teacher, method="noise", settings=settings).word != "good"


def test_agreement_on_the_own_kind_of_images_withholds_the_word_good(teacher: Classifier):
    found, counts = Agreement(0.95, (0.95,) * 4, 0.01, 500), {"images": 500, "pools": {"zskd": 500}}
    low, high = (module.judge(found, teacher, None, counts, own) for own in (0.8, 0.93))
    assert (low.word, low.own_agreement, low.retention) == ("doubtful", 0.8, 0.95)
    assert "agrees with its teacher on only 80 % of the kind of images that it was trained on." in low.sentence
    assert high.word == "good" and "trained on" not in high.sentence


class TestFamilies:
    def test_networks_in_float64_are_judged_in_single_precision(self, teacher: Classifier, settings: Settings):
        doubles = deepcopy(teacher).double()
        assert estimate(doubles, teacher, method="fast", settings=settings).retention == pytest.approx(
            estimate(teacher, teacher, method="fast", settings=settings).retention
        )
        assert {weight.dtype for weight in doubles.parameters()} == {torch.float64}

    def test_the_students_own_family_is_left_out(self, teacher: Classifier, settings: Settings):
        assert "zskd" not in estimate(teacher, teacher, method="zskd", settings=settings).pools
        found = estimate(teacher, teacher, method=METHODS["deep-dream"], settings=settings)
        assert set(found.pools) == {"robust", "zskd"}

    def test_the_students_own_family_is_measured_apart(self, teacher: Classifier, settings: Settings):
        known = module.families_for(teacher)
        own = module.own_pools(teacher, known, frozenset({"zskd", "unknown"}), settings, time.monotonic())
        assert set(own) == {"zskd"}
        assert module.own_pools(teacher, known, frozenset(), settings, time.monotonic()) == {}

    def test_names_are_those_of_a_mixture(self):
        method = named_method("zskd:0.5, fast:0.5")
        assert method is not None
        assert families_of(method) == {"zskd", "fast"}
        with pytest.raises(InputError, match="did you mean zskd"):
            named_method("zskdd")

    def test_a_method_that_is_not_known_is_said(self, teacher: Classifier, settings: Settings, monkeypatch):
        monkeypatch.setattr(module, "is_known", lambda method: False)
        assert "could not be left out" in estimate(teacher, teacher, method="noise", settings=settings).sentence


def stable_pool(share: float) -> Pool:
    """Return a pool of ten images and their copies; on a share of the ten, nine perturbations keep the decision."""
    kept = torch.tensor([9] * round(10 * share) + [8] * round(10 * (1 - share)) + [10] * 20)
    return Pool(torch.zeros(30, *toys.SHAPE, dtype=torch.uint8), torch.zeros(30, dtype=torch.int64), kept)


def seen_by(seen: list[set[str]]) -> Callable[[dict[str, Pool]], bool]:
    """Return a rule that keeps the names of the pools it is given, and finds no fault in them."""

    def rule(pools: dict[str, Pool]) -> bool:
        seen.append(set(pools))
        return False

    return rule


class TestRefusals:
    def test_a_student_of_real_images(self, teacher: Classifier, settings: Settings):
        found = estimate(teacher, teacher, method=None, settings=settings)
        assert (found.word, found.retention) == ("not estimated", None)
        assert "saw real images" in found.sentence

    def test_several_labels(self, teacher: Classifier, settings: Settings):
        both = toys.classifier(teacher.model)
        both.multi_label = True
        assert "several labels" in estimate(both, both, method="noise", settings=settings).sentence

    def test_too_few_images_or_families(self, teacher: Classifier, settings: Settings):
        found = estimate(teacher, teacher, method="noise", settings=replace(settings, images=32, cache="off"))
        assert found.word == "not estimated"
        assert "of 3 families are too few" in found.sentence
        one = estimate(teacher, teacher, method="zskd,deep-dream", settings=settings)
        assert "of 1 family are too few" in one.sentence

    def test_a_teacher_whose_decisions_are_fragile(self, teacher: Classifier, settings: Settings, monkeypatch):
        monkeypatch.setattr(module, "is_fragile", lambda pools: True)
        found = estimate(teacher, teacher, method="noise", settings=settings)
        assert found.word == "not estimated"
        assert "do not survive small changes" in found.sentence

    @pytest.mark.parametrize(
        ("pools", "fragile"),
        [
            ({"robust": 0.5, "procedural": 0.9, "deep-dream": 1.0}, True),
            ({"robust": 0.6, "procedural": 0.0, "deep-dream": 0.0}, False),
            ({"procedural": 0.1, "deep-dream": 1.0}, True),
            ({"procedural": 0.2, "deep-dream": 0.0}, False),
            ({"deep-dream": 0.0}, False),
        ],
    )
    def test_robust_images_decide_that_or_else_procedural_pictures(self, pools: dict[str, float], fragile: bool):
        assert is_fragile({name: stable_pool(share) for name, share in pools.items()}) is fragile

    def test_procedural_pictures_are_made_if_they_have_to_decide(
        self, teacher: Classifier, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ):
        """They are not among the pools that are compared."""
        seen: list[set[str]] = []
        procedural = Source(method=replace(METHODS["procedural"], batch_size=64))
        monkeypatch.setattr(module, "sources", lambda teacher: FEW | {"procedural": (procedural,), "fast": FEW["zskd"]})
        monkeypatch.setattr(module, "is_fragile", seen_by(seen))
        robust = replace(METHODS["deep-dream"], robust=1.0)
        found = estimate(teacher, teacher, method=robust, settings=replace(settings, images=128, cache="off"))
        estimate(teacher, teacher, method="noise", settings=settings)
        assert "procedural" in seen[0]
        assert "robust" not in seen[0]
        assert "procedural" not in seen[1]
        assert set(found.pools) == {"zskd", "fast"}

    def test_other_classes(self, teacher: Classifier, settings: Settings):
        other = toys.conv_net()
        other.classes = ("a", "b", "c", "d")
        with pytest.raises(InputError, match="different classes"):
            estimate(other, teacher, method="noise", settings=settings)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"images": 0}, "images is 0"),
            ({"seconds": -1}, "seconds is -1"),
            ({"seed": -1}, "seed is -1"),
        ],
    )
    def test_invalid_settings(self, changes, message: str):
        with pytest.raises(InputError, match=message):
            Settings(**changes)


class TestClasses:
    def test_further_classes_of_the_student_are_not_judged(self, teacher: Classifier, settings: Settings):
        """The student has a fifth class, which it never predicts, and another order."""
        order = [3, 1, 0, 2]
        network = nn.Sequential(teacher.model, _Reordered(order))
        wide = Classifier(
            network,
            shape=toys.SHAPE,
            classes=(*(toys.CLASSES[place] for place in order), "new"),
            mean=(0.4,),
            std=(0.3,),
        ).eval()
        assert estimate(wide, teacher, method="noise", settings=settings).retention == pytest.approx(1)

    def test_images_are_resized_for_the_student(self, teacher: Classifier, settings: Settings):
        large = Classifier(Fixed(0), shape=(1, 12, 12), classes=toys.CLASSES).eval()
        assert estimate(large, teacher, method="noise", settings=settings).word == "collapsed"


class _Reordered(nn.Module):
    def __init__(self, order: list[int]) -> None:
        super().__init__()
        self.order = order

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        return torch.cat([logits[:, self.order], logits.new_full((len(logits), 1), -1e3)], 1)


class TestNothingIsChanged:
    def test_networks_and_random_state(self, teacher: Classifier, settings: Settings):
        student = toys.conv_net()
        student.train()
        before, state = (toys.snapshot(teacher), toys.snapshot(student)), torch.get_rng_state()
        estimate(student, teacher, method="noise", settings=settings)
        assert toys.same((toys.snapshot(teacher), toys.snapshot(student)), before)
        assert torch.equal(torch.get_rng_state(), state)

    def test_equal_seeds_give_equal_estimates(self, teacher: Classifier, settings: Settings):
        student, off = toys.conv_net(), replace(settings, images=80, cache="off")
        first = estimate(student, teacher, method="noise", settings=off)
        torch.manual_seed(77)
        assert estimate(student, teacher, method="noise", settings=off) == first
        assert estimate(student, teacher, method="noise", settings=replace(off, seed=1)) != first

    def test_a_pool_does_not_depend_on_the_other_families(self, teacher: Classifier, settings: Settings):
        off = replace(settings, images=32, cache="off")
        every, some = pools_for(teacher, FEW, off), pools_for(teacher, {"zskd": FEW["zskd"]}, off)
        assert torch.equal(every["zskd"].images, some["zskd"].images)


class TestCache:
    def test_stored_pools_are_used_again(self, teacher: Classifier, settings: Settings, monkeypatch):
        first = estimate(teacher, teacher, method="noise", settings=settings)
        monkeypatch.setattr(module, "new_pool", lambda *_: pytest.fail("a pool was made again"))
        assert estimate(teacher, teacher, method="noise", settings=settings) == first
        assert estimate(teacher, teacher, method="noise", settings=replace(settings, seconds=0.0)) == first

    def test_a_small_pool_is_replaced_by_a_larger_one(self, teacher: Classifier, empty: Settings):
        for images in (32, 96, 64):
            found = estimate(teacher, teacher, method="noise", settings=replace(empty, images=images))
        assert set(found.pools.values()) == {96}

    def test_renew_makes_them_again_and_off_stores_nothing(self, teacher: Classifier, empty: Settings, monkeypatch):
        made: list[str] = []
        make = module.new_pool
        monkeypatch.setattr(module, "new_pool", lambda name, *rest: made.append(name) or make(name, *rest))
        for cache in ("off", "use", "renew", "use"):
            pools_for(teacher, FEW, replace(empty, images=32, cache=cache))
        assert made == [*FEW] * 3
        assert empty.folder is not None
        assert len(list(empty.folder.rglob("*.safetensors"))) == 3

    def test_without_time_there_are_no_new_pools(self, teacher: Classifier, empty: Settings):
        assert pools_for(teacher, FEW, replace(empty, seconds=0.0)) == {}


class TestRealPictures:
    def test_the_agreement_is_said_besides(self, teacher: Classifier, settings: Settings, bars: Batch):
        found = estimate(teacher, teacher, method="noise", settings=settings, real=[bars])
        assert (found.real_agreement, found.real_images) == (1.0, 256)
        assert found.sentence.endswith("On 256 real pictures, both predict the same for 100.0 %.")


class TestPlan:
    families = {
        "procedural": (Source(method=METHODS["procedural"]),),
        "zskd": FEW["zskd"],
        "dafl": (Source(method=METHODS["dafl"], taken=64, first=100),),
    }
    speed = Speed(1e-5, 3e-5)

    def whole(self) -> float:
        return sum(seconds_for(each, 192, self.speed) for each in self.families.values())

    def test_with_enough_time_all_are_whole(self):
        assert plan(self.families, self.speed, self.whole() * 1.01, 192) == dict.fromkeys(self.families, 192)

    def test_with_less_the_generator_goes_first(self):
        found = plan(self.families, self.speed, self.whole() * 0.5, 192)
        assert "dafl" not in found

    def test_counts_are_multiples_and_fit_the_time(self):
        cheap = {name: self.families[name] for name in ("procedural", "zskd")}
        total = sum(seconds_for(each, 192, self.speed) for each in cheap.values())
        found = plan(cheap, self.speed, total * 0.6, 192)
        assert set(found.values()) == {96}
        spent = sum(seconds_for(each, found[name], self.speed) for name, each in cheap.items())
        assert spent <= total * 0.6

    def test_without_time_nothing_is_planned(self):
        assert plan(self.families, self.speed, 1e-9, 192) == {}

    def test_a_slow_pool_lowers_the_speed_and_a_fast_one_does_not_raise_it(self):
        slower = self.speed.corrected(3.0, 1.0)
        assert (slower.forward, slower.both) == (pytest.approx(3e-5), pytest.approx(9e-5))
        assert self.speed.corrected(0.1, 1.0) == self.speed

    def test_the_speed_is_measured_without_a_random_number(self, teacher: Classifier):
        state = torch.get_rng_state()
        speed = planning.measure_speed(teacher)
        assert 0 < speed.forward < 1
        assert 0 < speed.both < 1
        assert torch.equal(torch.get_rng_state(), state)


def test_a_good_student_of_several_teachers_is_often_overrated(teacher: Classifier):
    """On the benchmark such students are overrated."""
    found, counts = Agreement(0.95, (0.95,) * 4, 0.01, 500), {"images": 500, "pools": {"zskd": 500}}
    one, several = (module.judge(found, each, None, counts) for each in (teacher, Ensemble([teacher, toys.conv_net()])))
    assert (one.often_overrated, several.often_overrated) == (False, True)
    said = " Such students are overrated more often than underrated."
    assert not one.sentence.endswith(said) and several.sentence.endswith(said)
