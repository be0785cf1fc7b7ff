"""Families: which pools a teacher has, and which are left out for a student."""

from dataclasses import replace

import pytest
import toys

from datafree.classifier import Classifier
from datafree.estimation.families import FAMILIES, families_of, is_known, parts_of, sources, without
from datafree.methods import METHODS
from datafree.methods.pictures import PicturesConfig
from datafree.synthesis import Method
from datafree.synthesis.mixture import Mixture, Part
from datafree.synthesis.turns import PerTeacher, WithOthers

OWN = {
    "noise": set(),
    "deep-dream": {"deep-dream"},
    "deep-inversion": {"deep-inversion"},
    "adi": {"deep-inversion"},
    "refine": {"deep-inversion", "procedural"},
    "dafl": {"dafl"},
    "dafl-authors": {"dafl"},
    "zskd": {"zskd"},
    "group-stack": {"dafl", "fast"},
    "fast": {"fast"},
    "procedural": {"procedural"},
}


def mixture(*names: str) -> Mixture:
    return Mixture(parts=tuple(Part(name=name, method=METHODS[name], share=1) for name in names))


@pytest.mark.parametrize("name", METHODS)
def test_each_method_has_its_families(name: str):
    assert families_of(METHODS[name]) == OWN[name]
    assert is_known(METHODS[name])


def test_a_mixture_has_the_families_of_all_parts():
    method = mixture("fast", "refine", "noise")
    assert families_of(method) == {"fast", "deep-inversion", "procedural"}
    assert [type(part) for part in parts_of(method)] == [type(METHODS[name]) for name in ("fast", "refine", "noise")]


@pytest.mark.parametrize(
    "wrap", [lambda m: PerTeacher(method=m, origin=False), lambda m: WithOthers(method=m, others=0.2)]
)
def test_a_method_that_takes_turns_has_the_families_of_its_method(wrap):
    assert families_of(wrap(METHODS["zskd"])) == {"zskd"}
    assert families_of(wrap(mixture("zskd", "dafl"))) == {"zskd", "dafl"}


def test_robust_inversion_is_a_family_of_its_own():
    assert families_of(replace(METHODS["deep-dream"], robust=3.0)) == {"deep-dream", "robust"}


def test_real_images_and_pictures_have_none():
    assert families_of(None) == frozenset()
    assert families_of(PicturesConfig(images="x")) == frozenset()


def test_a_method_of_a_third_party_is_not_known(teacher: Classifier):
    class Own(type(METHODS["noise"]).__mro__[1]):  # the base of all methods
        paper = "none"
        schedule = passes = None

        def build(self, teacher: Classifier):
            raise NotImplementedError

    assert not is_known(Own())
    assert is_known(METHODS["zskd"])


def test_procedural_pictures_are_used_if_fewer_than_two_other_families_are_left():
    every = dict.fromkeys(("procedural", "robust", "zskd", "dafl"), 1)
    assert list(without(every, frozenset())) == ["robust", "zskd", "dafl"]
    assert list(without(every, frozenset({"zskd"}))) == ["robust", "dafl"]
    assert list(without(every, frozenset({"zskd", "dafl"}))) == ["procedural", "robust"]


class TestSources:
    def test_a_teacher_with_batch_norm_has_all_families(self, teacher: Classifier):
        assert tuple(sources(teacher)) == FAMILIES

    def test_one_without_has_no_deep_inversion(self, plain_teacher: Classifier):
        assert set(FAMILIES) - set(sources(plain_teacher)) == {"deep-inversion"}

    def test_one_without_gradients_has_procedural_pictures_only(self, teacher: Classifier):
        opaque = toys.classifier(toys.BlackBox(teacher))
        opaque.model.differentiable = False
        assert tuple(sources(opaque)) == ("procedural",)

    def test_no_source_uses_the_student(self, teacher: Classifier):
        methods: list[Method] = [source.method for each in sources(teacher).values() for source in each]
        assert not any(method.adaptive for method in methods)

    def test_each_family_is_that_of_its_methods(self, teacher: Classifier):
        for name, each in sources(teacher).items():
            assert all(name in families_of(source.method) for source in each)

    def test_a_generator_that_does_not_fit_the_images_is_left_out(self):
        from datafree import teachers

        odd = teachers.create("convnet_w16", shape=(1, 14, 14)).eval()
        assert not {"dafl", "fast"} & set(sources(odd))
        assert {"zskd", "robust", "procedural"} <= set(sources(odd))
