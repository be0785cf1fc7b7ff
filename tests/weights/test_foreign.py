"""Files that are not a state dict: each gets its own sentence, and none is called damaged or dangerous if it is not."""

import gzip
import io
import os
import pickle
import tarfile
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toys
from torch import nn

from datafree.types import InputError
from datafree.weights.reading import read_checkpoint

ACCUSATIONS = ("damaged", "do not trust", "do not use", "would run code", "truncated")


def archive(**members: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as made:
        for name, data in members.items():
            made.writestr(name.replace("__", "/").replace("_DOT_", "."), data)
    return content.getvalue()


def tar() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.USTAR_FORMAT) as made:
        made.addfile(tarfile.TarInfo("model.pth"), io.BytesIO())
    return content.getvalue()


def npz() -> bytes:
    content = io.BytesIO()
    np.savez(content, w=np.zeros(3))  # type: ignore[arg-type]
    return content.getvalue()


FILES: dict[str, tuple[str, bytes, str]] = {
    "empty": ("x.pt", b"", "is empty; download or copy it again"),
    "zeros": ("x.pt", bytes(4000), "begins with zeros: its download was not finished"),
    "Git LFS": (
        "x.safetensors",
        b"version https://git-lfs.github.com/spec/v1\noid",
        "is a Git LFS pointer instead of the file",
    ),
    "web page": ("x.pt", b"<!DOCTYPE html><html>", "is a web page"),
    "web page after a mark": ("x.pt", b"\xef\xbb\xbf\n<html lang=en>", "is a web page"),
    "error of a store": (
        "x.pt",
        b'<?xml version="1.0"?><Error><Code>AccessDenied</Code>',
        "is an XML page instead of the file",
    ),
    "JSON": ("x.bin", b'{"message": "not found"}', "is a text file; give a weights file"),
    "ONNX": (
        "x.onnx",
        b"\x08\x0a\x12\x07pytorch\x1a\x052.1.0",
        r"is an ONNX network; give it as the network \(--teacher FILE.onnx\)",
    ),
    "ONNX without a producer": ("x.pt", b"\x08\x08\x3a\x82\x10graph", "is an ONNX network"),
    "no ONNX": ("x.onnx", b"\xff" * 40, "has the name of an ONNX network but is none"),
    "Keras, HDF5": (
        "x.h5",
        b"\x89HDF\r\n\x1a\n" + bytes(60),
        "is an HDF5 file, as Keras saves weights; convert the network",
    ),
    "Keras": ("x.keras", archive(config_DOT_json=b"{}", model_DOT_weights_DOT_h5=b""), "is a Keras network; convert"),
    "SavedModel": ("saved_model.pb", b"\x08\x01\x12\xff\x01\x0a", "is a TensorFlow SavedModel"),
    "frozen graph": ("graph.pb", b"\x0a\x20\x0a\x05input", "is a TensorFlow graph"),
    "TensorFlow Lite": ("x.tflite", b"\x1c\0\0\0TFL3\x14\0\x20\0", "is a TensorFlow Lite network"),
    "TensorFlow index": (
        "m.index",
        b"\0\1x" * 30 + b"\x57\xfb\x80\x8b\x24\x75\x47\xdb",
        "belongs to a TensorFlow checkpoint",
    ),
    "TensorFlow data": ("m.data-00000-of-00001", b"\xff\xfe" * 40, "belongs to a TensorFlow checkpoint"),
    "NumPy arrays": ("x.npz", npz(), r"is a file of NumPy arrays \(.npz\), as JAX saves weights"),
    "NumPy array": ("x.npy", b"\x93NUMPY\x01\x00", "is a single NumPy array"),
    "Flax": ("x.msgpack", b"\x82\xa6params\x81\xa5Dense", r"is a file of JAX parameters \(msgpack\)"),
    "GGUF": ("x.gguf", b"GGUF\x03\0\0\0", "is a GGUF file"),
    "tar": ("x.tar", tar(), "is a tar archive; unpack it"),
    "gzip": ("x.pt.gz", gzip.compress(b"weights"), "is compressed with gzip; unpack it"),
    "zip around": (
        "x.zip",
        archive(run__best_DOT_pth=b"x"),
        r"is a zip archive \(it contains run/best.pth\); unpack it",
    ),
    "zip of other files": ("x.zip", archive(readme_DOT_txt=b"x"), "is a zip archive; unpack it"),
    "TorchScript": (
        "x.pt",
        archive(x__data_DOT_pkl=b"x", x__constants_DOT_pkl=b"x", x__code____torch___DOT_py=b""),
        "is a TorchScript program, which contains code; load it where it was made and save",
    ),
    "OpenVINO": ("x.xml", b'<?xml version="1.0"?>\n<net name="x" version="11">', "is an OpenVINO network"),
    "ncnn": ("x.param", b"\xfe\xff" * 30, "is a ncnn network"),
    "image": ("x.pt", b"\x89PNG\r\n\x1a\n", "is an image"),
}


@pytest.mark.parametrize(("name", "data", "sentence"), FILES.values(), ids=FILES)
def test_each_kind_has_its_sentence(tmp_path: Path, name: str, data: bytes, sentence: str):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=f"{name} {sentence}") as refusal:
        read_checkpoint(tmp_path / name)
    assert not [word for word in ACCUSATIONS if word in str(refusal.value)]
    assert "; " in str(refusal.value), "a fix is named"


def test_a_real_torchscript_program_is_recognised(tmp_path: Path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates it
        torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), tmp_path / "x.pt")
    with pytest.raises(InputError, match="x.pt is a TorchScript program"):
        read_checkpoint(tmp_path / "x.pt")


def optimizer() -> dict[str, Any]:
    return torch.optim.Adam(nn.Linear(2, 2).parameters()).state_dict()


CONTENTS: dict[str, tuple[Any, str]] = {
    "optimizer": (
        optimizer(),
        "contains the state of an optimizer and no weights (its entries are state, param_groups)",
    ),
    "optimizer in a container": (
        {"optimizer": optimizer(), "epoch": 3},
        "contains the state of an optimizer and no weights",
    ),
    "other entries": (
        {"epoch": 3, "loss": 0.5},
        "does not contain a state dict of tensors (its entries are epoch, loss)",
    ),
    "nothing": ({}, "it is an empty dictionary"),
    "two lists of weights": (
        [{"a": torch.ones(2)}, {"a": torch.ones(2)}],
        "does not contain a state dict of tensors but a list",
    ),
    "list": ([1, 2], "does not contain a state dict of tensors but a list"),
    "tensor": (torch.zeros(3), "does not contain a state dict of tensors but a single tensor"),
    "network": (toys.plain_net(), "is a whole pickled network ("),
    "layer": (
        nn.Linear(2, 2),
        "(torch.nn.modules.linear.Linear) instead of its weights, which would run code when loaded; load it",
    ),
    "network beside": ({"epoch": 3, "model": nn.Linear(2, 2)}, "is a whole pickled network ("),
    "other class": ({"model": {"w": torch.zeros(2)}, "f": zipfile.ZipInfo}, "needs zipfile.ZipInfo to be read"),
}


@pytest.mark.parametrize(("content", "sentence"), CONTENTS.values(), ids=CONTENTS)
@pytest.mark.parametrize("zipped", [True, False])
def test_content_without_weights_is_described(tmp_path: Path, content: Any, sentence: str, zipped: bool):
    torch.save(content, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError) as refusal:
        read_checkpoint(tmp_path / "x.pt")
    assert sentence in str(refusal.value) and "save" in str(refusal.value)


class Runs:
    """Runs code when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(("function", "named"), [(os.mkdir, "mkdir"), (eval, "eval"), (getattr, "getattr")])
def test_code_is_named_and_not_advised(tmp_path: Path, function: Callable[..., Any], named: str):
    torch.save({"model": {"w": torch.zeros(2)}, "x": Runs(function, "1")}, tmp_path / "x.pt")
    with pytest.raises(
        InputError, match=rf"a pickle that would run code when loaded \(\S*{named}\).*do not use this file"
    ):
        read_checkpoint(tmp_path / "x.pt")


def test_a_pickle_without_torch_is_read_only_if_it_is_plain(tmp_path: Path):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(OrderedDict(a=[1, 2]), protocol=2))
    with pytest.raises(InputError, match="x.pkl "):
        read_checkpoint(tmp_path / "x.pkl")


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_a_file_of_pickle_dump_is_called_so(tmp_path: Path, protocol: int):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"a": np.ones(3)}, protocol=protocol))
    with pytest.raises(InputError, match="was written by pickle.dump.*save the tensors with torch.save"):
        read_checkpoint(tmp_path / "x.pkl")


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_a_quantized_network_is_called_so(tmp_path: Path):
    torch.save({"a.weight": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)}, tmp_path / "x.pt")
    with pytest.raises(InputError, match="weights of a quantized network .*from before quantization, or export"):
        read_checkpoint(tmp_path / "x.pt")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_download_that_stopped_is_called_truncated(tmp_path: Path, zipped: bool):
    torch.save(toys.plain_net().model.state_dict(), tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    data = (tmp_path / "x.pt").read_bytes()
    (tmp_path / "x.pt").write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(InputError, match="x.pt is truncated"):
        read_checkpoint(tmp_path / "x.pt")


FOLDERS: dict[str, tuple[str, str]] = {
    "SavedModel": ("saved_model.pb", "is a TensorFlow SavedModel"),
    "timm": ("config.json", r"is a folder; give it as the network \(local-dir:FOLDER\)"),
    "unpacked": ("data.pkl", "is an unpacked file of torch"),
    "distributed": (".metadata", "is a distributed checkpoint of torch"),
    "DeepSpeed": ("latest", "is a DeepSpeed checkpoint"),
    "other": ("x.txt", "is not a regular file but a folder"),
}


@pytest.mark.parametrize(("inside", "sentence"), FOLDERS.values(), ids=FOLDERS)
def test_a_folder_is_described(tmp_path: Path, inside: str, sentence: str):
    (tmp_path / inside).touch()
    with pytest.raises(InputError, match=sentence):
        read_checkpoint(tmp_path)
