"""Several teachers as one: whose answer goes where, and whom to believe."""

from collections.abc import Callable

import pytest
import torch
import toys
from torch import nn

from datafree.classifier import Classifier
from datafree.ensemble import NEVER, Ensemble, SingleTeacher
from datafree.types import InputError


class Says(nn.Module):
    """Answers the same whatever it sees, with a gradient."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.logits + 0 * x.flatten(1).mean(1, keepdim=True)


def teacher(classes: str, *logits: float, shape: tuple[int, int, int] = (1, 2, 2), **settings: object) -> Classifier:
    return Classifier(Says(*logits), shape=shape, classes=tuple(classes), **settings)  # type: ignore[arg-type]


IMAGES = torch.rand(3, 1, 2, 2)
AB = teacher("ab", 1.0, 2.0)


def test_class_weights_are_those_of_the_labels_wanted_of_a_single_teacher():
    one = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), shape=(1, 2, 2), classes=tuple("abc"))
    weights = one.class_weights()
    assert weights is not None
    assert torch.equal(Ensemble([one], ("c", "a")).class_weights(), weights[[2, 0]])  # type: ignore[arg-type]
    assert Ensemble([one, AB], ("c", "a", "b")).class_weights() is None


def test_energy_puts_logits_side_by_side():
    ensemble = Ensemble([teacher("ab", 1.0, 2.0), teacher("cd", 3.0, 4.0)], gate="energy")
    assert ensemble.classes == ("a", "b", "c", "d")
    assert ensemble(IMAGES)[0].tolist() == [1.0, 2.0, 3.0, 4.0]


def test_centred_takes_each_teachers_mean_away():
    ensemble = Ensemble([teacher("ab", 1.0, 2.0), teacher("cde", 3.0, 4.0, 8.0)])
    assert ensemble.gate == "centred"
    assert ensemble(IMAGES)[0].tolist() == [-0.5, 0.5, -2.0, -1.0, 3.0]


@pytest.mark.parametrize("gate", ["centred", "energy", "entropy", "even"])
def test_a_single_teacher_answers_as_it_does(gate: str):
    assert torch.equal(Ensemble([AB], gate=gate)(IMAGES), AB(IMAGES))


def test_centred_does_not_care_how_high_a_teacher_counts():
    low, high = teacher("ab", 1.0, 2.0), teacher("ab", 101.0, 102.0)
    other = teacher("cd", 3.0, 8.0)
    assert torch.equal(Ensemble([low, other])(IMAGES), Ensemble([high, other])(IMAGES))
    assert not torch.equal(
        Ensemble([low, other], gate="energy")(IMAGES), Ensemble([high, other], gate="energy")(IMAGES)
    )


def test_even_gives_each_teacher_the_same_say():
    ensemble = Ensemble([teacher("ab", 9.0, 0.0), teacher("cd", 0.0, 0.0)], gate="even")
    shares = ensemble(IMAGES)[0].softmax(0)
    assert shares[:2].sum().item() == pytest.approx(0.5)


def test_entropy_believes_who_is_in_less_doubt():
    sure, unsure = teacher("ab", 5.0, -5.0), teacher("cd", 0.0, 0.0)
    ensemble = Ensemble([sure, unsure], gate="entropy")
    by_hand = torch.tensor(0.5).log() - 5 * torch.tensor(2.0).log()
    assert ensemble(IMAGES)[0, 2].item() == pytest.approx(by_hand.item(), abs=1e-5)
    assert ensemble(IMAGES)[0].softmax(0)[0].item() > 0.9


def test_a_choice_of_labels_in_its_own_order():
    ensemble = Ensemble([teacher("ab", 1.0, 2.0), teacher("cd", 3.0, 4.0)], labels=("d", "a"), gate="energy")
    assert ensemble.classes == ("d", "a")
    assert ensemble(IMAGES)[0].tolist() == [4.0, 1.0]


def test_a_label_that_two_know_is_the_mean_of_both():
    ensemble = Ensemble([teacher("ab", 1.0, 2.0), teacher("bc", 4.0, 5.0)], gate="energy")
    assert ensemble.classes == ("a", "b", "c")
    assert ensemble(IMAGES)[0].tolist() == [1.0, 3.0, 5.0]


def test_several_labels_are_questions_of_their_own():
    ensemble = Ensemble([teacher("ab", 1.0, -2.0, multi_label=True), teacher("c", 3.0, multi_label=True)])
    assert ensemble.multi_label
    assert ensemble(IMAGES)[0].tolist() == [1.0, -2.0, 3.0]


def test_one_answer_among_several_labels_becomes_a_question_a_class():
    single = teacher("ab", 1.0, 0.0)
    ensemble = Ensemble([single, teacher("c", 3.0, multi_label=True)])
    probabilities = ensemble(IMAGES)[0].sigmoid()
    assert probabilities[:2].tolist() == pytest.approx(single(IMAGES)[0].softmax(0).tolist(), abs=1e-5)
    assert probabilities[2].item() == pytest.approx(torch.tensor(3.0).sigmoid().item())


def test_each_teacher_normalizes_pixels_in_its_own_way():
    def brightness(mean: float) -> Classifier:
        names = (f"left over {mean}", f"right over {mean}")
        return Classifier(nn.Flatten(), shape=(1, 1, 2), classes=names, mean=(mean,))

    ensemble = Ensemble([brightness(0.25), brightness(0.75)], gate="energy")
    assert ensemble(torch.ones(1, 1, 1, 2)).tolist() == [[0.75, 0.75, 0.25, 0.25]]
    assert ensemble.mean.item() == 0.5


@pytest.mark.parametrize("make", [lambda one: Ensemble([one, one]), lambda one: SingleTeacher(one, one.classes)])
def test_it_is_where_its_teachers_are(make: Callable[[Classifier], Classifier], monkeypatch: pytest.MonkeyPatch):
    """`meta` stands for an accelerator, to which the teachers were moved before they were united."""
    one = toys.conv_net()
    monkeypatch.setattr(Classifier, "device", property(lambda self: torch.device("meta")))
    united = make(one)
    assert {tensor.device.type for tensor in (*united.parameters(), *united.buffers())} == {"meta"}


def test_an_image_has_a_gradient_from_every_teacher():
    images = torch.rand(2, *toys.SHAPE, requires_grad=True)
    other = Classifier(toys.conv_net().model, shape=toys.SHAPE, classes=("e", "f", "g", "h"))
    Ensemble([toys.plain_net(), other])(images).square().sum().backward()
    assert images.grad is not None and images.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("teachers", "settings", "match"),
    [
        ([], {}, "has no teachers"),
        ([AB, teacher("cd", 1.0, 2.0, shape=(3, 2, 2))], {}, "different shapes"),
        ([AB, teacher("cd", 1.0, 2.0)], {"labels": ("a", "x")}, "no teacher knows the label 'x'"),
        ([AB, teacher("cd", 1.0, 2.0)], {"labels": ("a", "a")}, "wanted twice"),
        ([AB, teacher("cd", 1.0, 2.0)], {"gate": "energie"}, "did you mean energy"),
        ([AB, teacher("c", 1.0)], {}, "has one class and always answers it"),
    ],
)
def test_what_cannot_be_one_is_refused(teachers: list[Classifier], settings: dict[str, object], match: str):
    with pytest.raises(InputError, match=match):
        Ensemble(teachers, **settings)  # type: ignore[arg-type]


def test_one_teacher_alone_rules_out_what_it_does_not_know():
    one = teacher("ab", 1.0, 2.0)
    alone = SingleTeacher(one, ("c", "b", "a"))
    expected = one(IMAGES)[0].log_softmax(0).tolist()
    assert alone(IMAGES)[0].tolist() == pytest.approx([NEVER, expected[1], expected[0]])
    several = SingleTeacher(teacher("ab", 1.0, 2.0, multi_label=True), ("b", "c"))
    assert several(IMAGES)[0].tolist() == [2.0, NEVER]
