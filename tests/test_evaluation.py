"""Numbers about a network, checked on networks whose answers we write ourselves."""

import math
from io import StringIO

import pytest
import torch
import toys
from rich.console import Console
from torch import nn

from datafree.classifier import Classifier
from datafree.ensemble import Ensemble
from datafree.evaluation import calibration_error, crosscheck, diversity, evaluate, health, inception_score, measure
from datafree.runs.logger import shown
from datafree.types import Batch


def echo(classes: int = 4, scale: float = 1.0) -> Classifier:
    """Its logits are the pixels, times `scale`."""
    return Classifier(nn.Flatten(), shape=(1, 1, classes), classes=classes, std=(1 / scale,))


class Reversed(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1).flip(1)


def saying(answers: list[int], truths: list[int], classes: int = 4) -> Batch:
    """Images to which `echo` gives these answers."""
    images = nn.functional.one_hot(torch.tensor(answers), classes).float()
    return Batch(images[:, None, None], torch.tensor(truths), {})


def test_accuracy_by_hand():
    found = evaluate(echo(), echo(), [saying([0, 1, 2], [0, 1, 1]), saying([3], [0])])
    assert found.accuracy == 0.5
    assert found.images == 4
    assert found.per_class[:2] == (0.5, 0.5) and set(found.per_class[2:]) == {None}


def test_agreement_is_with_the_teacher_and_not_with_the_truth():
    backwards = Classifier(Reversed(), shape=(1, 1, 4), classes=4)
    batches = [saying([0, 1, 2, 3], [0, 1, 2, 3])]
    assert evaluate(echo(), echo(), batches).agreement == 1
    assert evaluate(echo(), backwards, batches).agreement == 0
    assert evaluate(echo(), backwards, batches).accuracy == 1


def test_calibration_error_is_the_equation_by_the_slow_way():
    confidence, right = torch.rand(500), torch.randint(2, (500,)).float()
    expected = 0.0
    for low in range(15):
        here = [(c, r) for c, r in zip(confidence.tolist(), right.tolist(), strict=True) if low <= 15 * c < low + 1]
        if here:
            accuracy = sum(r for _, r in here) / len(here)
            expected += len(here) / 500 * abs(accuracy - sum(c for c, _ in here) / len(here))
    assert calibration_error(confidence, right) == pytest.approx(expected, abs=1e-6)


def test_full_confidence_belongs_to_the_last_bin():
    assert calibration_error(torch.ones(4), torch.tensor([1.0, 1.0, 1.0, 0.0])) == pytest.approx(0.25)


def test_calibration_error_by_hand():
    sure = echo(classes=2, scale=math.log(3))  # always 75 % sure
    assert evaluate(sure, sure, [saying([0, 0, 1, 1], [0, 1, 1, 0], 2)]).calibration_error == pytest.approx(0.25)


def test_evaluation_leaves_everything_as_it_was(teacher: Classifier, student: Classifier, bars: Batch):
    student.train()
    before = toys.snapshot(teacher), toys.snapshot(student)
    evaluate(student, teacher, [bars])
    health(teacher, student, bars)
    measure(student)
    assert toys.same((toys.snapshot(teacher), toys.snapshot(student)), before)


def test_a_teacher_is_asked_once_about_itself(teacher: Classifier, bars: Batch):
    asked: list[int] = []
    with_hook = teacher.model.register_forward_hook(lambda *_: asked.append(1))
    found = evaluate(teacher, teacher, [bars])
    with_hook.remove()
    assert len(asked) == 1 and found.agreement == 1


def test_a_terminal_shows_how_many_images_were_looked_at(bars: Batch):
    text = StringIO()
    console = Console(file=text, force_terminal=True, width=100)
    looked_at = list(shown([bars, bars], 2 * len(bars), "evaluate", console))
    assert looked_at == [bars, bars]
    assert "evaluate" in text.getvalue() and f"{2 * len(bars)}/{2 * len(bars)}" in text.getvalue()
    assert list(shown([bars], len(bars), "evaluate", None)) == [bars]


def test_health_by_hand():
    found = health(echo(), Classifier(Reversed(), shape=(1, 1, 4), classes=4), saying([0, 1, 2, 3], [0] * 4))
    assert found["classes"] == pytest.approx(1)
    assert found["confidence"] == pytest.approx(math.e / (math.e + 3))
    assert found["agreement"] == 0
    assert found["diversity"] == pytest.approx(math.sqrt(2) / 2)  # one-hot vectors of four pixels


def test_health_shows_that_only_one_class_is_left():
    found = health(echo(), None, saying([2] * 8, [0, 1, 2, 3] * 2))
    assert found["classes"] == 0 and found["diversity"] == 0


def test_health_says_only_what_can_be_known(
    teacher: Classifier, student: Classifier, plain_teacher: Classifier, bars: Batch
):
    everything = {"classes", "confidence", "diversity", "agreement", "statistics"}
    assert health(teacher, student, bars).keys() == everything
    assert health(plain_teacher, None, bars).keys() == everything - {"agreement", "statistics"}


def test_health_knows_noise_from_what_the_teacher_saw(teacher: Classifier, bars: Batch):
    noise = Batch(torch.rand_like(bars.images), bars.targets, {})
    assert health(teacher, None, bars)["statistics"] < 0.1 * health(teacher, None, noise)["statistics"]


def sure(answers: list[int], classes: int = 4) -> torch.Tensor:
    """Logits of someone who has no doubt."""
    return 1000 * nn.functional.one_hot(torch.tensor(answers), classes).float()


class TestInceptionScore:
    def test_of_sure_and_balanced_answers_is_the_number_of_classes(self):
        assert inception_score(sure([0, 1, 2, 3, 3, 2, 1, 0])) == pytest.approx(4)

    def test_of_one_answer_is_one(self):
        assert inception_score(sure([2] * 5)) == pytest.approx(1)
        assert inception_score(torch.randn(1, 4).expand(6, 4)) == pytest.approx(1)

    def test_of_doubt_is_one(self):
        assert inception_score(torch.zeros(7, 3)) == pytest.approx(1)

    def test_by_hand(self):
        logits = torch.tensor([[math.log(3), 0.0], [0.0, math.log(3)]])  # 3/4 and 1/4, then the other way
        each = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
        assert inception_score(logits) == pytest.approx(math.exp(each))

    def test_of_three_to_one_by_hand(self):
        information = 0.75 * math.log(4 / 3) + 0.25 * math.log(4)
        assert inception_score(sure([0, 0, 0, 1])) == pytest.approx(math.exp(information))


class TestVerification:
    def test_by_hand(self):
        found = crosscheck(echo(), [saying([0, 1], [0, 1]), saying([2, 3, 0], [2, 2, 3])])
        assert found.recognised == pytest.approx(3 / 5) and found.images == 5
        assert found.per_class == (1, 1, 0.5, 0)

    def test_a_soft_target_means_its_most_probable_class(self):
        soft = Batch(saying([0, 1], [0, 0]).images, torch.tensor([[0.6, 0.4, 0, 0], [0.9, 0.1, 0, 0]]), {})
        assert crosscheck(echo(), [soft]).recognised == 0.5

    def test_classes_that_were_not_asked_for_are_not_judged(self):
        assert crosscheck(echo(), [saying([0], [0])]).per_class[3] is None

    def test_the_score_is_that_of_the_answers(self):
        batch = saying([0, 1, 2, 3], [3, 2, 1, 0])
        assert crosscheck(echo(scale=100), [batch]).inception_score == pytest.approx(4)
        assert crosscheck(echo(scale=100), [saying([1] * 4, [1] * 4)]).inception_score == pytest.approx(1)

    def test_diversity_is_in_the_verifiers_space(self):
        batch = saying([0, 1], [0, 1])
        assert crosscheck(echo(scale=3), [batch]).diversity == pytest.approx(3 * math.sqrt(2) / 2)

    def test_diversity_of_many_images_is_that_of_some(self):
        many = Batch(torch.rand(3000, 1, 1, 4), torch.zeros(3000, dtype=torch.long), {})
        assert crosscheck(echo(), [many]).diversity == pytest.approx(diversity(many.images[::3]))

    def test_images_of_another_size_are_resized(self):
        wide = saying([0, 1, 2, 3], [0, 1, 2, 3])
        wide = Batch(wide.images.repeat_interleave(3, 3).repeat_interleave(2, 2), wide.targets, {})
        assert crosscheck(echo(), [wide]).recognised == 1

    def test_nothing_about_the_verifier_changes(self, student: Classifier, bars: Batch):
        student.train()
        before = toys.snapshot(student)
        crosscheck(student, [bars])
        assert toys.same(toys.snapshot(student), before)

    def test_it_knows_bars_from_noise(self, teacher: Classifier, plain_teacher: Classifier, bars: Batch):
        noise = Batch(torch.rand_like(bars.images), bars.targets, {})
        assert crosscheck(plain_teacher, [bars]).recognised > 0.95 > 0.5 > crosscheck(plain_teacher, [noise]).recognised
        assert (
            crosscheck(plain_teacher, [bars]).inception_score > 3 > crosscheck(plain_teacher, [noise]).inception_score
        )


class TestDiversity:
    def test_by_hand(self):
        assert diversity(torch.tensor([0.0, 0.0, 3.0, 4.0]).view(2, 1, 1, 2)) == pytest.approx(5 / math.sqrt(2))

    def test_is_the_mean_over_all_pairs(self):
        images = torch.rand(5, 2, 3, 3)
        pairs = [(images[i] - images[j]).norm().item() for i in range(5) for j in range(i)]
        assert diversity(images) == pytest.approx(sum(pairs) / 10 / math.sqrt(18), rel=1e-5)

    def test_of_independent_unit_noise_is_the_square_root_of_two(self):
        assert diversity(torch.randn(64, 3, 16, 16)) == pytest.approx(math.sqrt(2), rel=0.01)

    def test_of_copies_or_of_one_image_is_zero(self):
        assert diversity(torch.rand(1, 1, 4, 4)) == 0
        assert diversity(torch.rand(1, 1, 4, 4).repeat(3, 1, 1, 1)) == 0


def test_size_by_hand():
    size = measure(toys.plain_net())
    assert size.parameters == (9 + 1) * 8 + (128 + 1) * 4
    assert size.macs == 64 * 8 * 9 + 128 * 4
    assert size.bytes == 4 * size.parameters
    assert size.milliseconds > 0


def test_size_counts_statistics_as_bytes_but_not_as_parameters():
    size = measure(toys.classifier(nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(64, 4))))
    assert size.parameters == 2 + 65 * 4
    assert size.bytes == 4 * (size.parameters + 2) + 8  # running mean and variance, and a counter of eight bytes


class TestSeveralLabels:
    """A teacher of two labels whose logits are its pixels."""

    def model(self) -> Classifier:
        return Classifier(nn.Flatten(), shape=(2, 1, 1), classes=("a", "b"), mean=(0.5,), multi_label=True).eval()

    def batch(self) -> Batch:
        pixels = torch.tensor([[0.9, 0.1], [0.8, 0.9], [0.3, 0.2], [0.6, 0.4]])
        truth = torch.tensor([[1.0, 0.0], [1.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
        return Batch(pixels.view(4, 2, 1, 1), truth, {})

    def test_precision_by_hand(self):
        found = evaluate(self.model(), self.model(), [self.batch_size()])
        # a: ranked 1 1 0 1 -> (1 + 1 + 3/4) / 3; b: ranked 1 1 0 0 -> 1
        assert found.average_precision == pytest.approx((2.75 / 3, 1.0))
        assert found.score == pytest.approx((2.75 / 3 + 1) / 2)

    def test_a_label_that_no_image_has_counts_for_nothing(self):
        batch = self.batch_size()
        found = evaluate(
            self.model(), self.model(), [Batch(batch.images, batch.targets * torch.tensor([1.0, 0.0]), {})]
        )
        assert found.average_precision == (pytest.approx(2.75 / 3), None)
        assert found.score == pytest.approx(2.75 / 3)

    def test_each_label_is_an_answer_of_its_own(self):
        found = evaluate(self.model(), self.model(), [self.batch_size()])
        assert found.accuracy == pytest.approx(5 / 8)
        assert found.per_class == pytest.approx((0.5, 0.75))
        assert found.agreement == 1.0

    def test_a_verifier_answers_label_by_label(self):
        found = crosscheck(self.model(), [self.batch_size()])
        assert found.recognised == pytest.approx(5 / 8)
        assert found.per_class == pytest.approx((0.5, 0.75))

    def test_health_tells_the_positives(self):
        found = health(self.model(), self.model(), self.batch_size())
        assert found["positives"] == pytest.approx(1.0)
        assert found["agreement"] == 1.0
        assert found["classes"] == pytest.approx(0.8113, abs=1e-3)  # three times a, once b


def test_one_answer_is_scored_by_accuracy(teacher: Classifier, bars: Batch):
    found = evaluate(teacher, teacher, [bars])
    assert found.score == found.accuracy and found.average_precision == ()


def test_how_often_the_right_teacher_was_chosen():
    def knowing(names: str) -> Classifier:
        return Classifier(nn.Sequential(nn.Flatten(), nn.Linear(3, 2)), shape=(1, 1, 3), classes=tuple(names))

    ensemble = Ensemble([knowing("ab"), knowing("bc")]).eval()
    student = echo(classes=3)
    # meant a, said b: the first teacher knows both; meant a, said c: none does; meant c, said b: the second does
    found = evaluate(student, ensemble, [saying([1, 2, 1, 0], [0, 0, 2, 0], classes=3)])
    assert found.right_teacher == 0.75 and found.accuracy == 0.25
    assert evaluate(student, student, [saying([1], [0], classes=3)]).right_teacher is None


def test_what_no_image_shows_is_blank():
    found = evaluate(echo(), echo(classes=2), [saying([2, 3], [2, 2])])  # only classes that the teacher does not know
    assert found.agreement is None and found.parts == (None, 0.5)


def test_a_single_class_has_nothing_to_be_even_among():
    one = Classifier(nn.Flatten(), shape=(1, 1, 1), classes=("there",), multi_label=True).eval()
    assert health(one, None, Batch(torch.rand(4, 1, 1, 1), torch.ones(4, 1), {}))["classes"] == 0
