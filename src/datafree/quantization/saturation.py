r"""Sums of products that saturate at 16 bits on processors without integer dot products, worked out exactly.

A processor with AVX2 or AVX-512 but without VNNI multiplies unsigned activations by signed weights with the instruction
`vpmaddubsw`, which adds two neighbouring products in 16 bits:

.. math:: p_k = \operatorname{clip}\bigl(a_{2k} w_{2k} + a_{2k+1} w_{2k+1}, -2^{15}, 2^{15} - 1\bigr), \quad a \in [0, 255]

No sum is too large if :math:`w^+_{2k} + w^+_{2k+1} \le 128` and :math:`w^-_{2k} + w^-_{2k+1} \le 128`, with the positive and
the negative parts of the integers. Weights with 7 bits keep this bound whatever their neighbours are. Few large weights are
neighbours with the same sign, so most channels can be stored more finely:

.. math:: s = \tfrac1{127} \max_k \max\bigl(W^+_{2k} + W^+_{2k+1},\; W^-_{2k} + W^-_{2k+1}\bigr)

for a channel with the weights :math:`W`. Rounding adds at most one half to each of two weights, so their sum is at most 128.
Neighbours are those of ONNX Runtime: rows, columns, then channels of a kernel. Depthwise convolutions have no pairs.

With weights of 4 bits no sum is too large either. For unsigned weights, ONNX Runtime uses slower instructions that add in
32 bits.

Two questions are answered without such a processor: which sums could be too large for any activations, and what the network
computes on given images if they saturate.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from datafree.classifier import Classifier
from datafree.quantization.sessions import OnnxNetwork
from datafree.types import Images

LOWEST, HIGHEST = -(2**15), 2**15 - 1
"""smallest and largest sum of two products"""
LARGEST = 255
"""largest activation"""
LEVELS = 127
"""largest sum of two real weights of a channel, in units of its scale; also the largest integer"""
PAIRS_AT_ONCE = 2**24
"""sums that are computed at once"""


@dataclass(frozen=True, kw_only=True)
class Saturation:
    """What happens on a processor whose sums of two products saturate at 16 bits."""

    possible: int
    """pairs of weights whose sum is too large for some activations; 0: the file means the same on every processor"""
    pairs: int
    """pairs of weights in all"""
    saturated: int
    """sums that are too large on the images"""
    images: int
    logit_difference: float
    """largest difference of a logit"""
    agreement: float
    """fraction of images on which the prediction stays the same"""

    @property
    def changes(self) -> bool:
        """Whether the network computes something else on such a processor."""
        return self.saturated > 0

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return asdict(self)


@dataclass(frozen=True)
class IntegerLayer:
    """A layer of a quantised graph whose inputs and weights are integers."""

    node: Any
    activation: str
    """name of the unsigned integers that it takes"""
    activation_scale: float
    activation_zero: int
    weight: Tensor
    """signed integers, with the output channels first"""
    weight_scale: Tensor
    """one per output channel"""
    groups: int = 1


def saturation(path: Path, classifier: Classifier, images: Images) -> Saturation:
    """Compute what a quantised network returns if sums of two products saturate, and compare.

    The layers are corrected one after another: the input of a layer is what the saturated layers before it return.

    Args:
        path: A graph in QDQ form.
        classifier: Turns logits into predictions.
        images: Pixels in [0, 1].
    """
    import onnx

    model = onnx.load(str(path))
    layers = integer_layers(model)
    counts = [possible_pairs(layer) for layer in layers]
    possible, pairs = (sum(column) for column in zip(*counts, strict=True)) if counts else (0, 0)
    if not possible:
        return Saturation(possible=0, pairs=pairs, saturated=0, images=len(images), logit_difference=0.0, agreement=1.0)
    exact = OnnxNetwork(path, optimized=False)(images)
    network, outputs = with_corrections(model, layers)
    corrections: dict[str, Tensor] = {}
    saturated = 0
    for layer in layers:
        values = run(network, [layer.activation, f"{outputs[layer.node.name]} exact"], images, corrections)
        correction, count = missing_sums(layer, values[0])
        corrections[outputs[layer.node.name]] = correction.reshape(values[1].shape)
        saturated += count
    (logits,) = run(network, [model.graph.output[0].name], images, corrections)
    same = classifier.predict(logits) == classifier.predict(exact)
    return Saturation(
        possible=possible,
        pairs=pairs,
        saturated=saturated,
        images=len(images),
        logit_difference=float((logits - exact).abs().max()),
        agreement=float(same.float().mean()),
    )


def integer_layers(model: Any) -> list[IntegerLayer]:
    """Return the layers of a graph in QDQ form that are computed with pairs of products, in the order of the graph.

    Layers with unsigned weights and depthwise convolutions are computed in another way.
    """
    from onnx.numpy_helper import to_array

    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    makers = {node.output[0]: node for node in model.graph.node}

    def array(name: str) -> Tensor:
        return torch.from_numpy(to_array(constants[name]).astype("float32").copy())

    layers = []
    for node in model.graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul"):
            continue
        data, weight = (makers.get(name) for name in node.input[:2])
        if not (data and weight and data.op_type == weight.op_type == "DequantizeLinear"):
            continue
        stored = constants.get(weight.input[0])
        if stored is None or stored.data_type != 3 or data.input[0] in constants:  # 3: signed 8-bit integers
            continue
        options = {attribute.name: attribute for attribute in node.attribute}
        groups = options["group"].i if "group" in options else 1
        weights = array(weight.input[0])
        if (groups > 1 and weights.shape[1] == 1) or (node.op_type == "Conv" and weights.ndim != 4):
            continue
        if node.op_type == "MatMul" or (node.op_type == "Gemm" and not ("transB" in options and options["transB"].i)):
            weights = weights.T
        layers.append(
            IntegerLayer(
                node=node,
                activation=data.input[0],
                activation_scale=float(array(data.input[1])),
                activation_zero=int(array(data.input[2])),
                weight=weights.contiguous(),
                weight_scale=array(weight.input[1]).flatten(),
                groups=groups,
            )
        )
    return layers


def paired(weight: Tensor) -> Tensor:
    """Return the weights of each output channel in pairs of neighbours, of shape `(channels, pairs, 2)`."""
    rows = weight.movedim(1, -1).flatten(1)  # rows and columns of a kernel first, then channels
    return F.pad(rows, (0, rows.shape[1] % 2)).unflatten(1, (-1, 2))


def too_large(pairs: Tensor) -> Tensor:
    """Return which pairs of integers, of shape `(..., 2)`, can have a sum that is too large."""
    above = LARGEST * pairs.clamp_min(0).sum(-1) > HIGHEST
    return above | (LARGEST * pairs.clamp_max(0).sum(-1) < LOWEST)


def is_depthwise(weight: Tensor, inputs: int) -> bool:
    """Return whether each output channel sees one of several input channels.

    Args:
        weight: Of shape `(output channels, input channels of a group, ...)`.
        inputs: Input channels of all groups.
    """
    return weight.ndim > 2 and weight.shape[1] == 1 and inputs > 1


def finest_scales(weight: Tensor, *, depthwise: bool = False) -> Tensor:
    """Return the finest scale of each output channel at which no sum of two products is too large.

    Args:
        weight: Real weights, output channels first.
        depthwise: Whether the layer is computed without pairs.
    """
    if depthwise:
        return weight.flatten(1).abs().amax(1) / LEVELS
    pairs = paired(weight)
    return pairs.clamp_min(0).sum(-1).amax(1).maximum((-pairs).clamp_min(0).sum(-1).amax(1)) / LEVELS


def possible_pairs(layer: IntegerLayer) -> tuple[int, int]:
    """Return how many pairs of weights of a layer can have a sum that is too large, and how many pairs there are."""
    large = too_large(paired(layer.weight))
    return int(large.sum()), large.numel()


def missing_sums(layer: IntegerLayer, activations: Tensor) -> tuple[Tensor, int]:
    """Return what saturation takes away from the outputs of a layer, and the number of sums that saturate.

    Args:
        layer: The layer.
        activations: The unsigned integers that it takes.

    Returns:
        The correction in real numbers, of shape `(n, channels, positions)`; for matrices without positions, `(n, channels)`.
    """
    columns = as_columns(layer, activations)  # one matrix for each group: (n, inputs, positions)
    pairs = paired(layer.weight)
    per_group = len(pairs) // layer.groups
    parts, count = [], 0
    for group, inputs in enumerate(columns):
        own = pairs[group * per_group : (group + 1) * per_group]
        correction, saturated = _missing(own, inputs)
        parts.append(correction)
        count += saturated
    scale = layer.activation_scale * layer.weight_scale
    scale = scale.expand(len(pairs)) if len(scale) == 1 else scale
    return torch.cat(parts, 1) * scale[:, None], count


def _missing(pairs: Tensor, inputs: Tensor) -> tuple[Tensor, int]:
    """Sum what is cut off, over the pairs that can be too large."""
    inputs = F.pad(inputs, (0, 0, 0, inputs.shape[1] % 2))
    channels, places = too_large(pairs).nonzero(as_tuple=True)
    correction = inputs.new_zeros(len(inputs), len(pairs), inputs.shape[2])
    count, step = 0, max(1, PAIRS_AT_ONCE // max(1, len(inputs) * inputs.shape[2]))
    for begin in range(0, len(channels), step):
        channel, place = channels[begin : begin + step], places[begin : begin + step]
        weights = pairs[channel, place]
        sums = inputs[:, 2 * place] * weights[:, :1] + inputs[:, 2 * place + 1] * weights[:, 1:]
        cut = sums.clamp(LOWEST, HIGHEST) - sums
        count += int((cut != 0).sum())
        correction.index_add_(1, channel, cut)
    return correction, count


def as_columns(layer: IntegerLayer, activations: Tensor) -> list[Tensor]:
    """Return the inputs of each sum, for each group: of shape `(n, inputs, positions)`, in the order of `paired`."""
    values = activations.float()
    if layer.node.op_type != "Conv":
        rows = values.flatten(0, -2) if values.ndim > 2 else values
        return [rows[:, :, None]]
    options = {attribute.name: attribute for attribute in layer.node.attribute}

    def numbers(name: str, default: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(options[name].ints) if name in options else default

    kernel = tuple(layer.weight.shape[2:])
    top, left, bottom, right = numbers("pads", (0, 0, 0, 0))
    values = F.pad(values, (left, right, top, bottom), value=float(layer.activation_zero))
    unfolded = F.unfold(
        values, kernel, dilation=numbers("dilations", (1, 1)), stride=numbers("strides", (1, 1))
    ).unflatten(1, (values.shape[1], -1))
    return [group.movedim(1, 2).flatten(1, 2) for group in unfolded.chunk(layer.groups, 1)]


def with_corrections(model: Any, layers: list[IntegerLayer]) -> tuple[Any, dict[str, str]]:
    """Return a session of a graph that adds an input to the output of each layer, and the names of these inputs by node.

    The graph also returns the integers that the layers take, and their outputs before the addition.
    """
    import onnx
    from onnx import TensorProto, helper

    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph, names = changed.graph, {}
    by_name = {layer.node.name: layer for layer in layers}
    nodes = []
    for node in graph.node:
        nodes.append(node)
        if node.name in by_name and node.op_type in ("Conv", "Gemm", "MatMul"):
            output = node.output[0]
            names[node.name] = output
            node.output[0] = f"{output} exact"
            graph.input.append(helper.make_tensor_value_info(f"{output} correction", TensorProto.FLOAT, None))
            nodes.append(helper.make_node("Add", [f"{output} exact", f"{output} correction"], [output]))
    ordered = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(ordered)
    for layer in layers:
        if layer.activation not in {value.name for value in graph.output}:
            graph.output.append(helper.make_tensor_value_info(layer.activation, TensorProto.UINT8, None))
        exact = f"{names[layer.node.name]} exact"
        graph.output.append(helper.make_tensor_value_info(exact, TensorProto.FLOAT, None))
    return OnnxNetwork(changed.SerializeToString(), optimized=False), names


def run(network: OnnxNetwork, outputs: list[str], images: Images, corrections: dict[str, Tensor]) -> list[Tensor]:
    """Run a graph with corrections; those that are not known yet are 0."""
    feeds = {network.input: images.detach().cpu().float().contiguous().numpy()}
    for value in network.session.get_inputs():
        name, _, kind = value.name.rpartition(" ")
        if kind == "correction":
            feeds[value.name] = corrections.get(name, torch.zeros(1)).numpy()
    return [torch.from_numpy(array) for array in network.session.run(outputs, feeds)]
