"""Every loss is tested by hand, against plain loops, by its invariants, and by its gradient."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck

from datafree.classifier import LayerCall
from datafree.losses import (
    LayerMoments,
    activation_loss,
    batch_norm_moments,
    batch_norm_statistics,
    decision_adversarial_loss,
    distillation_loss,
    image_norm,
    information_entropy_loss,
    js_divergence,
    one_hot_loss,
    relative_distance,
    relative_layer_distance,
    soft_cross_entropy,
    spectrum_distance,
    statistics_distance,
    total_variation,
)
from datafree.types import InputError

LN2 = math.log(2)


def double(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def slow_softmax(logits: list[float]) -> list[float]:
    powers = [math.exp(x) for x in logits]
    return [power / sum(powers) for power in powers]


def slow_kl(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def slow_mean(values: list[float]) -> float:
    return sum(values) / len(values)


def call(features: Tensor, mean: list[float], var: list[float]) -> LayerCall:
    norm = nn.BatchNorm2d(len(mean))
    norm.running_mean, norm.running_var = torch.tensor(mean), torch.tensor(var)
    return LayerCall(norm, features, features)


class TestTotalVariation:
    def test_by_hand(self):
        images = torch.tensor([[[[0.0, 3.0], [4.0, 0.0]]]])
        # across: 3, -4; down: 4, -3; main diagonal: 0; other diagonal: 1
        assert total_variation(images).item() == pytest.approx(5 + 5 + 0 + 1)

    def test_is_its_definition(self):
        images = torch.randn(3, 2, 4, 5, dtype=torch.float64)
        n, channels, height, width = images.shape
        expected = 0.0
        for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
            for i in range(n):
                square = 0.0
                for c in range(channels):
                    for y in range(height - down):
                        for x in range(max(0, -right), min(width, width - right)):
                            square += (images[i, c, y + down, x + right] - images[i, c, y, x]).item() ** 2
                expected += math.sqrt(square) / n
        assert total_variation(images).item() == pytest.approx(expected)

    def test_is_zero_for_one_colour_and_ignores_brightness(self):
        images = torch.rand(2, 3, 6, 6)
        assert total_variation(torch.full((2, 3, 6, 6), 0.3)).item() == 0
        assert total_variation(images + 5).item() == pytest.approx(total_variation(images).item(), rel=1e-5)

    def test_does_not_depend_on_how_often_an_image_is_in_the_batch(self):
        images = torch.rand(2, 1, 5, 5)
        assert total_variation(images.repeat(7, 1, 1, 1)).item() == pytest.approx(total_variation(images).item())

    def test_gradient(self):
        assert gradcheck(total_variation, double(2, 2, 3, 4))


class TestImageNorm:
    def test_by_hand(self):
        images = torch.tensor([[[[3.0, 4.0]]], [[[0.0, 1.0]]]])
        assert image_norm(images).item() == pytest.approx((5 + 1) / 2)

    def test_is_its_definition(self):
        images = torch.randn(4, 3, 2, 2, dtype=torch.float64)
        lengths = [math.sqrt(sum(x**2 for x in image.flatten().tolist())) for image in images]
        assert image_norm(images).item() == pytest.approx(slow_mean(lengths))

    def test_grows_with_the_image_in_proportion(self):
        images = torch.randn(4, 3, 2, 2)
        assert image_norm(-3 * images).item() == pytest.approx(3 * image_norm(images).item(), rel=1e-5)

    def test_gradient(self):
        assert gradcheck(image_norm, double(2, 1, 3, 3))


class TestBatchNormStatistics:
    def test_by_hand(self):
        features = torch.tensor([[[[1.0, 3.0]]], [[[5.0, 7.0]]]])  # mean 4, biased variance 5
        assert batch_norm_statistics([call(features, [1.0], [1.0])]).item() == pytest.approx(3 + 4)

    def test_takes_one_norm_over_the_channels_of_a_layer(self):
        features = torch.tensor([[[[3.0]], [[4.0]]]])  # means 3 and 4, variances 0
        assert batch_norm_statistics([call(features, [0.0, 0.0], [0.0, 0.0])]).item() == pytest.approx(5)

    def test_is_its_definition(self):
        features, means, variances, weights = (
            torch.randn(3, 4, 2, 5, 5),
            torch.randn(3, 2),
            torch.rand(3, 2),
            (2.0, 0.5),
        )
        calls = [call(features[i], means[i].tolist(), variances[i].tolist()) for i in range(3)]
        expected = 0.0
        for i, weight in enumerate((2.0, 0.5, 0.5)):  # the last weight is used for all further layers
            squares = [0.0, 0.0]
            for channel in range(2):
                values = features[i, :, channel].flatten().tolist()
                mean = slow_mean(values)
                squares[0] += (mean - means[i, channel].item()) ** 2
                squares[1] += (slow_mean([(x - mean) ** 2 for x in values]) - variances[i, channel].item()) ** 2
            expected += weight * (math.sqrt(squares[0]) + math.sqrt(squares[1]))
        assert batch_norm_statistics(calls, weights).item() == pytest.approx(expected, rel=1e-4)

    def test_vanishes_on_the_batch_that_set_the_statistics(self):
        norm, features = nn.BatchNorm2d(3, momentum=1.0), 5 + 2 * torch.randn(64, 3, 8, 8)
        norm(features)
        assert batch_norm_statistics([LayerCall(norm, features, features)]).item() < 0.01
        assert batch_norm_statistics([LayerCall(norm, features + 1, features)]).item() > 1

    def test_ignores_the_order_of_images_and_pixels(self):
        features = torch.randn(6, 2, 3, 3)
        shuffled = features[torch.randperm(6)].flip(2, 3)
        one, other = (batch_norm_statistics([call(x, [0.5, 0.0], [1.0, 2.0])]).item() for x in (features, shuffled))
        assert one == pytest.approx(other, rel=1e-5)

    @pytest.mark.parametrize("shape", [(3, 2, 2, 2), (4, 2)])
    def test_gradient(self, shape: tuple[int, ...]):
        def distance(features: Tensor) -> Tensor:
            return batch_norm_statistics([call(features, [0.5, -0.5], [2.0, 0.3])])

        assert gradcheck(distance, double(*shape))

    def test_gradient_in_any_memory_layout(self):
        features = torch.randn(4, 3, 5, 5)
        gradients = []
        for memory_format in (torch.contiguous_format, torch.channels_last):
            x = features.clone(memory_format=memory_format).requires_grad_()
            batch_norm_statistics([call(x, [0.5, 0.0, 1.0], [1.0, 2.0, 0.3])]).backward()
            gradients.append(x.grad)
        assert torch.allclose(*gradients, atol=1e-6)  # type: ignore[arg-type]


def test_layers_without_statistics_are_an_input_error():
    with pytest.raises(InputError, match="no layer with statistics"):
        batch_norm_statistics([])


class TestJensenShannon:
    def test_by_hand(self):
        a, b = torch.tensor([[0.75, 0.25]]).log(), torch.tensor([[0.25, 0.75]]).log()
        expected = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)  # m is even; both halves are equal
        assert js_divergence(a, b).item() == pytest.approx(expected)

    @pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
    def test_is_its_definition(self, temperature: float):
        a, b = torch.randn(2, 5, 3, dtype=torch.float64)
        rows = []
        for s, t in zip((a / temperature).tolist(), (b / temperature).tolist(), strict=True):
            p, q = slow_softmax(s), slow_softmax(t)
            m = [slow_mean([x, y]) for x, y in zip(p, q, strict=True)]
            rows.append((slow_kl(p, m) + slow_kl(q, m)) / 2)
        assert js_divergence(a, b, temperature).item() == pytest.approx(slow_mean(rows))

    @settings(deadline=None, max_examples=50)
    @given(st.lists(st.floats(-50, 50), min_size=3, max_size=3), st.lists(st.floats(-50, 50), min_size=3, max_size=3))
    def test_is_symmetric_bounded_and_zero_at_equality(self, one: list[float], other: list[float]):
        a, b = torch.tensor([one], dtype=torch.float64), torch.tensor([other], dtype=torch.float64)
        assert js_divergence(a, b).item() == pytest.approx(js_divergence(b, a).item(), abs=1e-12)
        assert -1e-12 <= js_divergence(a, b).item() <= LN2 + 1e-12
        assert js_divergence(a, a).item() == pytest.approx(0, abs=1e-12)

    def test_reaches_its_bound_and_stays_finite_for_opposite_certainties(self):
        a = torch.tensor([[1000.0, 0.0]])
        assert js_divergence(a, a.flip(1)).item() == pytest.approx(LN2)

    def test_gradient(self):
        assert gradcheck(lambda a, b: js_divergence(a, b, 2.0), (double(3, 4), double(3, 4)))


class TestDistillationLoss:
    def test_by_hand(self):
        teacher, student = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.25, 0.75]]).log()
        expected = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
        assert distillation_loss(student, teacher).item() == pytest.approx(expected)

    @pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
    def test_is_its_definition(self, temperature: float):
        student, teacher = torch.randn(2, 5, 3, dtype=torch.float64)
        rows = [
            slow_kl(slow_softmax(t), slow_softmax(s))
            for s, t in zip((student / temperature).tolist(), (teacher / temperature).tolist(), strict=True)
        ]
        assert distillation_loss(student, teacher, temperature).item() == pytest.approx(
            slow_mean(rows) * temperature**2
        )

    def test_is_zero_at_equality_and_positive_elsewhere(self):
        logits = torch.randn(6, 4)
        assert distillation_loss(logits + 3, logits).item() == pytest.approx(0, abs=1e-6)  # softmax ignores a shift
        assert distillation_loss(logits.flip(1), logits).item() > 0.01

    def test_is_not_symmetric(self):
        certain, uncertain = torch.tensor([[4.0, 0.0, 0.0]]), torch.tensor([[1.0, 0.0, 0.0]])
        assert distillation_loss(certain, uncertain).item() != pytest.approx(
            distillation_loss(uncertain, certain).item(), rel=0.05
        )

    def test_keeps_the_size_of_its_gradient_when_the_temperature_rises(self):
        student, teacher = double(5, 4), torch.randn(5, 4, dtype=torch.float64)
        sizes = [
            torch.autograd.grad(distillation_loss(student, teacher, t), student)[0].norm().item() for t in (50.0, 100.0)
        ]
        assert sizes[0] == pytest.approx(sizes[1], rel=0.05)

    def test_gradient(self):
        assert gradcheck(lambda s, t: distillation_loss(s, t, 3.0), (double(3, 4), double(3, 4)))


class TestSoftCrossEntropy:
    def test_by_hand(self):
        logits, targets = torch.tensor([[0.25, 0.75]]).log(), torch.tensor([[0.5, 0.5]])
        assert soft_cross_entropy(logits, targets).item() == pytest.approx(-0.5 * math.log(0.25) - 0.5 * math.log(0.75))

    def test_is_its_definition(self):
        logits, targets = torch.randn(5, 3, dtype=torch.float64), torch.rand(5, 3, dtype=torch.float64).softmax(1)
        rows = [
            -sum(y * math.log(p) for y, p in zip(target, slow_softmax(row), strict=True))
            for row, target in zip(logits.tolist(), targets.tolist(), strict=True)
        ]
        assert soft_cross_entropy(logits, targets).item() == pytest.approx(slow_mean(rows))

    def test_is_lowest_at_the_target_where_it_is_the_entropy(self):
        targets = torch.rand(4, 6).softmax(1)
        lowest = soft_cross_entropy(targets.log(), targets).item()
        assert lowest == pytest.approx(torch.special.entr(targets).sum(1).mean().item(), rel=1e-5)
        assert soft_cross_entropy(targets.log() + 0.1 * torch.randn(4, 6), targets).item() > lowest

    def test_gradient(self):
        targets = torch.rand(3, 4, dtype=torch.float64).softmax(1)
        assert gradcheck(lambda logits: soft_cross_entropy(logits, targets), double(3, 4))


class TestOneHotLoss:
    def test_by_hand(self):
        assert one_hot_loss(torch.tensor([[0.25, 0.75], [0.5, 0.5]]).log()).item() == pytest.approx(
            slow_mean([-math.log(0.75), math.log(2)])
        )

    def test_is_its_definition(self):
        logits = torch.randn(6, 4, dtype=torch.float64)
        rows = [-math.log(max(slow_softmax(row))) for row in logits.tolist()]
        assert one_hot_loss(logits).item() == pytest.approx(slow_mean(rows))

    def test_is_highest_for_equal_logits_and_falls_with_certainty(self):
        assert one_hot_loss(torch.zeros(3, 5)).item() == pytest.approx(math.log(5))
        logits = torch.randn(3, 5)
        assert one_hot_loss(9 * logits).item() < one_hot_loss(logits).item() < math.log(5)

    def test_gradient(self):
        assert gradcheck(one_hot_loss, double(3, 4))


class TestActivationLoss:
    def test_by_hand(self):
        assert activation_loss(torch.tensor([[1.0, -2.0], [0.0, 5.0]])).item() == pytest.approx(-(3 + 5) / 2)

    def test_is_its_definition(self):
        features = torch.randn(3, 2, 4, 4, dtype=torch.float64)
        rows = [sum(abs(x) for x in image.flatten().tolist()) for image in features]
        assert activation_loss(features).item() == pytest.approx(-slow_mean(rows))

    def test_minimising_it_increases_the_activation(self):
        features = torch.randn(3, 7, requires_grad=True)
        activation_loss(features).backward()
        assert features.grad is not None and (features.grad.sign() == -features.sign()).all()

    def test_gradient(self):
        assert gradcheck(activation_loss, double(3, 4))


class TestInformationEntropyLoss:
    def test_by_hand(self):
        logits = torch.tensor([[1.0, 0.0], [0.5, 0.5]]).clamp(1e-12).log()  # the mean is 0.75, 0.25
        expected = (0.75 * math.log(0.75) + 0.25 * math.log(0.25)) / 2
        assert information_entropy_loss(logits).item() == pytest.approx(expected)

    def test_is_its_definition(self):
        logits = torch.randn(6, 4, dtype=torch.float64)
        columns = zip(*(slow_softmax(row) for row in logits.tolist()), strict=True)
        means = [slow_mean(list(column)) for column in columns]
        assert information_entropy_loss(logits).item() == pytest.approx(sum(p * math.log(p) for p in means) / 4)

    def test_is_lowest_for_a_batch_of_all_classes_and_zero_for_a_batch_of_one(self):
        balanced, collapsed = 100 * torch.eye(5), 100 * torch.eye(5)[[2] * 5]
        assert information_entropy_loss(balanced).item() == pytest.approx(-math.log(5) / 5)
        assert information_entropy_loss(collapsed).item() == pytest.approx(0, abs=1e-6)

    def test_takes_the_mean_of_probabilities_and_not_of_logits(self):
        certain = torch.tensor([[50.0, 0.0], [0.0, 50.0]])  # both classes occur, although every image is certain
        assert information_entropy_loss(certain).item() == pytest.approx(-math.log(2) / 2)

    def test_gradient(self):
        assert gradcheck(information_entropy_loss, double(3, 4))

    @pytest.mark.parametrize("gap", [200.0, 1e30])
    def test_has_a_gradient_where_a_class_underflows(self, gap: float):
        logits = torch.tensor([[0.0, 1.0, -gap], [1.0, 0.0, -gap]], requires_grad=True)
        loss = information_entropy_loss(logits)
        loss.backward()
        assert loss.item() == pytest.approx(-LN2 / 3)
        assert logits.grad is not None and logits.grad.isfinite().all()


class TestDecisionAdversarialLoss:
    def test_by_hand(self):
        teacher = torch.tensor([[0.75, 0.25], [0.75, 0.25]]).log()
        student = torch.tensor([[0.6, 0.4], [0.4, 0.6]]).log()  # the second predicts another class and does not count
        expected = -(0.75 * math.log(0.75 / 0.6) + 0.25 * math.log(0.25 / 0.4)) / 2
        assert decision_adversarial_loss(teacher, student).item() == pytest.approx(expected)

    def test_is_its_definition(self):
        teacher, student = torch.randn(2, 9, 3, dtype=torch.float64)
        rows = [
            slow_kl(slow_softmax(t), slow_softmax(s)) if t.index(max(t)) == s.index(max(s)) else 0.0
            for t, s in zip(teacher.tolist(), student.tolist(), strict=True)
        ]
        assert 0 < sum(row > 0 for row in rows) < 9
        assert decision_adversarial_loss(teacher, student).item() == pytest.approx(-slow_mean(rows))

    def test_is_zero_at_equality_and_never_positive(self):
        teacher, student = torch.randn(2, 20, 3)
        assert decision_adversarial_loss(teacher, teacher).item() == pytest.approx(0, abs=1e-6)
        assert decision_adversarial_loss(teacher, student).item() < 0

    def test_gradient(self):
        teacher = double(3, 4)
        student = (teacher.detach() + 0.1).mul(0.5).requires_grad_()  # predicts the same classes
        assert gradcheck(decision_adversarial_loss, (teacher, student))


class TestRelativeStatistics:
    def test_by_hand(self):
        features = torch.tensor([[[1.0], [0.0]], [[3.0], [2.0]]])[..., None]  # means 2 and 1, variances 1 and 1
        stored = torch.tensor([0.0, 1.0]), torch.tensor([4.0, math.exp(-2)])
        expected = ((4 / 4 + math.log(1 / 4) ** 2) + (0 + 2**2)) / 2
        assert relative_layer_distance(features, stored, eps=0.0).item() == pytest.approx(expected, rel=1e-5)

    def test_eps_is_that_of_the_layer_and_is_added_to_both_variances(self):
        layer = call(torch.tensor([[[[1.0]]], [[[3.0]]]]), [0.0], [4.0])  # mean 2, variance 1
        layer.module.eps = 1.0  # type: ignore[assignment]
        expected = 4 / 5 + math.log(2 / 5) ** 2
        assert relative_distance([batch_norm_moments(layer)]).item() == pytest.approx(expected, rel=1e-5)

    def test_does_not_depend_on_the_scale_of_a_channel(self):
        features, mean, var = torch.randn(6, 3, 4, 4), torch.randn(3), torch.rand(3) + 0.5
        factor = torch.tensor([1e-3, 1.0, 1e3])
        scaled = relative_layer_distance(
            features * factor[:, None, None], (mean * factor, var * factor.square()), eps=0.0
        )
        expected = relative_layer_distance(features, (mean, var), eps=0.0).item()
        assert scaled.item() == pytest.approx(expected, rel=1e-4)

    def test_is_zero_for_the_stored_statistics_only(self):
        features = torch.randn(8, 3, 2, 2, dtype=torch.float64)
        stored = features.mean((0, 2, 3)), features.var((0, 2, 3), correction=0)
        assert relative_layer_distance(features, stored).item() == pytest.approx(0, abs=1e-12)
        assert relative_layer_distance(features + 0.1, stored).item() > 1e-3

    def test_a_channel_without_variance_is_finite(self):
        dead = relative_layer_distance(torch.zeros(4, 1, 2, 2), (torch.zeros(1), torch.zeros(1)))
        assert dead.item() == 0

    def test_gradient(self):
        stored = torch.randn(3, dtype=torch.float64), torch.rand(3, dtype=torch.float64) + 0.5
        assert gradcheck(lambda x: relative_layer_distance(x, stored), double(4, 3, 2, 2))

    def test_the_mean_over_layers_is_weighted_and_each_has_its_eps(self):
        parts = [moments_of(channels, eps) for channels, eps in ((2, 1e-5), (5, 0.5), (3, 1e-3))]
        first, second, third = (relative_distance([part]).item() for part in parts)
        assert relative_distance(parts).item() == pytest.approx((first + second + third) / 3)
        assert relative_distance(parts, (5.0, 1.0)).item() == pytest.approx((5 * first + second + third) / 3)
        with pytest.raises(InputError, match="no layer with statistics"):
            relative_distance([])


def moments_of(channels: int, eps: float = 1e-5) -> LayerMoments:
    mean, var, stored_mean, stored_var = torch.rand(4, channels, dtype=torch.float64) + 0.5
    return LayerMoments(mean, var, stored_mean, stored_var, eps)


class TestStatisticsDistance:
    @pytest.mark.parametrize("weights", [(1.0,), (3.0, 0.0, 2.0), (10.0, 1.0), (1.0, 1.0, 1.0, 7.0)])
    def test_is_the_weighted_sum_of_the_norms_of_each_layer(self, weights: tuple[float, ...]):
        layers = [moments_of(channels) for channels in (2, 5, 1)]
        weight_of_layer = [*weights, weights[-1], weights[-1]]
        expected = sum(
            weight * (torch.dist(layer.mean, layer.stored_mean) + torch.dist(layer.var, layer.stored_var)).item()
            for weight, layer in zip(weight_of_layer, layers, strict=False)
        )
        assert statistics_distance(layers, weights).item() == pytest.approx(expected, rel=1e-12)

    def test_gradient_is_zero_at_the_stored_statistics(self):
        layer = moments_of(3)
        mean = layer.stored_mean.clone().requires_grad_()
        statistics_distance([layer._replace(mean=mean)]).backward()
        assert mean.grad is not None and mean.grad.tolist() == [0, 0, 0]

    def test_gradient_and_its_gradient(self):
        first, second = moments_of(2), moments_of(3)

        def distance(mean: Tensor, var: Tensor) -> Tensor:
            return statistics_distance([first._replace(mean=mean), second._replace(var=var)], (2.0, 0.5))

        inputs = first.mean.requires_grad_(), second.var.requires_grad_()
        assert gradcheck(distance, inputs) and gradgradcheck(distance, inputs)


class TestSpectrumDistance:
    def test_by_hand(self):
        # Two columns: the only frequency besides 0 has one value, whose deviation from the mean is 0.
        assert spectrum_distance(torch.tensor([[[[1.0, 3.0]]]])).item() == 0
        # Four columns: frequencies 1/4 and 1/2. x = (1, 0, -1, 0) + (1, -1, 1, -1) / 2 has powers 1 and 1.
        images = torch.tensor([[[[1.5, -0.5, -0.5, -0.5]]]])
        deviation = 2 * math.log(0.25), 2 * math.log(0.5)
        expected = (deviation[0] - deviation[1]) ** 2 / 4
        assert spectrum_distance(images).item() == pytest.approx(expected, rel=1e-4)
        assert spectrum_distance(images, exponent=0.0).item() == pytest.approx(0, abs=1e-6)

    def test_is_lower_for_a_power_law_than_for_white_noise(self):
        noise = torch.randn(400, 1, 16, 16)
        frequency = torch.hypot(torch.fft.fftfreq(16)[:, None], torch.fft.rfftfreq(16)).clamp_min(1 / 16)
        natural = torch.fft.irfft2(torch.fft.rfft2(noise) / frequency)
        assert spectrum_distance(natural) < 0.05 < 0.5 < spectrum_distance(noise)
        assert spectrum_distance(noise, exponent=0.0) < 0.05

    def test_depends_neither_on_brightness_nor_on_contrast(self):
        images = torch.randn(3, 2, 5, 7, dtype=torch.float64)
        assert spectrum_distance(3 * images + 2).item() == pytest.approx(spectrum_distance(images).item(), rel=1e-4)

    def test_images_of_one_pixel_have_no_spectrum(self):
        images = torch.rand(2, 3, 1, 1, requires_grad=True)
        spectrum_distance(images).backward()
        assert images.grad is not None and images.grad.abs().sum() == 0

    def test_gradient(self):
        assert gradcheck(spectrum_distance, double(2, 1, 4, 6))
