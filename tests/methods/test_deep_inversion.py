"""DeepInversion: images reach the objective, and the divergence of the authors' code is what the docs say."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
import torch.nn.functional as F
import toys

from datafree.callback import Callback
from datafree.classifier import Classifier, batch_norms, frozen, record
from datafree.losses import (
    batch_norm_moments,
    batch_norm_statistics,
    clamped_divergence,
    js_divergence,
    relative_distance,
)
from datafree.methods.deep_inversion import DeepInversion, DeepInversionConfig
from datafree.sets.image_set import ImageSet, write
from datafree.synthesis import Stream, total
from datafree.synthesis.augmentation import Augmentation
from datafree.synthesis.features import measure_features, save
from datafree.synthesis.inversion import StartChoice, image_prior
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


STILL = DeepInversionConfig(batch_size=64, steps=(1,), lr=1e-9, jitter=0)
"""images stay where they start"""


class TestStart:
    def test_natural_noise_has_large_regions(self, teacher: Classifier):
        def variance_of_means(start: StartChoice) -> float:
            return float(toys.synthesize(replace(STILL, start=start), teacher, None).images.mean((1, 2, 3)).var())

        assert variance_of_means("natural") > 3 * variance_of_means("noise")

    def test_the_default_draws_the_random_numbers_of_before(self, teacher: Classifier):
        batch = toys.synthesize(STILL, teacher, None)
        torch.manual_seed(0)
        assert torch.equal(batch.targets, teacher.sample_targets(64, STILL.extra_label_probability))
        pixels = teacher.denormalize(torch.randn(64, *toys.SHAPE)).clamp(0, 1)
        assert torch.allclose(batch.images, pixels, atol=1e-6)

    def test_a_saved_set_is_used_in_order_and_cyclic(self, teacher: Classifier, bars: Batch, tmp_path: Path):
        ten = Batch(bars.images[:10], bars.targets[:10], {})
        stored = ImageSet(batch=ten, classes=toys.CLASSES, teacher_sha256="", made_by="", measured_images={"digits": 3})
        write(stored, teacher, tmp_path / "set")
        config = replace(STILL, batch_size=8, start="saved", start_images=str(tmp_path / "set"))
        original = config.build(teacher)
        assert torch.allclose(original.synthesize().images, ten.images[:8], atol=1e-5)
        resumed = config.build(teacher)
        resumed.load_state_dict(original.state_dict())
        for synthesizer in (original, resumed):
            assert torch.allclose(synthesizer.synthesize().images, ten.images[[8, 9, 0, 1, 2, 3, 4, 5]], atol=1e-5)
        assert list(original.dependencies) == [str(tmp_path / "set")]
        assert original.measured_images == {"digits": 3}, (
            "the images of a set carry what its statistics were measured on"
        )

    def test_a_saved_set_of_another_size_is_refused(self, teacher: Classifier, tmp_path: Path):
        wide = Classifier(toys.plain_net().model, shape=(1, 4, 4), classes=4)
        small = ImageSet(
            batch=Batch(torch.rand(2, 1, 4, 4), torch.tensor([0, 1]), {}, torch.zeros(2, 4)),
            classes=toys.CLASSES,
            teacher_sha256="",
            made_by="",
        )
        write(small, wide, tmp_path / "set")
        with pytest.raises(
            InputError, match=r"images of shape \(1, 4, 4\), but the teacher takes \(1, 8, 8\); use another"
        ):
            replace(STILL, start="saved", start_images=str(tmp_path / "set")).build(teacher)

    def test_start_and_folder_must_fit(self, teacher: Classifier, tmp_path: Path):
        with pytest.raises(InputError, match="the folder of the image set is missing; give it with start_images"):
            replace(STILL, start="saved").build(teacher)
        with pytest.raises(InputError, match="start is not saved; set start to saved"):
            replace(STILL, start_images=str(tmp_path)).build(teacher)
        with pytest.raises(InputError, match="is not an image set"):
            replace(STILL, start="saved", start_images=str(tmp_path)).build(teacher)

    def test_pictures_stay_nearer_to_their_start_with_the_nearest_targets(self, teacher: Classifier):
        config = replace(STILL, start="procedural", batch_size=32)
        nearest = toys.synthesize(replace(config, targets="nearest"), teacher, None)
        balanced = toys.synthesize(replace(config, targets="balanced"), teacher, None)
        assert nearest.targets.bincount().tolist() == balanced.targets.bincount().tolist() == [8] * 4
        assert nearest.terms["classification"] < balanced.terms["classification"]
        assert nearest.images.min() >= 0 and nearest.images.std() > 0.05

    def test_a_checkpoint_of_a_version_without_start_is_read(self, teacher: Classifier):
        synthesizer = STILL.build(teacher)
        synthesizer.load_state_dict({"descent": None})
        assert synthesizer.state_dict()["start"] == {"position": 0}


class TestRelativeStatistics:
    def test_are_the_mean_over_layers_of_the_relative_distances(self, teacher: Classifier, bars: Batch):
        method = replace(SHORT, statistics=2.0, statistics_norm="relative", layers=(5.0, 1.0)).build(teacher)
        images = torch.rand(16, *toys.SHAPE)
        term = method.objective(images, bars.targets[:16])["statistics"]
        with record(*batch_norms(teacher)) as calls:
            teacher(images)
        first, second = (relative_distance([batch_norm_moments(call)]).item() for call in calls)
        assert term.item() == pytest.approx(2 * (5 * first + second) / 2, rel=1e-4)

    def test_lower_their_own_distance(self, teacher: Classifier):
        config = replace(SHORT, statistics_norm="relative", statistics=20.0, lr=0.1, steps=(60,))
        batch = toys.synthesize(config, teacher, None)
        noise = DeepInversion(teacher, config).objective(torch.rand_like(batch.images), batch.targets)
        assert batch.terms["statistics"] < 0.1 * noise["statistics"]

    def test_are_measured_statistics_too(self, teacher: Classifier, bars: Batch, tmp_path: Path):
        save(measure_features(teacher, [bars.images], "bars"), tmp_path / "file")
        config = replace(SHORT, statistics_norm="relative", feature_statistics=str(tmp_path / "file"))
        terms = config.build(teacher).objective(bars.images, bars.targets)
        assert terms["statistics"].item() == pytest.approx(0, abs=1e-3)


class TestRobust:
    def test_classifies_transformed_images_as_well(self, teacher: Classifier, bars: Batch):
        images, labels = bars.images[:8], bars.targets[:8]
        config = replace(SHORT, robust=3.0, classification=0.5, transform=Augmentation(flip=True))
        torch.manual_seed(2)
        terms = config.build(teacher).objective(images, labels)
        torch.manual_seed(2)
        expected = 3 * F.cross_entropy(teacher(Augmentation(flip=True)(images)), labels)
        assert terms["robust"].item() == pytest.approx(expected.item(), rel=1e-5)
        half = 0.5 * F.cross_entropy(teacher(images), labels)
        assert terms["classification"].item() == pytest.approx(half.item(), rel=1e-5)

    def test_the_statistics_are_those_of_the_images_themselves(self, teacher: Classifier, bars: Batch):
        plain, robust = (
            replace(SHORT, robust=weight).build(teacher).objective(bars.images, bars.targets)["statistics"]
            for weight in (0.0, 3.0)
        )
        assert torch.equal(plain, robust)

    def test_costs_a_second_pass(self):
        assert replace(SHORT, robust=1.0).passes == 2 * SHORT.passes

    def test_combined_images_are_refused(self):
        with pytest.raises(InputError, match="a blended image has no label.*set mix to 0"):
            replace(SHORT, transform=Augmentation(mix=0.5))
        with pytest.raises(InputError, match="has no label.*set cutmix to 0"):
            replace(SHORT, transform=Augmentation(cutmix=0.5))


class TestPrior:
    def test_takes_the_place_of_statistics_that_a_teacher_does_not_have(
        self, teacher: Classifier, plain_teacher: Classifier, bars: Batch
    ):
        config = replace(SHORT, prior=2.0)
        with_norm, without = (config.build(network) for network in (teacher, plain_teacher))
        assert "prior" not in with_norm.objective(bars.images, bars.targets) and not with_norm.notes
        terms = without.objective(bars.images, bars.targets)
        assert "statistics" not in terms
        assert without.notes == ("the teacher has no batch-norm statistics: an image prior takes their place",)
        expected = 2 * image_prior(plain_teacher.normalize(bars.images), plain_teacher)
        assert torch.allclose(terms["prior"], expected)

    def test_is_used_without_statistics_where_it_is_asked_for(self, teacher: Classifier, bars: Batch):
        terms = replace(SHORT, statistics=0.0, prior=1.0).build(teacher).objective(bars.images, bars.targets)
        assert "prior" in terms and "statistics" not in terms

    def test_brings_spectrum_and_colours_nearer(self, plain_teacher: Classifier):
        config = replace(SHORT, batch_size=16, steps=(50,), statistics=0.0, lr=0.1)
        without, batch = (toys.synthesize(replace(config, prior=prior), plain_teacher, None) for prior in (0.0, 5.0))
        before, after = (image_prior(plain_teacher.normalize(b.images), plain_teacher) for b in (without, batch))
        assert after < 0.5 * before
        assert (plain_teacher(batch.images).argmax(1) == batch.targets).float().mean() > 0.9

    def test_by_hand(self):
        """One colour per image has no spectrum; the mean is 1 and the variance 1, in a normalisation that tells colours."""
        plain = Classifier(torch.nn.Flatten(), shape=(1, 1, 1), classes=1, mean=(0.4,), std=(0.3,))
        assert image_prior(torch.tensor([[[[0.0]]], [[[2.0]]]]), plain).item() == pytest.approx(1, abs=1e-4)
        half = Classifier(torch.nn.Flatten(), shape=(1, 1, 1), classes=1, mean=(0.5,), std=(0.5,))
        assert image_prior(torch.tensor([[[[0.0]]], [[[2.0]]]]), half).item() == 0, "0.5 and 0.5 tell no colours"


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
