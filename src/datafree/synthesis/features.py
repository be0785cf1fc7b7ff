r"""What a teacher's features look like on real images: measured once, wherever those may still be seen, and kept in a file.

.. math:: \hat\mu_l = \mathbb{E}[f_l(x)], \quad \hat\sigma_l^2 = \mathbb{E}[f_l(x)^2] - \hat\mu_l^2

for each channel of each layer l, over images and places. It stands in for the running statistics that a batch-norm layer
remembers, for teachers that have none. The file holds two numbers per channel, no image.

References:
    | Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion (Yin et al., 2020), section 3.2: statistics from
    | a few real images do where there is no batch norm
    | https://arxiv.org/abs/1912.08795
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from datafree.classifier import Classifier, LayerCall, fingerprint, frozen, hash_of, last_layer, record
from datafree.losses import feature_statistics
from datafree.types import Images, InputError, Scalar

Channels = Float[Tensor, " c"]
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class FeatureStatistics:
    """Mean and variance of each channel of some layers, and where they come from."""

    layers: Mapping[str, tuple[Channels, Channels]]
    """mean and biased variance by the layer's name, in the order in which the layers are called"""
    teacher: str
    """SHA-256 of its weights"""
    source: str
    """the real images, as they are named to the command"""
    images: int
    """how many of them were looked at"""

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All numbers, as the file holds them."""
        return {
            f"{name}.{what}": numbers
            for name, pair in self.layers.items()
            for what, numbers in zip(("mean", "var"), pair, strict=True)
        }

    @property
    def digest(self) -> str:
        """SHA-256 of all numbers."""
        return hash_of(self.tensors)

    def by_layer(self, teacher: Classifier) -> dict[nn.Module, tuple[Channels, Channels]]:
        """The same by the teacher's own layers, where the teacher is."""
        layers = feature_layers(teacher.model)
        return {layers[n]: (mean.to(teacher.device), var.to(teacher.device)) for n, (mean, var) in self.layers.items()}


def feature_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Layers whose outputs are features: the convolutions.

    Where there is at most one, the patches of a transformer or a mixer, also the fully connected layers, whose channels
    are those of the tokens; but not the one that makes the logits.
    """
    kinds = (*CONVOLUTIONS, nn.Linear)
    layers: dict[str, nn.Module] = {name: layer for name, layer in model.named_modules() if isinstance(layer, kinds)}
    many = sum(isinstance(layer, CONVOLUTIONS) for layer in layers.values()) > 1
    last = last_layer(model)
    wanted = CONVOLUTIONS if many else nn.Module
    return {name: layer for name, layer in layers.items() if isinstance(layer, wanted) and layer is not last}


def features_of(call: LayerCall) -> Tensor:
    """What a layer made, of shape `(n, c, *)`: a fully connected layer has its channels last, for tokens too."""
    return call.output if isinstance(call.module, CONVOLUTIONS) else call.output.movedim(-1, 1)


class Moments:
    """Sums in double precision around a first guess of the mean, so that one pass is enough."""

    def __init__(self) -> None:
        self.count = 0
        self.near = self.sums = self.squares = torch.zeros(0, dtype=torch.float64)

    def add(self, features: Tensor) -> None:
        rows = features.movedim(1, -1).flatten(0, -2).double()
        if not self.count:
            self.near = rows.mean(0)
            self.sums = self.squares = torch.zeros_like(self.near)
        self.count += len(rows)
        self.sums = self.sums + (rows - self.near).sum(0)
        self.squares = self.squares + (rows - self.near).square().sum(0)

    def result(self) -> tuple[Channels, Channels]:
        """Mean and biased variance."""
        offset = self.sums / self.count
        var = (self.squares / self.count - offset.square()).clamp_min(0)
        return (self.near + offset).float().cpu(), var.float().cpu()


def measure_features(teacher: Classifier, batches: Iterable[Images], source: str = "") -> FeatureStatistics:
    """Looks at every image once; labels are not needed.

    Args:
        teacher: Whose features. It is not changed.
        batches: Pixels in [0, 1], of the teacher's shape.
        source: What the images are called.

    Raises:
        InputError: If no layer of features is to be seen in this teacher.
    """
    layers = feature_layers(teacher.model)
    found = {layer: Moments() for layer in layers.values()}
    names, images = {layer: name for name, layer in layers.items()}, 0
    with frozen(teacher), torch.no_grad(), record(*found) as calls:
        for batch in batches:
            teacher(batch.to(teacher.device))
            images += len(batch)
            for call in calls:
                found[call.module].add(features_of(call))
            calls.clear()
    called = {names[layer]: moments.result() for layer, moments in found.items() if moments.count}
    if not called:
        raise InputError("no layer of features is to be seen in the teacher; nothing can be measured")
    return FeatureStatistics(called, fingerprint(teacher.model), source, images)


def save(statistics: FeatureStatistics, path: Path) -> None:
    """Writes a safetensors file that appears complete or not at all."""
    from safetensors.torch import save_file

    from datafree.files import new_file

    told = {"teacher": statistics.teacher, "source": statistics.source, "images": str(statistics.images)}
    told |= {"layers": "\n".join(statistics.layers), "sha256": statistics.digest}
    with new_file(path) as new:
        save_file(statistics.tensors, new, {"datafree": "feature statistics", **told})


def measured_statistics(
    stored: Mapping[nn.Module, tuple[Channels, Channels]], calls: Sequence[LayerCall], weights: Sequence[float] = (1.0,)
) -> Scalar:
    """How far a batch is from what was measured; see `feature_statistics`.

    Args:
        stored: Mean and variance of each layer that was measured; see `FeatureStatistics.by_layer`.
        calls: Their calls; see `record`.
        weights: Of the first calls; the last one holds for all that follow.
    """
    return feature_statistics([features_of(call) for call in calls], [stored[v.module] for v in calls], weights)


def load(path: str, teacher: Classifier) -> FeatureStatistics:
    """Statistics of this teacher.

    Raises:
        InputError: If the file is missing or damaged, or was measured on another teacher.
    """
    try:
        with safe_open(path, "pt") as file:
            told = file.metadata() or {}
            if told.get("datafree") != "feature statistics":
                raise KeyError("datafree")
            names = told["layers"].split("\n")
            layers = {name: (file.get_tensor(f"{name}.mean"), file.get_tensor(f"{name}.var")) for name in names}
        found = FeatureStatistics(layers, told["teacher"], told["source"], int(told["images"]))
        if told["sha256"] != found.digest:
            raise ValueError
    except (OSError, SafetensorError, KeyError, ValueError) as fault:
        raise InputError(
            f"{path} is missing, damaged or no file that `datafree statistics` wrote; measure again"
        ) from fault
    if found.teacher != fingerprint(teacher.model) or not feature_layers(teacher.model).keys() >= layers.keys():
        raise InputError(f"{path} was measured on another teacher; measure this one with `datafree statistics`")
    return found
