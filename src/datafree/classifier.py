"""A network that owns its normalisation, and the two ways in which anyone may touch a network.

Everything outside a `Classifier` speaks pixels in [0, 1]. Hooks exist only inside `record`, modes and
`requires_grad` change only inside `frozen`; both put everything back.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from datafree.types import Decisions, Images, InputError, Logits, Preprocessing, Probabilities, Targets


class Classifier(nn.Module):
    """A network with its mean and standard deviation, its input shape and its class names.

    Args:
        model: Takes normalised images `(n, c, h, w)`, returns logits `(n, k)`.
        shape: Channels, height and width of one image.
        classes: The names of the classes, in the order of the logits; or only their number.
        mean: Per channel, in pixel units; one number stands for all channels.
        std: Likewise.
        precision: The type in which convolutions and products are computed (autocast); logits are always float32.
        multi_label: Every class is a question of its own (sigmoid); else one of them is the answer (softmax).
        view: What it is shown of image files.

    Raises:
        InputError: If mean or std do not fit the channels, or a standard deviation is not positive.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: nn.Module,
        *,
        shape: tuple[int, int, int],
        classes: Sequence[str] | int,
        mean: Sequence[float] = (0.0,),
        std: Sequence[float] = (1.0,),
        precision: torch.dtype = torch.float32,
        multi_label: bool = False,
        view: Preprocessing | None = None,
    ) -> None:
        super().__init__()
        for name, values in (("mean", mean), ("std", std)):
            if len(values) not in (1, shape[0]):
                raise InputError(f"{name} has {len(values)} values for {shape[0]} channels; give one value per channel")
        if min(std) <= 0:
            raise InputError(f"std is {tuple(std)}, but a standard deviation is positive; give it in pixel units")
        # Convolutions on CPUs and on tensor cores are faster this way, and no number changes.
        self.model = model.to(memory_format=torch.channels_last)
        self.shape = shape
        self.classes = tuple(map(str, range(classes))) if isinstance(classes, int) else tuple(classes)
        self.precision = precision
        self.multi_label = multi_label
        self.view = view or Preprocessing()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(-1, 1, 1), persistent=False)

    @property
    def device(self) -> torch.device:
        return self.mean.device

    def normalize(self, images: Images) -> Images:
        """From pixels to what the network was trained on."""
        return (images - self.mean) / self.std

    def denormalize(self, normalized: Images) -> Images:
        """Back to pixels; the inverse of `normalize`."""
        return normalized * self.std + self.mean

    def feature_layers(self) -> list[nn.Linear]:
        """The layers whose inputs are the features, where they are to be seen."""
        layer = feature_layer(self.model)
        return [layer] if layer else []

    def class_weights(self) -> Tensor | None:
        """What the last layer weighs its features with, of shape `(k, d)`, a row a class; None if that is not to be seen."""
        layer = last_layer(self)
        return layer.weight.detach() if layer is not None and layer.out_features == len(self.classes) else None

    def probabilities(self, logits: Logits) -> Probabilities:
        """Of each class; a row sums to one only where one class is the answer."""
        return logits.sigmoid() if self.multi_label else logits.softmax(1)

    def votes(self, logits: Logits) -> Logits:
        """Logits whose softmax says how the classes share one image."""
        return F.logsigmoid(logits) if self.multi_label else logits

    def answer(self, logits: Logits) -> Targets:
        """The class that is named; or, of several labels, a one for each that is more probable than not."""
        return (logits > 0).float() if self.multi_label else logits.argmax(1)

    def decisions(self, logits: Logits) -> Decisions:
        """One row per choice between classes: the logits themselves; or, for each of several labels, yes and no."""
        return torch.stack([logits, torch.zeros_like(logits)], -1).flatten(0, 1) if self.multi_label else logits

    def draw(self, count: int, more: float = 0.0) -> Targets:
        """Classes at random; where there are several labels, each image gets one, and each other with probability `more`."""
        first = torch.randint(len(self.classes), (count,), device=self.device)
        if not self.multi_label:
            return first
        also = torch.rand(count, len(self.classes), device=self.device) < more
        return (also | F.one_hot(first, len(self.classes)).bool()).float()

    def choices(self, targets: Targets) -> Tensor:
        """Which entry of its decision each target is."""
        return (1 - targets).long().flatten() if self.multi_label else targets

    def forward(self, images: Images) -> Logits:
        with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
            return self.model(self.normalize(images)).float()


class ClassSubset(nn.Module):
    """Some of a network's answers: those that another network, which knows fewer classes, can be compared with.

    Args:
        whole: The network; its weights are shared.
        classes: The places of the classes wanted.
    """

    def __init__(self, whole: nn.Module, classes: Sequence[int]) -> None:
        super().__init__()
        self.whole, self.classes = whole, list(classes)

    def forward(self, images: Images) -> Logits:
        return self.whole(images)[:, self.classes]


class LayerCall(NamedTuple):
    """One call of one module."""

    module: nn.Module
    input: Tensor
    output: Tensor


@contextmanager
def record(*modules: nn.Module) -> Iterator[list[LayerCall]]:
    """The calls of these modules, in the order they happen; the hooks are gone afterwards."""
    calls: list[LayerCall] = []

    def call(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        calls.append(LayerCall(module, inputs[0], output))

    with ExitStack() as hooks:
        for module in modules:
            hooks.callback(module.register_forward_hook(call).remove)
        yield calls


@contextmanager
def frozen(*models: nn.Module | None) -> Iterator[None]:
    """Evaluation mode and no parameter gradients; afterwards everything is exactly as it was."""
    modules = [module for model in models if model is not None for module in model.modules()]
    parameters = [parameter for model in models if model is not None for parameter in model.parameters()]
    modes = [module.training for module in modules]
    wanted = [parameter.requires_grad for parameter in parameters]
    try:
        for module in modules:
            module.training = False
        for parameter in parameters:
            parameter.requires_grad_(False)
        yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode
        for parameter, flag in zip(parameters, wanted, strict=True):
            parameter.requires_grad_(flag)


def feature_layer(model: nn.Module) -> nn.Linear | None:
    """The first fully connected layer after the last convolution, whose input are the features; None if none is to be seen."""
    layer = None
    for module in model.modules():
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            layer = None
        elif isinstance(module, nn.Linear) and layer is None:
            layer = module
    return layer


def last_layer(model: nn.Module) -> nn.Linear | None:
    """The fully connected layer that makes the logits; None if none is to be seen."""
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    return layers[-1] if layers else None


def batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """The layers that remember the statistics of the training data: 1d, 2d, 3d, synchronised, fused with an activation."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm) and module.running_mean is not None]


def state(model: nn.Module) -> dict[str, Tensor]:
    """The weights as plain, contiguous tensors in memory."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}


def fingerprint(model: nn.Module) -> str:
    """SHA-256 over the names, types, shapes and bytes of all weights and statistics; the normalisation is not in it."""
    return hash_of(state(model))


def hash_of(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over the names, types, shapes and bytes of tensors that lie contiguous in memory."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
