"""ONNX files, by torch's exporter, compared with torch in ONNX Runtime before they are written."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datafree.classifier import Classifier
from datafree.export.comparison import Engine, verified
from datafree.export.deployment import Deployed
from datafree.export.facts import facts_of, texts
from datafree.export.faults import operator_at_fault, quiet
from datafree.export.results import Exported
from datafree.export.tracing import Traced, trace
from datafree.files.writing import atomic_file
from datafree.teachers.onnx_networks.runtime import new_session
from datafree.types import Images, InputError

INPUT, OUTPUT, BATCH = "images", "logits", "batch"
"""names in the graph"""
OPSET = 20
"""version of the operators"""
SIZE_LIMIT = 2**31 - 2**20
"""bytes of the weights: the limit of one file, less room for the graph"""
OTHER = "use --format torch-export"


def export_onnx(
    classifier: Classifier,
    path: str | Path,
    *,
    normalise: bool = True,
    images: Images | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Exported:
    """Write a classifier as an ONNX file with one input, `images`, and one output, `logits`, in float32.

    The file takes batches of any size if the network does. Its metadata have the class names, the preprocessing, the hash of
    the weights, and the provenance. Before it is written, ONNX Runtime must compute the same logits as torch.

    Args:
        classifier: The classifier; it is not changed.
        path: The file to write; an existing one is replaced.
        normalise: Whether the file takes pixels in [0, 1] and normalises them. Otherwise it takes normalised images.
        images: Synthesized images for the comparison, in [0, 1]; default: procedural pictures are drawn.
        provenance: What else the metadata say, such as the teacher and the method: words by their names.

    Returns:
        What was written, with the largest difference, the agreement and the time of one image in both engines.

    Raises:
        InputError: If a package is missing, the exporter cannot take the network (with the layer or the operator), or the file
            would compute another function.
    """
    require_exporter()
    path = Path(path)
    network = Deployed(classifier, normalise=normalise)
    require_size(network)
    traced = trace(network, network.taken(classifier.probe_images(2).cpu()))
    model = translate(traced)
    describe(model, texts(facts_of(classifier, normalise), provenance or {}))
    content = model.SerializeToString()
    engines = {"onnxruntime": engine_of(content, traced.batch)}
    comparison = verified(classifier, network, engines, saved=images, other=OTHER)
    with atomic_file(path) as new:
        new.write_bytes(content)
    return Exported(
        path=path,
        format="onnx",
        bytes=len(content),
        input=INPUT,
        output=OUTPUT,
        shape=classifier.shape,
        batch=traced.batch,
        normalised_inside=normalise,
        notes=traced.notes,
        details={"opset": OPSET, "operators": operators_of(model)},
        **comparison,
    )


def require_exporter() -> None:
    """Import the packages that write ONNX files.

    Raises:
        InputError: If one is not installed.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as fault:
        raise InputError(
            f"an export to ONNX needs {fault.name or 'a package'}, which is not installed; install it with: "
            "pip install 'datafree[export]'"
        ) from fault


def require_size(network: Deployed) -> None:
    """Check that the weights of a network fit one file.

    Raises:
        InputError: If not.
    """
    size = sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())
    if size > SIZE_LIMIT:
        raise InputError(
            f"the network has {size / 2**30:.1f} GiB of weights, but one ONNX file has at most 2 GiB; {OTHER}"
        )


def translate(traced: Traced) -> Any:
    """Return the `ModelProto` of a graph of torch.

    Raises:
        InputError: If an operator has no equivalent; with its name and its layer.
    """
    with quiet():
        try:
            program = torch.onnx.export(
                traced.program,
                dynamo=True,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=[OUTPUT],
                verbose=False,
            )
        except Exception as fault:  # the translations of operators may raise anything
            raise InputError(
                f"the ONNX exporter cannot take {operator_at_fault(traced.program, fault)}; {OTHER}"
            ) from fault
    return program.model_proto  # type: ignore[union-attr]


def describe(model: Any, metadata: Mapping[str, str]) -> None:
    """Set the metadata of a model and the name of its batch dimension; remove the paths of this machine from its nodes."""
    import onnx

    from datafree import __version__

    model.producer_name, model.producer_version = "datafree", __version__
    graph = model.graph
    first = graph.input[0].type.tensor_type.shape.dim[0]
    symbol = first.dim_param
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if symbol and dim.dim_param == symbol:
                dim.dim_param = BATCH
    for item in (*graph.input, *graph.output, *graph.value_info, *graph.initializer, *graph.node, graph):
        del item.metadata_props[:]
    onnx.helper.set_model_props(model, dict(metadata))


def engine_of(content: bytes, batch: int) -> Engine:
    """Return a function that runs a file in ONNX Runtime on the CPU, with as many threads as torch.

    Args:
        content: The file.
        batch: Number of images of a batch; 0: any.

    Raises:
        InputError: If ONNX Runtime does not take the file.
    """
    try:
        session = new_session(content, torch.get_num_threads())
    except Exception as fault:  # ONNX Runtime has exceptions of its own
        why = str(fault).strip().splitlines()[0][:200]
        raise InputError(f"ONNX Runtime cannot run the exported network ({why}); {OTHER}") from fault

    def run(images: Tensor) -> Tensor:
        parts = images.split(batch or len(images))
        return torch.cat([torch.from_numpy(session.run([OUTPUT], {INPUT: part.numpy()})[0]) for part in parts])

    return run


def operators_of(model: Any) -> dict[str, int]:
    """Return the number of nodes by operator."""
    names = [node.op_type for node in model.graph.node]
    return {name: names.count(name) for name in sorted(set(names))}
