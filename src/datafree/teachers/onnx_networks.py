"""Classifiers in the ONNX format: as a network of torch, or forward-only by ONNX Runtime."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datafree.classifier import Classifier
from datafree.types import InputError, Preprocessing


def load_onnx(
    path: str | Path,
    *,
    weights: str | Path = "",
    classes: Sequence[str] | int | None = None,
    shape: tuple[int, int, int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    preprocessing: Preprocessing | None = None,
    arguments: Mapping[str, Any] | None = None,
    multi_label: bool = False,
    match: str = "",
) -> Classifier:
    """Load a classifier from an ONNX file, in evaluation mode."""
    raise InputError(f"{path} is an ONNX file, which is not supported yet; give the weights of the network")
