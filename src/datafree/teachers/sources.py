"""Loading classifiers: from a folder, a weights file, or timm. Files are untrusted; see `weights.reading`."""

from pathlib import Path
from typing import Any

from datafree.classifier import Classifier
from datafree.synthesis.outputs import inspect_outputs
from datafree.teachers.creation import create
from datafree.teachers.folders import CONFIG, LOCAL, load_folder
from datafree.types import InputError
from datafree.weights.reading import load_weights, read_weights, require_finite


def load(spec: str, *, weights: str | Path = "", download: bool = True, **settings: Any) -> Classifier:
    """Load a trained classifier, in evaluation mode.

    Args:
        spec: `local-dir:FOLDER` for a folder in timm's layout (`config.json` and `model.safetensors`), or a timm name.
        weights: With a timm name, a weights file: safetensors, or a state dict saved by torch. If empty, timm downloads
            its own weights.
        download: Download timm's weights if they are not on this machine yet.
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
        return load_folder(folder).eval()
    if weights:
        tensors = read_weights(weights)
        classifier = create(spec, weights=tensors, source=str(weights), **settings)
        load_weights(classifier.model, tensors, str(weights))
    else:
        classifier = create(spec, pretrained=True, download=download, **settings)
    require_finite(classifier, spec)
    inspect_outputs(classifier, spec)
    return classifier.eval()
