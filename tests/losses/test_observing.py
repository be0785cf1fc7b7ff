"""Statistics that are observed in batch-norm layers are those of the recorded inputs, and so are their gradients."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck

from datafree.classifier import batch_norms, frozen, record
from datafree.losses import batch_norm_moments, observe_batch_norms, relative_distance, statistics_distance


class OwnBatchNorm(nn.BatchNorm2d):
    """A layer that does not call `torch.nn.functional.batch_norm`."""

    def forward(self, input: Tensor) -> Tensor:
        assert self.running_mean is not None and self.running_var is not None
        scale = (self.running_var + self.eps).rsqrt()
        return (input - self.running_mean[:, None, None]) * scale[:, None, None]


class Net(nn.Module):
    """Layers with and without weights, of images and of vectors; one is called twice, one is not observed by kernels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.again = nn.Conv2d(2, 3, 3), nn.Conv2d(3, 3, 1)
        self.norm, self.plain = nn.BatchNorm2d(3), nn.BatchNorm2d(3, affine=False)
        self.own, self.last = OwnBatchNorm(3), nn.BatchNorm1d(3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x)).relu_()
        x = self.own(self.plain(self.again(x)))
        return self.last(self.norm(x).mean((2, 3)))


@pytest.fixture
def net() -> nn.Module:
    network = Net()
    for norm in batch_norms(network):
        nn.init.normal_(norm.running_mean)  # pyright: ignore[reportArgumentType]
        nn.init.uniform_(norm.running_var, 0.5, 2)  # pyright: ignore[reportArgumentType]
        if norm.affine:
            nn.init.uniform_(norm.weight, 0.5, 2)
    return network.eval()


def results(net: nn.Module, images: Tensor, observe: Callable[[], object]) -> list[Tensor]:
    images = images.clone().requires_grad_()
    with observe() as moments:  # type: ignore[attr-defined]
        outputs = net(images)
    loss = outputs.float().pow(3).sum() + 3 * statistics_distance(moments, (2.0, 1.0)) + relative_distance(moments)
    return [outputs.detach(), loss.detach(), *torch.autograd.grad(loss, images), *(m.var.detach() for m in moments)]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_observed_and_recorded_statistics_are_equal(net: nn.Module, dtype: torch.dtype, layout: torch.memory_format):
    net.to(memory_format=layout)  # type: ignore[call-overload]
    net.to(torch.promote_types(dtype, torch.float32))
    net.conv.to(dtype), net.again.to(dtype)  # type: ignore[union-attr, operator]
    images = torch.randn(4, 2, 7, 7).to(dtype).contiguous(memory_format=layout)
    norms = batch_norms(net)
    with frozen(net), torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
        ours = results(net, images, lambda: observe_batch_norms(norms))
        expected = results(net, images, lambda: record(*norms, function=batch_norm_moments))
    assert len(ours) == len(expected) == 3 + 5
    tolerance = {torch.float64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 0.1}[dtype]
    for one, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


def test_gradients_of_both_orders():
    norm = nn.BatchNorm1d(2).double().eval()
    nn.init.uniform_(norm.running_var, 0.5, 2)  # pyright: ignore[reportArgumentType]

    def loss(features: Tensor) -> Tensor:
        with observe_batch_norms([norm]) as moments:
            outputs = norm(features)
        return outputs.sin().sum() + statistics_distance(moments)

    features = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    with frozen(norm):
        assert gradcheck(loss, features) and gradgradcheck(loss, features)


def test_layers_in_training_keep_their_gradients_and_nothing_is_left_behind(net: nn.Module):
    images, norms = torch.randn(4, 2, 7, 7), batch_norms(net)
    with observe_batch_norms(norms) as moments:  # parameters require gradients
        net(images).sum().backward()
    assert net.norm.weight.grad is not None and len(moments) == 5  # type: ignore[union-attr]
    net(images)
    assert len(moments) == 5 and not any(module._forward_hooks for module in net.modules())
    with pytest.raises(RuntimeError), observe_batch_norms(norms):
        net(torch.randn(4, 3, 7, 7))
    assert not any(module._forward_hooks for module in net.modules())
    net.train()
    before = net.norm.running_mean.clone()  # type: ignore[union-attr, operator]
    with observe_batch_norms(norms) as moments:
        net(images)
    assert len(moments) == 5 and not torch.equal(net.norm.running_mean, before)  # type: ignore[union-attr, arg-type]
