"""Loading classifiers from folders: in timm's layout, of transformers, or of datafree.

Folders are untrusted. `manifest.json`, which timm ignores, has the hashes of the files that datafree wrote.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from datafree.classifier import Classifier
from datafree.files import read_json, sha256_of
from datafree.files.validation import from_plain
from datafree.networks.pruning_surgery import narrow, widths_from_config
from datafree.synthesis.outputs import inspect_outputs
from datafree.teachers.creation import create
from datafree.teachers.folders.configuration import CONFIG, ModelConfig, parse, read_plain
from datafree.teachers.libraries import transformers_networks
from datafree.teachers.libraries.overriding import overridden
from datafree.teachers.weights_files import Facts, load_network
from datafree.types import InputError
from datafree.weights.matching import Matching, match, require_finite
from datafree.weights.reading import read_checkpoint
from datafree.weights.shards import INDICES

LOCAL = "local-dir:"
"""prefix of the name of a network that is a folder"""
WEIGHTS, MANIFEST = "model.safetensors", "manifest.json"
CODE = "code"
"""entry of `config.json` that says which code builds the network"""
PREFERRED = (
    WEIGHTS,
    "pytorch_model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.pth",
    "model.pth",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
)
"""names of a weights file, in the order in which timm looks for them"""
ENDINGS = (".safetensors", ".pth", ".pth.tar", ".bin", ".pt", ".ckpt")
"""endings of a weights file of another name, in this order"""


def load_folder(folder: str | Path) -> Classifier:
    """Load a classifier from a folder: in timm's layout, or saved by transformers or datafree.

    What to know about it is in its `notes`: that the folder has no hashes, that `config.json` was edited, or that the
    network returns probabilities.

    Raises:
        InputError: If a file is missing, truncated or unsafe, the weights do not match their hash or the configuration, or a
            value is not finite.
    """
    classifier = read_folder(Path(folder), Facts())
    require_finite(classifier, f"{LOCAL}{folder}")
    inspect_outputs(classifier, f"{LOCAL}{folder}")
    return classifier


def read_folder(folder: Path, facts: Facts, by: Matching = "names") -> Classifier:
    """Load a classifier from a folder, without running it.

    Args:
        folder: The folder.
        facts: What the user says; it takes precedence over what the folder says, with a note.
        by: Match tensors by their names, or by their order.

    Raises:
        InputError: As for `load_folder`.
    """
    path = folder / CONFIG
    plain = read_plain(path)
    if CODE in plain and "architecture" not in plain:
        raise _needs_code(folder, plain)
    weights_path, notes = weights_in(folder)
    notes += check_manifest(folder, weights_path)
    if transformers_networks.describes(plain):
        classifier = transformers_networks.load(folder, plain, weights_path, facts)
    else:
        classifier = _load_timm(parse(_of_wrapper(plain), str(path)), path, weights_path, facts, by)
        notes += overridden(facts, parse(_of_wrapper(plain), str(path)).facts, path)
    classifier.notes = (*notes, *classifier.notes)
    return classifier


def _needs_code(folder: Path, plain: Mapping[str, Any]) -> InputError:
    """Return the refusal of a folder whose network only its own code can build; it says the words to give."""
    code = plain[CODE] if isinstance(plain[CODE], dict) else {}
    spec = str(code.get("spec") or "FILE.py:FUNCTION")[:200]
    return InputError(
        f"{folder} has the weights of a network that its own code builds ({str(code.get('class', spec))[:200]}), which is "
        f"only run if you name it; name the network as {spec}@{folder}"
    )


def _of_wrapper(plain: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a configuration of timm's, also if transformers saved a network of timm's; then `model_type` is timm_wrapper."""
    arguments = plain.get("model_args")
    return {**plain, "model_args": {}} if arguments is None and "model_args" in plain else plain


def weights_in(folder: Path) -> tuple[Path, tuple[str, ...]]:
    """Return the weights file of a folder, by timm's rules, and a note if there are several to choose from.

    Raises:
        InputError: If there is none.
    """
    for name in PREFERRED:
        if (folder / name).exists():
            return folder / name, ()
    for name in INDICES:
        if (folder / name).exists():
            return folder / name, ()
    for ending in ENDINGS:
        files = sorted(folder.glob(f"*{ending}"))
        if files:
            others = ", ".join(file.name for file in files[1:4])
            chosen = (f"{folder} has several weights files; {files[0].name} is used, and not {others}",)
            return files[0], chosen if others else ()
    raise InputError(f"{folder / WEIGHTS} does not exist, nor another weights file beside it; copy it there")


def check_manifest(folder: Path, weights: Path | None = None) -> tuple[str, ...]:
    """Compare the files of a folder with the hashes in its manifest.

    Args:
        folder: The folder.
        weights: Its weights file; default: `model.safetensors`.

    Returns:
        Notes: that there is no manifest, or that `config.json` was edited.

    Raises:
        InputError: If the weights have another hash, or the manifest is damaged.
    """
    path, weights = folder / MANIFEST, weights or folder / WEIGHTS
    if not path.exists():
        return (f"{folder} has no {MANIFEST}, so damaged weights cannot be detected",)
    hashes = from_plain(dict[str, str], read_json(path, follow_links=True), str(path))
    if sha256_of(weights) != hashes.get(weights.name):
        raise InputError(
            f"{weights} does not have the hash in {MANIFEST}: it was damaged or replaced; copy the folder again, or "
            f"delete {MANIFEST} to use the file unchecked"
        )
    if sha256_of(folder / CONFIG) != hashes.get(CONFIG):
        return (f"{folder / CONFIG} was edited after the folder was written",)
    return ()


def _load_timm(config: ModelConfig, path: Path, weights: Path, facts: Facts, by: Matching) -> Classifier:
    """Load a network of timm's, of the papers' or of torchvision's."""
    checkpoint = read_checkpoint(weights)
    with _refusing(path):
        facts = facts.over(config.facts)
        if not is_pruned(config):
            complete = facts.classes is not None and facts.shape is not None
            return load_network(config.architecture, checkpoint, str(weights), facts, by, complete=complete)
        classifier = build(config, facts)
    found = match(classifier.model, checkpoint.tensors, str(weights), by=by, keys=checkpoint.keys)
    classifier.model.load_state_dict(found.weights)
    classifier.notes += (*checkpoint.notes, *found.notes)
    return classifier


def build(config: ModelConfig, facts: Facts) -> Classifier:
    """Create the classifier that a configuration describes, narrowed if it was pruned, without its weights.

    Raises:
        InputError: If it cannot be created, or cannot have these widths.
        ValueError: If the widths have another number or type.
        TypeError: If the widths have another type.
    """
    classifier = create(
        config.architecture,
        classes=facts.classes,
        shape=facts.shape,
        mean=facts.mean or None,
        std=facts.std or None,
        preprocessing=facts.preprocessing,
        arguments=facts.arguments,
        multi_label=facts.multi_label,
        fits=_no_check,
    )
    widths = widths_from_config({"model_args": config.model_args, "widths": config.widths}, classifier.model)
    if widths:
        narrow(classifier.model, classifier.shape, widths)
    return classifier


def _no_check(network: nn.Module) -> None:
    """A pruned network has other shapes than its architecture."""


def is_pruned(config: ModelConfig) -> bool:
    """Return whether a configuration lists the widths of layers."""
    return bool(config.widths) or "widths" in config.model_args


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Turn the errors of a wrong configuration into one sentence that names the file."""
    try:
        yield
    except InputError:
        raise
    except (ValueError, TypeError) as fault:
        raise InputError(f"{path} is not a timm model configuration ({fault}); save the network again") from fault
