r"""Fake quantisation: a network of torch that rounds as the engine does, with gradients that pass the rounding unchanged.

.. math:: \hat x = s \Bigl( \operatorname{clip}\bigl(\operatorname{round}(x / s) + z, q_\text{min}, q_\text{max}\bigr) - z
    \Bigr), \quad \frac{\partial \hat x}{\partial x} = [q_\text{min} \le q \le q_\text{max}]

The scheme is that of the engine: one symmetric scale per output channel of a weight, one scale and zero point per activation.
Batch norm is folded into weights by the engine; that only multiplies the weights of a channel by a number, and their
scale with them, so the rounding of the weights here is the same.

References:
    | Estimating or Propagating Gradients Through Stochastic Neurons (Bengio et al., 2013), for the gradient
    | https://arxiv.org/abs/1308.3432
    | Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference (Jacob et al., 2018)
    | https://arxiv.org/abs/1712.05877
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from datafree.classifier import Classifier, batch_norms
from datafree.quantization.saturation import finest_scales, is_depthwise
from datafree.quantization.schemes import Scheme
from datafree.types import Images, Logits

LAYERS = {torch.conv1d, torch.conv2d, torch.conv3d, F.conv1d, F.conv2d, F.conv3d, F.linear}
"""functions with weights, as layers call them"""
SUMS = {torch.add, Tensor.add, Tensor.add_, Tensor.__add__, Tensor.__iadd__, torch.mul, Tensor.mul, Tensor.__mul__}
"""functions of two activations"""
POOLS = {F.avg_pool2d, F.adaptive_avg_pool2d, torch.mean, Tensor.mean}
"""functions that average an activation"""
MOVING = 0.99
"""decay of the average of an activation's range while the network is trained"""
LEVELS = 255
"""number of steps of an activation"""
SMALLEST = 1e-8
"""smallest scale"""


class Ranges:
    """The range of each activation, by the number of the call that takes it.

    Attributes:
        observing: Whether the next pass widens the ranges to what it finds.
        moving: Whether each pass moves them towards what it finds.
    """

    def __init__(self) -> None:
        self.values: dict[int, tuple[Tensor, Tensor]] = {}
        self.observing, self.moving = False, False

    def of(self, place: int, activation: Tensor) -> tuple[Tensor, Tensor]:
        """Return the range of an activation, which always contains 0."""
        if self.observing or self.moving or place not in self.values:
            low, high = activation.detach().aminmax()
            low, high = low.clamp_max(0), high.clamp_min(0)
            if place in self.values:
                old_low, old_high = self.values[place]
                if self.observing:
                    low, high = torch.minimum(low, old_low), torch.maximum(high, old_high)
                else:
                    low, high = torch.lerp(low, old_low, MOVING), torch.lerp(high, old_high, MOVING)
            self.values[place] = (low, high)
        return self.values[place]


class FakeQuantization(TorchFunctionMode):
    """Quantises the weights and the activations of every layer that is called inside a `with` block.

    Args:
        scheme: The scheme of the engine.
        ranges: The ranges of the activations, which this pass may change.
        in_float: Weights that stay in float, by their identity.
    """

    def __init__(self, scheme: Scheme, ranges: Ranges, in_float: frozenset[int] = frozenset()) -> None:
        super().__init__()
        self.scheme, self.ranges, self.in_float, self.calls = scheme, ranges, in_float, 0
        self.newest: Tensor | None = None  # output of the last layer, into which batch norm is folded

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        options = dict(kwargs or {})
        if func in LAYERS and len(args) >= 2:
            data, weight, *rest = args
            if id(weight) not in self.in_float:
                data, weight = (
                    self.activation(data),
                    fake_weight(weight, self.scheme, is_depthwise(weight, data.shape[1])),
                )
            self.newest = func(data, weight, *rest, **options)
            return self.newest
        if func is F.batch_norm and args[0] is not self.newest:  # it is not folded, and the engine rounds its input
            return func(self.activation(args[0]), *args[1:], **options)
        if func in SUMS and len(args) == 2 and are_activations(*args):
            return func(self.activation(args[0]), self.activation(args[1]), **options)
        if func in POOLS and args and are_activations(args[0]):
            return func(self.activation(args[0]), *args[1:], **options)
        return func(*args, **options)

    def activation(self, values: Tensor) -> Tensor:
        """Return an activation as the engine rounds it."""
        if not self.scheme.quantises_activations:
            return values
        place, self.calls = self.calls, self.calls + 1
        low, high = self.ranges.of(place, values)
        return fake_activation(values, low, high)


def are_activations(*values: Any) -> bool:
    """Return whether values are activations of one shape, as those of a residual connection are."""
    tensors = [value for value in values if isinstance(value, Tensor) and value.ndim >= 3 and value.is_floating_point()]
    return len(tensors) == len(values) and len({tensor.shape for tensor in tensors}) == 1


def fake_activation(values: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Round an activation to 8 bits.

    Args:
        values: The activation.
        low: Lowest value of the range, not above 0.
        high: Highest value of the range, not below 0.
    """
    scale = ((high - low) / LEVELS).clamp_min(SMALLEST)
    zero = (-low / scale).round().clamp(0, LEVELS).to(torch.int32)
    return torch.fake_quantize_per_tensor_affine(values, scale, zero, 0, LEVELS)


def fake_weight(weight: Tensor, scheme: Scheme, depthwise: bool = False) -> Tensor:
    """Round the weights of a layer, with one scale per output channel, the first dimension.

    Args:
        weight: The weights.
        scheme: The scheme of the engine.
        depthwise: Whether the layer is a depthwise convolution, which has no pairs of products.
    """
    lowest, highest = scheme.bounds
    if scheme.form == "paired":
        scale = finest_scales(weight.detach(), depthwise=depthwise)
    else:
        scale = 2 * weight.detach().flatten(1).abs().amax(1) / (highest - lowest)
    scale = scale.clamp_min(SMALLEST)
    zero = torch.full_like(scale, scheme.zero_point, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, lowest, highest)


class FakeQuantized(nn.Module):
    """A classifier that rounds as the engine does. Its weights are those of the classifier, in float.

    Batch norm stays in evaluation mode: the engine folds its running statistics into the weights.

    Args:
        classifier: The classifier; its weights are shared, not copied.
        scheme: The scheme of the engine.
        in_float: Names of layers whose weights and inputs stay in float.
    """

    def __init__(self, classifier: Classifier, scheme: Scheme, in_float: frozenset[str] = frozenset()) -> None:
        super().__init__()
        self.classifier, self.scheme = classifier, scheme
        self.shape, self.ranges = classifier.shape, Ranges()
        modules = dict(classifier.model.named_modules())
        weights = [getattr(modules.get(name), "weight", None) for name in in_float]
        self.in_float = frozenset(id(weight) for weight in weights if weight is not None)

    def forward(self, images: Images) -> Logits:
        """Return the logits, of shape `(n, k)`, from rounded weights and activations."""
        self.ranges.moving = self.training and torch.is_grad_enabled()
        with FakeQuantization(self.scheme, self.ranges, self.in_float):
            return self.classifier(images)

    def train(self, mode: bool = True) -> "FakeQuantized":
        """Set the training mode of everything but batch norm."""
        super().train(mode)
        for norm in batch_norms(self):
            norm.eval()
        return self

    @contextmanager
    def observing(self) -> Iterator[None]:
        """Widen the ranges to all activations that are computed inside a `with` block."""
        self.ranges.observing = True
        try:
            yield
        finally:
            self.ranges.observing = False

    @torch.no_grad()
    def observe(self, images: Images, batch: int = 64) -> None:
        """Find the ranges of all activations on images."""
        with self.observing():
            for part in images.split(batch):
                self(part)
