"""The float graph that an engine quantises: its layers, and the removal of what quantises activations."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

from datafree.classifier import Classifier
from datafree.export import export_onnx
from datafree.export.faults import quiet
from datafree.types import InputError

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""operators with weights that are quantised"""


@contextmanager
def silenced() -> Iterator[None]:
    """Silence an engine that prints and logs, inside a `with` block."""
    with quiet(), redirect_stdout(StringIO()):
        yield


@dataclass(frozen=True)
class Layer:
    """A layer with constant weights."""

    node: str
    """name of the node in the graph"""
    name: str
    """name of the layer in torch, such as `layer1.0.conv1`"""
    operator: str
    weight: str
    """name of its weights in the graph"""
    depthwise: bool = False
    """whether each output channel has a single input channel"""


def require_engine(package: str = "onnxruntime") -> None:
    """Check that an engine is installed.

    Raises:
        InputError: If it is not installed.
    """
    for name in (package, "onnx") if package == "onnxruntime" else (package,):
        if find_spec(name) is None:
            raise InputError(
                f"quantisation needs {name}, which is not installed; install it with: pip install 'datafree[quantize]'"
            )


def float_file(classifier: Classifier, path: Path, **options: Any) -> Any:
    """Write the float network as an ONNX file; see `export_onnx`.

    Raises:
        InputError: If the exporter cannot take a layer; with the layer and the engine that can.
    """
    try:
        return export_onnx(classifier, path, **options)
    except InputError as fault:
        text = str(fault)
        if "not installed" in text or ";" not in text:
            raise
        if "the ONNX exporter cannot take" in text:  # torch could trace it
            raise InputError(f"{text.partition(';')[0]}; use --engine torchao") from fault
        raise InputError(f"{text.partition(';')[0]}; no engine can quantise this network") from fault


def prepared(source: Path, path: Path) -> None:
    """Write the graph that is quantised: batch norm is folded into the layers before it, and shapes are inferred.

    Args:
        source: A float ONNX file.
        path: The file to write.

    Raises:
        InputError: If ONNX Runtime cannot prepare the graph.
    """
    require_engine()
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with silenced():
        try:
            quant_pre_process(str(source), str(path), skip_symbolic_shape=True)
        except Exception as fault:  # the engine raises errors of its own and of onnx
            first = str(fault).strip().splitlines()[0][:200] if str(fault).strip() else type(fault).__name__
            raise InputError(
                f"ONNX Runtime cannot prepare this network for quantisation ({first}); use --engine torchao"
            ) from fault
        model = onnx.load(str(path))
        copy_metadata(source, model)
        onnx.save(model, str(path))


def copy_metadata(source: Path, model: Any) -> None:
    """Give a model the metadata of the file that it was made from: class names, preprocessing and provenance."""
    import onnx

    had = {entry.key: entry.value for entry in onnx.load(str(source), load_external_data=False).metadata_props}
    own = {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(model, own | had)


def layers_of(path: Path) -> list[Layer]:
    """Return the layers of a graph that have constant weights, in the order of the graph.

    Raises:
        InputError: If there is none.
    """
    import onnx

    graph = onnx.load(str(path)).graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    layers = []
    for node in graph.node:
        weight = constants.get(node.input[1]) if node.op_type in LAYERS and len(node.input) > 1 else None
        if weight is None:
            continue
        groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
        layers.append(
            Layer(
                node=node.name,
                name=layer_name(node.name, weight.name),
                operator=node.op_type,
                weight=weight.name,
                depthwise=node.op_type == "Conv" and groups > 1 and weight.dims[1] == 1,
            )
        )
    if not layers:
        raise InputError(
            "the network has no convolution and no linear layer with weights of its own that ONNX Runtime could quantise; "
            "no engine can quantise it"
        )
    return layers


def layer_name(node: str, weight: str) -> str:
    """Return the name of a layer in torch, from the names in a graph."""
    named = weight.removeprefix("model.").removesuffix(".weight")
    return named if named != weight and "." in weight else node


def without_activations(path: Path) -> None:
    """Remove what quantises activations from a graph, in place: weights stay integers, and all else is computed in float."""
    import onnx

    model = onnx.load(str(path))
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    origin = {
        node.output[0]: node.input[0]
        for node in graph.node
        if node.op_type == "QuantizeLinear" and node.input[0] not in constants
    }
    renamed = {
        node.output[0]: origin[node.input[0]]
        for node in graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in origin
    }
    outputs = {value.name for value in graph.output}
    kept = []
    for node in graph.node:
        if node.output[0] in origin or (node.output[0] in renamed and node.output[0] not in outputs):
            continue
        if node.output[0] in renamed:  # the output of the network keeps its name
            source = renamed[node.output[0]]
            node = onnx.helper.make_node("Identity", [source], [node.output[0]])
        for index, name in enumerate(node.input):
            while name in renamed:
                name = renamed[name]
            node.input[index] = name
        kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)
    used = {name for node in graph.node for name in node.input}
    left = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(left)
    onnx.save(model, str(path))


def with_float_output(model: Any) -> None:
    """Remove the rounding of the logits, in place: in 8 bits, the two largest are often equal."""
    graph = model.graph
    makers = {node.output[0]: node for node in graph.node}
    users = [name for node in graph.node for name in node.input]
    for value in graph.output:
        last = makers.get(value.name)
        rounded = makers.get(last.input[0]) if last is not None and last.op_type == "DequantizeLinear" else None
        if rounded is None or rounded.op_type != "QuantizeLinear" or users.count(rounded.input[0]) > 1:
            continue
        source = makers.get(rounded.input[0])
        if source is not None and value.name not in users:
            source.output[list(source.output).index(rounded.input[0])] = value.name
            graph.node.remove(last)
            graph.node.remove(rounded)
    used = {name for node in graph.node for name in node.input}
    left = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(left)


@contextmanager
def working_folder() -> Iterator[Path]:
    """Yield a temporary folder for the files of an engine."""
    with tempfile.TemporaryDirectory(prefix="datafree-quantize-") as folder:
        yield Path(folder)
