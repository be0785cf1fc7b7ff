"""Loading classifiers, wherever they come from. Files are untrusted; see `weights.reading`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from datafree.classifier import Classifier
from datafree.files import read_json
from datafree.networks.building import require_plain_arguments
from datafree.synthesis.outputs import inspect_outputs
from datafree.teachers.code import is_code, load_code
from datafree.teachers.creation import create
from datafree.teachers.folders import CONFIG, LOCAL, read_folder
from datafree.teachers.folders.configuration import parse, read_plain
from datafree.teachers.folders.reading import CODE, weights_in
from datafree.teachers.hub import hub_folder
from datafree.teachers.libraries import torchvision_networks, transformers_networks
from datafree.teachers.naming import HUBS, divided
from datafree.teachers.weights_files import Facts, facts_of, load_network, load_unnamed
from datafree.types import InputError, Preprocessing, require_one_of
from datafree.weights.matching import Matching, require_finite
from datafree.weights.reading import read_checkpoint


def load(
    spec: str,
    *,
    weights: str | Path = "",
    download: bool = True,
    classes: Sequence[str] | int | None = None,
    shape: tuple[int, int, int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    preprocessing: Preprocessing | None = None,
    arguments: Mapping[str, Any] | None = None,
    multi_label: bool = False,
    match: str = "names",
) -> Classifier:
    """Load a trained classifier, in evaluation mode. What there is to know about it is in its `notes`.

    Args:
        spec: One of

            - a timm name, or one of the papers' networks, with `weights` or with those that timm provides;
            - `torchvision:NAME`, with `weights` or with those that torchvision provides;
            - `local-dir:FOLDER` or the path of a folder: in timm's layout, or saved by transformers or datafree;
            - `hf-hub:NAME` or `transformers:NAME`: such a folder on the Hugging Face hub;
            - the path of a weights file that says which network it belongs to, or fits exactly one known network;
            - `FILE.py:function` or `package.module:function`, the user's own code, with `weights`;
            - the path of an ONNX file;
            - `NETWORK@WEIGHTS`: a name or code of these, and its weights file, or the folder with it.
        weights: A weights file: safetensors, or a checkpoint saved by torch.
        download: Download weights that are not on this machine yet.
        classes: Names or number of the classes. Default, here and below: what the file or the network says.
        shape: Channels, height and width of an image.
        mean: Mean of the pixels, in [0, 1], per channel.
        std: Standard deviation of the pixels, per channel.
        preprocessing: How image files of another size are resized and cropped.
        arguments: Further arguments of the network, see `create`.
        multi_label: Whether an image can have several labels.
        match: `names`, or `order` to match the tensors of a file with those of the network by their order and shapes.

    Raises:
        InputError: If a file is missing, truncated or unsafe, or the weights do not match the network or are not
            finite.
    """
    spec, weights = with_weights(spec, weights)
    by = cast(Matching, match or "names")
    require_one_of(("names", "order"), match=by)
    settings: dict[str, Any] = {"classes": classes, "shape": shape, "mean": mean, "std": std}
    settings |= {"preprocessing": preprocessing, "arguments": arguments, "multi_label": multi_label}
    if is_code(spec):
        beside = _described_beside(weights)
        settings["arguments"] = arguments or beside.arguments
        return load_code(spec, weights=weights, match=match, **_defaults(settings, beside))
    if spec.endswith(".onnx"):
        from datafree.teachers.onnx_networks import load_onnx

        return load_onnx(spec, weights=weights, match=match, **settings)
    facts = facts_of(**settings)
    classifier = _load_file(spec, facts, by, download, weights) or _load_named(spec, facts, by, download, weights)
    require_finite(classifier, spec)
    inspect_outputs(classifier, spec)
    return classifier.eval()


def with_weights(spec: str, weights: str | Path = "") -> tuple[str, str | Path]:
    """Return a network and its weights file, which may be named in the specification or apart from it.

    Raises:
        InputError: If there are two files.
    """
    network, own = divided(spec)
    if not own:
        return spec, weights
    if weights:
        raise InputError(f"two weights files are given, in {spec} and with --weights; leave one out")
    return network, weights_in(Path(own))[0] if Path(own).is_dir() else own


def _load_file(spec: str, facts: Facts, by: Matching, download: bool, weights: str | Path) -> Classifier | None:
    """Load a folder, of this machine or of the hub, or a weights file on its own; None if it is the name of a network."""
    path = _path_in(spec)
    hub = next((prefix for prefix in HUBS if spec.startswith(prefix)), "")
    if path is None and not hub:
        return None
    if weights:
        raise InputError(f"{spec} already contains weights; remove --weights")
    if path is not None and path.is_file():
        return _load_weights_file(path, facts, by)
    if path is not None:
        return read_folder(path, facts, by)
    name = spec.removeprefix(hub)
    classifier = read_folder(hub_folder(name, download=download), facts, by)
    classifier.notes = (f"the weights of {name} are those on the Hugging Face hub", *classifier.notes)
    return classifier


def _path_in(spec: str) -> Path | None:
    """Return the folder or file that a specification is; None if it is the name of a network.

    The name of a network of timm's comes before a file of the same name.

    Raises:
        InputError: If it can only be a path, and does not exist.
    """
    import timm

    import datafree.networks.zoo  # noqa: F401  registers networks in timm

    if spec.startswith(LOCAL):
        return Path(spec.removeprefix(LOCAL))
    if spec.startswith(transformers_networks.PREFIX):
        path = Path(spec.removeprefix(transformers_networks.PREFIX))
        return path if path.is_dir() else None
    if spec.startswith((torchvision_networks.PREFIX, *HUBS)) or timm.is_model(spec.partition(".")[0]):
        return None
    path = Path(spec)
    if path.exists():
        return path
    if "/" in spec or path.suffix in (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".tar"):
        fix = (
            f"for a network of the Hugging Face hub write hf-hub:{spec}" if spec.count("/") == 1 else "correct the path"
        )
        raise InputError(f"{spec} does not exist; {fix}")
    return None


def _load_weights_file(path: Path, facts: Facts, by: Matching) -> Classifier:
    """Load a weights file on its own; in a folder that describes it, it is loaded as that folder."""
    folder = path.parent
    if _is_network(folder / CONFIG) and weights_in(folder)[0] == path:
        return read_folder(folder, facts, by)
    return load_unnamed(read_checkpoint(path), str(path), facts, by)


def _is_network(path: Path) -> bool:
    """Return whether a file is the configuration of a network."""
    try:
        plain = read_json(path, follow_links=True)
    except InputError:
        return False
    return isinstance(plain, dict) and bool({"architecture", "model_type", CODE} & set(plain))


def _load_named(spec: str, facts: Facts, by: Matching, download: bool, weights: str | Path) -> Classifier:
    """Load a network by its name: with the weights of a file, or with those that its library provides."""
    if weights:
        facts = facts.over(replace(_described_beside(weights), arguments={}))
        return load_network(spec, read_checkpoint(weights), str(weights), facts, by)
    if spec.startswith(torchvision_networks.PREFIX):
        return _load_torchvision(spec, facts, download)
    return create(
        spec,
        classes=facts.classes,
        shape=facts.shape,
        mean=facts.mean or None,
        std=facts.std or None,
        preprocessing=facts.preprocessing,
        arguments=facts.arguments,
        multi_label=facts.multi_label,
        pretrained=True,
        download=download,
    )


def _load_torchvision(spec: str, facts: Facts, download: bool) -> Classifier:
    """Load a network of torchvision's with torchvision's weights."""
    name, entry = torchvision_networks.described(spec)
    path = torchvision_networks.pretrained_file(spec, download)
    presets = entry.transforms()
    arguments = {"transform_input": True} if name in torchvision_networks.AUXILIARY else {}
    known = facts.over(
        Facts(
            classes=torchvision_networks.categories(spec),
            mean=presets.mean,
            std=presets.std,
            preprocessing=torchvision_networks.preprocessing_of(presets),
            arguments=arguments,
        )
    )
    classifier = load_network(spec, read_checkpoint(path), str(path), known)
    classifier.notes = (f"the weights of {spec} are those that torchvision provides ({entry})", *classifier.notes)
    return classifier


def _described_beside(weights: str | Path) -> Facts:
    """Return what the `config.json` beside a weights file says of the network, if datafree wrote it for the user's code."""
    path = Path(weights).parent / CONFIG if weights else None
    if path is None or not _is_network(path):
        return Facts()
    plain = read_plain(path)
    if CODE not in plain:
        return Facts()
    code = plain[CODE] if isinstance(plain[CODE], dict) else {}
    own: Any = code.get("arguments", {})
    own = own if isinstance(own, dict) else {}
    require_plain_arguments(own, str(path))
    return replace(parse({**plain, "architecture": ""}, str(path)).facts, arguments=own)


def _defaults(settings: Mapping[str, Any], facts: Facts) -> dict[str, Any]:
    """Return settings, completed by facts."""
    known = {name: getattr(facts, name) or None for name in settings if name != "arguments"}
    merged = {name: settings[name] or known.get(name) for name in settings}
    return merged | {"multi_label": bool(merged["multi_label"])}
