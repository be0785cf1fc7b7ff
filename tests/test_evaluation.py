"""Evaluation, health and crosscheck, tested on networks with known predictions."""

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
from datafree.matching import resized_to
from datafree.progress import with_progress
from datafree.types import Batch, InputError


def echo(classes: int = 4, scale: float = 1.0) -> Classifier:
    """Return a classifier whose logits are the pixels times `scale`."""
    return Classifier(nn.Flatten(), shape=(1, 1, classes), classes=classes, std=(1 / scale,))


class Reversed(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1).flip(1)


def predicted(predictions: list[int], targets: list[int], classes: int = 4) -> Batch:
    """Return images that `echo` predicts these classes for."""
    images = nn.functional.one_hot(torch.tensor(predictions), classes).float()
    return Batch(images[:, None, None], torch.tensor(targets), {})


def test_accuracy_by_hand():
    evaluation = evaluate(echo(), echo(), [predicted([0, 1, 2], [0, 1, 1]), predicted([3], [0])])
    assert evaluation.accuracy == 0.5
    assert evaluation.images == 4
    assert evaluation.per_class[:2] == (0.5, 0.5) and set(evaluation.per_class[2:]) == {None}


class OfSize(nn.Module):
    """Returns the pixels of images of one width, and accepts no other."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert images.shape[3] == self.width
        return images.flatten(1)


def test_each_network_is_given_images_of_its_own_size():
    small, large = (Classifier(OfSize(size), shape=(1, 1, size), classes=size) for size in (4, 8))
    large = Classifier(nn.Sequential(large.model, nn.Unflatten(1, (4, 2)), MeanOfLast()), shape=(1, 1, 8), classes=4)
    batch = predicted([0, 1, 2, 3, 3], [0, 1, 2, 3, 0])
    for model, teacher in ((small, large), (large, small), (large, large)):
        evaluation = evaluate(model, teacher, [batch])
        assert (evaluation.accuracy, evaluation.agreement) == (pytest.approx(0.8), 1)
        assert health(teacher, model, Batch(resized_to(batch.images, teacher), batch.targets, {}))["agreement"] == 1


class MeanOfLast(nn.Module):
    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        return logits.mean(2)


def test_logits_of_the_teacher_in_a_batch_are_used():
    batch = predicted([0, 1, 2, 3], [0, 1, 2, 3])
    given = Batch(batch.images, batch.targets, {}, 9.0 * torch.eye(4).flip(1))
    assert evaluate(echo(), echo(), [given]).agreement == 0


class TestClassesInAnotherOrder:
    """A student whose classes are those of the teacher in reversed order, and whose predictions are right."""

    def networks(self) -> tuple[Classifier, Classifier]:
        teacher = Classifier(nn.Flatten(), shape=(1, 1, 4), classes=tuple("abcd"))
        return teacher, Classifier(Reversed(), shape=(1, 1, 4), classes=tuple("dcba"))

    def test_predictions_of_the_teacher_are_matched_by_name(self):
        teacher, student = self.networks()
        evaluation = evaluate(student, teacher, [predicted([0, 1, 2, 2], [3, 2, 1, 0])])
        assert (evaluation.accuracy, evaluation.agreement) == (0.75, 1)

    def test_the_teacher_may_know_some_of_the_classes_only(self):
        _, student = self.networks()
        teacher = Classifier(Middle(), shape=(1, 1, 4), classes=("c", "b"))
        evaluation = evaluate(student, teacher, [predicted([0, 1, 2, 1], [3, 2, 1, 1])])
        assert evaluation.agreement == 1
        assert evaluation.old_classes_accuracy == pytest.approx(2 / 3) and evaluation.new_classes_accuracy == 1

    def test_labels_are_matched_by_name(self):
        teacher = Classifier(nn.Flatten(), shape=(2, 1, 1), classes=("a", "b"), mean=(0.5,), multi_label=True)
        student = Classifier(Reversed(), shape=(2, 1, 1), classes=("b", "a"), mean=(0.5,), multi_label=True)
        batch = Batch(torch.tensor([[0.9, 0.1], [0.8, 0.2]]).view(2, 2, 1, 1), torch.tensor([[0.0, 1.0]] * 2), {})
        evaluation = evaluate(student, teacher, [batch])
        assert (evaluation.accuracy, evaluation.agreement) == (1, 1)

    def test_an_ensemble_routes_by_name(self):
        def knowing(names: str) -> Classifier:
            return Classifier(nn.Sequential(nn.Flatten(), nn.Linear(3, 2)), shape=(1, 1, 3), classes=tuple(names))

        ensemble = Ensemble([knowing("ab"), knowing("bc")]).eval()
        student = Classifier(nn.Flatten(), shape=(1, 1, 3), classes=tuple("bca"))
        # truth and prediction: c and a, which no teacher shares; b and c, which the second does
        assert evaluate(student, ensemble, [predicted([2, 1], [1, 0], 3)]).routing_accuracy == 0.5

    def test_other_names_are_refused_and_numbers_are_positions(self):
        teacher, student = self.networks()
        other = Classifier(nn.Flatten(), shape=(1, 1, 4), classes=tuple("wxyz"))
        with pytest.raises(InputError, match="different classes"):
            evaluate(other, teacher, [predicted([0], [0])])
        assert evaluate(echo(), teacher, [predicted([0, 1], [0, 1])]).agreement == 1


class Middle(nn.Module):
    """The logits of c and b, from the pixels of a, b, c, d; nothing else is certain."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)[:, [2, 1]]


def test_agreement_compares_with_the_teacher_and_not_with_the_truth():
    backwards = Classifier(Reversed(), shape=(1, 1, 4), classes=4)
    batches = [predicted([0, 1, 2, 3], [0, 1, 2, 3])]
    assert evaluate(echo(), echo(), batches).agreement == 1
    assert evaluate(echo(), backwards, batches).agreement == 0
    assert evaluate(echo(), backwards, batches).accuracy == 1


def test_calibration_error_follows_its_equation():
    confidence, correct = torch.rand(500), torch.randint(2, (500,)).float()
    expected = 0.0
    for low in range(15):
        here = [(c, r) for c, r in zip(confidence.tolist(), correct.tolist(), strict=True) if low <= 15 * c < low + 1]
        if here:
            accuracy = sum(r for _, r in here) / len(here)
            expected += len(here) / 500 * abs(accuracy - sum(c for c, _ in here) / len(here))
    assert calibration_error(confidence, correct) == pytest.approx(expected, abs=1e-6)


def test_full_confidence_is_in_the_last_bin():
    assert calibration_error(torch.ones(4), torch.tensor([1.0, 1.0, 1.0, 0.0])) == pytest.approx(0.25)


def test_calibration_error_by_hand():
    model = echo(classes=2, scale=math.log(3))  # its confidence is always 0.75
    assert evaluate(model, model, [predicted([0, 0, 1, 1], [0, 1, 1, 0], 2)]).calibration_error == pytest.approx(0.25)


def test_evaluation_does_not_change_the_networks(teacher: Classifier, student: Classifier, bars: Batch):
    student.train()
    before = toys.snapshot(teacher), toys.snapshot(student)
    evaluate(student, teacher, [bars])
    health(teacher, student, bars)
    measure(student)
    assert toys.same((toys.snapshot(teacher), toys.snapshot(student)), before)


def test_a_teacher_evaluated_against_itself_runs_once(teacher: Classifier, bars: Batch):
    calls: list[int] = []
    hook = teacher.model.register_forward_hook(lambda *_: calls.append(1))
    evaluation = evaluate(teacher, teacher, [bars])
    hook.remove()
    assert len(calls) == 1 and evaluation.agreement == 1


def test_a_terminal_shows_the_progress_of_an_evaluation(bars: Batch):
    text = StringIO()
    console = Console(file=text, force_terminal=True, width=100)
    shown_batches = list(with_progress([bars, bars], 2 * len(bars), "evaluate", console))
    assert shown_batches == [bars, bars]
    assert "evaluate" in text.getvalue() and f"{2 * len(bars)}/{2 * len(bars)}" in text.getvalue()
    assert list(with_progress([bars], len(bars), "evaluate", None)) == [bars]


def test_health_by_hand():
    signals = health(echo(), Classifier(Reversed(), shape=(1, 1, 4), classes=4), predicted([0, 1, 2, 3], [0] * 4))
    assert signals["class_balance"] == pytest.approx(1)
    assert signals["confidence"] == pytest.approx(math.e / (math.e + 3))
    assert signals["agreement"] == 0
    assert signals["diversity"] == pytest.approx(math.sqrt(2) / 2)  # one-hot vectors of four pixels


def test_health_shows_a_collapse_to_one_class():
    signals = health(echo(), None, predicted([2] * 8, [0, 1, 2, 3] * 2))
    assert signals["class_balance"] == 0 and signals["diversity"] == 0


def test_health_omits_signals_that_do_not_apply(
    teacher: Classifier, student: Classifier, plain_teacher: Classifier, bars: Batch
):
    everything = {"class_balance", "confidence", "diversity", "duplicates", "on_target", "agreement"}
    everything |= {"statistics", "relative_statistics"}
    assert health(teacher, student, bars).keys() == everything
    assert health(plain_teacher, None, bars).keys() == everything - {
        *("agreement", "statistics", "relative_statistics")
    }


def test_health_tells_noise_from_training_images(teacher: Classifier, bars: Batch):
    noise = Batch(torch.rand_like(bars.images), bars.targets, {})
    assert health(teacher, None, bars)["statistics"] < 0.1 * health(teacher, None, noise)["statistics"]


def certain(predictions: list[int], classes: int = 4) -> torch.Tensor:
    """Return logits with all probability on one class."""
    return 1000 * nn.functional.one_hot(torch.tensor(predictions), classes).float()


class TestInceptionScore:
    def test_of_certain_and_balanced_predictions_is_the_number_of_classes(self):
        assert inception_score(certain([0, 1, 2, 3, 3, 2, 1, 0])) == pytest.approx(4)

    def test_of_equal_predictions_is_one(self):
        assert inception_score(certain([2] * 5)) == pytest.approx(1)
        assert inception_score(torch.randn(1, 4).expand(6, 4)) == pytest.approx(1)

    def test_of_uniform_predictions_is_one(self):
        assert inception_score(torch.zeros(7, 3)) == pytest.approx(1)

    def test_by_hand(self):
        logits = torch.tensor([[math.log(3), 0.0], [0.0, math.log(3)]])  # 3/4 and 1/4, then 1/4 and 3/4
        each = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
        assert inception_score(logits) == pytest.approx(math.exp(each))

    def test_of_three_to_one_by_hand(self):
        information = 0.75 * math.log(4 / 3) + 0.25 * math.log(4)
        assert inception_score(certain([0, 0, 0, 1])) == pytest.approx(math.exp(information))


class TestCrosscheck:
    def test_by_hand(self):
        crosschecked = crosscheck(echo(), [predicted([0, 1], [0, 1]), predicted([2, 3, 0], [2, 2, 3])])
        assert crosschecked.recognised == pytest.approx(3 / 5) and crosschecked.images == 5
        assert crosschecked.per_class == (1, 1, 0.5, 0)

    def test_a_soft_target_means_its_most_probable_class(self):
        soft = Batch(predicted([0, 1], [0, 0]).images, torch.tensor([[0.6, 0.4, 0, 0], [0.9, 0.1, 0, 0]]), {})
        assert crosscheck(echo(), [soft]).recognised == 0.5

    def test_classes_without_images_are_none(self):
        assert crosscheck(echo(), [predicted([0], [0])]).per_class[3] is None

    def test_the_score_is_computed_from_the_predictions(self):
        batch = predicted([0, 1, 2, 3], [3, 2, 1, 0])
        assert crosscheck(echo(scale=100), [batch]).inception_score == pytest.approx(4)
        assert crosscheck(echo(scale=100), [predicted([1] * 4, [1] * 4)]).inception_score == pytest.approx(1)

    def test_diversity_is_of_images_normalised_by_the_network(self):
        batch = predicted([0, 1], [0, 1])
        assert crosscheck(echo(scale=3), [batch]).diversity == pytest.approx(3 * math.sqrt(2) / 2)

    def test_diversity_of_many_images_uses_a_subset(self):
        many = Batch(torch.rand(3000, 1, 1, 4), torch.zeros(3000, dtype=torch.long), {})
        assert crosscheck(echo(), [many]).diversity == pytest.approx(diversity(many.images[::3]))

    def test_images_of_another_size_are_resized(self):
        wide = predicted([0, 1, 2, 3], [0, 1, 2, 3])
        wide = Batch(wide.images.repeat_interleave(3, 3).repeat_interleave(2, 2), wide.targets, {})
        assert crosscheck(echo(), [wide]).recognised == 1

    def test_the_network_does_not_change(self, student: Classifier, bars: Batch):
        student.train()
        before = toys.snapshot(student)
        crosscheck(student, [bars])
        assert toys.same(toys.snapshot(student), before)

    def test_it_tells_bars_from_noise(self, teacher: Classifier, plain_teacher: Classifier, bars: Batch):
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

    def test_of_equal_images_or_a_single_image_is_zero(self):
        assert diversity(torch.rand(1, 1, 4, 4)) == 0
        assert diversity(torch.rand(1, 1, 4, 4).repeat(3, 1, 1, 1)) == 0


def test_cost_by_hand():
    cost = measure(toys.plain_net())
    assert cost.parameters == (9 + 1) * 8 + (128 + 1) * 4
    assert cost.macs == 64 * 8 * 9 + 128 * 4
    assert cost.bytes == 4 * cost.parameters
    assert cost.milliseconds > 0


def test_buffers_count_as_bytes_but_not_as_parameters():
    cost = measure(toys.classifier(nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(64, 4))))
    assert cost.parameters == 2 + 65 * 4
    assert cost.bytes == 4 * (cost.parameters + 2) + 8  # running mean and variance, and a counter of eight bytes


class TestMultiLabel:
    """A classifier of two labels whose logits are its pixels."""

    def model(self) -> Classifier:
        return Classifier(nn.Flatten(), shape=(2, 1, 1), classes=("a", "b"), mean=(0.5,), multi_label=True).eval()

    def batch(self) -> Batch:
        pixels = torch.tensor([[0.9, 0.1], [0.8, 0.9], [0.3, 0.2], [0.6, 0.4]])
        truth = torch.tensor([[1.0, 0.0], [1.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
        return Batch(pixels.view(4, 2, 1, 1), truth, {})

    def test_precision_by_hand(self):
        evaluation = evaluate(self.model(), self.model(), [self.batch()])
        # a: ranked 1 1 0 1 -> (1 + 1 + 3/4) / 3; b: ranked 1 1 0 0 -> 1
        assert evaluation.average_precision == pytest.approx((2.75 / 3, 1.0))
        assert evaluation.score == pytest.approx((2.75 / 3 + 1) / 2)

    def test_a_label_without_images_is_none_and_not_in_the_score(self):
        batch = self.batch()
        evaluation = evaluate(
            self.model(), self.model(), [Batch(batch.images, batch.targets * torch.tensor([1.0, 0.0]), {})]
        )
        assert evaluation.average_precision == (pytest.approx(2.75 / 3), None)
        assert evaluation.score == pytest.approx(2.75 / 3)

    def test_each_label_counts_as_one_prediction(self):
        evaluation = evaluate(self.model(), self.model(), [self.batch()])
        assert evaluation.accuracy == pytest.approx(5 / 8)
        assert evaluation.per_class == pytest.approx((0.5, 0.75))
        assert evaluation.agreement == 1.0

    def test_crosscheck_counts_labels(self):
        crosschecked = crosscheck(self.model(), [self.batch()])
        assert crosschecked.recognised == pytest.approx(5 / 8)
        assert crosschecked.per_class == pytest.approx((0.5, 0.75))

    def test_health_has_labels_per_image(self):
        signals = health(self.model(), self.model(), self.batch())
        assert signals["labels_per_image"] == pytest.approx(1.0)
        assert signals["agreement"] == 1.0
        assert signals["class_balance"] == pytest.approx(0.8113, abs=1e-3)  # three times a, once b


def test_the_score_of_a_single_label_classifier_is_its_accuracy(teacher: Classifier, bars: Batch):
    evaluation = evaluate(teacher, teacher, [bars])
    assert evaluation.score == evaluation.accuracy and evaluation.average_precision == ()


def test_routing_accuracy_by_hand():
    def knowing(names: str) -> Classifier:
        return Classifier(nn.Sequential(nn.Flatten(), nn.Linear(3, 2)), shape=(1, 1, 3), classes=tuple(names))

    ensemble = Ensemble([knowing("ab"), knowing("bc")]).eval()
    student = echo(classes=3)
    # truth a, prediction b: the first teacher knows both; a and c: no teacher does; c and b: the second does
    evaluation = evaluate(student, ensemble, [predicted([1, 2, 1, 0], [0, 0, 2, 0], classes=3)])
    assert evaluation.routing_accuracy == 0.75 and evaluation.accuracy == 0.25
    assert evaluate(student, student, [predicted([1], [0], classes=3)]).routing_accuracy is None


def test_accuracies_without_images_are_none():
    evaluation = evaluate(
        echo(), echo(classes=2), [predicted([2, 3], [2, 2])]
    )  # only classes the teacher does not know
    assert evaluation.agreement is None
    assert (evaluation.old_classes_accuracy, evaluation.new_classes_accuracy) == (None, 0.5)


def test_a_single_class_has_no_balance():
    one = Classifier(nn.Flatten(), shape=(1, 1, 1), classes=("there",), multi_label=True).eval()
    assert health(one, None, Batch(torch.rand(4, 1, 1, 1), torch.ones(4, 1), {}))["class_balance"] == 0
