"""Creating classifiers from the name of their network: one of timm's, of the papers', or of torchvision's."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from torch import nn

from datafree.classifier import Classifier
from datafree.networks.building import (
    require_bounded,
    require_buildable,
    require_known_network,
    require_plain_arguments,
)
from datafree.networks.input_fitting import arguments_for_size, own_size_arguments
from datafree.teachers.hub import downloaded_weights, pretrained_source
from datafree.teachers.libraries import torchvision_networks
from datafree.types import InputError, Preprocessing


def create(
    name: str,
    *,
    classes: Sequence[str] | int | None = None,
    shape: tuple[int, int, int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    preprocessing: Preprocessing | None = None,
    pretrained: bool = False,
    download: bool = True,
    arguments: Mapping[str, Any] | None = None,
    multi_label: bool = False,
    fits: Callable[[nn.Module], object] | None = None,
) -> Classifier:
    """Create a classifier from the name of its network.

    Args:
        name: One of `timm.list_models()` or `datafree.networks.zoo.NETWORKS`; or `torchvision:NAME`.
        classes: Names or number of the classes. Default: the network's own.
        shape: Channels, height and width of an image. Default: the network's own.
        mean: Mean of the pixels, in [0, 1], per channel. Default: the network's own.
        std: Standard deviation of the pixels, per channel. Default: the network's own.
        preprocessing: How image files of another size are resized and cropped. Default: the network's own.
        pretrained: Load the weights that timm provides.
        download: Download these weights if they are not on this machine yet.
        arguments: Further arguments of the network: numbers and short words, e.g. `{"patch_size": 2, "act_layer": "gelu"}`.
            If a network built for one image size needs other arguments for `shape`, they are added.
        multi_label: Whether an image can have several labels.
        fits: Checks the blueprint of the network before memory is allocated, if it is to get weights. It keeps its own patch
            size then, as one with `pretrained` weights does; only networks to be trained are fitted to a size.

    Raises:
        InputError: If the network is unknown, too large, cannot have this shape or these arguments, its weights cannot be
            downloaded, or `fits` raises it.
    """
    settings = {"classes": classes, "shape": shape, "mean": mean, "std": std, "preprocessing": preprocessing}
    settings |= {"arguments": arguments, "multi_label": multi_label, "fits": fits}
    if not name.startswith(torchvision_networks.PREFIX):
        return _create_timm(name, pretrained=pretrained, download=download, **settings)
    if pretrained:
        raise InputError(f"create makes no pretrained network of torchvision's; use datafree.load({name!r})")
    return torchvision_networks.create(name, **settings)


def _create_timm(
    name: str,
    *,
    classes: Sequence[str] | int | None,
    shape: tuple[int, int, int] | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    preprocessing: Preprocessing | None,
    pretrained: bool,
    download: bool,
    arguments: Mapping[str, Any] | None,
    multi_label: bool,
    fits: Callable[[nn.Module], object] | None,
) -> Classifier:
    """Create a classifier around one of timm's networks or of the papers'; see `create`."""
    import datafree.networks.target_net
    import datafree.networks.zoo  # noqa: F401  both register networks in timm

    require_known_network(name)
    require_plain_arguments(arguments or {}, name)
    count = classes if isinstance(classes, int) or classes is None else len(classes)
    require_bounded(shape, count)
    numbers = {"num_classes": count, "in_chans": shape[0] if shape else None}
    numbers = {argument: number for argument, number in numbers.items() if number is not None}
    fitted = own_size_arguments if pretrained or fits is not None else arguments_for_size
    try:
        model_args = fitted(name, shape[1:], arguments or {}) if shape else dict(arguments or {})
        plan = require_buildable(name, model_args, **numbers)
    except Exception as fault:  # timm and the network may raise anything
        raise _not_created(name, fault, "give arguments that it accepts") from fault
    if fits is not None and plan is not None:
        fits(plan)
    overlay = {"file": str(downloaded_weights(name))} if pretrained and not download else None
    model = _build(name, pretrained, {**model_args, **numbers, "pretrained_cfg_overlay": overlay})
    cfg = cast(dict[str, Any], model.pretrained_cfg)
    cfg["model_args"] = model_args  # so that `save_folder` can save them
    if fits is not None and plan is None:
        fits(model)
    classifier = Classifier(
        model,
        shape=shape or tuple(cfg["input_size"]),
        classes=classes if classes is not None else int(model.num_classes),  # type: ignore[arg-type]
        mean=mean or _for_channels(cfg["mean"], shape),
        std=std or _for_channels(cfg["std"], shape),
        preprocessing=preprocessing or preprocessing_from_config(cfg),
        multi_label=multi_label,
    )
    if pretrained:
        classifier.notes = (
            *classifier.notes,
            f"the weights of {name} are those that timm provides ({pretrained_source(name)})",
        )
    return classifier


def _build(name: str, pretrained: bool, arguments: Mapping[str, Any]) -> nn.Module:
    import timm

    try:
        return timm.create_model(name, pretrained=pretrained, **arguments)
    except Exception as fault:  # timm, the model hub and the network may raise anything
        fix = "give --weights or a local-dir: folder" if pretrained else "give arguments that it accepts"
        raise _not_created(name, fault, fix) from fault


def _not_created(name: str, fault: Exception, fix: str) -> InputError:
    why = str(fault).splitlines()[0] if str(fault) else type(fault).__name__
    return InputError(f"network {name!r} could not be created ({why}); {fix}")


def preprocessing_from_config(cfg: Mapping[str, Any]) -> Preprocessing:
    """Return the preprocessing of image files in a timm configuration.

    Raises:
        InputError: If a value is not one of timm's.
    """
    return Preprocessing(**{name: cfg[name] for name in ("crop_pct", "crop_mode", "interpolation") if cfg.get(name)})


def _for_channels(values: Sequence[float], shape: tuple[int, int, int] | None) -> Sequence[float]:
    """Average values per channel to a single one if the network is used with another number of channels."""
    matches = shape is None or len(values) in (1, shape[0])
    return values if matches else (sum(values) / len(values),)
