"""Networks in the ONNX format as networks of torch, by onnx2pytorch, so that gradients flow.

onnx2pytorch calls `torch.NAME` for an operator NAME that it does not know, so that a file could name any function of torch.
Therefore only graphs of the operators below are given to it.
"""

import re
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from datafree.teachers.onnx_networks.graphs import Interface
from datafree.teachers.onnx_networks.runtime import as_input, in_batches

OPERATORS = frozenset(
    "Abs Add And AveragePool BatchNormalization Cast CastLike Ceil Celu Clip Concat Constant ConstantOfShape Conv "
    "ConvTranspose Cos DepthToSpace Div Dropout Einsum Elu Equal Erf Exp Expand Flatten Floor Gather "
    "GatherElements Gelu Gemm GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual GroupNormalization "
    "HardSigmoid HardSwish Identity InstanceNormalization LRN LayerNormalization LeakyRelu Less LessOrEqual Log "
    "LogSoftmax MatMul Max MaxPool Mean Min Mish Mod Mul Neg Not Or PRelu Pad Pow RMSNormalization Range "
    "Reciprocal ReduceL1 ReduceL2 ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum "
    "ReduceSumSquare Relu Reshape Resize Round Selu Shape Sigmoid Sign Sin Size Slice Softmax Softplus Softsign "
    "SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh Tile Transpose Trilu Unsqueeze Upsample Where".split()
)
"""operators of the default domain that are imported"""
QUANTIZED = re.compile(r"^Q[A-Z]|Quantize|Integer|NBits")
"""operators of quantised networks"""
DEFAULT_DOMAINS = ("", "ai.onnx")


class NotImportable(Exception):
    """A network cannot become one of torch; the message says why, as a part of a sentence."""


class ImportedNetwork(nn.Module):
    """A network in the ONNX format as modules of torch.

    Args:
        network: What onnx2pytorch built.
        interface: What it takes; its batch size is 0 if the modules take any number of images.
    """

    def __init__(self, network: nn.Module, interface: Interface) -> None:
        super().__init__()
        self.network, self.interface = network, interface

    def forward(self, images: Tensor) -> Tensor:
        """Return the outputs of normalised images of shape `(n, c, h, w)`."""
        return in_batches(self.network, as_input(images, self.interface), self.interface.batch)


def import_network(model: Any, output: str) -> nn.Module:
    """Return the network of an ONNX file as modules of torch, in evaluation mode and float32.

    Args:
        model: The `ModelProto`; it is not changed.
        output: Name of the only output that is kept.

    Raises:
        NotImportable: If it has an operator that is not imported, or its import fails.
    """
    import onnx.inliner
    from onnx2pytorch import ConvertModel

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if copy.functions:
        copy = onnx.inliner.inline_local_functions(copy)
    require_importable(copy.graph)
    kept = next(value for value in copy.graph.output if value.name == output)
    del copy.graph.output[:]
    copy.graph.output.append(kept)
    simplify(copy.graph)
    rename_values(copy.graph)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network = ConvertModel(copy)
    except Exception as fault:  # the importer may raise anything
        raise NotImportable(f"its import fails: {fault or type(fault).__name__}") from fault
    del network.onnx_model.graph.initializer[:]  # they are buffers of the network
    call_batch_norms(network)
    index_by_tuples(network)
    average_over_tuples(network)
    return network.float().eval()


def require_importable(graph: Any) -> None:
    """Check that every operator of a graph is imported.

    Raises:
        NotImportable: If not; with the first one.
    """
    for node in graph.node:
        name = f"{node.domain}.{node.op_type}".lstrip(".")[:60]
        if QUANTIZED.search(node.op_type):
            raise NotImportable(f"it is quantised, by {name}")
        if node.domain not in DEFAULT_DOMAINS or node.op_type not in OPERATORS:
            raise NotImportable(f"its operator {name} has no equivalent in torch")
    if graph.sparse_initializer:
        raise NotImportable("it has sparse weights")


def simplify(graph: Any) -> None:
    """Write a graph as the importer reads it, in place.

    Other names of weights and modes of batch norm are removed. Axes of reductions that are constants become attributes: read
    from a tensor in each call, they could not be exported again.
    """
    from onnx import helper, numpy_helper

    weights, kept = {tensor.name: tensor for tensor in graph.initializer}, {value.name for value in graph.output}
    names: dict[str, str] = {}
    nodes = []
    for node in graph.node:
        inputs = [names.get(str(name), str(name)) for name in node.input]
        if node.op_type == "Identity" and inputs[0] in weights and node.output[0] not in kept:
            names[node.output[0]] = inputs[0]
            continue
        del node.input[:]
        node.input.extend(inputs)
        if node.op_type == "BatchNormalization":
            settings = [attribute for attribute in node.attribute if attribute.name != "training_mode" or attribute.i]
            del node.attribute[:]
            node.attribute.extend(settings)
        if node.op_type.startswith("Reduce") and len(inputs) == 2 and inputs[1] in weights:
            axes = numpy_helper.to_array(weights[inputs[1]]).flatten().tolist()
            if axes:
                del node.input[1:]
                node.attribute.append(helper.make_attribute("axes", axes))
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def rename_values(graph: Any) -> None:
    """Give every value of a graph a name that may be part of the name of a module, in place."""
    names: dict[str, str] = {"": ""}
    taken = {""}

    def renamed(name: str) -> str:
        if name not in names:
            word = re.sub(r"\W", "_", name, flags=re.ASCII)[:80]
            word = word if word not in taken else f"{word}_{len(names)}_"
            names[name] = word
            taken.add(word)
        return names[name]

    for value in (*graph.input, *graph.output, *graph.initializer):
        value.name = renamed(value.name)
    for node in graph.node:
        for values in (node.input, node.output):
            changed = [renamed(name) for name in values]
            del values[:]
            values.extend(changed)
    del graph.value_info[:]


def call_batch_norms(network: nn.Module) -> None:
    """Let batch-norm layers be called as modules, in place, so that their inputs can be recorded."""
    from onnx2pytorch.operations import BatchNormWrapper

    class CalledBatchNorm(BatchNormWrapper):
        def forward(self, images: Tensor) -> Tensor:  # type: ignore[override]
            return self.bnu(images)

    for module in network.modules():
        if type(module) is BatchNormWrapper:
            if module.has_lazy:
                raise NotImportable("its batch norm has computed statistics")
            module.__class__ = CalledBatchNorm


def index_by_tuples(network: nn.Module) -> None:
    """Let layers that gather entries index by a tuple, in place: torch warns about a list, and will read it as a tensor."""
    from onnx2pytorch.operations import Gather

    class TupleGather(Gather):
        def forward(self, data: Tensor, indices: Tensor) -> Tensor:
            return data[(*self.selection, indices.to(torch.int64))]

    for module in network.modules():
        if type(module) is Gather:
            module.__class__ = TupleGather


def average_over_tuples(network: nn.Module) -> None:
    """Let layers that average over several axes take these from a tuple, in place; from a tensor, torch cannot export them."""
    from onnx2pytorch.operations import ReduceMean

    class TupleMean(ReduceMean):
        def forward(self, data: Tensor) -> Tensor:  # type: ignore[override]
            return data.mean(self.dim, self.keepdim)

    for module in network.modules():
        if type(module) is ReduceMean and isinstance(module.dim, tuple):
            module.__class__ = TupleMean


def gradient_reaches(network: nn.Module, images: Tensor) -> bool:
    """Return whether the gradient of the outputs reaches the images: finite, and not zero everywhere."""
    inputs = images.clone().requires_grad_()
    with torch.enable_grad():
        outputs = network(inputs).flatten(1)
        if not outputs.requires_grad:
            return False
        weights = torch.linspace(1, 2, outputs.shape[1])
        gradient = torch.autograd.grad((outputs * weights).sum(), inputs, allow_unused=True)[0]
    return gradient is not None and bool(gradient.isfinite().all()) and bool((gradient != 0).any())
