"""Creating, loading and saving classifiers: timm networks, folders in timm's layout, and weights files.

Files are untrusted; see `networks.weights`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from datafree.classifier import Classifier, cpu_state_dict
from datafree.files import atomic_folder
from datafree.networks.input_fitting import arguments_for_size, require_numeric_arguments
from datafree.networks.pruning_surgery import narrow, widths_from_config, widths_to_config
from datafree.networks.weights import load_weights, read_weights, require_finite
from datafree.types import InputError, Preprocessing, suggestion

LOCAL = "local-dir:"
"""prefix of the name of a network that is a folder"""
WEIGHTS, CONFIG = "model.safetensors", "config.json"
SEPARATE_ARGUMENTS = ("in_chans", "num_classes", "widths")
"""entries of `model_args` that are not passed to timm: other entries define the first two, and widths must be checked"""


def create(
    name: str,
    *,
    classes: Sequence[str] | int | None = None,
    shape: tuple[int, int, int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    preprocessing: Preprocessing | None = None,
    pretrained: bool = False,
    arguments: Mapping[str, Any] | None = None,
) -> Classifier:
    """Create a classifier from the timm name of its network. The papers' networks are included.

    Args:
        name: One of `timm.list_models()` or `datafree.networks.zoo.NETWORKS`.
        classes: Names or number of the classes. Default: the network's own.
        shape: Channels, height and width of an image. Default: the network's own.
        mean: Mean of the pixels, in [0, 1], per channel. Default: the network's own.
        std: Standard deviation of the pixels, per channel. Default: the network's own.
        preprocessing: How image files of another size are resized and cropped. Default: the network's own.
        pretrained: Download the weights that timm provides.
        arguments: Further arguments of the network, e.g. `{"patch_size": 2, "depth": 4}`. If a network built for one
            image size needs other arguments for `shape`, they are added.

    Raises:
        InputError: If the network is unknown, cannot have this shape, or its weights cannot be downloaded.
    """
    import timm

    import datafree.networks.target_net
    import datafree.networks.zoo  # noqa: F401  both register networks in timm

    if not timm.is_model(name.split(".")[0]):
        raise InputError(f"network {name!r} is unknown to timm{suggestion(name, timm.list_models())}")
    if name != "target_net":  # its arguments include names of networks, which it checks itself
        require_numeric_arguments(arguments or {}, name)
    model_args = arguments_for_size(name, shape[1:], arguments or {}) if shape else dict(arguments or {})
    classes_and_channels: dict[str, Any] = {}
    if classes is not None:
        classes_and_channels["num_classes"] = classes if isinstance(classes, int) else len(classes)
    if shape is not None:
        classes_and_channels["in_chans"] = shape[0]
    try:
        model = timm.create_model(name, pretrained=pretrained, **(model_args | classes_and_channels))
    except Exception as fault:  # timm, the model hub and the network may raise anything
        why = str(fault).splitlines()[0] if str(fault) else type(fault).__name__
        fix = f"give --weights or a {LOCAL} folder" if pretrained else "give arguments that it accepts"
        raise InputError(f"network {name!r} could not be created ({why}); {fix}") from fault
    cfg = cast(dict[str, Any], model.pretrained_cfg)
    cfg["model_args"] = model_args  # so that `save_folder` can save them
    return Classifier(
        model,
        shape=shape or tuple(cfg["input_size"]),
        classes=classes if classes is not None else int(model.num_classes),  # type: ignore[arg-type]
        mean=mean or _for_channels(cfg["mean"], shape),
        std=std or _for_channels(cfg["std"], shape),
        preprocessing=preprocessing or preprocessing_from_config(cfg),
    )


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


def load(spec: str, *, weights: str | Path = "", **settings: Any) -> Classifier:
    """Load a trained classifier, in evaluation mode.

    Args:
        spec: `local-dir:FOLDER` for a folder in timm's layout (`config.json` and `model.safetensors`), or a timm name.
        weights: With a timm name, a weights file: safetensors, or a state dict saved by torch. If empty, timm downloads
            its own weights.
        settings: With a timm name, further arguments of `create`.

    Raises:
        InputError: If a file is missing, truncated or unsafe, or the weights do not match the network or are not
            finite.
    """
    if spec.startswith(LOCAL):
        folder = spec.removeprefix(LOCAL)
        if weights:
            raise InputError(f"{folder} already contains weights; remove --weights")
        if settings:
            raise InputError(f"{folder}'s {CONFIG} already defines {', '.join(settings)}; remove these options")
        classifier = load_folder(folder)
    else:
        classifier = create(spec, pretrained=not weights, **settings)
        if weights:
            load_weights(classifier.model, read_weights(weights), str(weights))
    require_finite(classifier, spec)
    return classifier.eval()


def load_folder(folder: str | Path) -> Classifier:
    """Load a classifier from a folder in timm's layout.

    Raises:
        InputError: If a file is missing, truncated or unsafe, or the weights do not match the configuration.
    """
    folder = Path(folder)
    path = folder / CONFIG
    if not path.is_file():
        raise InputError(f"{path} does not exist; give a folder with {CONFIG} and {WEIGHTS}")
    try:
        classifier = _create_from_config(json.loads(path.read_text()))
    except (ValueError, KeyError, TypeError, AttributeError) as fault:
        if isinstance(fault, InputError):
            raise
        raise InputError(f"{path} is not a timm model configuration ({fault!r}); save the network again") from fault
    load_weights(classifier.model, read_weights(folder / WEIGHTS), str(folder / WEIGHTS))
    return classifier


def _create_from_config(config: Mapping[str, Any]) -> Classifier:
    cfg, names, model_args = config["pretrained_cfg"], config.get("label_names"), config.get("model_args", {})
    classifier = create(
        config["architecture"],
        classes=tuple(names) if names else int(config["num_classes"]),
        shape=tuple(cfg["input_size"]),
        mean=cfg["mean"],
        std=cfg["std"],
        preprocessing=preprocessing_from_config(cfg),
        arguments={name: value for name, value in model_args.items() if name not in SEPARATE_ARGUMENTS},
    )
    classifier.multi_label = bool(config.get("multi_label", False))
    widths = widths_from_config(config, classifier.model)
    if widths:
        narrow(classifier.model, classifier.shape, widths)
    return classifier


def save_folder(classifier: Classifier, folder: str | Path, card: str = "") -> None:
    """Save a classifier so that `timm.create_model("local-dir:FOLDER")` can load it.

    An architecture of timm's own can be loaded without datafree. If the network was pruned and its architecture has no
    argument for its widths, `config.json` lists them by layer, and the model card says how to load it without datafree.
    The folder is written atomically and replaces an existing one.

    Args:
        classifier: A classifier whose network is registered in timm.
        folder: Output folder.
        card: Text of the model card, `README.md`. If empty, no card is written.

    Raises:
        InputError: If the network is not registered in timm, or the folder cannot be written.
    """
    model = classifier.model
    pruned = pruned_config(classifier)
    config = {
        "architecture": architecture(model),
        "num_classes": len(classifier.classes),
        "label_names": list(classifier.classes),
        **pruned,
        "model_args": {
            "in_chans": classifier.shape[0],
            **arguments_of(model),
            **pruned.get("model_args", {}),
        },
        "multi_label": classifier.multi_label,
        "pretrained_cfg": {
            "input_size": list(classifier.shape),
            "num_classes": len(classifier.classes),
            "mean": _per_channel(classifier.mean, classifier.shape[0]),
            "std": _per_channel(classifier.std, classifier.shape[0]),
            **asdict(classifier.preprocessing),
        },
    }
    with atomic_folder(Path(folder)) as new:
        save_file(cpu_state_dict(model), new / WEIGHTS)
        (new / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
        if card:
            (new / "README.md").write_text(card)


def architecture(model: nn.Module) -> str:
    """Return the timm name of a network's architecture.

    Raises:
        InputError: If the network is not registered in timm.
    """
    name = cast(dict[str, str], getattr(model, "pretrained_cfg", {})).get("architecture")
    if not name:
        raise InputError(f"{type(model).__name__} is not registered in timm; register it to save it")
    return name


def registering_module(model: nn.Module) -> str:
    """Return the name of the module that registers a network's architecture in timm: one of timm's or of datafree's.

    Raises:
        InputError: If the network is not registered in timm.
    """
    import timm

    return timm.model_entrypoint(architecture(model)).__module__


def arguments_of(model: nn.Module) -> dict[str, Any]:
    """Return the arguments with which timm creates a network's architecture, without classes and channels."""
    return dict(cast(dict[str, Any], getattr(model, "pretrained_cfg", {})).get("model_args") or {})


def pruned_config(classifier: Classifier) -> dict[str, Any]:
    """Return the entries of `config.json` with the widths of a pruned network; see `widths_to_config`."""
    with torch.random.fork_rng(devices=[]):
        name, arguments = architecture(classifier.model), arguments_of(classifier.model)
        original = create(name, classes=len(classifier.classes), shape=classifier.shape, arguments=arguments)
    return widths_to_config(classifier.model, original.model)


def _per_channel(values: Tensor, channels: int) -> list[float]:
    return [round(value, 6) for value in values.flatten().expand(channels).tolist()]
