"""Torchvision's own networks, as `torchvision:NAME`: their arguments, weights and preprocessing.

Torchvision builds them for three channels. For another number the first convolution is replaced, which is what people do by
hand; the names of the weights stay the same.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from datafree.classifier import Classifier
from datafree.networks.building import require_bounded, require_plain_arguments, sketch
from datafree.types import InputError, Preprocessing, suggestion

PREFIX = "torchvision:"
AUXILIARY = ("googlenet", "inception_v3")
"""networks with heads that are only used in training; they are built without these"""
AUXILIARY_HEADS = ("aux1.", "aux2.", "AuxLogits.")
"""beginnings of the names of their weights"""
SIZE_ARGUMENTS = {"vit_": "image_size", "maxvit_": "input_size"}
"""beginning of the name of a network that is built for one size of images, and the argument that says it"""
CHANNELS = 3


def names() -> list[str]:
    """Return the names of torchvision's image classifiers, without prefix."""
    import torchvision

    return torchvision.models.list_models(module=torchvision.models)


def blueprint(name: str, *, channels: int = CHANNELS, **arguments: Any) -> nn.Module:
    """Create a network without memory for its weights. No random number is drawn.

    Args:
        name: A name of `names()`.
        channels: Channels of an image.
        arguments: Arguments of the network, checked; `num_classes` among them.

    Raises:
        Exception: Whatever torchvision raises.
    """
    return sketch(lambda: _build(name, channels, arguments))


def _build(name: str, channels: int, arguments: Mapping[str, Any]) -> nn.Module:
    import torchvision

    model = torchvision.models.get_model(name, weights=None, **{**fixed_arguments(name), **arguments})
    if channels != CHANNELS:
        replace_first_convolution(model, channels)
    return model


def fixed_arguments(name: str) -> dict[str, Any]:
    """Return the arguments of networks with auxiliary heads: without these, and with torch's usual initial weights."""
    return {"aux_logits": False, "init_weights": False} if name in AUXILIARY else {}


def replace_first_convolution(model: nn.Module, channels: int) -> None:
    """Replace the first convolution by an untrained one with another number of input channels, in place."""
    name, layer = next((name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d))
    new = nn.Conv2d(
        channels,
        layer.out_channels,
        cast(Any, layer.kernel_size),
        stride=cast(Any, layer.stride),
        padding=cast(Any, layer.padding),
        dilation=cast(Any, layer.dilation),
        bias=layer.bias is not None,
        padding_mode=layer.padding_mode,
    )
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, new)


def create(
    spec: str,
    *,
    classes: Sequence[str] | int | None = None,
    shape: tuple[int, int, int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    preprocessing: Preprocessing | None = None,
    arguments: Mapping[str, Any] | None = None,
    multi_label: bool = False,
    fits: Callable[[nn.Module], object] | None = None,
) -> Classifier:
    """Create an untrained classifier around one of torchvision's networks. Arguments are those of `teachers.create`.

    Args:
        spec: `torchvision:NAME`, or `torchvision:NAME.TAG` with the tag of torchvision's weights.
        classes: Names or number of the classes. Default: those of torchvision's weights.
        shape: Channels, height and width of an image. Default: those of torchvision's weights.
        mean: Mean of the pixels per channel. Default: that of torchvision's weights.
        std: Standard deviation of the pixels per channel. Default: that of torchvision's weights.
        preprocessing: How image files of another size are resized and cropped. Default: as for torchvision's weights.
        arguments: Further arguments of the network: numbers and short words, e.g. `{"dropout": 0.1}`.
        multi_label: Whether an image can have several labels.
        fits: Checks the blueprint of the network before memory is allocated.

    Raises:
        InputError: If the network is unknown or too large, or cannot have this shape or these arguments, or `fits` raises it.
    """
    name, facts = described(spec)
    arguments = dict(arguments or {})
    require_plain_arguments(arguments, spec)
    count = len(facts.meta["categories"]) if classes is None else classes if isinstance(classes, int) else len(classes)
    presets = facts.transforms()
    size = presets.crop_size[0]
    shape = shape or (CHANNELS, size, size)
    require_bounded(shape, count)
    own = size_arguments(name, shape) | arguments
    try:
        plan = blueprint(name, channels=shape[0], num_classes=count, **own)
    except Exception as fault:  # torchvision may raise anything
        why = str(fault).splitlines()[0] if str(fault) else type(fault).__name__
        raise InputError(f"network {spec!r} could not be created ({why}); give arguments that it accepts") from fault
    if fits is not None:
        fits(plan)
    model = _build(name, shape[0], {"num_classes": count, **own})
    cast(Any, model).pretrained_cfg = {"architecture": f"{PREFIX}{name}", "model_args": arguments}
    matches = shape[0] == CHANNELS
    return Classifier(
        model,
        shape=shape,
        classes=classes if classes is not None else count,
        mean=mean or (presets.mean if matches else (sum(presets.mean) / CHANNELS,)),
        std=std or (presets.std if matches else (sum(presets.std) / CHANNELS,)),
        preprocessing=preprocessing or preprocessing_of(presets),
        multi_label=multi_label,
    )


def size_arguments(name: str, shape: tuple[int, int, int]) -> dict[str, Any]:
    """Return the argument that says the size of the images, for the networks that have one.

    Raises:
        InputError: If the network takes square images only, and these are not.
    """
    argument = next((word for start, word in SIZE_ARGUMENTS.items() if name.startswith(start)), "")
    if argument == "image_size":
        if shape[1] != shape[2]:
            raise InputError(
                f"network {PREFIX + name!r} takes square images only, not {shape}; give an equal height and width"
            )
        return {argument: shape[1]}
    return {argument: tuple(shape[1:])} if argument else {}


def described(spec: str) -> tuple[str, Any]:
    """Return the name of a network and torchvision's description of its weights, an entry of its enumeration.

    Raises:
        InputError: If torchvision has no such classifier, or no such weights.
    """
    import torchvision

    name, _, tag = spec.removeprefix(PREFIX).partition(".")
    if name not in names():
        raise InputError(f"network {name!r} is unknown to torchvision{suggestion(name, names())}")
    entries = torchvision.models.get_model_weights(name)
    tags = [entry.name for entry in entries]
    if tag and tag not in (*tags, "DEFAULT"):
        raise InputError(
            f"network {name!r} has no weights {tag!r}{suggestion(tag, tags)}; choose one of {', '.join(tags)}"
        )
    return name, entries[tag or "DEFAULT"]


def preprocessing_of(presets: Any) -> Preprocessing:
    """Return the preprocessing of torchvision's own transforms."""
    return Preprocessing(
        crop_pct=presets.crop_size[0] / presets.resize_size[0], interpolation=presets.interpolation.value
    )


def categories(spec: str) -> tuple[str, ...]:
    """Return the class names of torchvision's weights; equal ones get their index, so that each is there once."""
    listed = described(spec)[1].meta["categories"]
    return tuple(f"{name} ({index})" if listed.count(name) > 1 else name for index, name in enumerate(map(str, listed)))


def pretrained_file(spec: str, download: bool) -> Path:
    """Return the file with torchvision's weights of a network.

    Args:
        spec: `torchvision:NAME` or `torchvision:NAME.TAG`.
        download: Download the file if it is not on this machine yet.

    Raises:
        InputError: If it is not and must not or cannot be downloaded.
    """
    from timm.models._hub import download_cached_file  # the same folder as torchvision's, and the hash is checked
    from torch.hub import get_dir

    name, entry = described(spec)
    path = Path(get_dir()) / "checkpoints" / entry.url.rpartition("/")[2]
    if path.is_file():
        return path
    if not download:
        raise InputError(
            f"torchvision's weights of {name} are not on this machine, and a resumed run downloads nothing; download them "
            f'with `python -c "import torchvision; torchvision.models.{name}(weights={entry.name!r})"` and resume again'
        )
    try:
        return Path(download_cached_file(entry.url, check_hash=True))
    except Exception as fault:  # the network may raise anything
        why = str(fault).splitlines()[0] if str(fault) else type(fault).__name__
        raise InputError(
            f"torchvision's weights of {name} could not be downloaded ({why}); give --weights or a local-dir: folder"
        ) from fault


def recognise(model: nn.Module, classes: int) -> str:
    """Return which of torchvision's networks a module is; empty if it is none.

    It is one if the names and shapes of its weights are those of a network that is built by the file of its class.

    Args:
        model: Any module.
        classes: Number of its outputs.
    """
    import torchvision

    home = type(model).__module__
    if not home.startswith("torchvision.models."):
        return ""
    convolution = next((layer for layer in model.modules() if isinstance(layer, nn.Conv2d)), None)
    channels = convolution.in_channels if convolution is not None else CHANNELS
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    for name in names():
        if torchvision.models.get_model_builder(name).__module__ != home:
            continue
        sizes = {"image_size": getattr(model, "image_size", None)} if name.startswith("vit_") else {}
        try:
            other = blueprint(name, channels=channels, num_classes=classes, **sizes)
        except Exception:  # not with these sizes
            continue
        if {name: tensor.shape for name, tensor in other.state_dict().items()} == shapes:
            return name
    return ""


def without_auxiliary_heads(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights without those of heads that are only used in training."""
    return {name: tensor for name, tensor in weights.items() if not name.startswith(AUXILIARY_HEADS)}
