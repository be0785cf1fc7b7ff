"""Loading and saving classifiers as folders in timm's layout: `config.json` and `model.safetensors`.

Folders are untrusted. `manifest.json`, which timm ignores, has the hashes of both files.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from datafree.classifier import Classifier, cpu_state_dict
from datafree.files import atomic_folder, read_json, sha256_of
from datafree.files.validation import from_plain
from datafree.networks.pruning_surgery import narrow, widths_from_config, widths_to_config
from datafree.randomness import RandomNumbers
from datafree.synthesis.outputs import inspect_outputs
from datafree.teachers.creation import create, preprocessing_from_config
from datafree.teachers.rebuilding import recorded_arguments, require_same_function
from datafree.types import InputError
from datafree.weights.reading import load_weights, read_weights, require_finite
from datafree.weights.tensor_file import write_tensors

LOCAL = "local-dir:"
"""prefix of the name of a network that is a folder"""
WEIGHTS, CONFIG, MANIFEST = "model.safetensors", "config.json", "manifest.json"
SEPARATE_ARGUMENTS = ("in_chans", "num_classes", "widths")
"""entries of `model_args` that are not passed to timm: other entries define the first two, and widths must be checked"""


@dataclass(frozen=True)
class PretrainedConfig:
    """The entries of `pretrained_cfg` that are used."""

    input_size: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_pct: float | None = None
    crop_mode: str | None = None
    interpolation: str | None = None


@dataclass(frozen=True)
class ModelConfig:
    """The entries of `config.json` that are used."""

    architecture: str
    pretrained_cfg: PretrainedConfig
    num_classes: int | None = None
    label_names: tuple[str, ...] | dict[str, str] | None = None
    multi_label: bool = False
    model_args: dict[str, Any] = field(default_factory=dict)
    widths: dict[str, int] = field(default_factory=dict)

    @property
    def classes(self) -> tuple[str, ...] | int:
        """Names of the classes, or their number.

        Raises:
            ValueError: If there is neither, or they contradict each other.
        """
        names = self.label_names or ()
        if isinstance(names, dict):
            names = tuple(names.get(str(index), str(index)) for index in range(len(names)))
        if names and self.num_classes not in (None, len(names)):
            raise ValueError(f"label_names has {len(names)} names for {self.num_classes} classes")
        if not names and self.num_classes is None:
            raise ValueError("num_classes is missing")
        return names or cast(int, self.num_classes)


def load_folder(folder: str | Path) -> Classifier:
    """Load a classifier from a folder in timm's layout.

    What to know about it is in its `notes`: that the folder has no hashes, that `config.json` was edited, or that the
    network returns probabilities.

    Raises:
        InputError: If a file is missing, truncated or unsafe, the weights do not match their hash or the configuration, or a
            value is not finite.
    """
    folder = Path(folder)
    path, weights_path = folder / CONFIG, folder / WEIGHTS
    if not path.exists():
        raise InputError(f"{path} does not exist; give a folder with {CONFIG} and {WEIGHTS}")
    config = read_config(path)
    weights = read_weights(weights_path)
    classifier = _create(config, str(path), weights, str(weights_path))
    classifier.notes += check_manifest(folder)
    load_weights(classifier.model, weights, str(weights_path))
    require_finite(classifier, f"{LOCAL}{folder}")
    inspect_outputs(classifier, f"{LOCAL}{folder}")
    return classifier


def read_config(path: Path) -> ModelConfig:
    """Read a `config.json`, and check the types of its entries.

    Raises:
        InputError: If it is not a model configuration.
    """
    return from_plain(ModelConfig, read_json(path, follow_links=True), str(path), ignore_unknown=True)


def check_manifest(folder: Path) -> tuple[str, ...]:
    """Compare the files of a folder with the hashes in its manifest.

    Returns:
        Notes: that there is no manifest, or that `config.json` was edited.

    Raises:
        InputError: If the weights have another hash, or the manifest is damaged.
    """
    path = folder / MANIFEST
    if not path.exists():
        return (f"{folder} has no {MANIFEST}, so damaged weights cannot be detected",)
    hashes = from_plain(dict[str, str], read_json(path, follow_links=True), str(path))
    if sha256_of(folder / WEIGHTS) != hashes.get(WEIGHTS):
        raise InputError(
            f"{folder / WEIGHTS} does not have the hash in {MANIFEST}: it was damaged or replaced; copy the folder again, or "
            f"delete {MANIFEST} to use the file unchecked"
        )
    if sha256_of(folder / CONFIG) != hashes.get(CONFIG):
        return (f"{folder / CONFIG} was edited after the folder was written",)
    return ()


def _create(config: ModelConfig, where: str, weights: Mapping[str, Tensor] | None, source: str) -> Classifier:
    """Create the classifier that a configuration describes, without its weights."""
    cfg = config.pretrained_cfg
    arguments = {name: value for name, value in config.model_args.items() if name not in SEPARATE_ARGUMENTS}
    try:
        classes = config.classes
        pruned = bool(config.widths) or "widths" in config.model_args
        classifier = create(
            config.architecture,
            classes=classes,
            shape=cfg.input_size,
            mean=cfg.mean,
            std=cfg.std,
            preprocessing=preprocessing_from_config(asdict(cfg)),
            arguments=arguments,
            multi_label=config.multi_label,
            weights=None if pruned else weights,
            source=source,
        )
        widths = widths_from_config({"model_args": config.model_args, "widths": config.widths}, classifier.model)
    except InputError:
        raise
    except (ValueError, TypeError) as fault:
        raise InputError(f"{where} is not a timm model configuration ({fault}); save the network again") from fault
    if widths:
        narrow(classifier.model, classifier.shape, widths)
    return classifier


def save_folder(classifier: Classifier, folder: str | Path, card: str = "") -> None:
    """Save a classifier so that `timm.create_model("local-dir:FOLDER")` can load it.

    An architecture of timm's own can be loaded without datafree. If the network was pruned and its architecture has no
    argument for its widths, `config.json` lists them by layer, and the model card says how to load it without datafree.
    The folder is written atomically and replaces an existing one. Before, the network is built again from `config.json`, and
    must compute the same function. `manifest.json` has the hashes of both files.

    Args:
        classifier: A classifier whose network is registered in timm.
        folder: Output folder.
        card: Text of the model card, `README.md`. If empty, no card is written.

    Raises:
        InputError: If the network is not registered in timm, would be loaded as another function, or the folder cannot be
            written.
    """
    weights = cpu_state_dict(classifier.model)
    with RandomNumbers(0):
        config = config_of(classifier)
        rebuilt = _rebuild(config)
        pruned = widths_to_config(classifier.model, rebuilt.model)
        if pruned:
            config = config | pruned | {"model_args": config["model_args"] | pruned.get("model_args", {})}
            rebuilt = _rebuild(config)
        load_weights(rebuilt.model, weights, "what was saved")
        require_same_function(classifier, rebuilt)
    with atomic_folder(Path(folder)) as new:
        with (new / WEIGHTS).open("wb") as file:
            write_tensors(weights, file)
        (new / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        hashes = {name: sha256_of(new / name) for name in (CONFIG, WEIGHTS)}
        (new / MANIFEST).write_text(json.dumps(hashes, indent=2) + "\n", encoding="utf-8")
        if card:
            (new / "README.md").write_text(card, encoding="utf-8")


def _rebuild(config: dict[str, Any]) -> Classifier:
    """Create a classifier as it will be loaded, with untrained weights."""
    parsed = from_plain(ModelConfig, json.loads(json.dumps(config)), CONFIG, ignore_unknown=True)
    return _create(parsed, CONFIG, None, "")


def config_of(classifier: Classifier) -> dict[str, Any]:
    """Return the `config.json` of a classifier, without the widths of a pruned network.

    Raises:
        InputError: If its network is not registered in timm.
    """
    model = classifier.model
    return {
        "architecture": architecture(model),
        "num_classes": len(classifier.classes),
        "label_names": list(classifier.classes),
        "model_args": {"in_chans": classifier.shape[0], **arguments_of(model)},
        "multi_label": classifier.multi_label,
        "pretrained_cfg": {
            "input_size": list(classifier.shape),
            "num_classes": len(classifier.classes),
            "mean": _per_channel(classifier.mean, classifier.shape[0]),
            "std": _per_channel(classifier.std, classifier.shape[0]),
            **asdict(classifier.preprocessing),
        },
    }


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
    own = dict(cast(dict[str, Any], getattr(model, "pretrained_cfg", {})).get("model_args") or {})
    return {name: value for name, value in (recorded_arguments(model) | own).items() if name not in SEPARATE_ARGUMENTS}


def pruned_config(classifier: Classifier) -> dict[str, Any]:
    """Return the entries of `config.json` with the widths of a pruned network; see `widths_to_config`."""
    with RandomNumbers(0):
        name, arguments = architecture(classifier.model), arguments_of(classifier.model)
        original = create(name, classes=len(classifier.classes), shape=classifier.shape, arguments=arguments)
    return widths_to_config(classifier.model, original.model)


def _per_channel(values: Tensor, channels: int) -> list[float]:
    return [round(value, 6) for value in values.flatten().expand(channels).tolist()]
