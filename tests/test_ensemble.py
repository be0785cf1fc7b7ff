"""Several teachers as one classifier: how their labels and logits are merged, and how the gates weigh them."""

from collections.abc import Callable

import pytest
import torch
import toys
from torch import nn

from datafree.classifier import Classifier
from datafree.ensemble import EXCLUDED_LOGIT, Ensemble, SingleTeacher
from datafree.losses import distillation_loss
from datafree.types import InputError


class Constant(nn.Module):
    """Returns the same logits for every image, with a gradient."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.logits + 0 * x.flatten(1).mean(1, keepdim=True)


def teacher(classes: str, *logits: float, shape: tuple[int, int, int] = (1, 2, 2), **settings: object) -> Classifier:
    return Classifier(Constant(*logits), shape=shape, classes=tuple(classes), **settings)  # type: ignore[arg-type]


IMAGES = torch.rand(3, 1, 2, 2)
AB = teacher("ab", 1.0, 2.0)


def test_class_weights_of_a_single_teacher_follow_the_labels():
    one = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), shape=(1, 2, 2), classes=tuple("abc"))
    weights = one.class_weights()
    assert weights is not None
    assert torch.equal(Ensemble([one], ("c", "a")).class_weights(), weights[[2, 0]])  # type: ignore[arg-type]
    assert Ensemble([one, AB], ("c", "a", "b")).class_weights() is None


def test_energy_puts_logits_side_by_side():
    ensemble = Ensemble([teacher("ab", 1.0, 2.0), teacher("cd", 3.0, 4.0)], gate="energy")
    assert ensemble.classes == ("a", "b", "c", "d")
    assert ensemble(IMAGES)[0].tolist() == [1.0, 2.0, 3.0, 4.0]


def test_centred_subtracts_the_mean_logit_of_each_teacher():
    ensemble = Ensemble([teacher("ab", 1.0, 2.0), teacher("cde", 3.0, 4.0, 8.0)])
    assert ensemble.gate == "centred"
    assert ensemble(IMAGES)[0].tolist() == [-0.5, 0.5, -2.0, -1.0, 3.0]


@pytest.mark.parametrize("gate", ["centred", "energy", "entropy", "even"])
def test_a_single_teacher_is_unchanged_by_the_gate(gate: str):
    assert torch.equal(Ensemble([AB], gate=gate)(IMAGES), AB(IMAGES))


def test_centred_ignores_a_constant_added_to_the_logits():
    low, high = teacher("ab", 1.0, 2.0), teacher("ab", 101.0, 102.0)
    other = teacher("cd", 3.0, 8.0)
    assert torch.equal(Ensemble([low, other])(IMAGES), Ensemble([high, other])(IMAGES))
    assert not torch.equal(
        Ensemble([low, other], gate="energy")(IMAGES), Ensemble([high, other], gate="energy")(IMAGES)
    )


def test_even_gives_each_teacher_the_same_probability():
    ensemble = Ensemble([teacher("ab", 9.0, 0.0), teacher("cd", 0.0, 0.0)], gate="even")
    shares = ensemble(IMAGES)[0].softmax(0)
    assert shares[:2].sum().item() == pytest.approx(0.5)


def test_entropy_prefers_the_teacher_of_lower_entropy():
    confident, uncertain = teacher("ab", 5.0, -5.0), teacher("cd", 0.0, 0.0)
    ensemble = Ensemble([confident, uncertain], gate="entropy")
    by_hand = torch.tensor(0.5).log() - 5 * torch.tensor(2.0).log()
    assert ensemble(IMAGES)[0, 2].item() == pytest.approx(by_hand.item(), abs=1e-5)
    assert ensemble(IMAGES)[0].softmax(0)[0].item() > 0.9


def test_chosen_labels_keep_their_order():
    ensemble = Ensemble([teacher("ab", 1.0, 2.0), teacher("cd", 3.0, 4.0)], labels=("d", "a"), gate="energy")
    assert ensemble.classes == ("d", "a")
    assert ensemble(IMAGES)[0].tolist() == [4.0, 1.0]


def test_a_shared_label_is_the_mean_of_both_teachers():
    ensemble = Ensemble([teacher("ab", 1.0, 2.0), teacher("bc", 4.0, 5.0)], gate="energy")
    assert ensemble.classes == ("a", "b", "c")
    assert ensemble(IMAGES)[0].tolist() == [1.0, 3.0, 5.0]


def test_multi_label_logits_are_kept():
    ensemble = Ensemble([teacher("ab", 1.0, -2.0, multi_label=True), teacher("c", 3.0, multi_label=True)])
    assert ensemble.multi_label
    assert ensemble(IMAGES)[0].tolist() == [1.0, -2.0, 3.0]


def test_a_single_label_teacher_among_multi_label_ones_keeps_its_probabilities():
    single = teacher("ab", 1.0, 0.0)
    ensemble = Ensemble([single, teacher("c", 3.0, multi_label=True)])
    probabilities = ensemble(IMAGES)[0].sigmoid()
    assert probabilities[:2].tolist() == pytest.approx(single(IMAGES)[0].softmax(0).tolist(), abs=1e-5)
    assert probabilities[2].item() == pytest.approx(torch.tensor(3.0).sigmoid().item())


def test_each_teacher_normalizes_pixels_itself():
    def brightness(mean: float) -> Classifier:
        names = (f"left over {mean}", f"right over {mean}")
        return Classifier(nn.Flatten(), shape=(1, 1, 2), classes=names, mean=(mean,))

    ensemble = Ensemble([brightness(0.25), brightness(0.75)], gate="energy")
    assert ensemble(torch.ones(1, 1, 1, 2)).tolist() == [[0.75, 0.75, 0.25, 0.25]]
    assert ensemble.mean.item() == 0.5


@pytest.mark.parametrize("make", [lambda one: Ensemble([one, one]), lambda one: SingleTeacher(one, one.classes)])
def test_it_is_on_the_device_of_its_teachers(make: Callable[[Classifier], Classifier], monkeypatch: pytest.MonkeyPatch):
    """`meta` stands for an accelerator that the teachers were moved to before."""
    one = toys.conv_net()
    monkeypatch.setattr(Classifier, "device", property(lambda self: torch.device("meta")))
    merged = make(one)
    assert {tensor.device.type for tensor in (*merged.parameters(), *merged.buffers())} == {"meta"}


def test_gradients_reach_the_images_through_every_teacher():
    images = torch.rand(2, *toys.SHAPE, requires_grad=True)
    other = Classifier(toys.conv_net().model, shape=toys.SHAPE, classes=("e", "f", "g", "h"))
    Ensemble([toys.plain_net(), other])(images).square().sum().backward()
    assert images.grad is not None and images.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("teachers", "settings", "match"),
    [
        ([], {}, "has no teachers"),
        ([AB, teacher("cd", 1.0, 2.0, shape=(3, 2, 2))], {}, "different input shapes"),
        ([AB, teacher("cd", 1.0, 2.0)], {"labels": ("a", "x")}, "no teacher knows the label 'x'"),
        ([AB, teacher("cd", 1.0, 2.0)], {"labels": ("a", "a")}, "given twice"),
        ([AB, teacher("cd", 1.0, 2.0)], {"gate": "energie"}, "did you mean energy"),
        ([AB, teacher("c", 1.0)], {}, "has a single class and always predicts it"),
    ],
)
def test_invalid_ensembles_are_an_error(teachers: list[Classifier], settings: dict[str, object], match: str):
    with pytest.raises(InputError, match=match):
        Ensemble(teachers, **settings)  # type: ignore[arg-type]


def test_a_single_teacher_excludes_the_labels_it_does_not_know():
    one = teacher("ab", 1.0, 2.0)
    single = SingleTeacher(one, ("c", "b", "a"))
    expected = one(IMAGES)[0].log_softmax(0).tolist()
    assert single(IMAGES)[0].tolist() == pytest.approx([EXCLUDED_LOGIT, expected[1], expected[0]])
    several = SingleTeacher(teacher("ab", 1.0, 2.0, multi_label=True), ("b", "c"))
    assert several(IMAGES)[0].tolist() == [2.0, EXCLUDED_LOGIT]


def test_the_entropy_gate_has_a_gradient_where_a_class_underflows():
    sure = teacher("ab", 0.0, -200.0)
    Ensemble([sure, AB], gate="entropy")(IMAGES).sum().backward()
    gradient = sure.model.logits.grad
    assert gradient is not None and gradient.isfinite().all()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("temperature", "dtype"),
    [(1.0, torch.float32), (4.0, torch.float32), (20.0, torch.float32), (500.0, torch.float32)]
    + [(temperature, dtype) for temperature in (1.0, 4.0) for dtype in (torch.bfloat16, torch.float16)],
)
@pytest.mark.parametrize("multi_label", [False, True])
def test_an_excluded_label_has_no_probability_at_any_temperature(
    temperature: float, multi_label: bool, dtype: torch.dtype
):
    single = SingleTeacher(teacher("ab", 3.0, -1.0, multi_label=multi_label), ("a", "c", "b"))
    logits = single(IMAGES).detach().to(dtype)
    assert logits.isfinite().all()
    assert (single.probabilities(logits / temperature)[:, 1] == 0).all()
    student = torch.randn(3, 3, dtype=dtype, requires_grad=True)
    loss = distillation_loss(single.decisions(student), single.decisions(logits), temperature)
    loss.backward()
    assert loss.isfinite() and student.grad is not None and student.grad.isfinite().all()


def test_a_single_teacher_returns_what_its_network_means():
    sure = teacher("ab", 0.25, 0.75)
    sure.outputs = "softmax"
    assert SingleTeacher(sure, ("b", "a"))(IMAGES)[0].exp().tolist() == pytest.approx([0.75, 0.25])
