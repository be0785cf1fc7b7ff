"""The safetensors reader and writer, against the official library and against damaged headers."""

import io
import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
import toys
from safetensors.torch import load_file, save_file

from datafree.types import InputError
from datafree.weights.tensor_file import map_tensors, starts_like_tensor_file, write_tensors

TENSORS = {
    "a": torch.randn(3, 2),
    "b": torch.arange(5),
    "half": torch.ones(3, dtype=torch.bfloat16),
    "flag": torch.tensor([True, False, True]),
    "scalar": torch.tensor(2.5, dtype=torch.float64),
    "empty": torch.zeros(0, 4),
}


def write(path: Path, header: Any, data: bytes = b"\0" * 8) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def read(path: Path) -> dict[str, torch.Tensor]:
    with path.open("rb") as file:
        return map_tensors(file, path.name)


def test_the_official_library_reads_what_is_written(tmp_path: Path):
    with (tmp_path / "x").open("wb") as file:
        write_tensors(TENSORS, file)
    assert toys.same(load_file(tmp_path / "x"), TENSORS) and toys.same(read(tmp_path / "x"), TENSORS)


def test_what_the_official_library_writes_is_read(tmp_path: Path):
    save_file(TENSORS, tmp_path / "x", metadata={"format": "pt"})
    assert toys.same(read(tmp_path / "x"), TENSORS)
    assert starts_like_tensor_file((tmp_path / "x").read_bytes()[:64])


def test_an_unaligned_header_is_read(tmp_path: Path):
    header = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    for padding in range(8):
        assert read(write(tmp_path / "x", header + b" " * padding))["w"].tolist() == [0, 0]


def test_the_file_is_never_written(tmp_path: Path):
    save_file({"w": torch.ones(4)}, tmp_path / "x")
    before = (tmp_path / "x").read_bytes()
    read(tmp_path / "x")["w"].zero_()
    assert (tmp_path / "x").read_bytes() == before


@pytest.mark.parametrize(
    ("header", "fault"),
    [
        (b"{", "not valid JSON"),
        (b"\xff", "not text"),
        ([], "not an object"),
        (b'{"w": {}, "w": {}}', "duplicate key"),
        ({"w": {"dtype": "F32", "shape": [2]}}, "data_offsets is missing"),
        ({"w": {"dtype": "F32", "shape": 2, "data_offsets": [0, 8]}}, "shape is 2, but must be a list"),
        ({"w": {"dtype": "C64", "shape": [1], "data_offsets": [0, 8]}}, "as C64; save the weights as float32"),
        ({"w": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}}, "impossible shape"),
        ({"w": {"dtype": "F32", "shape": [0, 2**62], "data_offsets": [0, 0]}}, "impossible shape"),
        ({"w": {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}}, "truncated: 8 bytes of tensors instead of 12"),
        ({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, "damaged: 8 bytes of tensors instead of 4"),
        ({"w": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, "does not store 'w' where"),
        ({"w": {"dtype": "F32", "shape": [2**38, 2**38], "data_offsets": [0, 8]}}, "does not store 'w' where"),
        (
            {name: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} for name in ("v", "w")},
            "does not store 'w' where",
        ),
    ],
)
def test_a_damaged_header_is_refused(tmp_path: Path, header: Any, fault: str):
    with pytest.raises(InputError, match=fault):
        read(write(tmp_path / "x", header))


@pytest.mark.parametrize("data", [b"", b"abc", struct.pack("<Q", 2**63) + b"{}", struct.pack("<Q", 3) + b"{}"])
def test_a_wrong_length_is_refused(tmp_path: Path, data: bytes):
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(InputError, match="truncated or not a safetensors file"):
        read(tmp_path / "x")


def test_writing_does_not_change_tensors():
    tensors = {"w": torch.randn(3, 4).T}
    write_tensors(tensors, io.BytesIO())
    assert tensors["w"].shape == (4, 3)
