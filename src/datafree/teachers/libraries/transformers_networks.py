"""Image classifiers of transformers: a folder of `save_pretrained`, or a name of the Hugging Face hub.

Only classes of the library itself are used, chosen by `model_type` from its own table: code from the hub is never run. Of
`config.json` only the fields that the class declares are read, and their values are numbers, short words, and lists of these.
The weights are read by `weights.reading`; transformers only renames them.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from datafree.classifier import Classifier, cpu_state_dict
from datafree.networks.building import is_plain, require_bounded, sketch
from datafree.randomness import RandomNumbers
from datafree.teachers.libraries.image_processors import (
    PROCESSOR,
    normalisation,
    pair_of,
    processor_of,
    read_processor,
    resizing,
)
from datafree.teachers.libraries.overriding import overridden
from datafree.teachers.weights_files import Facts
from datafree.types import InputError, suggestion
from datafree.weights.reading import read_checkpoint

PREFIX = "transformers:"
TIMM = "timm_wrapper"
"""the `model_type` of networks of timm's, which timm builds"""
LABELS = ("id2label", "label2id", "num_labels", "architectures", "problem_type")
"""entries of `config.json` that are read apart from the arguments of the network"""
UNUSED = ("transformers_version", "dtype", "torch_dtype", "return_dict", "output_hidden_states", "output_attentions")
"""fields without an effect on the logits, which are float32 here"""
MAX_LABELS = 100_000


class TransformersNetwork(nn.Module):
    """The logits of an image classifier of transformers.

    Args:
        network: A `...ForImageClassification` of transformers. It takes normalised images `pixel_values` of shape
            `(n, c, h, w)`, and its output has an entry `logits` of shape `(n, k)`.
        flip_channels: Reverse the channels of the images first, for networks trained on BGR images.
    """

    def __init__(self, network: nn.Module, flip_channels: bool = False) -> None:
        super().__init__()
        self.network = network
        self.flip_channels = flip_channels

    @property
    def config(self) -> Any:
        """The configuration of the network, of transformers' own type."""
        return self.network.config

    def forward(self, images: Tensor) -> Tensor:
        return self.network(pixel_values=images.flip(1) if self.flip_channels else images).logits


def describes(plain: Mapping[str, Any]) -> bool:
    """Return whether the content of a `config.json` is one of transformers', and of a network that is not timm's."""
    return "model_type" in plain and plain["model_type"] != TIMM and "pretrained_cfg" not in plain


def load(folder: Path, plain: Mapping[str, Any], weights: Path, facts: Facts) -> Classifier:
    """Load an image classifier that transformers saved, without running it.

    Args:
        folder: The folder, for the preprocessing in `preprocessor_config.json`.
        plain: The content of its `config.json`. Untrusted.
        weights: Its weights file.
        facts: What the user says; it takes precedence.

    Raises:
        InputError: If transformers is not installed or has no such image classifier, a value is no number or word, the
            network is too large, or the weights do not match it.
    """
    where = str(folder / "config.json")
    if facts.arguments:
        raise InputError(f"{where} defines the network; remove the arguments ({', '.join(facts.arguments)})")
    kind = network_class(plain, where)
    names, multi_label = _labels(plain, where)
    with quiet():
        config = _config(kind, plain, where, len(names))
        network = _with_weights(kind, config, weights, where)
    processor, notes = read_processor(folder, kind)
    found = _facts(config, processor, names, multi_label, str(folder / PROCESSOR))
    given, facts = facts, facts.over(found)
    assert facts.shape is not None
    require_bounded(facts.shape, len(names))
    count = facts.classes if isinstance(facts.classes, int) else len(facts.classes or ())
    if count != len(names):
        raise InputError(f"{where} describes {len(names)} classes, not {count}; give {len(names)} class names, or none")
    classifier = Classifier(
        TransformersNetwork(network, flip_channels=bool(processor.get("do_flip_channel_order"))),
        shape=facts.shape,
        classes=names if facts.classes is None or isinstance(facts.classes, int) else facts.classes,
        mean=facts.mean,
        std=facts.std,
        preprocessing=facts.preprocessing,
        multi_label=facts.multi_label,
    )
    known = replace(found, mean=(), std=()) if notes else found  # a note says that the values are guessed
    guessed = () if given.mean and given.std else notes
    classifier.notes = (*guessed, *overridden(given, known, folder))
    return classifier


def _library() -> Any:
    """Import transformers.

    Raises:
        InputError: If it is not installed.
    """
    try:
        import transformers
    except ImportError as fault:
        raise InputError(
            "networks of transformers need the package transformers, which is not installed; "
            "install it with `pip install 'datafree[transformers]'`"
        ) from fault
    return transformers


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the progress bars and the reports of transformers inside a `with` block."""
    logging = _library().logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def network_class(plain: Mapping[str, Any], where: str) -> Any:
    """Return the class of transformers that a `config.json` names.

    Raises:
        InputError: If transformers is not installed, or has no image classifier of this kind.
    """
    library = _library()
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES as CLASSES

    kind, listed = plain.get("model_type"), plain.get("architectures") or []
    if not isinstance(kind, str) or kind not in CLASSES:
        near = suggestion(kind, CLASSES) if isinstance(kind, str) else ""
        raise InputError(f"{where}: transformers has no image classifier of the model_type {str(kind)[:50]!r}{near}")
    known = cast(Any, CLASSES)[kind]
    known = [known] if isinstance(known, str) else list(known)
    chosen = [name for name in listed if name in known] if isinstance(listed, list) else []
    if listed and not chosen:
        raise InputError(
            f"{where} describes a {str(listed)[:80]}, which is no image classifier; give a {' or '.join(known)}"
        )
    network = getattr(library, chosen[0] if chosen else known[0])
    if getattr(network, "main_input_name", "") != "pixel_values":
        raise InputError(f"{where}: {network.__name__} does not take images as pixels; give another network")
    return network


def _labels(plain: Mapping[str, Any], where: str) -> tuple[tuple[str, ...], bool]:
    """Return the names of the classes, and whether an image can have several of them."""
    labels, problem = plain.get("id2label"), plain.get("problem_type")
    if problem == "regression":
        raise InputError(f"{where} describes a regression; give a classifier")
    if labels is None:
        number = plain.get("num_labels", 2)
        labels = {str(index): f"LABEL_{index}" for index in range(number if type(number) is int else 0)}
    if not isinstance(labels, dict) or not 0 < len(labels) <= MAX_LABELS:
        raise InputError(f"{where}: id2label is no object of 1 to {MAX_LABELS} names; save the network again")
    if not all(str(index) in labels and isinstance(labels[str(index)], str) for index in range(len(labels))):
        raise InputError(f"{where}: id2label does not name the classes 0 to {len(labels) - 1}; save the network again")
    names = tuple(labels[str(index)] for index in range(len(labels)))
    if names == tuple(f"LABEL_{index}" for index in range(len(names))):  # transformers invents these
        names = tuple(map(str, range(len(names))))
    return names, problem == "multi_label_classification"


def _config(kind: Any, plain: Mapping[str, Any], where: str, classes: int) -> Any:
    """Return the configuration of a network, with the fields that its class declares."""
    entries = _declared(kind.config_class, plain, where)
    try:
        config = kind.config_class(**entries)
        config.num_labels = classes
        return config
    except Exception as fault:  # transformers may raise anything
        raise _refusal(where, fault) from fault


def _declared(config_class: Any, plain: Mapping[str, Any], where: str, depth: int = 0) -> dict[str, Any]:
    """Return the entries that a class of configurations declares, checked. Other ones, such as `auto_map`, are left out."""
    assert is_dataclass(config_class)
    parts = getattr(config_class, "sub_configs", {})
    found = {}
    for name in (field.name for field in fields(config_class)):
        if name not in plain or name in (*LABELS, *UNUSED):
            continue
        value = plain[name]
        if name in parts and isinstance(value, Mapping) and depth < 2:
            found[name] = _declared(parts[name], value, where, depth + 1)
        elif is_plain(value):
            found[name] = value
        else:
            raise InputError(f"{where} sets {name} to {str(value)[:60]!r}; only numbers and words are allowed")
    return found


def _with_weights(kind: Any, config: Any, weights: Path, where: str) -> nn.Module:
    """Return a network with the weights of a file, which transformers may rename."""
    try:
        sketch(lambda: _on_meta(kind, config))
    except Exception as fault:  # transformers may raise anything
        raise _refusal(where, fault) from fault
    checkpoint = read_checkpoint(weights)
    tensors = {
        name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in checkpoint.tensors.items()
    }
    try:
        with RandomNumbers(0):
            network, report = kind.from_pretrained(None, config=config, state_dict=tensors, output_loading_info=True)
    except Exception as fault:  # transformers may raise anything
        raise InputError(
            f"{weights} does not match the {kind.__name__} that {where} describes; copy the folder again"
        ) from fault
    missing = [name for name in report["missing_keys"] if not name.endswith("num_batches_tracked")]
    if missing or report["mismatched_keys"] or report["error_msgs"]:
        example = sorted([*map(str, missing), *map(str, report["mismatched_keys"])])[:3]
        raise InputError(
            f"{weights} does not match the {kind.__name__} that {where} describes (missing: {', '.join(example)}); "
            "copy the folder again"
        )
    return network.eval()


def _on_meta(kind: Any, config: Any) -> nn.Module:
    with torch.device("meta"):
        return kind(config)


def _refusal(where: str, fault: Exception) -> InputError:
    why = str(fault).strip().splitlines()[0] if str(fault).strip() else type(fault).__name__
    return InputError(f"{where} describes a network that transformers cannot create ({why}); save the network again")


def _facts(config: Any, processor: Mapping[str, Any], names: tuple[str, ...], multi_label: bool, where: str) -> Facts:
    """Return what the configuration and the image processor say."""
    try:
        mean, std = normalisation(processor)
        vision = getattr(config, "vision_config", config)
        channels = getattr(vision, "num_channels", None) or (len(mean) if len(mean) > 1 else 3)
        size, preprocessing = resizing(processor, pair_of(getattr(vision, "image_size", None)))
    except (ValueError, TypeError, KeyError, ZeroDivisionError) as fault:
        raise InputError(f"{where} is not the configuration of an image processor ({fault}); save it again") from fault
    if len(mean) not in (1, channels):
        mean, std = (sum(mean) / len(mean),), (sum(std) / len(std),)
    return Facts(
        classes=names,
        channels=channels,
        size=size,
        mean=mean,
        std=std,
        preprocessing=preprocessing,
        multi_label=multi_label,
    )


def untrained(classifier: Classifier) -> Classifier:
    """Return a classifier of the same kind with random weights, in training mode."""
    model = cast(TransformersNetwork, classifier.model)
    with quiet():
        fresh = type(model.network)(model.config)
    return _around(classifier, TransformersNetwork(fresh, model.flip_channels))


def _around(classifier: Classifier, model: TransformersNetwork) -> Classifier:
    return Classifier(
        model,
        shape=classifier.shape,
        classes=classifier.classes,
        mean=classifier.mean.flatten().tolist(),
        std=classifier.std.flatten().tolist(),
        preprocessing=classifier.preprocessing,
        multi_label=classifier.multi_label,
    )


def saved(classifier: Classifier) -> tuple[dict[str, Tensor], dict[str, Any], dict[str, Any]]:
    """Return what transformers saves of a classifier: its weights, `config.json` and `preprocessor_config.json`."""
    model = cast(TransformersNetwork, classifier.model)
    from transformers.core_model_loading import revert_weight_conversion

    with quiet():
        weights = revert_weight_conversion(cast(Any, model.network), dict(cpu_state_dict(model.network)))
        config = json.loads(model.config.to_json_string(use_diff=False))
    config["architectures"] = [type(model.network).__name__]
    config["id2label"] = {str(index): name for index, name in enumerate(classifier.classes)}
    config["label2id"] = {name: index for index, name in enumerate(classifier.classes)}
    if classifier.multi_label:
        config["problem_type"] = "multi_label_classification"
    return weights, config, processor_of(classifier, model.flip_channels)
