"""DeepInversion: images reach the objective, and the divergence of the authors' code is what the docs say."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, TypeVar

import pytest
import torch
import torch.nn.functional as F
import toys

from datafree.callback import Callback
from datafree.classifier import Classifier, batch_norms, frozen, record
from datafree.losses import batch_norm_statistics, js_divergence
from datafree.methods.deep_inversion import DeepInversion, DeepInversionConfig, clamped_divergence
from datafree.synthesis import Stream, total
from datafree.synthesis.spectrum import Spectrum
from datafree.types import Batch, InputError

T = TypeVar("T")

SHORT = DeepInversionConfig(batch_size=32, steps=(150,), jitter=1)


@pytest.fixture(scope="module")
def inverted(teacher: Classifier) -> Batch:
    return toys.synthesize(SHORT, teacher, None)


class TestDeepInversion:
    def score(self, teacher: Classifier, batch: Batch) -> float:
        with torch.no_grad():
            return float(total(DeepInversion(teacher, SHORT).objective(batch.images, batch.targets)))

    def statistics(self, teacher: Classifier, batch: Batch) -> float:
        with record(*batch_norms(teacher)) as calls, torch.no_grad():
            teacher(batch.images)
        return batch_norm_statistics(calls).item()

    def test_lowers_its_own_objective(self, teacher: Classifier, inverted: Batch):
        noise = Batch(torch.rand_like(inverted.images), inverted.targets, {})
        assert self.score(teacher, inverted) < 0.25 * self.score(teacher, noise)

    def test_has_the_statistics_of_the_training_images(self, teacher: Classifier, inverted: Batch, bars: Batch):
        noise = replace(inverted, images=torch.rand_like(inverted.images))
        assert self.statistics(teacher, inverted) < 0.15 * self.statistics(teacher, noise)
        assert self.statistics(teacher, bars) < 0.05 * self.statistics(teacher, noise)

    def test_images_are_classified_as_their_targets(self, teacher: Classifier, inverted: Batch):
        assert (teacher(inverted.images).argmax(1) == inverted.targets).float().mean() > 0.7

    def test_logs_the_terms_of_the_equation(self, teacher: Classifier, student: Classifier, inverted: Batch):
        assert set(inverted.terms) == {"classification", "tv", "l2", "statistics"}
        assert "compete" in toys.synthesize(toys.TINY["adi"], teacher, student).terms

    def test_statistics_are_weighted_by_the_config(self, teacher: Classifier, bars: Batch):
        def term(**changes: Any) -> float:
            method = DeepInversion(teacher, replace(SHORT, **changes))
            return method.objective(bars.images[:16], bars.targets[:16])["statistics"].item()

        assert term(statistics=5.0) == pytest.approx(0.5 * term(statistics=10.0), rel=1e-5)
        halves = term(layers=(1.0, 0.0)), term(layers=(0.0, 1.0))
        assert sum(halves) == pytest.approx(term(), rel=1e-5) and min(halves) > 0

    def test_deep_dream_images_are_classified_with_confidence(self, teacher: Classifier):
        inverted = toys.synthesize(replace(SHORT, statistics=0.0), teacher, None)
        assert "statistics" not in inverted.terms

        def confidence(batch: Batch) -> float:
            return teacher(batch.images).softmax(1).gather(1, batch.targets[:, None]).mean().item()

        assert confidence(inverted) > 0.95
        assert confidence(inverted) > confidence(replace(inverted, images=torch.rand_like(inverted.images))) + 0.3

    @pytest.mark.parametrize("js", ["paper", "clamped"])
    def test_teacher_and_student_disagree_on_adaptive_images(self, teacher: Classifier, bars: Batch, js: str):
        torch.manual_seed(3)
        student = toys.teach(toys.conv_net((4, 4)), bars, steps=40)

        def disagreement(compete: float) -> float:
            method = replace(SHORT, compete=compete, js=js, steps=(60,), temperature=1.0)
            images = toys.synthesize(method, teacher, student).images
            with frozen(student):
                return js_divergence(teacher(images), student(images)).item()

        assert disagreement(30.0) > 1.5 * disagreement(0.0)

    def test_works_from_coarse_to_fine(self, teacher: Classifier):
        with record(teacher.model) as calls:
            batch = toys.synthesize(replace(SHORT, steps=(2, 3, 1), batch_size=4), teacher, None)
        assert [call.input.shape[-1] for call in calls][-6:] == [2, 2, 4, 4, 4, 8], "after the checks of the sizes"
        assert batch.images.shape == (4, *toys.SHAPE)

    def test_refuses_more_resolutions_than_an_image_has(self, teacher: Classifier):
        with pytest.raises(InputError, match="4 resolutions are too many"):
            replace(SHORT, steps=(1, 1, 1, 1)).build(teacher)

    def test_coarse_passes_cost_a_fraction_of_a_full_pass(self):
        assert DeepInversionConfig(steps=(2000, 1000, 100)).passes == 2000 / 16 + 1000 / 4 + 100

    def test_a_cosine_schedule_starts_at_the_full_rate_and_changes_later_steps(self, teacher: Classifier):
        def images(steps: int, cosine: bool) -> torch.Tensor:
            return toys.synthesize(replace(SHORT, steps=(steps,), cosine=cosine, jitter=0), teacher, None).images

        assert torch.equal(images(1, True), images(1, False))
        late = (images(30, True) - images(30, False)).abs().max()
        assert late > 0.001

    def test_reports_each_step_to_its_callback(self, teacher: Classifier):
        class Counter(Callback):
            steps = 0

            def track(self, steps: Iterable[T], label: str) -> Iterator[T]:
                for step in steps:
                    self.steps += 1
                    yield step

        synthesizer, counter = replace(SHORT, steps=(4, 3), batch_size=2).build(teacher), Counter()
        synthesizer.callback = counter
        synthesizer.synthesize()
        assert counter.steps == 7

    @pytest.mark.parametrize(
        "bad",
        [
            {"steps": ()},
            {"steps": (0,)},
            {"layers": ()},
            {"layers": (1.0, -1.0)},
            {"lr": 0.0},
            {"temperature": 0.0},
            {"betas": (0.9, 1.0)},
            {"extra_label_probability": 1.5},
        ],
    )
    def test_refuses_invalid_settings(self, bad: dict[str, Any]):
        with pytest.raises(InputError, match="at least|at most|give one or more"):
            DeepInversionConfig(**bad)


def test_a_teacher_without_batch_norm_is_refused_in_python_too(plain_teacher: Classifier):
    with pytest.raises(InputError, match="no batch-norm statistics"):
        SHORT.build(plain_teacher)
    with pytest.raises(InputError, match="no batch-norm statistics"):
        Stream.of(SHORT, plain_teacher)
    with pytest.raises(InputError, match="no layer with statistics"):
        DeepInversion(plain_teacher, SHORT).synthesize()


def test_terms_of_multi_label_teachers_are_summed_over_the_labels(teacher: Classifier):
    several = Classifier(teacher.model, shape=toys.SHAPE, classes=4, multi_label=True).eval()
    student = toys.conv_net()
    images, labels = torch.rand(3, *toys.SHAPE), torch.tensor([[1.0, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 0]])
    config = replace(SHORT, compete=2.0, statistics=0.0)
    terms = DeepInversion(several, config).objective(images, labels, student.eval())
    p, q = (several(images) / 3).sigmoid(), (student(images) / 3).sigmoid()

    def kl(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a * (a / b).log() + (1 - a) * ((1 - a) / (1 - b)).log()

    m = (p + q) / 2
    agreement = (1 - (kl(p, m) + kl(q, m)) / 2).sum(1).mean()
    assert terms["compete"].item() == pytest.approx(2 * agreement.item(), rel=1e-5)
    expected = F.binary_cross_entropy_with_logits(several(images), labels, reduction="none").sum(1).mean()
    assert terms["classification"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_images_can_be_initialised_from_noise_with_a_natural_spectrum(teacher: Classifier):
    def variance_of_means(spectrum: Spectrum) -> float:
        method = DeepInversionConfig(batch_size=64, steps=(1,), lr=1e-9, jitter=0, spectrum=spectrum)
        return float(toys.synthesize(method, teacher, None).images.mean((1, 2, 3)).var())

    assert variance_of_means("natural") > 3 * variance_of_means("white")


class TestClampedDivergence:
    def test_by_hand(self):
        p, q = torch.tensor([[0.75, 0.25]]).log(), torch.tensor([[0.25, 0.75]]).log()
        expected = (
            0.5 * torch.tensor(0.5 / 0.75).log() + 0.5 * torch.tensor(0.5 / 0.25).log()
        )  # KL(m || p) = KL(m || q)
        assert clamped_divergence(p, q).item() == pytest.approx(expected.item())

    def test_differs_from_the_divergence_of_the_paper(self):
        p, q = torch.tensor([[0.75, 0.25]]).log(), torch.tensor([[0.25, 0.75]]).log()
        assert clamped_divergence(p, q).item() > js_divergence(p, q).item() + 0.01

    def test_is_symmetric_and_zero_at_equality(self):
        a, b = torch.randn(2, 6, 3)
        assert clamped_divergence(a, b).item() == pytest.approx(clamped_divergence(b, a).item(), rel=1e-5)
        assert clamped_divergence(a, a).item() == pytest.approx(0, abs=1e-6)

    @pytest.mark.parametrize("divergence", [clamped_divergence, js_divergence])
    def test_has_no_gradient_under_strong_disagreement_while_that_of_the_paper_has(self, divergence: Any):
        teacher = torch.tensor([[4.5, 0.0]], dtype=torch.float64, requires_grad=True)
        divergence(teacher, torch.tensor([[-4.5, 0.0]], dtype=torch.float64)).backward()
        assert teacher.grad is not None
        assert (teacher.grad.abs().sum() > 1e-6) == (divergence is js_divergence)

    def test_is_constant_at_zero_for_hundreds_of_similar_classes(self):
        a = torch.randn(4, 500).mul(0.1).requires_grad_()
        divergence = clamped_divergence(a, torch.randn(4, 500).mul(0.1))
        divergence.backward()
        assert divergence.item() == pytest.approx(0, abs=1e-6) and a.grad is not None and a.grad.abs().sum() == 0

    def test_gradient(self):
        a, b = (torch.randn(3, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
        assert torch.autograd.gradcheck(lambda x, y: clamped_divergence(x, y, 2.0), (a, b))


@pytest.mark.parametrize("who", ["teacher", "student"])
def test_a_network_that_refuses_a_lower_resolution_is_named_before_the_synthesis(who: str, teacher: Classifier):
    fixed = toys.plain_net()
    networks = (fixed, None) if who == "teacher" else (teacher, fixed)
    config = replace(SHORT, steps=(2, 2), batch_size=4, statistics=0.0, compete=1.0)
    with pytest.raises(InputError, match=r"does not accept images of shape \(1, 4, 4\) .*; give fewer steps"):
        toys.synthesize(config, *networks)
