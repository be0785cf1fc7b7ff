"""What an exported file says about its network: class names, preprocessing, the hash of the weights, and its provenance."""

import json
from collections.abc import Mapping
from typing import Any

from datafree.classifier import Classifier, fingerprint
from datafree.teachers.onnx_networks.description import NORMALISED, PIXELS


def facts_of(classifier: Classifier, normalise: bool) -> dict[str, Any]:
    """Return what a file says about its classifier, as plain values.

    Args:
        classifier: The classifier.
        normalise: Whether the file takes pixels in [0, 1] and normalises them. Otherwise it takes normalised images.
    """
    from datafree import __version__

    resizing = classifier.preprocessing
    return {
        "class_names": list(classifier.classes),
        "multi_label": classifier.multi_label,
        "input": PIXELS if normalise else NORMALISED,
        "shape": list(classifier.shape),
        "mean": [round(value, 6) for value in classifier.mean.flatten().tolist()],
        "std": [round(value, 6) for value in classifier.std.flatten().tolist()],
        "crop_pct": resizing.crop_pct,
        "crop_mode": resizing.crop_mode,
        "interpolation": resizing.interpolation,
        "weights_sha256": fingerprint(classifier.model),
        "datafree_version": __version__,
    }


def texts(facts: Mapping[str, Any], provenance: Mapping[str, Any]) -> dict[str, str]:
    """Return facts and provenance as texts by name, for the metadata of a file: words as they are, all else as JSON."""
    both = {**provenance, **facts}
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in both.items()}
