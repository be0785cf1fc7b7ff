import pytest
import torch
import torch.nn.functional as F
from torch import nn

from datafree.classifier import Classifier
from datafree.quantization.fake import FakeQuantization, FakeQuantized, Ranges, fake_activation, fake_weight
from datafree.quantization.recovery import recover
from datafree.quantization.schemes import Scheme
from datafree.types import Batch, InputError


def test_weights_by_hand():
    weight = torch.tensor([[1.27, -0.005, 0.005, 0.0151]])
    # scale 0.01: 127, round(-0.5) = 0, round(0.5) = 0, round(1.51) = 2
    assert torch.allclose(fake_weight(weight, Scheme()), torch.tensor([[1.27, 0.0, 0.0, 0.02]]), atol=1e-6)
    # four bits: scale 2 * 7.5 / 15 = 1, and 7.5 is clipped to 7
    four = fake_weight(torch.tensor([[7.5, -7.5, 1.4, 0.6]]), Scheme(bits="w4a8", form="four-bit"))
    assert torch.allclose(four, torch.tensor([[7.0, -8.0, 1.0, 1.0]]), atol=1e-6)


def test_activations_by_hand():
    values = torch.tensor([-1.0, 0.0, 0.0101, 1.55, 9.0])
    rounded = fake_activation(values, torch.tensor(-1.0), torch.tensor(1.55))
    assert torch.allclose(rounded, torch.tensor([-1.0, 0.0, 0.01, 1.55, 1.55]), atol=1e-5)


@pytest.mark.parametrize("form", ["signed", "reduced", "unsigned", "four-bit"])
def test_weights_equal_a_slow_reference(form: str):
    weight, scheme = torch.randn(3, 4, 2, 2), Scheme(form=form)  # type: ignore[arg-type]
    low, high = scheme.bounds
    for channel, rounded in zip(weight, fake_weight(weight, scheme), strict=True):
        scale = 2 * channel.abs().max() / (high - low)
        integers = ((channel / scale).round() + scheme.zero_point).clamp(low, high)
        # Numbers in the middle between two integers may be rounded either way.
        difference = (rounded - scale * (integers - scheme.zero_point)).abs()
        assert difference.max() <= 1.001 * scale and (difference > 1e-5).sum() <= 1


def test_folding_batch_norm_into_weights_commutes_with_rounding():
    weight, factor = torch.randn(3, 4, 2, 2), torch.tensor([0.5, -2.0, 3.0])[:, None, None, None]
    folded = fake_weight(weight * factor, Scheme())
    assert torch.allclose(folded, fake_weight(weight, Scheme()) * factor, atol=1e-6)


def test_gradients_pass_the_rounding_inside_the_range_only():
    values = torch.tensor([-2.0, 0.5, 2.0], requires_grad=True)
    fake_activation(values, torch.tensor(-1.0), torch.tensor(1.0)).sum().backward()
    assert values.grad is not None and values.grad.tolist() == [0.0, 1.0, 0.0]


def test_ranges_contain_zero_widen_while_observed_and_move_while_trained():
    ranges = Ranges()
    assert [value.item() for value in ranges.of(0, torch.tensor([1.0, 2.0]))] == [0.0, 2.0]
    ranges.of(0, torch.tensor([9.0]))
    assert ranges.values[0][1] == 2
    ranges.observing = True
    ranges.of(0, torch.tensor([-3.0, 9.0]))
    assert [value.item() for value in ranges.values[0]] == [-3.0, 9.0]
    ranges.observing, ranges.moving = False, True
    ranges.of(0, torch.tensor([0.0, 19.0]))
    assert ranges.values[0][1].item() == pytest.approx(0.99 * 9 + 0.01 * 19)


def test_only_layers_sums_and_pools_of_activations_are_rounded():
    ranges = Ranges()
    with FakeQuantization(Scheme(), ranges):
        F.conv2d(torch.rand(1, 1, 4, 4), torch.rand(2, 1, 3, 3))
        assert len(ranges.values) == 1
        torch.rand(1, 2, 4, 4) + torch.rand(1, 2, 4, 4)
        assert len(ranges.values) == 3
        torch.rand(1, 2, 4, 4) + torch.rand(2, 1, 1)  # a bias
        torch.rand(4) * 2
        assert len(ranges.values) == 3
        F.adaptive_avg_pool2d(torch.rand(1, 2, 4, 4), 1)
        assert len(ranges.values) == 4


def test_batch_norm_is_rounded_only_where_it_cannot_be_folded():
    norm, conv = nn.BatchNorm2d(2).eval(), nn.Conv2d(1, 2, 3)
    for between, expected in ((nn.Identity(), 1), (nn.MaxPool2d(2), 2)):
        ranges = Ranges()
        with FakeQuantization(Scheme(), ranges), torch.no_grad():
            norm(between(conv(torch.rand(1, 1, 6, 6))))
        assert len(ranges.values) == expected


def test_a_fake_quantised_network_is_near_the_float_one_and_leaves_it_unchanged(teacher: Classifier, bars: Batch):
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    quantized = FakeQuantized(teacher, Scheme()).eval()
    quantized.observe(bars.images)
    with torch.no_grad():
        fake, real = quantized(bars.images), teacher(bars.images)
    assert 0 < (fake - real).abs().max() < 0.1 * real.abs().max()
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())
    assert torch.equal(teacher(bars.images), real)  # the mode has ended


def test_layers_in_float_are_not_rounded(teacher: Classifier, bars: Batch):
    names = [name for name, module in teacher.model.named_modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    quantized = FakeQuantized(teacher, Scheme(bits="w8"), frozenset(names)).eval()
    with torch.no_grad():
        assert torch.equal(quantized(bars.images), teacher(bars.images))


def test_batch_norm_stays_in_evaluation_mode(teacher: Classifier):
    quantized = FakeQuantized(teacher, Scheme()).train()
    assert not any(module.training for module in quantized.modules() if isinstance(module, nn.BatchNorm2d))
    quantized.eval()


def test_recovery_brings_the_rounded_network_nearer_to_the_float_one(teacher: Classifier, bars: Batch):
    scheme, before = Scheme(bits="w4a8", form="four-bit"), teacher.state_dict()
    before = {name: tensor.clone() for name, tensor in before.items()}

    def distance(model: Classifier) -> float:
        quantized = FakeQuantized(model, scheme).eval()
        quantized.observe(bars.images)
        with torch.no_grad():
            return float((quantized(bars.images).softmax(1) - teacher(bars.images).softmax(1)).abs().mean())

    trained = recover(teacher, bars.images, scheme, steps=20, lr=2e-3)
    assert distance(trained) < 0.7 * distance(teacher)
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())
    again = recover(teacher, bars.images, scheme, steps=20, lr=2e-3)
    assert all(torch.equal(a, b) for a, b in zip(trained.parameters(), again.parameters(), strict=True))


def test_recovery_refuses_no_steps(teacher: Classifier, bars: Batch):
    with pytest.raises(InputError, match="steps is 0"):
        recover(teacher, bars.images, Scheme(), steps=0)
