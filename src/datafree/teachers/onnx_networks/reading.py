"""Reading ONNX files: of bounded size, with all tensors in memory. External data are regular files beside the file."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from datafree.files.reading import open_regular
from datafree.types import InputError

SIZE_LIMIT = 2**31 - 1
"""bytes of a file with its external data: the limit of the format"""
MAX_VALUES = 2**30
"""values of one tensor"""
MAX_DIMENSIONS = 64
RUNTIME_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
"""origins of the operators that ONNX Runtime itself has; it loads no library for others"""
FOREIGN = ("EPContext",)
"""operators of these domains that name files or compiled code"""
EXTERNAL = 1
"""`TensorProto.EXTERNAL`, the place of data in another file"""


class OnnxFile(NamedTuple):
    """An ONNX file with its external data."""

    model: Any
    """the `ModelProto`; all tensors are inside"""
    content: bytes
    """the same as bytes"""
    hashes: dict[str, str]
    """SHA-256 of the file and of its external data, by name"""


def import_onnx(path: str | Path) -> None:
    """Import the packages that read ONNX files.

    Raises:
        InputError: If one is not installed.
    """
    try:
        import onnx  # noqa: F401
        import onnx2pytorch  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as fault:
        raise InputError(
            f"{path} is an ONNX file, and {fault.name or 'a package'} is not installed; install it with: "
            "pip install 'datafree[onnx]'"
        ) from fault


def read_onnx(path: str | Path) -> OnnxFile:
    """Read an ONNX file. Damaged files can crash the parsers: call this in a child process first.

    Raises:
        InputError: If it is no ONNX file, is too large, has operators of an unknown origin, or has external data in anything
            but regular files beside it.
    """
    import onnx
    from google.protobuf.message import DecodeError, EncodeError

    path = Path(path)
    with open_regular(path, SIZE_LIMIT, follow_links=True) as file:
        content = file.read(SIZE_LIMIT + 1)
    hashes = {path.name: hashlib.sha256(content).hexdigest()}
    try:
        model = onnx.load_model_from_string(content)
    except DecodeError as fault:
        raise InputError(f"{path} is no ONNX file, or is damaged; copy or export it again") from fault
    if not model.graph.node:
        raise InputError(f"{path} is no ONNX file, or has an empty graph; copy or export it again")
    require_known_operators(model, path)
    outside = take_external_data(model, path, SIZE_LIMIT - len(content))
    if outside:
        try:
            content = model.SerializeToString(deterministic=True)
        except (EncodeError, ValueError) as fault:
            raise InputError(f"{path} is larger than 2 GiB with its data; export a smaller network") from fault
    return OnnxFile(model, content, hashes | outside)


def require_known_operators(model: Any, path: Path) -> None:
    """Check that every operator is one of ONNX's or ONNX Runtime's own, or a function of the file.

    Raises:
        InputError: If not; with the first one.
    """
    own = {(function.domain, function.name) for function in model.functions}
    for nodes in (model.graph.node, *(function.node for function in model.functions)):
        for node in walk(nodes):
            known = node.domain in RUNTIME_DOMAINS and node.op_type not in FOREIGN
            if not known and (node.domain, node.op_type) not in own:
                name = f"{node.domain}.{node.op_type}".lstrip(".")[:80]
                raise InputError(
                    f"{path} has the operator {name!r}, which is not ONNX's own; export the network with standard operators"
                )


def walk(nodes: Sequence[Any]) -> Iterator[Any]:
    """Yield nodes, and the nodes of the graphs inside of them."""
    for node in nodes:
        yield node
        for graph in inner_graphs(node):
            yield from walk(graph.node)


def inner_graphs(node: Any) -> Iterator[Any]:
    """Yield the graphs of a node: the branches of a condition, or the body of a loop."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def take_external_data(model: Any, path: Path, room: int) -> dict[str, str]:
    """Read the tensors that are stored in other files, in place.

    Args:
        model: The `ModelProto`.
        path: Its file. Data are only read from files in the same folder.
        room: Bytes that they may have together.

    Returns:
        The SHA-256 of each file that was read, by its name.

    Raises:
        InputError: If a place is not the name of a regular file beside it, does not have the values of the tensor, or data
            that are no weights are external.
    """
    files: dict[str, str] = {}
    for tensor in all_tensors(model):
        if math.prod(tensor.dims) > MAX_VALUES or len(tensor.dims) > MAX_DIMENSIONS or min(tensor.dims, default=0) < 0:
            raise InputError(
                f"tensor {tensor.name[:80]!r} in {path} claims more values than the format allows; do not trust it"
            )
        if tensor.data_location != EXTERNAL:
            continue
        name, offset, size = _place(tensor, path)
        room -= size
        if room < 0:
            raise InputError(f"{path} is larger than 2 GiB with its data; export a smaller network")
        place = path.parent / name
        with open_regular(place, SIZE_LIMIT, root=path.parent) as file:
            if name not in files:
                files[name] = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(offset)
            data = file.read(size)
        if len(data) < size:
            raise InputError(f"{place} ends before the values of {tensor.name[:80]!r}; copy it again")
        tensor.raw_data = data
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
    return files


def all_tensors(model: Any) -> Iterator[Any]:
    """Yield every tensor of a model: weights, attributes, and those of inner graphs and functions."""
    for proto in model.training_info:
        yield from _tensors(proto.initialization)
        yield from _tensors(proto.algorithm)
    yield from _tensors(model.graph)
    for function in model.functions:
        for node in function.node:
            yield from _tensors_of_node(node)


def _tensors(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        yield from _tensors_of_node(node)


def _tensors_of_node(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        for sparse in (
            *attribute.sparse_tensors,
            *([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []),
        ):
            yield from (sparse.values, sparse.indices)
    for graph in inner_graphs(node):
        yield from _tensors(graph)


def _place(tensor: Any, path: Path) -> tuple[str, int, int]:
    """Return the file name, the offset and the size of external data."""
    import onnx

    entries = {entry.key: entry.value for entry in tensor.external_data}
    name = entries.get("location", "")
    if name in ("", ".", "..") or name != Path(name).name or "\\" in name or "\0" in name:
        raise InputError(
            f"{path} keeps its weights in {name[:80]!r}, which is not the name of a file beside it; export it again with its "
            "weights inside"
        )
    try:
        size = math.prod(tensor.dims) * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        offset, length = int(entries.get("offset") or 0), int(entries.get("length") or size)
    except (KeyError, ValueError) as fault:
        raise InputError(f"{path} does not say where {tensor.name[:80]!r} is stored; export it again") from fault
    if offset < 0 or length != size:
        raise InputError(
            f"{path} stores {length} bytes for {tensor.name[:80]!r}, which has {size}; do not trust this file"
        )
    return name, offset, size
