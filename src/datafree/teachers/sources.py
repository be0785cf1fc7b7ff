"""Where a classifier comes from and where it goes: timm names, timm's folder layout, a file of weights.

Files are hostile until proven otherwise: safetensors, or `torch.load` with `weights_only=True` written out. There is
no second, laxer try.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from datafree.classifier import Classifier, state
from datafree.files import replacing
from datafree.networks.input_fitting import arguments_for, require_plain
from datafree.networks.pruning_surgery import narrow, recipe, recorded
from datafree.networks.weights import fit, read_weights, require_finite
from datafree.types import InputError, Preprocessing, nearest

WEIGHTS, CONFIG = "model.safetensors", "config.json"
SAID_ELSEWHERE = ("in_chans", "num_classes", "widths")
"""arguments of a folder's network that are read from other entries; widths are looked at before anything is made of them"""


def create(
    name: str,
    *,
    classes: Sequence[str] | int | None = None,
    shape: tuple[int, int, int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    view: Preprocessing | None = None,
    pretrained: bool = False,
    arguments: Mapping[str, Any] | None = None,
) -> Classifier:
    """A network by its timm name, the papers' networks included, as a classifier.

    Args:
        name: As in `timm.list_models()`, or one of `datafree.networks.zoo.NETWORKS`.
        classes: Names of the classes or their number; the network's own number if not given.
        shape: Channels, height and width; the network's own if not given.
        mean: Normalisation, per channel; the network's own if not given.
        std: Likewise.
        view: What it is shown of image files; the network's own if not given.
        pretrained: Fetch the weights that timm knows.
        arguments: Further ones of the network, as timm takes them: `{"patch_size": 2, "depth": 4}`. What a network made
            for one size of image needs for another is added; see `fitting.arguments_for`.

    Raises:
        InputError: If timm has no such network, it cannot take this shape, or its weights cannot be fetched.
    """
    import timm

    import datafree.networks.target_net  # noqa: F401  and what amalgamation makes
    import datafree.networks.zoo  # noqa: F401  registers the papers' networks  # noqa: F401  registers the papers' networks

    if not timm.is_model(name.split(".")[0]):
        raise InputError(f"network {name!r} is unknown to timm{nearest(name, timm.list_models())}")
    if name != "target_net":  # which names networks, and looks at them itself
        require_plain(arguments or {}, name)
    fitted = arguments_for(name, shape[1:], arguments or {}) if shape else dict(arguments or {})
    wanted: dict[str, Any] = dict(fitted)
    if classes is not None:
        wanted["num_classes"] = classes if isinstance(classes, int) else len(classes)
    if shape is not None:
        wanted["in_chans"] = shape[0]
    try:
        model = timm.create_model(name, pretrained=pretrained, **wanted)
    except Exception as fault:  # timm, the hub and the network below them each raise their own
        why = str(fault).splitlines()[0] if str(fault) else type(fault).__name__
        mend = "give --weights, or a local-dir: folder" if pretrained else "give settings that it takes"
        raise InputError(f"network {name!r} could not be made ({why}); {mend}") from fault
    cfg = cast(dict[str, Any], model.pretrained_cfg)
    cfg["model_args"] = fitted  # so that they travel with the model and are saved with it
    return Classifier(
        model,
        shape=shape or tuple(cfg["input_size"]),
        classes=classes if classes is not None else int(model.num_classes),  # type: ignore[arg-type]
        mean=mean or _for_channels(cfg["mean"], shape),
        std=std or _for_channels(cfg["std"], shape),
        view=view or preprocessing_in(cfg),
    )


def preprocessing_in(cfg: Mapping[str, Any]) -> Preprocessing:
    """What a network is shown of image files, as timm's configuration of it says.

    Raises:
        InputError: If it says what timm does not know.
    """
    return Preprocessing(**{part: cfg[part] for part in ("crop_pct", "crop_mode", "interpolation") if cfg.get(part)})


def _for_channels(values: Sequence[float], shape: tuple[int, int, int] | None) -> Sequence[float]:
    """One value for all channels where a network made for three is used with another number."""
    fits = shape is None or len(values) in (1, shape[0])
    return values if fits else (sum(values) / len(values),)


def load(spec: str, *, weights: str = "", **settings: Any) -> Classifier:
    """A trained classifier.

    Args:
        spec: `local-dir:FOLDER` in timm's layout (`config.json` and `model.safetensors`), or a timm name.
        weights: With a timm name: a file of weights, safetensors or a state dict saved by torch. Without it timm
            fetches its own.
        settings: As for `create`.

    Raises:
        InputError: If something is missing, truncated, unsafe, of another architecture, or not finite.
    """
    kind, _, folder = spec.partition("local-dir:")
    if kind:
        classifier = create(spec, pretrained=not weights, **settings)
        if weights:
            fit(classifier.model, read_weights(Path(weights)), weights)
    else:
        if weights or settings:
            given = ", ".join(["weights"] * bool(weights) + list(settings))
            raise InputError(f"{spec} says itself what it is; leave {given} out, or change its {CONFIG}")
        classifier = load_folder(Path(folder))
    require_finite(classifier, spec)
    return classifier.eval()


def load_folder(folder: Path) -> Classifier:
    """A classifier from a folder in timm's layout.

    Raises:
        InputError: As for `load`.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise InputError(f"{path} does not exist; a local-dir: folder holds {CONFIG} and {WEIGHTS}")
    try:
        config = json.loads(path.read_text())
        cfg, names = config["pretrained_cfg"], config.get("label_names")
        classifier = create(
            config["architecture"],
            classes=tuple(names) if names else int(config["num_classes"]),
            shape=tuple(cfg["input_size"]),
            mean=cfg["mean"],
            std=cfg["std"],
            view=preprocessing_in(cfg),
            arguments={n: value for n, value in config.get("model_args", {}).items() if n not in SAID_ELSEWHERE},
        )
        classifier.multi_label = bool(config.get("multi_label", False))
        widths = recorded(config, classifier.model)
        if widths:
            narrow(classifier.model, classifier.shape, widths)
    except (ValueError, KeyError, TypeError, AttributeError) as fault:
        if isinstance(fault, InputError):
            raise
        raise InputError(f"{path} is not a model configuration of timm ({fault!r}); write the folder again") from fault
    fit(classifier.model, read_weights(folder / WEIGHTS), str(folder / WEIGHTS))
    return classifier


def save_folder(classifier: Classifier, folder: Path, card: str = "") -> None:
    """Writes a classifier so that `timm.create_model("local-dir:FOLDER")` loads it, with datafree absent if it can.

    Of a pruned network whose architecture has no argument for its widths, `config.json` has them layer by layer; how to
    load it without datafree is in its model card. The folder appears at once and complete, or not at all.
    """
    model = classifier.model
    narrowed = narrowing_of(classifier)
    config = {
        "architecture": architecture(model),
        "num_classes": len(classifier.classes),
        "label_names": list(classifier.classes),
        **narrowed,
        "model_args": {
            "in_chans": classifier.shape[0],
            **arguments_of(model),
            **narrowed.get("model_args", {}),
        },
        "multi_label": classifier.multi_label,
        "pretrained_cfg": {
            "input_size": list(classifier.shape),
            "num_classes": len(classifier.classes),
            "mean": _per_channel(classifier.mean, classifier.shape[0]),
            "std": _per_channel(classifier.std, classifier.shape[0]),
            **asdict(classifier.view),
        },
    }
    with replacing(folder) as new:
        save_file(state(model), new / WEIGHTS)
        (new / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
        if card:
            (new / "README.md").write_text(card)


def architecture(model: nn.Module) -> str:
    """The name by which timm makes it, before it is pruned.

    Raises:
        InputError: If timm does not know it.
    """
    name = cast(dict[str, str], getattr(model, "pretrained_cfg", {})).get("architecture")
    if not name:
        raise InputError(f"{type(model).__name__} is no network of timm's; register it there to name and save it")
    return name


def home_of(model: nn.Module) -> str:
    """The module that registers its architecture in timm: one of timm's own, or of datafree's.

    Raises:
        InputError: If timm does not know it.
    """
    import timm

    return timm.model_entrypoint(architecture(model)).__module__


def arguments_of(model: nn.Module) -> dict[str, Any]:
    """The arguments with which its architecture's name makes it as it is, besides classes and channels."""
    return dict(cast(dict[str, Any], getattr(model, "pretrained_cfg", {})).get("model_args") or {})


def narrowing_of(classifier: Classifier) -> dict[str, Any]:
    """How it differs from what its architecture's name makes, if it was pruned; see `narrowing.recipe`."""
    with torch.random.fork_rng(devices=[]):
        name, arguments = architecture(classifier.model), arguments_of(classifier.model)
        original = create(name, classes=len(classifier.classes), shape=classifier.shape, arguments=arguments)
    return recipe(classifier.model, original.model)


def _per_channel(values: Tensor, channels: int) -> list[float]:
    return [round(value, 6) for value in values.flatten().expand(channels).tolist()]
