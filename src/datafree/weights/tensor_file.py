"""The safetensors format, for untrusted files: the header is checked completely before a tensor is used.

A file is 8 bytes with the length of the header, the header in JSON, and the bytes of the tensors without gaps. See
https://huggingface.co/docs/safetensors for the format.
"""

import json
import math
import mmap
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from io import BufferedIOBase
from typing import Any

import torch
from torch import Tensor

from datafree.files import parse_json
from datafree.files.validation import from_plain
from datafree.types import InputError

DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""data types of weights, by their name in the format; complex and quantized ones are refused"""
HEADER_LIMIT = 16 * 2**20
"""bytes"""
MAX_TENSORS = 100_000
MAX_DIMENSIONS = 8


@dataclass(frozen=True)
class _Entry:
    """What the header says about one tensor."""

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


def starts_like_tensor_file(first_bytes: bytes) -> bool:
    """Return whether the first 9 bytes of a file are a header's length and its opening brace."""
    return len(first_bytes) >= 9 and first_bytes[8:9] == b"{" and _header_size(first_bytes) <= HEADER_LIMIT


def _header_size(first_bytes: bytes) -> int:
    return struct.unpack("<Q", first_bytes[:8])[0]


def map_tensors(file: BufferedIOBase, where: str) -> dict[str, Tensor]:
    """Return the tensors of a file. Their memory is the file itself: it is read when they are used, and never written.

    Args:
        file: An open file on disk or in memory.
        where: What an error message calls it.

    Raises:
        InputError: If the header is damaged or does not describe exactly the bytes of the file, or a tensor has a data
            type that weights do not have.
    """
    size = os.fstat(file.fileno()).st_size
    file.seek(0)
    first_bytes = file.read(8)
    length = _header_size(first_bytes) if len(first_bytes) == 8 else size
    if length > min(size - 8, HEADER_LIMIT):
        raise InputError(f"{where} is truncated or not a safetensors file; copy it again")
    entries = _checked_entries(file.read(length), size - 8 - length, where)
    if size == 8 + length:
        return {name: torch.empty(entry.shape, dtype=DTYPES[entry.dtype]) for name, entry in entries.items()}
    content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    return {name: _tensor(content, 8 + length, entry) for name, entry in entries.items()}


def read_metadata(file: BufferedIOBase) -> dict[str, str]:
    """Return the metadata of a file that `map_tensors` has accepted."""
    file.seek(0)
    header = json.loads(file.read(_header_size(file.read(8))))
    return header.get("__metadata__", {})


def _tensor(content: mmap.mmap, start: int, entry: _Entry) -> Tensor:
    dtype, (begin, end) = DTYPES[entry.dtype], entry.data_offsets
    if begin == end:
        return torch.empty(entry.shape, dtype=dtype)
    if (start + begin) % dtype.itemsize:  # older writers did not align the header
        return torch.frombuffer(bytearray(content[start + begin : start + end]), dtype=dtype).view(entry.shape)
    count = (end - begin) // dtype.itemsize
    return torch.frombuffer(content, dtype=dtype, count=count, offset=start + begin).view(entry.shape)


def _checked_entries(header: bytes, data_size: int, where: str) -> dict[str, _Entry]:
    """Return the entries of a header, which must describe the data without gaps and overlaps."""
    try:
        plain = parse_json(header.decode(), f"the header of {where}")
    except UnicodeDecodeError as fault:
        raise InputError(f"the header of {where} is not text ({fault.reason}); copy the file again") from fault
    if not isinstance(plain, dict) or len(plain) > MAX_TENSORS:
        raise InputError(
            f"the header of {where} is not an object of at most {MAX_TENSORS} tensors; copy the file again"
        )
    plain.pop("__metadata__", None)
    entries = {name: from_plain(_Entry, entry, f"{where}: {name[:80]!r}") for name, entry in plain.items()}
    position = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1].data_offsets):
        if entry.dtype not in DTYPES:
            raise InputError(f"{where} stores {name[:80]!r} as {entry.dtype[:20]}; save the weights as float32")
        if len(entry.shape) > MAX_DIMENSIONS or any(not 0 <= length < 2**40 for length in entry.shape):
            raise InputError(f"{where} gives {name[:80]!r} an impossible shape; copy the file again")
        begin, end = entry.data_offsets
        if begin != position or end - begin != math.prod(entry.shape) * DTYPES[entry.dtype].itemsize:
            raise InputError(f"{where} does not store {name[:80]!r} where its header says; copy the file again")
        position = end
    if position != data_size:
        state = "truncated" if data_size < position else "damaged"
        raise InputError(f"{where} is {state}: {data_size} bytes of tensors instead of {position}; copy the file again")
    return entries


def write_tensors(
    tensors: Mapping[str, Tensor], file: BufferedIOBase, metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors of the types in `DTYPES` to a file, one after the other, without a copy of all of them.

    The header keeps their order; the data are sorted by the size of their values, so that each is aligned.
    """
    names, position = {dtype: name for name, dtype in DTYPES.items()}, 0
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    header |= dict.fromkeys(tensors)
    ordered = sorted(tensors.items(), key=lambda item: -item[1].dtype.itemsize)
    for name, tensor in ordered:
        end = position + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": names[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [position, end],
        }
        position = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write(struct.pack("<Q", len(text)) + text)
    for _, tensor in ordered:
        if tensor.numel():
            file.write(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
