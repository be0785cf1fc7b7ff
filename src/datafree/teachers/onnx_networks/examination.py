"""The examination of an ONNX file, in a child process: what it takes and returns, and whether it can become one of torch."""

import json
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from datafree.classifier import batch_norms, probe_images
from datafree.files.validation import from_plain
from datafree.networks.building import require_bounded
from datafree.teachers.onnx_networks.description import Description, description_of
from datafree.teachers.onnx_networks.graphs import Interface, class_names_of, interface_of
from datafree.teachers.onnx_networks.importing import ImportedNetwork, NotImportable, gradient_reaches, import_network
from datafree.teachers.onnx_networks.reading import OnnxFile, read_onnx
from datafree.teachers.onnx_networks.runtime import OnnxRuntimeNetwork
from datafree.types import InputError
from datafree.weights.isolation import LimitExceeded, isolated

SECONDS, BYTES_PER_SECOND = 60.0, 10_000_000
"""limit of the processor time of an examination: a constant, and the part that grows with the size of the file"""
MEMORY, COPIES = 3 * 2**30, 10
"""limit of its memory in bytes: a constant, and how many times the file"""
TOLERANCE = 1e-3
"""largest difference of the outputs of torch and ONNX Runtime, relative to the largest output"""
IMAGES = 3
"""number of images that both are compared on"""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What the examination of an ONNX file has found."""

    hashes: dict[str, str]
    """SHA-256 of the files, by name"""
    interface: Interface
    """what the network takes and returns"""
    shape: tuple[int, int, int]
    """channels, height and width of an image"""
    outputs: int
    """number of outputs per image"""
    class_names: tuple[str, ...]
    """class names in the metadata; empty if there are none"""
    description: Description
    """what the metadata say about the images"""
    forward_only: str
    """why the network cannot become one of torch, as a part of a sentence; empty if it can"""
    loops: bool
    """whether the network of torch takes images one batch of the fixed size at a time"""
    convolutions: int
    """number of convolutions"""
    batch_norms: int
    """number of batch-norm layers"""


def examine(path: str | Path, shape: tuple[int, int, int] | None) -> Findings:
    """Examine an ONNX file in a child process. Nothing of the file can crash or fill the memory of this process.

    Args:
        path: The file.
        shape: Channels, height and width of an image that the user gives; None: those of the file.

    Raises:
        InputError: If the file cannot be used.
    """
    size = Path(path).stat().st_size if Path(path).is_file() else 0
    work = partial(_examine, shape=shape)
    try:
        with isolated(work, path, MEMORY + COPIES * size, SECONDS + size / BYTES_PER_SECOND) as result:
            result.seek(0)
            return from_plain(Findings, json.loads(result.read()), str(path))
    except LimitExceeded as fault:
        raise InputError(f"{path} cannot be used, because reading it {fault}; do not trust this file") from fault


def _examine(path: str, result: IO[bytes], shape: tuple[int, int, int] | None) -> None:
    import onnx

    file = read_onnx(path)
    try:
        onnx.checker.check_model(file.content)
    except (onnx.checker.ValidationError, ValueError) as fault:
        raise InputError(f"{path} is no valid ONNX file ({_first_line(fault)}); copy or export it again") from fault
    interface, shape = interface_of(file.model.graph, path, shape)
    require_bounded(shape, None)
    outputs = run_by_onnx_runtime(file, interface, shape, path)
    why, imported = attempt_import(file, interface, shape, outputs)
    types = [node.op_type for node in file.model.graph.node]
    findings = Findings(
        hashes=file.hashes,
        interface=interface,
        shape=shape,
        outputs=outputs.flatten(1).shape[1],
        class_names=class_names_of(file.model),
        description=description_of(file.model, shape[0]),
        forward_only=why,
        loops=imported is not None and imported.interface.batch > 0,
        convolutions=types.count("Conv") + types.count("FusedConv"),
        batch_norms=len(batch_norms(imported)) if imported else 0,
    )
    result.write(json.dumps(asdict(findings)).encode())


def run_by_onnx_runtime(file: OnnxFile, interface: Interface, shape: tuple[int, int, int], path: str) -> Tensor:
    """Return the outputs that ONNX Runtime computes for a few images.

    Raises:
        InputError: If it fails, or the outputs are not one row of numbers per image.
    """
    try:
        outputs = OnnxRuntimeNetwork(file.content, interface)(probe_images(shape, IMAGES))
    except Exception as fault:  # ONNX Runtime has exceptions of its own
        raise InputError(
            f"{path} does not run on images of shape {shape} ({_first_line(fault)}); correct --input or export it again"
        ) from fault
    if outputs.ndim not in (2, 4) or len(outputs) != IMAGES or outputs[0].numel() != outputs.shape[1]:
        raise InputError(
            f"{path} returns outputs of shape {tuple(outputs.shape)} for {IMAGES} images; give a classifier"
        )
    return outputs


def attempt_import(
    file: OnnxFile, interface: Interface, shape: tuple[int, int, int], expected: Tensor
) -> tuple[str, ImportedNetwork | None]:
    """Try to make a network of torch from an ONNX file.

    Returns:
        Why that is not possible, and None; or an empty text, and the network.
    """
    if interface.type == "uint8":
        return "it takes whole numbers", None
    try:
        network = import_network(file.model, interface.output)
        interface = replace(interface, type="float32")
        return "", fitting(network, interface, probe_images(shape, IMAGES), expected)
    except NotImportable as fault:
        return _first_line(fault)[:300], None


def fitting(network: Any, interface: Interface, images: Tensor, expected: Tensor) -> ImportedNetwork:
    """Return a network of torch that takes any number of images if it can, else batches of the size of the file.

    Raises:
        NotImportable: If its outputs differ from those of ONNX Runtime, or it has no gradient.
    """
    difference = ""
    for batch in (0, interface.batch) if interface.batch else (0,):
        candidate = ImportedNetwork(network, replace(interface, batch=batch)).eval()
        try:
            with torch.no_grad():
                difference = _difference(candidate(images), expected)
            if not difference and batch and batch_norms(candidate):
                raise NotImportable(f"its batch size is fixed to {batch}, and it has batch norm")
            if not difference and not gradient_reaches(candidate, images):
                raise NotImportable("no gradient reaches the images")
        except NotImportable:
            raise
        except Exception as fault:  # the modules may raise anything
            difference = f"torch fails: {_first_line(fault)}"
        if not difference:
            return candidate
    raise NotImportable(difference)


def _difference(ours: Any, theirs: Tensor) -> str:
    if not isinstance(ours, Tensor) or ours.shape != theirs.shape:
        return "the outputs in torch have another shape"
    difference = float((ours.float() - theirs).abs().max() / theirs.abs().max().clamp_min(1e-12))
    return "" if difference <= TOLERANCE else f"the outputs in torch differ by {100 * difference:.1f} %"


def _first_line(fault: BaseException) -> str:
    text = str(fault).strip()
    return text.splitlines()[0][:300] if text else type(fault).__name__
