"""Post-training quantisation by ONNX Runtime: QDQ form, one scale per output channel of weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from datafree.quantization.calibration import calibration_method, operators
from datafree.quantization.graphs import copy_metadata, layers_of, silenced, with_float_output, without_activations
from datafree.quantization.saturation import finest_scales
from datafree.quantization.schemes import Observer, Scheme
from datafree.types import InputError

INT4_OPSET = 21
"""first version of the operators with 4-bit integers"""


def quantize_static(
    graph: Path, path: Path, scheme: Scheme, ranges: Path, observer: Observer, in_float: Sequence[str] = ()
) -> None:
    """Write a quantised graph, from the ranges of its activations.

    Args:
        graph: The prepared float graph.
        path: The file to write.
        scheme: Bits and form of the weights.
        ranges: What `calibrate` wrote.
        observer: The observer of these ranges.
        in_float: Nodes that stay in float.

    Raises:
        InputError: If ONNX Runtime cannot quantise the network.
    """
    from onnxruntime import quantization

    types = quantization.QuantType
    weight_type = {"unsigned": types.QUInt8, "four-bit": types.QInt4}.get(scheme.form, types.QInt8)
    options: dict[str, Any] = {"WeightSymmetric": True}
    if not scheme.quantises_activations:
        # A ReLU whose output is quantised is left out of the graph, since the quantisation clips it.
        options |= {"QuantizeBias": False, "QDQKeepRemovableActivations": True}
    if scheme.form == "paired":
        options["TensorQuantOverrides"] = paired_weights(graph)
    with silenced():
        try:
            quantization.quantize_static(
                str(graph),
                str(path),
                None,
                quant_format=quantization.QuantFormat.QDQ,
                op_types_to_quantize=operators(),
                per_channel=True,
                reduce_range=scheme.form == "reduced",
                activation_type=types.QUInt8,
                weight_type=weight_type,
                nodes_to_exclude=list(in_float),
                calibrate_method=calibration_method(observer),
                calibration_cache_path=str(ranges),
                extra_options=options,
            )
            if not scheme.quantises_activations:
                without_activations(path)
            finish(graph, path, scheme)
        except Exception as fault:  # the engine raises errors of its own and of onnx
            raise refusal(fault) from fault


def paired_weights(graph: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the scales of all weights at which no sum of two products is too large, as ONNX Runtime takes them."""
    import numpy as np
    import onnx
    from onnxruntime.quantization import QuantType

    model = onnx.load(str(graph))
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = {node.name: node for node in model.graph.node}
    scales: dict[str, tuple[int, torch.Tensor]] = {}
    for layer in layers_of(graph):
        weight = torch.from_numpy(onnx.numpy_helper.to_array(constants[layer.weight]).copy()).float()
        axis = 0 if outputs_first(nodes[layer.node]) else weight.ndim - 1
        found = finest_scales(weight.movedim(axis, 0), depthwise=layer.depthwise)
        shared = scales.get(layer.weight)  # by two layers: the coarser scale is safe for both
        found = found.where(found > 0, 1.0)  # a channel of zeros
        scales[layer.weight] = axis, found if shared is None else torch.maximum(found, shared[1])
    kind = {"quant_type": QuantType.QInt8, "zero_point": np.array(0, np.int8)}
    return {
        name: [{**kind, "axis": axis, "scale": np.array(scale, np.float32)} for scale in found.tolist()]
        for name, (axis, found) in scales.items()
    }


def outputs_first(node: Any) -> bool:
    """Return whether the first dimension of a node's weights is that of its outputs."""
    transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    return node.op_type == "Conv" or (node.op_type == "Gemm" and transposed)


def quantize_dynamic(graph: Path, path: Path, in_float: Sequence[str] = ()) -> None:
    """Write a graph that finds the range of each activation while it runs: no image is needed, and the ranges cost time.

    Raises:
        InputError: If ONNX Runtime cannot quantise the network.
    """
    import onnx
    from onnxruntime import quantization

    bare = path.with_suffix(".bare.onnx")
    with silenced():
        try:
            model = onnx.load(str(graph))
            del model.graph.value_info[:]  # the engine transposes weights, and would find shapes that differ
            onnx.save(model, str(bare))
            quantization.quantize_dynamic(
                str(bare), str(path), weight_type=quantization.QuantType.QUInt8, nodes_to_exclude=list(in_float)
            )
            finish(graph, path)
        except Exception as fault:
            raise refusal(fault) from fault
        finally:
            bare.unlink(missing_ok=True)


def finish(graph: Path, path: Path, scheme: Scheme | None = None) -> None:
    """Complete a file that the engine has written: metadata, and a version of the operators that has its types."""
    import onnx

    model = onnx.load(str(path))
    if scheme is not None and scheme.form == "four-bit":
        model = with_opset(model, INT4_OPSET)
    with_float_output(model)
    model.producer_name = "datafree"
    copy_metadata(graph, model)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def with_opset(model: Any, version: int) -> Any:
    """Return a model in which the standard operators have at least a version."""
    current = next(entry for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    current.version = max(current.version, version)
    model.ir_version = max(model.ir_version, 10)
    return model


def refusal(fault: Exception) -> InputError:
    """Return the error for a network that the engine cannot take."""
    first = next((line.strip() for line in str(fault).splitlines() if line.strip()), type(fault).__name__)
    return InputError(f"ONNX Runtime cannot quantise this network ({first[:200]}); use --engine torchao")
