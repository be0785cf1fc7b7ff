"""What a classifier in the ONNX format takes and returns, according to its graph."""

import ast
import json
import re
from dataclasses import dataclass
from typing import Any

from datafree.types import InputError

INPUT_TYPES = {1: "float32", 2: "uint8", 10: "float16", 11: "float64"}
"""types of images, by their numbers in the format"""
OUTPUT_TYPES = (1, 10, 11)
LOGITS = ("logits", "logit", "scores", "probabilities", "output", "outputs", "pred", "prediction", "predictions")
"""names of outputs that are preferred if there are several"""
CHANNELS = (1, 3, 4)
"""numbers of channels by which the order of the dimensions is recognised"""
NAMES = ("classes", "class_names", "labels", "label_names", "names", "id2label")
"""keys of the metadata that list class names"""
NAMES_LIMIT = 2**22
"""characters of a list of class names"""


@dataclass(frozen=True, kw_only=True)
class Interface:
    """What a network in the ONNX format takes and returns."""

    input: str
    """name of the images"""
    output: str
    """name of the logits"""
    type: str = "float32"
    """data type of the images; of `uint8`, pixels are whole numbers from 0 to 255"""
    batch: int = 0
    """number of images of a batch; 0: any"""
    channels_last: bool = False
    """whether the channels are the last dimension of images"""
    mean: tuple[float, ...] = ()
    """mean with which the file itself normalises pixels in [0, 1]; empty if it takes images as they are given"""
    std: tuple[float, ...] = ()
    """standard deviation of that"""


def interface_of(graph: Any, path: str, shape: tuple[int, int, int] | None) -> tuple[Interface, tuple[int, int, int]]:
    """Return what a graph takes and returns, and the shape of an image.

    Args:
        graph: The `GraphProto`.
        path: The file, for error messages.
        shape: Channels, height and width that the user gives.

    Raises:
        InputError: If it is not the graph of an image classifier, or the size of its images is open or another one.
    """
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    if len(inputs) != 1:
        names = ", ".join(value.name[:40] for value in inputs[:5]) or "none"
        raise InputError(
            f"{path} has {len(inputs)} inputs ({names}), but a classifier has one, the images; export it again"
        )
    kind = inputs[0].type.tensor_type
    if kind.elem_type not in INPUT_TYPES or len(kind.shape.dim) != 4:
        raise InputError(
            f"the input {inputs[0].name[:40]!r} of {path} is no batch of images with 4 dimensions of numbers; give an image "
            "classifier"
        )
    batch, *sizes = (dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else 0 for dim in kind.shape.dim)
    last = sizes[2] in CHANNELS and sizes[0] not in CHANNELS and not (shape and shape[0] == sizes[0])
    found = (sizes[2], *sizes[:2]) if last else tuple(sizes)
    if shape is None and not all(found):
        open_shape = " ".join(str(size or "?") for size in found)
        raise InputError(f"{path} takes images of any size ({open_shape}); give it: --input CHANNELS HEIGHT WIDTH")
    if shape is not None and any(size not in (0, own) for size, own in zip(found, shape, strict=True)):
        raise InputError(
            f"{path} takes images of {' '.join(map(str, found))}, but --input is {' '.join(map(str, shape))}; remove it"
        )
    interface = Interface(
        input=inputs[0].name,
        output=output_of(graph, path),
        type=INPUT_TYPES[kind.elem_type],
        batch=batch,
        channels_last=last,
    )
    channels, height, width = shape or found
    return interface, (channels, height, width)


def output_of(graph: Any, path: str) -> str:
    """Return the name of the output that has one row of numbers per image.

    Raises:
        InputError: If there is none, or there are several and none has a usual name.
    """
    fitting = [value.name for value in graph.output if _is_row(value)]
    usual = [name for name in fitting if name.lower() in LOGITS]
    if len(fitting) == 1 or len(usual) == 1:
        return (usual or fitting)[0]
    names = ", ".join(value.name[:40] for value in graph.output[:5])
    if not fitting:
        raise InputError(f"{path} has no output with one row of numbers per image ({names}); give an image classifier")
    raise InputError(f"{path} has several outputs ({names}); export it with one, the logits")


def _is_row(value: Any) -> bool:
    kind = value.type.tensor_type
    if kind.elem_type not in OUTPUT_TYPES:
        return False
    sizes = [dim.dim_value for dim in kind.shape.dim]
    return not kind.HasField("shape") or len(sizes) == 2 or (len(sizes) == 4 and sizes[2:] == [1, 1])


def class_names_of(model: Any) -> tuple[str, ...]:
    """Return the class names in the metadata of a model; empty if there are none."""
    texts = {entry.key.lower(): entry.value for entry in model.metadata_props}
    found = (parse_names(texts[key]) for key in NAMES if key in texts)
    return next(filter(None, found), ())


def parse_names(text: str) -> tuple[str, ...]:
    """Return the names in a text: a list, a dict from numbers to names, lines, or words with commas between them."""
    if len(text) > NAMES_LIMIT:
        return ()
    value: Any = None
    for parse in (json.loads, ast.literal_eval):
        try:
            value = parse(text)
            break
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    if isinstance(value, dict) and all(str(key).isdecimal() for key in value):
        numbered = {int(key): name for key, name in value.items()}
        value = [numbered.get(index) for index in range(len(numbered))]
    if value is None and text.lstrip()[:1] not in ("[", "{"):
        value = [word.strip() for word in re.split(r"\n|,", text.strip())]
    names = value if isinstance(value, (list, tuple)) else ()
    return tuple(names) if all(isinstance(name, str) and name for name in names) else ()
