"""Every method keeps one contract; each keeps promises of its own."""

import copy
import math
from collections.abc import Iterable, Iterator
from dataclasses import fields, replace
from typing import Any, Literal, TypeVar, get_args, get_origin

import pytest
import torch
import toys
from torch import nn

from datafree.applications import APPLICATIONS
from datafree.callback import Callback
from datafree.classifier import Classifier, batch_norms, frozen, record
from datafree.losses import activation_loss, batch_norm_statistics, information_entropy_loss, js_divergence
from datafree.methods import METHODS
from datafree.methods.dafl import DAFL, DAFLConfig, log10_entropy, mean_activation
from datafree.methods.deep_inversion import DeepInversion, DeepInversionConfig, clamped_divergence
from datafree.methods.noise import NoiseConfig
from datafree.methods.zskd import ZSKD, ZSKDConfig, class_similarity
from datafree.networks.zoo import ConvNet, LeNet5
from datafree.synthesis import Method, Schedule, Stream, total
from datafree.synthesis.augmentation import jitter
from datafree.synthesis.spectrum import Spectrum, noise
from datafree.teachers.doctor import examine, require, usable
from datafree.types import Batch, InputError

T = TypeVar("T")


def synthesize(method: Method, teacher: Classifier, student: Classifier | None, seed: int = 0) -> Batch:
    torch.manual_seed(seed)
    return method.build(teacher).synthesize(student)


@pytest.mark.parametrize("method", toys.TINY.values(), ids=toys.TINY)
class TestEveryMethod:
    def test_makes_images_of_the_right_shape_in_the_unit_range(
        self, method: Method, teacher: Classifier, student: Classifier
    ):
        images = synthesize(method, teacher, student).images
        assert images.shape == (8, *toys.SHAPE) and images.dtype == torch.float32
        assert images.min() >= 0 and images.max() <= 1 and images.std() > 0.01

    def test_says_what_the_images_should_be(self, method: Method, teacher: Classifier, student: Classifier):
        targets = synthesize(method, teacher, student).targets
        assert len(targets) == 8
        assert (
            set(targets.tolist()) <= set(range(4))
            if targets.ndim == 1
            else torch.allclose(targets.sum(1), torch.ones(8))
        )

    def test_hands_out_no_graph(self, method: Method, teacher: Classifier, student: Classifier):
        batch = synthesize(method, teacher, student)
        assert not batch.images.requires_grad
        assert all(term.isfinite() and not term.requires_grad for term in batch.terms.values())

    @pytest.mark.parametrize("training", [True, False])
    def test_leaves_teacher_and_student_as_they_were(
        self, method: Method, teacher: Classifier, student: Classifier, training: bool
    ):
        student.train(training)
        next(student.parameters()).requires_grad_(False)
        before = toys.snapshot(teacher), toys.snapshot(student)
        synthesize(method, teacher, student)
        assert toys.same((toys.snapshot(teacher), toys.snapshot(student)), before)

    def test_follows_from_the_seed(self, method: Method, teacher: Classifier, student: Classifier):
        first, again = (synthesize(method, teacher, student, seed=7) for _ in range(2))
        assert torch.equal(first.images, again.images) and torch.equal(first.targets, again.targets)

    def test_differs_with_the_seed(self, method: Method, teacher: Classifier, student: Classifier):
        assert not torch.equal(*(synthesize(method, teacher, student, seed).images for seed in (1, 2)))

    def test_neither_prints_nor_seeds(
        self, method: Method, teacher: Classifier, student: Classifier, capfd: pytest.CaptureFixture[str]
    ):
        synthesize(method, teacher, student, seed=3)
        assert torch.initial_seed() == 3
        assert capfd.readouterr() == ("", "")

    def test_needs_no_student(self, method: Method, teacher: Classifier):
        assert len(synthesize(method, teacher, None)) == 8

    def test_looks_at_the_student_only_if_it_is_adaptive(self, method: Method, teacher: Classifier):
        students = [toys.conv_net((4, 4)), toys.conv_net((4, 4))]
        with torch.no_grad():
            students[0].model.head.weight.mul_(10)  # type: ignore[union-attr]
        batches = [synthesize(method, teacher, student) for student in students]
        adaptive = getattr(method, "compete", 0) or getattr(method, "adversary", 0)
        assert toys.same(*(dict(batch.terms) | {"images": batch.images} for batch in batches)) != bool(adaptive)

    def test_answers_it_knows_are_the_teachers(self, method: Method, teacher: Classifier, student: Classifier):
        batch = synthesize(method, teacher, student)
        if batch.answers is not None:
            assert torch.allclose(teacher(batch.images), batch.answers, atol=1e-4)
            assert not batch.answers.requires_grad

    @pytest.mark.parametrize("name", APPLICATIONS)
    def test_feeds_every_application(self, method: Method, teacher: Classifier, student: Classifier, name: str):
        application: Any = replace(APPLICATIONS[name], steps=4)  # type: ignore[type-var]
        made, seen, more = toys.given(name, teacher, student)
        stream = Stream(
            method.build(teacher), seen, Schedule(warmup_batches=1, refresh_every=2, pool_batches=2, batch_size=8)
        )
        before = toys.snapshot(teacher)
        result = application.build()(made, teacher, stream, **more)
        assert result(torch.rand(2, *toys.SHAPE)).isfinite().all()
        assert toys.same(toys.snapshot(teacher), before)

    def test_goes_on_from_its_state(self, method: Method, teacher: Classifier, student: Classifier):
        one, other = method.build(teacher), method.build(teacher)
        one.synthesize(student)
        other.load_state_dict(copy.deepcopy(one.state_dict()))
        images = []
        for synthesizer in (one, other):
            torch.manual_seed(5)
            images.append(synthesizer.synthesize(student).images)
        assert torch.equal(*images)

    def test_takes_a_teacher_without_batch_norm_or_names_the_methods_that_do(
        self, method: Method, plain_teacher: Classifier
    ):
        if "batch-norm statistics" in method.needs:
            with pytest.raises(
                InputError, match=r"no batch-norm statistics; methods that work with it: noise, deep-dream"
            ):
                require(plain_teacher, method)
        else:
            require(plain_teacher, method)
            assert synthesize(method, plain_teacher, None).images.isfinite().all()

    def test_refuses_settings_out_of_range(self, method: Method):
        for f in fields(method):
            if isinstance(getattr(method, f.name), (int, float)) and not isinstance(getattr(method, f.name), bool):
                with pytest.raises(InputError, match=f.name):
                    replace(method, **{f.name: -1})

    def test_refuses_words_that_it_does_not_know(self, method: Method):
        """Past the type checker of the tests, which no user has."""
        for f in fields(method):
            if get_origin(f.type) is Literal:
                odd, word = copy.copy(method), get_args(f.type)[0]
                object.__setattr__(odd, f.name, f"{word}s")
                with pytest.raises(InputError, match=f"{f.name} '{word}s' is unknown; did you mean {word}"):
                    odd.__post_init__()

    def test_has_a_paper_a_cost_and_a_schedule(self, method: Method):
        assert method.paper and method.passes >= 0 and isinstance(method.schedule, Schedule)

    def test_says_in_one_expression_what_it_is(self, method: Method):
        assert eval(repr(method), {type(method).__name__: type(method)}) == method  # noqa: S307

    def test_works_on_colours_and_on_images_that_are_not_square(self, method: Method):
        teacher = Classifier(
            ConvNet(num_classes=3, in_chans=4, widths=(4,)),
            shape=(4, 8, 12),
            classes=3,
            mean=(0.1, 0.2, 0.3, 0.4),
            std=(0.5,),
        )
        images = synthesize(method, teacher.eval(), None).images
        assert images.shape == (8, 4, 8, 12) and images.min() >= 0 and images.max() <= 1


class TestTheDoctor:
    def test_finds_what_a_teacher_has(self, teacher: Classifier):
        assert examine(teacher).has == {"batch-norm statistics", "last layer"}
        assert usable(teacher) == list(METHODS)

    def test_sees_that_statistics_were_never_set(self):
        fresh = toys.conv_net()
        assert examine(fresh).batch_norms == examine(fresh).untouched == 2
        assert "deep-inversion" not in usable(fresh)

    def test_counts_no_method_that_refuses_the_teacher(self):
        uncuttable = toys.classifier(nn.Sequential(nn.Flatten(), nn.Linear(64, 4)))
        assert usable(uncuttable) == [name for name in METHODS if name not in ("group-stack", "deep-inversion", "adi")]

    def test_counts(self, plain_teacher: Classifier):
        found = examine(plain_teacher)
        assert (found.parameters, found.shape, found.classes, found.batch_norms) == (596, toys.SHAPE, 4, 0)


SHORT = DeepInversionConfig(batch_size=32, steps=(150,), jitter=1)


@pytest.fixture(scope="module")
def dreamt(teacher: Classifier) -> Batch:
    return synthesize(SHORT, teacher, None)


class TestDeepInversion:
    def score(self, teacher: Classifier, batch: Batch) -> float:
        with torch.no_grad():
            return float(total(DeepInversion(teacher, SHORT).objective(batch.images, batch.targets)))

    def statistics(self, teacher: Classifier, batch: Batch) -> float:
        with record(*batch_norms(teacher)) as calls, torch.no_grad():
            teacher(batch.images)
        return batch_norm_statistics(calls).item()

    def test_lowers_its_own_objective(self, teacher: Classifier, dreamt: Batch):
        noise = Batch(torch.rand_like(dreamt.images), dreamt.targets, {})
        assert self.score(teacher, dreamt) < 0.25 * self.score(teacher, noise)

    def test_has_the_statistics_of_the_images_the_teacher_saw(self, teacher: Classifier, dreamt: Batch, bars: Batch):
        noise = replace(dreamt, images=torch.rand_like(dreamt.images))
        assert self.statistics(teacher, dreamt) < 0.15 * self.statistics(teacher, noise)
        assert self.statistics(teacher, bars) < 0.05 * self.statistics(teacher, noise)

    def test_makes_the_classes_it_asked_for(self, teacher: Classifier, dreamt: Batch):
        assert (teacher(dreamt.images).argmax(1) == dreamt.targets).float().mean() > 0.7

    def test_reports_the_summands_of_the_equation(self, teacher: Classifier, student: Classifier, dreamt: Batch):
        assert set(dreamt.terms) == {"classification", "tv", "l2", "statistics"}
        assert "compete" in synthesize(toys.TINY["adi"], teacher, student).terms

    def test_statistics_weigh_what_the_config_says(self, teacher: Classifier, bars: Batch):
        def term(**changes: Any) -> float:
            method = DeepInversion(teacher, replace(SHORT, **changes))
            return method.objective(bars.images[:16], bars.targets[:16])["statistics"].item()

        assert term(statistics=5.0) == pytest.approx(0.5 * term(statistics=10.0), rel=1e-5)
        parts = term(layers=(1.0, 0.0)), term(layers=(0.0, 1.0))
        assert sum(parts) == pytest.approx(term(), rel=1e-5) and min(parts) > 0

    def test_deep_dream_makes_the_teacher_sure(self, teacher: Classifier):
        dreamt = synthesize(replace(SHORT, statistics=0.0), teacher, None)
        assert "statistics" not in dreamt.terms

        def confidence(batch: Batch) -> float:
            return teacher(batch.images).softmax(1).gather(1, batch.targets[:, None]).mean().item()

        assert confidence(dreamt) > 0.95
        assert confidence(dreamt) > confidence(replace(dreamt, images=torch.rand_like(dreamt.images))) + 0.3

    @pytest.mark.parametrize("js", ["paper", "clamped"])
    def test_adaptive_images_divide_teacher_and_student(self, teacher: Classifier, bars: Batch, js: str):
        torch.manual_seed(3)
        student = toys.teach(toys.conv_net((4, 4)), bars, steps=40)

        def disagreement(compete: float) -> float:
            method = replace(SHORT, compete=compete, js=js, steps=(60,), temperature=1.0)
            images = synthesize(method, teacher, student).images
            with frozen(student):
                return js_divergence(teacher(images), student(images)).item()

        assert disagreement(30.0) > 1.5 * disagreement(0.0)

    def test_works_from_coarse_to_fine(self, teacher: Classifier):
        with record(teacher.model) as calls:
            batch = synthesize(replace(SHORT, steps=(2, 3, 1), batch_size=4), teacher, None)
        assert [call.input.shape[-1] for call in calls] == [2, 2, 4, 4, 4, 8]
        assert batch.images.shape == (4, *toys.SHAPE)

    def test_refuses_more_resolutions_than_an_image_has(self, teacher: Classifier):
        with pytest.raises(InputError, match="4 resolutions are too many"):
            replace(SHORT, steps=(1, 1, 1, 1)).build(teacher)

    def test_cost_counts_a_coarse_pass_as_its_part(self):
        assert DeepInversionConfig(steps=(2000, 1000, 100)).passes == 2000 / 16 + 1000 / 4 + 100

    def test_a_cosine_begins_at_the_full_rate_and_ends_near_zero(self, teacher: Classifier):
        def moved(steps: int, cosine: bool) -> Batch:
            return synthesize(replace(SHORT, steps=(steps,), cosine=cosine, jitter=0), teacher, None)

        assert torch.equal(moved(1, True).images, moved(1, False).images)
        late = (moved(30, True).images - moved(30, False).images).abs().max()
        assert late > 0.001

    def test_tells_its_watch_about_each_step(self, teacher: Classifier):
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
    def test_refuses_settings_that_cannot_be(self, bad: dict[str, Any]):
        with pytest.raises(InputError, match="at least|at most|give one or more"):
            DeepInversionConfig(**bad)


class TestJitter:
    def test_without_reach_and_flip_changes_nothing(self):
        images = torch.rand(4, 3, 5, 6)
        assert torch.equal(jitter(images, 0, False), images)

    @pytest.mark.parametrize("flip", [True, False])
    def test_moves_each_image_cyclically_within_its_reach(self, flip: bool):
        images = torch.rand(40, 2, 6, 5)
        found = set()
        for old, new in zip(images, jitter(images, 2, flip), strict=True):
            found |= {
                (down, right, mirrored)
                for down in range(-2, 3)
                for right in range(-2, 3)
                for mirrored in ((False, True) if flip else (False,))
                if torch.equal(new, (old.flip(-1) if mirrored else old).roll((down, right), (-2, -1)))
            }
        assert len(found) > 10, "images move in many different ways"
        assert {mirrored for _, _, mirrored in found} == ({True, False} if flip else {False})

    def test_every_image_is_still_there(self):
        images = torch.rand(30, 1, 4, 4)
        assert torch.allclose(jitter(images, 3, True).flatten(1).sort(1).values, images.flatten(1).sort(1).values)

    def test_passes_gradients_to_every_pixel(self):
        images = torch.rand(5, 1, 4, 4, requires_grad=True)
        jitter(images, 2, True).sum().backward()
        assert torch.equal(images.grad, torch.ones_like(images))  # type: ignore[arg-type]


class TestClampedDivergence:
    def test_by_hand(self):
        p, q = torch.tensor([[0.75, 0.25]]).log(), torch.tensor([[0.25, 0.75]]).log()
        expected = (
            0.5 * torch.tensor(0.5 / 0.75).log() + 0.5 * torch.tensor(0.5 / 0.25).log()
        )  # KL(m || p) = KL(m || q)
        assert clamped_divergence(p, q).item() == pytest.approx(expected.item())

    def test_is_another_quantity_than_the_papers(self):
        p, q = torch.tensor([[0.75, 0.25]]).log(), torch.tensor([[0.25, 0.75]]).log()
        assert clamped_divergence(p, q).item() > js_divergence(p, q).item() + 0.01

    def test_is_symmetric_and_zero_at_equality(self):
        a, b = torch.randn(2, 6, 3)
        assert clamped_divergence(a, b).item() == pytest.approx(clamped_divergence(b, a).item(), rel=1e-5)
        assert clamped_divergence(a, a).item() == pytest.approx(0, abs=1e-6)

    @pytest.mark.parametrize("divergence", [clamped_divergence, js_divergence])
    def test_has_no_gradient_where_they_disagree_strongly_while_the_papers_has(self, divergence: Any):
        teacher = torch.tensor([[4.5, 0.0]], dtype=torch.float64, requires_grad=True)
        divergence(teacher, torch.tensor([[-4.5, 0.0]], dtype=torch.float64)).backward()
        assert teacher.grad is not None
        assert (teacher.grad.abs().sum() > 1e-6) == (divergence is js_divergence)

    def test_is_flat_at_zero_for_hundreds_of_even_classes(self):
        a = torch.randn(4, 500).mul(0.1).requires_grad_()
        divergence = clamped_divergence(a, torch.randn(4, 500).mul(0.1))
        divergence.backward()
        assert divergence.item() == pytest.approx(0, abs=1e-6) and a.grad is not None and a.grad.abs().sum() == 0

    def test_gradient(self):
        a, b = (torch.randn(3, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
        assert torch.autograd.gradcheck(lambda x, y: clamped_divergence(x, y, 2.0), (a, b))


def test_noise_is_gaussian_in_the_normalized_space():
    wide = Classifier(nn.Flatten(), shape=(1, 64, 64), classes=4096, mean=(0.5,), std=(0.1,))
    images = synthesize(METHODS["noise"], wide, None).images
    assert images.mean().item() == pytest.approx(0.5, abs=0.001) and images.std().item() == pytest.approx(
        0.1, abs=0.001
    )


class TestNaturalNoise:
    @pytest.fixture
    def pixels(self) -> torch.Tensor:
        torch.manual_seed(0)
        return noise(200, Classifier(nn.Flatten(), shape=(3, 32, 48), classes=4608), "natural").double()

    def test_has_the_variance_of_white_noise(self, pixels: torch.Tensor):
        assert pixels.mean().item() == pytest.approx(0, abs=0.02) and pixels.std().item() == pytest.approx(1, abs=1e-6)

    def test_has_amplitudes_that_fall_with_the_frequency(self, pixels: torch.Tensor):
        power = torch.fft.fft2(pixels).abs().square().mean((0, 1))  # of frequency i / 32 down, j / 48 across
        frequency = {(i, j): math.hypot(i / 32, j / 48) for i in range(5) for j in range(5)}
        for (i, j), f in frequency.items():
            ratio = power[i, j].item() / power[2, 3].item()
            assert ratio == pytest.approx((frequency[2, 3] / max(f, 1 / 48)) ** 2, rel=0.3)

    def test_has_colours_with_most_of_their_variance_in_common(self, pixels: torch.Tensor):
        red, green, blue = pixels.transpose(0, 1)
        for one, other in ((red, green), (green, blue), (blue, red)):
            assert (one * other).mean().item() == pytest.approx(0.7, abs=0.05)

    def test_is_what_inversion_begins_with_if_told_so(self, teacher: Classifier):
        def variance_of_means(spectrum: Spectrum) -> float:
            method = DeepInversionConfig(batch_size=64, steps=(1,), lr=1e-9, jitter=0, spectrum=spectrum)
            return float(synthesize(method, teacher, None).images.mean((1, 2, 3)).var())

        assert variance_of_means("natural") > 3 * variance_of_means("white")

    def test_is_a_floor_too(self, teacher: Classifier):
        white, natural = (
            synthesize(NoiseConfig(batch_size=64, spectrum=spectrum), teacher, None).images.mean((1, 2, 3)).var().item()
            for spectrum in get_args(Spectrum)
        )
        assert natural > 3 * white


def test_noise_is_called_what_the_teacher_sees_in_it(teacher: Classifier):
    batch = synthesize(toys.TINY["noise"], teacher, None)
    assert torch.equal(batch.targets, teacher(batch.images).argmax(1))


class TestDAFL:
    def test_the_authors_definitions_are_multiples_of_the_papers(self):
        features, logits = torch.randn(6, 12), torch.randn(6, 5)
        assert mean_activation(features).item() == pytest.approx(activation_loss(features).item() / 12, rel=1e-5)
        assert log10_entropy(logits).item() == pytest.approx(
            information_entropy_loss(logits).item() * 5 / math.log(10), rel=1e-5
        )

    def test_the_papers_weights_make_the_authors_objective_on_lenet5(self):
        teacher = Classifier(LeNet5(), shape=(1, 32, 32), classes=10).eval()
        images = torch.rand(16, 1, 32, 32)
        paper, authors = (
            {name: term.item() for name, term in DAFL(teacher, config).objective(images).items()}  # type: ignore[arg-type]
            for config in (METHODS["dafl"], METHODS["dafl-authors"])
        )
        assert paper == pytest.approx(authors, rel=2e-3)

    def test_the_generator_learns(self, teacher: Classifier):
        synthesizer = DAFL(teacher, DAFLConfig(batch_size=64, student_batch_size=64, lr=0.01, latent_size=16))
        totals = [float(total(synthesizer.synthesize().terms)) for _ in range(25)]
        assert sum(totals[-5:]) < sum(totals[:5]) - 1

    def test_a_generator_lives_as_long_as_it_should(self, teacher: Classifier):
        synthesizer = DAFL(teacher, replace(toys.TINY["dafl"], reset_every=3, discard_first=1))  # type: ignore[arg-type]
        ages = []
        for _ in range(5):
            synthesizer.synthesize()
            ages.append(synthesizer.age)
        assert ages == [2, 3, 2, 3, 2]

    def test_what_it_makes_changes_with_the_generator_that_was_saved(self, teacher: Classifier):
        one, other = (DAFL(teacher, toys.TINY["dafl"]) for _ in range(2))  # type: ignore[arg-type]
        torch.manual_seed(1)
        first = one.imagine(4)
        torch.manual_seed(1)
        assert not torch.equal(other.imagine(4), first)

    def test_says_when_it_sees_no_features(self):
        blind = toys.classifier(nn.Sequential(nn.Conv2d(1, 4, 8), nn.Flatten()))
        assert "activation loss is off" in DAFL(blind, toys.TINY["dafl"]).notes[0]  # type: ignore[arg-type]
        assert DAFL(toys.conv_net(), toys.TINY["dafl"]).notes == ()  # type: ignore[arg-type]


class TestZSKD:
    def test_class_similarity_by_hand(self):
        found = class_similarity(torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 2.0]]))
        middle = 1 / math.sqrt(2)  # the cosine of the neighbours; the outer two are orthogonal
        assert found[0].tolist() == pytest.approx([1, middle, 0], abs=1e-6)
        assert found[1].tolist() == pytest.approx([0, 1, 0], abs=1e-6)

    def test_class_similarity_has_a_one_on_the_diagonal_and_a_zero_in_each_row(self):
        found = class_similarity(torch.randn(6, 20))
        assert torch.allclose(found.diagonal(), torch.ones(6)) and (found.amin(1) == 0).all()

    def test_soft_labels_are_probabilities_that_prefer_their_class(self, teacher: Classifier):
        labels = ZSKD(teacher, ZSKDConfig()).soft_labels(4000)
        assert torch.allclose(labels.sum(1), torch.ones(4000), atol=1e-5) and labels.min() >= 0
        for kind in range(4):
            assert labels[kind::4].mean(0).argmax() == kind

    def test_a_smaller_scale_makes_labels_more_certain(self, teacher: Classifier):
        certainty = [ZSKD(teacher, ZSKDConfig(scales=(s,))).soft_labels(2000).amax(1).mean() for s in (10.0, 1.0, 0.1)]
        assert certainty[0] < certainty[1] < certainty[2]

    @pytest.mark.parametrize("smooth", [True, False])
    def test_impressions_come_nearer_to_their_targets(self, teacher: Classifier, smooth: bool):
        def residual(steps: int) -> float:
            method = ZSKDConfig(batch_size=64, steps=steps, temperature=4.0, smooth=smooth, lr=0.1)
            return float(synthesize(method, teacher, None).terms["residual"])

        assert residual(60) < 0.7 * residual(1)

    def test_refuses_a_teacher_whose_last_layer_is_hidden(self):
        hidden = toys.classifier(nn.Sequential(nn.Conv2d(1, 4, 8), nn.Flatten()))
        with pytest.raises(InputError, match="no last layer"):
            require(hidden, METHODS["zskd"])
        with pytest.raises(InputError, match="no last layer"):
            METHODS["zskd"].build(hidden)
