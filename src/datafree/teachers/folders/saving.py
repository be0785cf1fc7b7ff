"""Saving classifiers as folders that timm, torchvision or transformers can load without datafree.

A network of the user's own code is saved as its weights, with a `config.json` that says which code builds it.
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from datafree.classifier import Classifier, cpu_state_dict
from datafree.files import atomic_folder, sha256_of
from datafree.functions import first_line
from datafree.networks.building import FORBIDDEN, OWN_OPTIONS, is_plain
from datafree.networks.pruning_surgery import narrow, widths_from_config, widths_to_config
from datafree.randomness import RandomNumbers
from datafree.teachers.creation import create
from datafree.teachers.folders.configuration import CONFIG, SEPARATE_ARGUMENTS, parse
from datafree.teachers.folders.reading import CODE, MANIFEST, WEIGHTS, build
from datafree.teachers.libraries import torchvision_networks, transformers_networks
from datafree.teachers.libraries.image_processors import PROCESSOR
from datafree.teachers.libraries.transformers_networks import TransformersNetwork
from datafree.teachers.rebuilding import recorded_arguments, require_same_function
from datafree.types import InputError
from datafree.weights.matching import load_weights
from datafree.weights.tensor_file import write_tensors

Card = str | Callable[[dict[str, Any]], str]
"""text of a model card, or a function that returns it for the content of `config.json`"""


def save_folder(classifier: Classifier, folder: str | Path, card: Card = "") -> None:
    """Save a classifier as a folder with `config.json` and `model.safetensors`.

    - A network of timm's or of the papers': `timm.create_model("local-dir:FOLDER")` loads it, without datafree if the
      architecture is timm's own. If it was pruned and its architecture has no argument for its widths, `config.json` lists
      them by layer.
    - A network of torchvision's: the architecture in `config.json` is `torchvision:NAME`.
    - A network of transformers: in transformers' own layout, so that `from_pretrained(FOLDER)` loads it.
    - Any other network: `config.json` says which code builds it.

    The folder is written atomically and replaces an existing one. Before, a network of timm's or torchvision's is built again
    from `config.json`, and must compute the same function. `manifest.json` has the hashes of the files.

    Args:
        classifier: A classifier.
        folder: Output folder.
        card: Text of the model card, `README.md`; or a function that returns it for the content of `config.json`. If empty,
            no card is written.

    Raises:
        InputError: If the network would be loaded as another function, or the folder cannot be written.
    """
    others: dict[str, dict[str, Any]] = {}
    if isinstance(classifier.model, TransformersNetwork):
        weights, config, processor = transformers_networks.saved(classifier)
        others = {PROCESSOR: processor}
    else:
        weights, config = cpu_state_dict(classifier.model), config_of(classifier)
        if CODE not in config:
            config = _checked(classifier, config, weights)
    with atomic_folder(Path(folder)) as new:
        with (new / WEIGHTS).open("wb") as file:
            write_tensors(weights, file)
        for name, content in {CONFIG: config, **others}.items():
            (new / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        hashes = {name: sha256_of(new / name) for name in (CONFIG, WEIGHTS)}
        (new / MANIFEST).write_text(json.dumps(hashes, indent=2) + "\n", encoding="utf-8")
        if text := card(config) if callable(card) else card:
            (new / "README.md").write_text(text, encoding="utf-8")


def _checked(classifier: Classifier, config: dict[str, Any], weights: dict[str, Tensor]) -> dict[str, Any]:
    """Return a `config.json` with the widths of a pruned network, from which the same function is built.

    The network is built once.

    Raises:
        InputError: If it would be loaded as another function.
    """
    with RandomNumbers(0):
        parsed = parse(json.loads(json.dumps(config)), CONFIG)
        rebuilt = build(parsed, parsed.facts)
        pruned = widths_to_config(classifier.model, rebuilt.model)
        if pruned:
            config = config | pruned | {"model_args": config["model_args"] | pruned.get("model_args", {})}
            narrow(rebuilt.model, rebuilt.shape, widths_from_config(config, rebuilt.model))
        load_weights(rebuilt.model, weights, "what was saved")
        require_same_function(classifier, rebuilt)
    return config


def require_savable(classifier: Classifier, fix: str) -> None:
    """Check before a training that a network with arguments of the user can be saved.

    Args:
        classifier: The network.
        fix: What to do about it.

    Raises:
        InputError: If it would be loaded as another network.
    """
    config = config_of(classifier)
    try:
        if CODE not in config:
            _checked(classifier, config, cpu_state_dict(classifier.model))
    except (InputError, ValueError, RuntimeError) as fault:
        why = first_line(fault).partition(";")[0]
        raise InputError(
            f"a network with these arguments cannot be saved, because its layers are others ({why}); {fix}"
        ) from fault


def config_of(classifier: Classifier) -> dict[str, Any]:
    """Return the `config.json` of a classifier, without the widths of a pruned network.

    A network that neither timm nor torchvision builds gets an entry `code` instead of `architecture`.
    """
    named = _named(classifier)
    return {
        **({"architecture": named[0]} if named else {CODE: code_of(classifier)}),
        "num_classes": len(classifier.classes),
        "label_names": list(classifier.classes),
        "model_args": {"in_chans": classifier.shape[0], **(named[1] if named else {})},
        "multi_label": classifier.multi_label,
        "pretrained_cfg": {
            "input_size": list(classifier.shape),
            "num_classes": len(classifier.classes),
            "mean": _per_channel(classifier.mean, classifier.shape[0]),
            "std": _per_channel(classifier.std, classifier.shape[0]),
            **asdict(classifier.preprocessing),
        },
    }


def _named(classifier: Classifier) -> tuple[str, dict[str, Any]] | None:
    """Return the name and the arguments of a network that timm or torchvision builds; None for another one."""
    model = classifier.model
    if is_registered(model):
        return architecture(model), arguments_of(model)
    found = torchvision_networks.recognise(model, len(classifier.classes))
    return (f"{torchvision_networks.PREFIX}{found}", {}) if found else None


def code_of(classifier: Classifier) -> dict[str, Any]:
    """Return which code builds a network: its specification and the hashes of its files, if it was loaded so; its class."""
    model = classifier.model
    return {
        "spec": classifier.code or "",
        "arguments": {
            name: value
            for name, value in classifier.code_arguments.items()
            if is_plain(value) and not FORBIDDEN.search(name) and name not in OWN_OPTIONS
        },
        "files": dict(classifier.dependencies),
        "class": f"{type(model).__module__}.{type(model).__qualname__}",
    }


def is_registered(model: nn.Module) -> bool:
    """Return whether timm, datafree or torchvision built a network by its name."""
    return bool((getattr(model, "pretrained_cfg", None) or {}).get("architecture"))


def architecture(model: nn.Module) -> str:
    """Return the name of a network's architecture, as of `create`.

    Raises:
        InputError: If no library builds it by a name.
    """
    if not is_registered(model):
        raise InputError(f"{type(model).__name__} is not registered in timm; name another network with --student")
    return cast(Any, model).pretrained_cfg["architecture"]


def registering_module(architecture: str) -> str:
    """Return the name of the module that registers an architecture in timm: one of timm's or of datafree's."""
    import timm

    return timm.model_entrypoint(architecture).__module__


def arguments_of(model: nn.Module) -> dict[str, Any]:
    """Return the arguments with which a network is created by its name, without classes and channels."""
    own = dict(cast(dict[str, Any], getattr(model, "pretrained_cfg", {})).get("model_args") or {})
    return {name: value for name, value in (recorded_arguments(model) | own).items() if name not in SEPARATE_ARGUMENTS}


def untrained(classifier: Classifier) -> Classifier:
    """Return a classifier of the same architecture and settings with random weights, in training mode.

    Raises:
        InputError: If no library builds its network by a name.
    """
    if isinstance(classifier.model, TransformersNetwork):
        return transformers_networks.untrained(classifier)
    fresh = create(
        architecture(classifier.model),
        classes=classifier.classes,
        shape=classifier.shape,
        mean=classifier.mean.flatten().tolist(),
        std=classifier.std.flatten().tolist(),
        preprocessing=classifier.preprocessing,
        arguments=arguments_of(classifier.model),
        multi_label=classifier.multi_label,
    )
    pruned = widths_to_config(classifier.model, fresh.model)
    if pruned:
        narrow(fresh.model, fresh.shape, widths_from_config(pruned, fresh.model))
    return fresh


def _per_channel(values: Tensor, channels: int) -> list[float]:
    return [round(value, 6) for value in values.flatten().expand(channels).tolist()]
