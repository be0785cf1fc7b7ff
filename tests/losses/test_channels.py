"""Mean and variance of channels against plain autograd, in every memory layout and type."""

from collections.abc import Callable

import jaxtyping
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from datafree.losses import channel_statistics, relative_layer_distance
from datafree.losses.statistics import layer_moments, statistics_distance
from datafree.processes.channels import CHUNK

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
SHAPES = [(5, 3), (3, 1), (4, 3, 7), (2, 3, 4, 5), (1, 4, 1, 1), (2, 3, 2, 3, 2), (2, 8, 96, 96)]
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": Tensor.contiguous,
    "channels last": lambda features: features.movedim(1, -1).contiguous().movedim(-1, 1),
    "every other column": lambda features: features.repeat_interleave(2, -1)[..., ::2],
}


def plain(features: Tensor) -> tuple[Tensor, Tensor]:
    dims = [dim for dim in range(features.ndim) if dim != 1]
    return features.mean(dims), features.var(dims, correction=0)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_gradients_are_those_of_autograd(shape: tuple[int, ...], layout: str, device: str):
    data = (torch.randn(shape, dtype=torch.float64) * 3 + 50).to(device)
    one, other = (LAYOUTS[layout](data.clone()).requires_grad_() for _ in range(2))
    weights = torch.randn(2, shape[1], dtype=torch.float64, device=device)
    results = []
    for features, function in ((one, channel_statistics), (other, plain)):
        mean, var = function(features)
        (gradient,) = torch.autograd.grad((mean.sin() * weights[0] + var.sin() * weights[1]).sum(), features)
        results.append((mean.detach(), var.detach(), gradient))
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(5, 3), (2, 3, 2, 3)])
def test_the_gradient_has_a_gradient(shape: tuple[int, ...], layout: str):
    features = LAYOUTS[layout](torch.randn(shape, dtype=torch.float64)).requires_grad_()
    assert gradcheck(channel_statistics, features) and gradgradcheck(channel_statistics, features)


def test_by_hand():
    mean, var = channel_statistics(torch.tensor([[1.0, 0.0], [3.0, 0.0]]))
    assert mean.tolist() == [2, 0] and var.tolist() == [1, 0]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_half_precision_is_summed_in_single_precision(layout: str, dtype: torch.dtype, device: str):
    features = LAYOUTS[layout]((100 + 0.25 * torch.randn(64, 2, 8, 8)).to(device, dtype)).requires_grad_()
    mean, var = channel_statistics(features)
    expected = plain(features.detach().double())
    assert mean.dtype == var.dtype == torch.float32
    torch.testing.assert_close(mean.double(), expected[0], rtol=1e-6, atol=0)
    torch.testing.assert_close(var.double(), expected[1], rtol=1e-4, atol=0)
    (gradient,) = torch.autograd.grad(var.sum(), features)
    assert gradient.dtype == dtype
    line = 2 * (features.detach().double() - expected[0][:, None, None]) / 4096
    torch.testing.assert_close(gradient.double(), line, rtol=1e-2, atol=1e-6)


def test_many_rows_are_added_up_in_chunks():
    """One sum after the other over 200,000 rows loses three digits of the variance in single precision."""
    features = torch.randn(200_000, 2) + 1
    mean, var = channel_statistics(features)
    expected = plain(features.double())
    torch.testing.assert_close(mean.double(), expected[0], rtol=3e-6, atol=0)
    torch.testing.assert_close(var.double(), expected[1], rtol=3e-6, atol=0)
    for rows in (CHUNK + 7, CHUNK + 3):  # 11 * 373 rows, and a prime number of rows
        unequal = torch.randn(rows, 2, dtype=torch.float64)
        torch.testing.assert_close(channel_statistics(unequal), plain(unequal), rtol=1e-12, atol=1e-12)


@pytest.mark.slow
def test_losses_of_both_kinds_compile_without_a_break(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # the checks of types in tests cannot be compiled

    def losses(features: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        absolute = statistics_distance([layer_moments(features, (mean, var)), layer_moments(features * 2, (mean, var))])
        return absolute + relative_layer_distance(features, (mean, var))

    features, stored = torch.randn(4, 3, 5, 5, requires_grad=True), (torch.zeros(3), torch.ones(3))
    compiled = torch.compile(losses, fullgraph=True, backend="aot_eager")
    eager, ours = losses(features, *stored), compiled(features, *stored)
    torch.testing.assert_close(ours, eager)
    gradients = [torch.autograd.grad(loss, features)[0] for loss in (eager, ours)]
    torch.testing.assert_close(*gradients)


@pytest.mark.skipif("cuda" not in DEVICES, reason="needs a CUDA device")
def test_a_cuda_graph_can_hold_both_passes():
    features = torch.randn(8, 4, 6, 6, device="cuda").to(memory_format=torch.channels_last).requires_grad_()
    stored = torch.zeros(4, device="cuda"), torch.ones(4, device="cuda")

    def gradient() -> Tensor:
        return torch.autograd.grad(statistics_distance([layer_moments(features, stored)]), features)[0]

    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        expected = gradient()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = gradient()
    graph.replay()
    torch.testing.assert_close(captured, expected)
