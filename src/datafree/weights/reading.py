"""Reading a weights file.

Files are untrusted. What a file is, its first bytes decide. A safetensors file is read here, after its header was checked; a
pickle of torch's is read by `torch.load` with an explicit `weights_only=True` and no less strict fallback, in a child process
with a limit of memory and time.
"""

import io
import json
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import torch
from torch import Tensor

from datafree.files import open_regular, parse_json
from datafree.files.validation import from_plain
from datafree.types import InputError
from datafree.weights.containers import Checkpoint, unpack
from datafree.weights.descriptions import Description
from datafree.weights.foreign import SAMPLE, archive_kind, folder_kind, kind_of, pickle_kind
from datafree.weights.isolation import LimitExceeded, isolated
from datafree.weights.shards import is_index, read_index
from datafree.weights.stand_ins import STAND_INS
from datafree.weights.tensor_file import DTYPES, map_tensors, read_metadata, starts_like_tensor_file, write_tensors

SIZE_LIMIT = 32 * 2**30
"""bytes of a weights file"""
PICKLE_MEMORY = (512 * 2**20, 2)
"""bytes that reading a pickle may allocate, and further bytes per byte of the file"""
PICKLE_SECONDS = (2.0, 20 * 2**20)
"""seconds that reading a pickle may take, and bytes of the file per further second"""
BESIDE = "datafree"
"""entry of the metadata of a converted file: what was found beside the tensors, in JSON"""
BESIDE_LIMIT = 8 * 2**20
"""characters of it"""


@dataclass(frozen=True)
class _Beside:
    """What a child process hands back with the tensors of a pickle."""

    notes: tuple[str, ...] = ()
    description: Description = Description()
    keys: tuple[str, ...] = ()


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors of an untrusted weights file; see `read_checkpoint`."""
    return dict(read_checkpoint(path).tensors)


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read an untrusted weights file, with what its container says about the network.

    Args:
        path: A safetensors file, or a file saved by torch: a state dict, or a container with one, as timm, Lightning, DeiT,
            torchvision and tutorials save it; see `weights.containers`. Its name does not matter. An index, whose name
            ends in `.index.json`, stands for the files that it names.

    Returns:
        The tensors, on the CPU. Those of a safetensors file share the file's memory, which is read when they are used.
        If there is a moving average of the weights, it is taken, and a note says so.

    Raises:
        InputError: If the file is missing, empty, truncated or malicious, is of another kind, can only be read by running
            its code, or takes more memory or time to be read than a file of its size may.
    """
    if Path(path).is_dir():
        raise InputError(f"{path} {folder_kind(Path(path))}")
    if is_index(path):
        return read_index(path, read_checkpoint)
    with open_regular(path, SIZE_LIMIT, follow_links=True) as file:
        start = file.read(SAMPLE)
        if starts_like_tensor_file(start):
            return Checkpoint(map_tensors(file, str(path)), ordered=False)
        size = file.seek(0, io.SEEK_END)
        file.seek(max(0, size - 8))
        end = file.read(8)
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06", b"\x80")):
        return _read_pickle(path, size)
    raise InputError(f"{path} {kind_of(start, end, Path(path).name)}")


def _read_pickle(path: str | Path, size: int) -> Checkpoint:
    with suppress(Exception):
        torch.load(io.BytesIO(b"\x80\x02."), weights_only=True)  # imports what the child needs; it should not import
    memory = PICKLE_MEMORY[0] + PICKLE_MEMORY[1] * size
    seconds = PICKLE_SECONDS[0] + size / PICKLE_SECONDS[1]
    try:
        with isolated(convert_pickle, path, memory, seconds) as file:
            tensors = map_tensors(file, str(path))  # pyright: ignore[reportArgumentType]
            text = read_metadata(file).get(BESIDE, "{}")  # pyright: ignore[reportArgumentType]
    except LimitExceeded as fault:
        raise InputError(
            f"reading {path}, a file of {size / 2**20:.1f} MiB, {fault}; do not trust this file, or convert it to safetensors"
        ) from fault
    beside = from_plain(_Beside, parse_json(text, str(path)), str(path))
    return Checkpoint(tensors, beside.notes, beside.description, beside.keys)


def convert_pickle(path: str, result: IO[bytes]) -> None:
    """Read a file saved by torch and write its tensors to a safetensors file. Use in a child process only.

    What the container says about the network is written to the metadata.

    Raises:
        InputError: If the file is damaged, would have to run code, or does not contain a state dict of dense tensors.
        MemoryError: If it needs more memory than the process has.
    """
    with open_regular(path, SIZE_LIMIT, follow_links=True) as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        if file.read(2) == b"PK" and (kind := archive_kind(file)):
            raise InputError(f"{path} {kind}")
        file.seek(0)
        try:
            warnings.simplefilter("ignore")  # in the child, for its whole life
            with torch.serialization.safe_globals(STAND_INS):  # pyright: ignore[reportArgumentType]
                content = torch.load(file, map_location="cpu", weights_only=True)
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as fault:  # damaged files raise many types, and some messages advise unsafe loading
            if "alloc" in str(fault):
                raise MemoryError from fault
            raise InputError(f"{path} {pickle_kind(fault, file)}") from fault
    checkpoint = unpack(content, path)
    _require_dense(checkpoint.tensors, path, size)
    beside = _Beside(checkpoint.notes, checkpoint.description, checkpoint.keys)
    text = json.dumps(asdict(beside), allow_nan=False)
    if len(text) > BESIDE_LIMIT:
        raise InputError(f"{path} has too long names of classes or entries; save model.state_dict() and nothing else")
    write_tensors(checkpoint.tensors, result, {BESIDE: text})  # pyright: ignore[reportArgumentType]


def _require_dense(weights: Mapping[str, Tensor], path: str, size: int) -> None:
    """Check that tensors are dense, on the CPU and of a type that weights have, and together not larger than the file."""
    for name, tensor in weights.items():
        if tensor.is_quantized:
            raise InputError(
                f"{path} has weights of a quantized network ({name[:80]!r}); give those from before quantization, or export "
                "the network to ONNX and give that file as the teacher"
            )
        kind = "" if tensor.layout == torch.strided else "sparse"
        kind = kind or ("" if tensor.device.type == "cpu" else f"empty ({tensor.device.type})")
        kind = kind or ("" if tensor.dtype in DTYPES.values() else str(tensor.dtype).removeprefix("torch."))
        if kind:
            raise InputError(
                f"tensor {name[:80]!r} in {path} is {kind}; save dense tensors of numbers, for example as float32"
            )
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise InputError(
                f"tensor {name[:80]!r} in {path} claims more values than the file stores; do not trust this file"
            )
    # Layers may share weights, which are stored once.
    if sum(tensor.numel() * tensor.element_size() for tensor in weights.values()) > 4 * size + 2**20:
        raise InputError(f"the tensors in {path} claim more values than the file stores; do not trust this file")
