r"""Feature statistics: mean and variance of a teacher's features, measured on real images and stored in a file.

.. math:: \hat\mu_l = \mathbb{E}[f_l(x)], \quad \hat\sigma_l^2 = \mathbb{E}[f_l(x)^2] - \hat\mu_l^2

for each channel of each layer l, over images and positions. They replace the running statistics of batch norm for
teachers without batch norm. The file contains two numbers per channel and no image.

References:
    | Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion (Yin et al., 2020), section 3.2: without batch
    | norm, statistics of a small number of real images suffice
    | https://arxiv.org/abs/1912.08795
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors
from torch import Tensor, nn

from datafree.classifier import Classifier, LayerCall, fingerprint, frozen, hash_tensors, last_layer, record
from datafree.ensemble import whole_teacher
from datafree.files import parse_json, read_bytes
from datafree.files.validation import from_plain
from datafree.losses import LayerMoments, layer_moments
from datafree.types import Images, InputError

Channels = Float[Tensor, " c"]
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
FILE_LIMIT = 2**26
"""maximum size of a file of statistics in bytes"""


@dataclass(frozen=True)
class FeatureStatistics:
    """Mean and variance of each channel of some layers, and what they were measured on."""

    layers: Mapping[str, tuple[Channels, Channels]]
    """mean and biased variance by layer name, in the order in which the layers are called"""
    teacher: str
    """SHA-256 of the teacher's weights"""
    source: str
    """name of the real images, as given to `--data`"""
    images: int
    """number of real images"""

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The mean and variance of every layer under the names used in the file."""
        return {
            f"{name}.{statistic}": tensor
            for name, pair in self.layers.items()
            for statistic, tensor in zip(("mean", "var"), pair, strict=True)
        }

    @property
    def digest(self) -> str:
        """SHA-256 of everything: the tensors, the order of the layers, the teacher, the source and the number of images."""
        entries = [hash_tensors(self.tensors), list(self.layers), self.teacher, self.source, self.images]
        return hashlib.sha256(json.dumps(entries).encode()).hexdigest()

    def by_layer(self, teacher: Classifier) -> dict[nn.Module, tuple[Channels, Channels]]:
        """Return mean and variance by module of the teacher, on its device."""
        layers = feature_layers(whole_teacher(teacher).model)
        return {layers[n]: (mean.to(teacher.device), var.to(teacher.device)) for n, (mean, var) in self.layers.items()}


def feature_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return the layers whose outputs count as features, by name.

    These are the convolutions. A network with at most one convolution, such as a transformer or a mixer, also
    contributes its fully connected layers, except the one that returns the logits.
    """
    layer_types = (*CONVOLUTIONS, nn.Linear)
    layers: dict[str, nn.Module] = {n: module for n, module in model.named_modules() if isinstance(module, layer_types)}
    convolutional = sum(isinstance(layer, CONVOLUTIONS) for layer in layers.values()) > 1
    last = last_layer(model)
    wanted = CONVOLUTIONS if convolutional else nn.Module
    return {name: layer for name, layer in layers.items() if isinstance(layer, wanted) and layer is not last}


def features_of(call: LayerCall) -> Tensor:
    """Return a copy of the output of a layer in shape `(n, c, *)`. Fully connected layers have the channels last.

    It is a copy because the next layer may change the output in place.
    """
    features = call.output.clone()
    return features if isinstance(call.module, CONVOLUTIONS) else features.movedim(-1, 1)


class Moments:
    """Mean and variance of each channel in one pass, in double precision.

    Sums are taken around a shift, the mean of the first batch, because the difference of two large sums of squares
    would lose the variance of a channel that is far from zero.
    """

    def __init__(self) -> None:
        self.count = 0
        self.shift = self.sums = self.squares = torch.zeros(0, dtype=torch.float64)

    def add(self, features: Tensor) -> None:
        """Add features of shape `(n, c, *)`."""
        rows = features.movedim(1, -1).flatten(0, -2).double()
        if not self.count:
            self.shift = rows.mean(0)
            self.sums = self.squares = torch.zeros_like(self.shift)
        self.count += len(rows)
        self.sums = self.sums + (rows - self.shift).sum(0)
        self.squares = self.squares + (rows - self.shift).square().sum(0)

    def result(self) -> tuple[Channels, Channels]:
        """Return mean and biased variance of each channel, in float32 on the CPU."""
        offset = self.sums / self.count
        var = (self.squares / self.count - offset.square()).clamp_min(0)
        return (self.shift + offset).float().cpu(), var.float().cpu()


def measure_features(teacher: Classifier, batches: Iterable[Images], source: str = "") -> FeatureStatistics:
    """Measure the feature statistics of a teacher in one pass over real images. No labels are needed.

    Args:
        teacher: The teacher; it is not changed.
        batches: Batches of pixels in [0, 1], of the shape that the teacher takes.
        source: Name of the images, stored with the statistics.

    Raises:
        InputError: If the teacher has no convolution or fully connected layer besides the one that returns the logits.
    """
    layers = feature_layers(teacher.model)
    moments = {layer: Moments() for layer in layers.values()}
    names, images = {layer: name for name, layer in layers.items()}, 0

    def add(call: LayerCall) -> None:
        moments[call.module].add(features_of(call))

    with frozen(teacher), torch.no_grad(), record(*moments, function=add):
        for batch in batches:
            teacher(batch.to(teacher.device))
            images += len(batch)
    measured = {names[layer]: moment.result() for layer, moment in moments.items() if moment.count}
    if not measured:
        raise InputError(
            "the teacher has no layer whose features can be measured; use a method that needs no statistics"
        )
    return FeatureStatistics(measured, fingerprint(teacher.model), source, images)


def measured_moments(stored: Mapping[nn.Module, tuple[Channels, Channels]], call: LayerCall) -> LayerMoments:
    """Return the statistics of a layer's features next to its measured ones, for `record`; see `statistics_distance`.

    Args:
        stored: Mean and variance by layer; see `FeatureStatistics.by_layer`.
        call: A call of one of these layers.
    """
    return layer_moments(features_of(call), stored[call.module])


def save(statistics: FeatureStatistics, path: Path) -> None:
    """Write the statistics to a safetensors file, atomically."""
    from safetensors.torch import save_file

    from datafree.files import atomic_file

    metadata = {
        "datafree": "feature statistics",
        "teacher": statistics.teacher,
        "source": statistics.source,
        "images": str(statistics.images),
        "layers": "\n".join(statistics.layers),
        "sha256": statistics.digest,
    }
    with atomic_file(path) as temporary:
        save_file(statistics.tensors, temporary, metadata)


@dataclass(frozen=True, kw_only=True)
class _Metadata:
    """The metadata in the header of the file; the format has texts only."""

    datafree: Literal["feature statistics"]
    teacher: str
    source: str
    images: str
    layers: str
    sha256: str

    def __post_init__(self) -> None:
        if not (self.images.isascii() and self.images.isdecimal() and 0 < len(self.images) < 20):
            raise InputError("images is not a number")


def load(path: str, teacher: Classifier) -> FeatureStatistics:
    """Load the statistics of this teacher.

    Raises:
        InputError: If the file is missing or damaged, was measured on another teacher, or does not fit its layers.
    """
    teacher = whole_teacher(teacher)
    content = read_bytes(path, FILE_LIMIT, follow_links=True)
    fix = "it is damaged or was not written by `datafree statistics`; measure again"
    try:
        tensors = parse_tensors(content)
        header = parse_json(content[8 : 8 + int.from_bytes(content[:8], "little")].decode(), path)
        metadata = from_plain(_Metadata, header.get("__metadata__"), path)
        names = metadata.layers.split("\n")
        if any(tensor.ndim != 1 for tensor in tensors.values()):
            raise InputError("there is one number per channel")
        layers = {name: (tensors.pop(f"{name}.mean"), tensors.pop(f"{name}.var")) for name in names}
        statistics = FeatureStatistics(layers, metadata.teacher, metadata.source, int(metadata.images))
        intact = not tensors and metadata.sha256 == statistics.digest
    except (SafetensorError, UnicodeDecodeError, KeyError, InputError) as fault:
        raise InputError(f"{path} cannot be used: {fix}") from fault
    if not intact:
        raise InputError(f"{path} differs from its own SHA-256: {fix}")
    if statistics.teacher != fingerprint(teacher.model):
        raise InputError(f"{path} was measured on another teacher; measure this one with `datafree statistics`")
    _require_fit(statistics, teacher, path)
    return statistics


def _require_fit(statistics: FeatureStatistics, teacher: Classifier, path: str) -> None:
    """Check that there is one finite mean and one variance for each channel of some layers of the teacher.

    Raises:
        InputError: Names the first layer for which there is not.
    """
    known = feature_layers(teacher.model)
    for name, (mean, var) in statistics.layers.items():
        weight = known[name].weight if name in known else None
        fits = isinstance(weight, Tensor) and mean.shape == var.shape == weight.shape[:1]
        typed = mean.dtype == var.dtype == torch.float32
        if not (fits and typed and bool(mean.isfinite().all() and var.isfinite().all() and (var >= 0).all())):
            raise InputError(
                f"{path} has statistics of {name[:50]!r} that no layer of the teacher can have; measure again"
            )
