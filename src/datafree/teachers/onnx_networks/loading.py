"""Loading a classifier from an ONNX file."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from datafree.classifier import Classifier
from datafree.methods import METHODS
from datafree.synthesis.outputs import inspect_outputs
from datafree.teachers.onnx_networks.examination import Findings, examine
from datafree.teachers.onnx_networks.importing import ImportedNetwork, import_network
from datafree.teachers.onnx_networks.reading import OnnxFile, import_onnx, read_onnx
from datafree.teachers.onnx_networks.runtime import OnnxRuntimeNetwork
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
    """Load a classifier from an ONNX file, in evaluation mode.

    It becomes a network of torch if the importer knows its operators, its outputs are those of ONNX Runtime, and gradients
    reach the images. Otherwise, and if it is quantised, it is forward-only: ONNX Runtime computes it. The notes say which.

    Args:
        path: The file. Weights in other files must be in the same folder.
        weights: Must be empty: the file has its weights.
        classes: Names or number of the classes; default: names in the metadata, else their number.
        shape: Channels, height and width of an image, if the file does not say it.
        mean: Mean of the pixels, per channel; default: that of the metadata, else 0.
        std: Standard deviation of the pixels, per channel; default: that of the metadata, else 1.
        preprocessing: How image files of another size are resized and cropped.
        arguments: Must be empty: the file has its architecture.
        multi_label: Whether an image can have several labels.
        match: Must be empty: the file names its own weights.

    Raises:
        InputError: If a package is missing, the file is damaged, unsafe, or no image classifier, or a mean is given for a file
            that normalises its images itself.
    """
    for option, given in (
        ("--weights", weights),
        ("--teacher-args", arguments),
        ("--match", match.removeprefix("names")),
    ):
        if given:
            raise InputError(f"{path} already contains the network and its weights; remove {option}")
    import_onnx(path)
    findings = examine(path, shape)
    file = read_onnx(path)
    if file.hashes != findings.hashes:
        raise InputError(f"{path} was changed while it was read; repeat the command")
    names = findings.class_names if len(findings.class_names) == findings.outputs else ()
    said = findings.description
    if said.pixels and (mean or std):
        raise InputError(f"{path} normalises its images itself; remove --mean and --std")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the importer; the outputs were compared with those of ONNX Runtime
        classifier = Classifier(
            network_of(file, findings),
            shape=findings.shape,
            classes=classes if classes is not None else names or findings.outputs,
            mean=mean or said.mean or (0.0,),
            std=std or said.std or (1.0,),
            preprocessing=preprocessing or said.preprocessing,
            multi_label=multi_label or said.multi_label,
        )
        classifier.dependencies = file.hashes
        classifier.notes = (
            *notes_on(Path(path).name, findings),
            *note_on_normalization(Path(path).name, mean or said.mean, std or said.std),
        )
        inspect_outputs(classifier, str(path))
    return classifier.eval()


def network_of(file: OnnxFile, findings: Findings) -> nn.Module:
    """Return the network of a file that was examined: one of torch, or a forward-only one."""
    face, said = findings.interface, findings.description
    if said.pixels:
        face = replace(face, mean=said.mean, std=said.std)
    if findings.forward_only:
        weights = sum(math.prod(tensor.dims) for tensor in file.model.graph.initializer)
        return OnnxRuntimeNetwork(file.content, face, weights)
    face = replace(face, type="float32", batch=face.batch if findings.loops else 0)
    return ImportedNetwork(import_network(file.model, face.output), face)


def notes_on(name: str, findings: Findings) -> tuple[str, ...]:
    """Return what to know about a network from an ONNX file."""
    notes = []
    if findings.forward_only:
        notes.append(
            f"{name} is used forward-only, by ONNX Runtime, because {findings.forward_only}: methods that need no gradients "
            f"remain: {', '.join(methods_without('gradients'))}"
        )
    elif findings.convolutions and not findings.batch_norms:
        notes.append(f"{name} has no batch norm; exporters fold it into the convolutions if there was any")
    if findings.loops:
        notes.append(
            f"{name} has a fixed batch size of {findings.interface.batch}: larger batches are computed in parts"
        )
    if findings.interface.channels_last:
        notes.append(f"{name} takes images with the channels last: they are transposed for it")
    if findings.class_names and len(findings.class_names) != findings.outputs:
        notes.append(
            f"{name} lists {len(findings.class_names)} class names for {findings.outputs} outputs: they are not used"
        )
    return tuple(notes)


def note_on_normalization(name: str, mean: Sequence[float] | None, std: Sequence[float] | None) -> tuple[str, ...]:
    """Return what is assumed about the normalisation of images, which a file in the ONNX format does not say."""
    if mean and std:
        return ()
    return (
        f"{name} does not say how images are normalised: it gets pixels in [0, 1] unchanged; if it was trained "
        "with a mean and a standard deviation, give them with --mean and --std",
    )


def methods_without(need: str) -> list[str]:
    """Return the names of the methods that do not need something; the last two read images from a folder."""
    return [*(name for name, method in METHODS.items() if need not in method.needs), "pictures", "saved"]
