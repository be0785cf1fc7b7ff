"""A network with its normalisation, and the two safe ways to use it: recording its layers and freezing it.

Every public function takes pixels in [0, 1]; a `Classifier` normalises them itself. Forward hooks exist only inside `record`;
training modes and `requires_grad` change only inside `frozen`. Both restore everything when they end.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, Literal, NamedTuple, TypeVar, overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from datafree.functions import Function, FunctionNetwork
from datafree.functions import probe_images as probe_images
from datafree.memory_format import is_channels_last, use_channels_last
from datafree.notebook import InNotebook
from datafree.processes import gathered, is_sharded
from datafree.types import Decisions, Images, InputError, Logits, Preprocessing, Probabilities, Targets

Recorded = TypeVar("Recorded")


class Classifier(InNotebook, nn.Module):
    r"""A network with its normalisation, input shape and class names.

    .. math:: f(x) = \text{model} \Bigl( \frac{x - \mu}{\sigma} \Bigr)

    Args:
        model: Takes normalised images of shape `(n, c, h, w)` and returns logits of shape `(n, k)`: a module or any function.
            A module is stored in channels-last format where that is harmless; see `datafree.memory_format`.
        shape: Channels, height and width of one image.
        classes: Class names in the order of the logits, or their number `k`; then the names are `"0"` to `"k-1"`.
        mean: :math:`\mu` in pixel units, one value per channel or one for all channels.
        std: :math:`\sigma` in pixel units, one value per channel or one for all channels; positive.
        precision: The data type of the forward pass (autocast). Logits are float32, or float64 if the weights are.
        multi_label: Whether an image can have several labels: independent sigmoids instead of one softmax.
        preprocessing: How image files of another size are resized and cropped.

    Raises:
        InputError: If mean or std do not match the number of channels, or a standard deviation is not positive.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: nn.Module | Function,
        *,
        shape: tuple[int, int, int],
        classes: Sequence[str] | int,
        mean: Sequence[float] = (0.0,),
        std: Sequence[float] = (1.0,),
        precision: torch.dtype = torch.float32,
        multi_label: bool = False,
        preprocessing: Preprocessing | None = None,
    ) -> None:
        super().__init__()
        for name, values in (("mean", mean), ("std", std)):
            if len(values) not in (1, shape[0]):
                raise InputError(f"{name} has {len(values)} values for {shape[0]} channels; give one value per channel")
            if not torch.tensor(values, dtype=torch.float32).isfinite().all():
                raise InputError(f"{name} is {tuple(values)}, but it must be finite; give it in pixel units")
        if min(std) <= 0:
            raise InputError(f"std is {tuple(std)}, but it must be positive; give it in pixel units")
        self.shape = shape
        self.classes = tuple(map(str, range(classes))) if isinstance(classes, int) else tuple(classes)
        self.precision = precision
        self.multi_label = multi_label
        self.preprocessing = preprocessing or Preprocessing()
        self.outputs: Literal["logits", "softmax", "sigmoid"] = "logits"
        """what the network returns; see `datafree.synthesis.outputs`"""
        self.inspected = False
        """whether that was found out"""
        self.notes: tuple[str, ...] = ()
        """what to know about the network, found when it was loaded"""
        self.target_classes: tuple[int, ...] = ()  # the only classes that `sample_targets` samples; all if empty
        self.code = ""
        """the function that builds the network, if it is the user's own: `FILE.py:function` or `package.module:function`"""
        self.code_arguments: Mapping[str, Any] = {}
        """arguments that were passed to this function"""
        self.dependencies: Mapping[str, str] = {}
        """SHA-256 of each file that defines the network besides its weights, by name; a resumed run needs the same"""
        self._feature_layers: tuple[nn.Module, list[nn.Linear]] | None = None
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(-1, 1, 1), persistent=False)
        probes = self.normalize(probe_images(shape, 2))
        self.model = model if isinstance(model, nn.Module) else FunctionNetwork(model, probes)
        if not (isinstance(model, nn.ModuleList) or is_sharded(self.model)):  # these were examined before
            use_channels_last(self.model, probes)
        self.takes_channels_last = is_channels_last(self.model)  # if not, it may depend on contiguous images

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return self.mean.device

    @property
    def differentiable(self) -> bool:
        """Whether gradients flow from the logits to the images; they do not in a forward-only network."""
        return all(getattr(module, "differentiable", True) is not False for module in self.model.modules())

    def normalize(self, images: Images) -> Images:
        r"""Map pixels in [0, 1] to the input space of the network, :math:`(x - \mu) / \sigma`."""
        return (images - self.mean) / self.std

    def denormalize(self, normalized: Images) -> Images:
        """Map normalised images back to pixels; the inverse of `normalize`."""
        return normalized * self.std + self.mean

    def probe_images(self, count: int = 2) -> Images:
        """Return images with pixels spread evenly over [0, 1], the same ones each time. No random number is drawn."""
        return probe_images(self.shape, count).to(self.device)

    def feature_layers(self) -> list[nn.Linear]:
        """Return the layers whose inputs are the features, see `feature_layer`; an empty list if there are none.

        The first call runs the network once.
        """
        found = self._feature_layers
        if found is None or found[0] is not self.model or not all(layer in self.model.modules() for layer in found[1]):
            layer = feature_layer(self)
            found = self._feature_layers = (self.model, [layer] if layer else [])
        return list(found[1])

    def class_weights(self) -> Tensor | None:
        """Return the weights of the last linear layer, of shape `(k, d)`; None if it does not have `k` outputs."""
        layer = last_layer(self)
        return gathered(layer.weight.detach()) if layer and layer.out_features == len(self.classes) else None

    def probabilities(self, logits: Logits) -> Probabilities:
        """Return class probabilities of shape `(n, k)`: the softmax of the logits, or their sigmoid if multi-label."""
        return logits.sigmoid() if self.multi_label else logits.softmax(1)

    def softmax_logits(self, logits: Logits) -> Logits:
        r"""Return logits whose softmax is a distribution over the classes, of shape `(n, k)`.

        Single-label logits are returned unchanged. Multi-label logits become :math:`\ln \text{sigmoid}(z)`, whose softmax is
        proportional to the sigmoid probabilities.
        """
        return F.logsigmoid(logits) if self.multi_label else logits

    def predict(self, logits: Logits) -> Targets:
        """Return the predicted class of each image, of shape `(n,)`; if multi-label, a multi-hot matrix of shape `(n, k)`."""
        return (logits > 0).float() if self.multi_label else logits.argmax(1)

    def decisions(self, logits: Logits) -> Decisions:
        r"""Return logits with one row per softmax, so that the losses for single labels also work for several labels.

        Single-label logits are returned unchanged. If multi-label, each logit :math:`z` becomes a row :math:`(z, 0)`, whose
        softmax is :math:`(\text{sigmoid}(z), 1 - \text{sigmoid}(z))`: yes and no.

        Args:
            logits: Of shape `(n, k)`.

        Returns:
            Of shape `(n, k)`, or `(n * k, 2)` if multi-label.
        """
        return torch.stack([logits, torch.zeros_like(logits)], -1).flatten(0, 1) if self.multi_label else logits

    @property
    def decisions_per_image(self) -> int:
        """Return the rows of `decisions` per image: 1, or `k` if multi-label.

        A mean over decisions times this number is the sum over the labels of an image and the mean over images.
        """
        return len(self.classes) if self.multi_label else 1

    def decision_targets(self, targets: Targets) -> Tensor:
        """Return the correct column of each row of `decisions`, for cross-entropy: of shape `(n,)`, or `(n * k,)`."""
        return (1 - targets).long().flatten() if self.multi_label else targets

    def sample_targets(self, count: int, extra_label_probability: float = 0.0) -> Targets:
        """Sample targets uniformly over the classes; with `target_classes` over these, each of them equally often.

        Args:
            count: How many images the targets are for.
            extra_label_probability: If multi-label, the probability of each label besides the first, from 0 to 1.

        Returns:
            Class indices of shape `(count,)`; if multi-label, a multi-hot matrix of shape `(count, k)`.
        """
        first = torch.randint(len(self.classes), (count,), device=self.device)
        allowed = torch.tensor(self.target_classes or range(len(self.classes)), device=self.device)
        if self.target_classes:
            first = allowed[torch.randperm(max(count, len(allowed)), device=self.device)[:count] % len(allowed)]
        if not self.multi_label:
            return first
        extra = torch.rand(count, len(self.classes), device=self.device) < extra_label_probability
        extra &= torch.isin(torch.arange(len(self.classes), device=self.device), allowed)
        return (extra | F.one_hot(first, len(self.classes)).bool()).float()

    def to_logits(self, output: Any) -> Logits:
        """Return the logits for the output of the network: itself, or the logarithm or log-odds of probabilities.

        If the network returns several values, the logits are found by `logits_in`.

        Raises:
            InputError: If there are several values, and it is not plain which of them are the logits.
        """
        logits = logits_in(output, len(self.classes))
        if logits is None:
            raise InputError(
                f"the network returns a {type(output).__name__} without logits; return one tensor, or name it logits"
            )
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if self.outputs == "softmax":
            return logits.clamp_min(torch.finfo(torch.float32).tiny).log()
        return logits.logit(eps=1e-6) if self.outputs == "sigmoid" else logits

    def forward(self, images: Images) -> Logits:
        """Return the logits of pixels in [0, 1]: float32 or better, of shape `(n, k)`."""
        with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
            normalized = self.normalize(images)
            if not self.takes_channels_last:  # images that are synthesized may be in any format
                normalized = normalized.clone(memory_format=torch.contiguous_format)
            return self.to_logits(self.model(normalized))


LOGIT_NAMES = ("logits", "logit", "output", "outputs", "out", "scores", "prediction", "predictions", "pred", "preds")
"""names of the logits in the dict that a network returns, in the order in which they are looked for"""


def logits_in(output: Any, classes: int) -> Tensor | None:
    """Return the logits in the output of a network, of shape `(n, k)`; None if it is not plain which tensor they are.

    Args:
        output: A tensor; an object with an attribute `logits`, as networks with auxiliary heads and those of transformers
            return; a dict with one of `LOGIT_NAMES`; a tuple, list or dict of which one tensor fits. Feature maps of shape
            `(n, k, 1, 1)` are flattened, and `n` numbers of a network with one class become a column.
        classes: Number of the classes `k`.
    """
    entries: Sequence[Any] = output if isinstance(output, (list, tuple)) else ()
    named: list[Any] = [output, getattr(output, "logits", None)]
    if isinstance(output, Mapping):
        entries, named = list(output.values()), [output.get(name) for name in LOGIT_NAMES]
    tensors = [value for value in entries if isinstance(value, Tensor)]
    fitting = [tensor for tensor in tensors if tensor.ndim == 2 and tensor.shape[1] == classes]
    plain = tensors if len(tensors) == 1 else fitting if len(fitting) == 1 else []
    logits = next((value for value in (*named, *plain) if isinstance(value, Tensor)), None)
    if logits is None:
        return None
    if classes == 1 and logits.ndim < 2:
        return logits.reshape(-1, 1)
    return logits.flatten(1) if logits.ndim == 4 and logits.shape[2:] == (1, 1) else logits


class ClassSubset(nn.Module):
    """The logits of some classes of a network, for comparison with a network that knows only these classes.

    Args:
        model: Returns logits of shape `(n, k)`. Its weights are shared, not copied.
        classes: The indices of the classes to return, in order.
    """

    classes: Tensor

    def __init__(self, model: nn.Module, classes: Sequence[int] | Tensor) -> None:
        super().__init__()
        self.model = model
        device = next(model.parameters(), torch.empty(0)).device  # on another one, each call would wait for a copy
        indices = classes if isinstance(classes, Tensor) else torch.tensor(list(classes))
        self.register_buffer("classes", indices.to(device), persistent=False)

    def forward(self, images: Images) -> Logits:
        """Return logits of shape `(n, len(classes))`."""
        return self.model(images).index_select(1, self.classes)


class LayerCall(NamedTuple):
    """One call of one module: its first input and its output, as part of the autograd graph."""

    module: nn.Module
    input: Tensor
    output: Tensor


@overload
def record(*modules: nn.Module) -> AbstractContextManager[list[LayerCall]]: ...
@overload
def record(
    *modules: nn.Module, function: Callable[[LayerCall], Recorded]
) -> AbstractContextManager[list[Recorded]]: ...
@contextmanager
def record(*modules: nn.Module, function: Callable[[LayerCall], Any] | None = None) -> Iterator[list[Any]]:
    """Record the calls of modules inside a `with` block.

    The next layer may change the recorded tensors in place, as an in-place ReLU does with the output of a convolution. What
    must not depend on that is computed by `function`, which is applied at the time of the call.

    Args:
        modules: The modules to record.
        function: Computes what is recorded of a call; the call itself by default.

    Yields:
        A list that each call is appended to, in the order of the calls. The hooks are removed when the block ends.
    """
    calls: list[Any] = []

    def append(module: nn.Module, inputs: tuple[Any, ...], keywords: Mapping[str, Any], output: Any) -> None:
        call = LayerCall(module, [*inputs, *keywords.values(), None][0], output)
        calls.append(call if function is None else function(call))

    with ExitStack() as hooks:
        for module in modules:
            hooks.callback(module.register_forward_hook(append, with_kwargs=True).remove)
        yield calls


@contextmanager
def frozen(*models: nn.Module | None) -> Iterator[None]:
    """Put networks into evaluation mode and disable the gradients of their parameters inside a `with` block.

    Gradients still flow to the input images. The training mode of every module and `requires_grad` of every parameter are
    restored when the block ends, also after an exception.

    Args:
        models: The networks; None is ignored.
    """
    modules = [module for model in models if model is not None for module in model.modules()]
    parameters = [parameter for model in models if model is not None for parameter in model.parameters()]
    modes = [module.training for module in modules]
    flags = [parameter.requires_grad for parameter in parameters]
    try:
        for module in modules:
            module.training = False
        for parameter in parameters:
            parameter.requires_grad_(False)
        yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode
        for parameter, flag in zip(parameters, flags, strict=True):
            parameter.requires_grad_(flag)


def feature_layer(classifier: Classifier) -> nn.Linear | None:
    """Return the fully connected layer whose input are the features, found by running the network on two images.

    It is the first one with an input of shape `(n, d)` after the last layer that is a convolution, or a fully connected
    layer over tokens or feature maps. In a network of fully connected layers only, it is the last one, unless its input is
    the image. None if there is no such layer.
    """
    layers = [module for module in classifier.modules() if isinstance(module, (_ConvNd, nn.Linear))]
    images = classifier.probe_images()
    with frozen(classifier), torch.no_grad(), record(*layers, function=_layer_and_shape) as calls:
        classifier(images)
    heads: list[nn.Linear] = []
    has_body = False
    for layer, shape in calls:
        if isinstance(layer, nn.Linear) and len(shape) == 2 and shape[0] == len(images):
            heads.append(layer)
        else:
            heads, has_body = [], True
    candidates = heads if has_body else heads[1:][-1:]
    return candidates[0] if candidates else None


def copy_of_input(call: LayerCall) -> Tensor:
    """Return a copy of the input of a layer, of shape `(n, d)`, for `record`."""
    return call.input.flatten(1).clone()


def _layer_and_shape(call: LayerCall) -> tuple[nn.Module, torch.Size]:
    return call.module, call.input.shape


def last_layer(model: nn.Module) -> nn.Linear | None:
    """Return the last linear layer of a network; None if it has no linear layer."""
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    return layers[-1] if layers else None


def batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """Return the batch-norm layers with running statistics: 1d, 2d, 3d, synchronised, or fused with an activation."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm) and module.running_mean is not None]


def cpu_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """Return a copy of the state dict as contiguous tensors on the CPU."""
    return {name: gathered(tensor.detach()).cpu().contiguous().clone() for name, tensor in model.state_dict().items()}


def fingerprint(model: nn.Module) -> str:
    """Return the SHA-256 of all weights and running statistics of a network, see `hash_tensors`."""
    return hash_tensors(model.state_dict())


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of the names, data types, shapes and bytes of tensors, which are read one at a time."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(gathered(tensor.detach()).cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
