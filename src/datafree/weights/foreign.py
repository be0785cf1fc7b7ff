"""Files that are not a state dict: what each of them is, and what to give instead, in one sentence.

The first bytes decide, not the name; the name is used only for formats without a mark.
"""

import io
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from datafree.types import printable

STATE_DICT = "give a weights file (.safetensors or a state dict)"
SAVE = "load it where it was made and save model.state_dict() with torch.save"
AGAIN = "download or copy it again"
CONVERT = "convert the network to torch and save its state dict"
SAMPLE = 512
"""first bytes of a file that are examined"""

MARKS: tuple[tuple[bytes, str], ...] = (
    (
        b"version https://git-lfs",
        "is a Git LFS pointer instead of the file itself; run `git lfs pull` to download the file",
    ),
    (b"\x89HDF\r\n\x1a\n", f"is an HDF5 file, as Keras saves weights; {CONVERT}"),
    (b"GGUF", f"is a GGUF file, the format of llama.cpp for language models; {STATE_DICT}"),
    (b"\x93NUMPY", f"is a single NumPy array; {STATE_DICT}"),
    (b"\x1f\x8b", "is compressed with gzip; unpack it and give the weights file inside"),
    (b"BZh", "is compressed with bzip2; unpack it and give the weights file inside"),
    (b"\xfd7zXZ\x00", "is compressed with xz; unpack it and give the weights file inside"),
    (b"\x28\xb5\x2f\xfd", "is compressed with Zstandard; unpack it and give the weights file inside"),
    (b"7z\xbc\xaf\x27\x1c", "is a 7z archive; unpack it and give the weights file inside"),
    (b"Rar!", "is a RAR archive; unpack it and give the weights file inside"),
    (b"model_checkpoint_path", f"is the index of TensorFlow checkpoints; {CONVERT}"),
    (b"\x12\x01\x00\x00\x00\x00\x00\x00", f"is a file of MXNet parameters; {CONVERT}"),
    (b"ptrt", f"is a compiled TensorRT engine; {STATE_DICT}"),
    (b"ftrt", f"is a compiled TensorRT engine; {STATE_DICT}"),
    (b"\x89PNG", f"is an image; {STATE_DICT}"),
    (b"\xff\xd8\xff", f"is an image; {STATE_DICT}"),
    (b"%PDF", f"is a PDF document; {STATE_DICT}"),
    (b"\x7fELF", f"is a compiled program; {STATE_DICT}"),
)
"""what a file with these first bytes is"""
SIGNS_OF_TEXT = (b"{", b"[", b"#", b"import ", b"from ", b"---", b"<")
TENSORFLOW_INDEX = b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"
"""last bytes of the index of a TensorFlow checkpoint"""


def kind_of(start: bytes, end: bytes, name: str) -> str:
    """Return the rest of the sentence about a file that is neither safetensors nor a pickle.

    Args:
        start: The first `SAMPLE` bytes.
        end: The last 8 bytes.
        name: Name of the file.
    """
    if not start:
        return f"is empty; {AGAIN}"
    if not start.strip(b"\0"):
        return f"begins with zeros: its download was not finished; {AGAIN}"
    for mark, sentence in MARKS:
        if start.startswith(mark):
            return sentence
    if start[257:262] == b"ustar":
        return "is a tar archive; unpack it and give the weights file inside"
    if start[4:8] == b"TFL3":
        return f"is a TensorFlow Lite network, whose weights may be quantised; {CONVERT}"
    if end == TENSORFLOW_INDEX or ".data-0000" in name:
        return f"belongs to a TensorFlow checkpoint; {CONVERT}"
    return _text_kind(start) or _message_kind(start, name) or f"is damaged or not a weights file; {STATE_DICT}"


def _text_kind(start: bytes) -> str:
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head")):
        return "is a web page; open its address in a browser, download the file itself"
    if text.startswith((b"<?xml", b"<error")):
        openvino = b"<net" in text
        return f"is an OpenVINO network; {CONVERT}" if openvino else f"is an XML page instead of the file; {AGAIN}"
    readable = all(byte >= 32 or byte in b"\t\r\n" for byte in start) and text.isascii()
    return f"is a text file; {STATE_DICT}" if readable else ""


def _message_kind(start: bytes, name: str) -> str:
    """Return the kind of a file of protobuf or msgpack, which have no mark: by its first fields."""
    suffix = Path(name).suffix.lower()
    # The first field of ONNX is its version, 3 or more; a SavedModel's is 1, followed by its graph.
    if start[:1] == b"\x08" and len(start) > 2:
        if start[1] == 1 and start[2] == 0x12:
            return f"is a TensorFlow SavedModel; {CONVERT}"
        if 3 <= start[1] <= 30 and start[2] in (0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42):
            return "is an ONNX network; give it as the network (--teacher FILE.onnx) instead of as weights"
    if suffix == ".onnx":
        return "has the name of an ONNX network but is none; export it again"
    if suffix in (".pb", ".caffemodel", ".mlmodel", ".bin", ".param", ".pdparams", ".engine", ".msgpack"):
        named = {".pb": "TensorFlow graph", ".caffemodel": "Caffe network", ".mlmodel": "Core ML network"}
        named |= {".param": "ncnn network", ".pdparams": "file of PaddlePaddle", ".engine": "TensorRT engine"}
        named |= {".msgpack": "file of JAX parameters (msgpack)"}
        if suffix in named:
            return f"is a {named[suffix]}; {CONVERT}"
    # A map of msgpack whose first key is a short text, as Flax saves parameters.
    if 0x81 <= start[0] <= 0x8F and len(start) > 2 and 0xA1 <= start[1] <= 0xBF and start[2:3].isalpha():
        return f"is a file of JAX parameters (msgpack), as Flax saves them; {CONVERT}"
    return ""


def folder_kind(path: Path) -> str:
    """Return the rest of the sentence about a folder that was given as a weights file."""
    names = {entry.name for entry in path.iterdir()}
    if "saved_model.pb" in names:
        return f"is a TensorFlow SavedModel; {CONVERT}"
    if any(name.endswith(".index") for name in names) and "checkpoint" in names:
        return f"is a folder of TensorFlow checkpoints; {CONVERT}"
    if "data.pkl" in names:
        return "is an unpacked file of torch; give the .pt or .pth file itself"
    if ".metadata" in names:
        return "is a distributed checkpoint of torch; convert it with `python -m torch.distributed.checkpoint.format_utils`"
    if "latest" in names or any(name.startswith("global_step") for name in names):
        return "is a DeepSpeed checkpoint; convert it with its zero_to_fp32.py"
    if "config.json" in names:
        return "is a folder; give it as the network (local-dir:FOLDER) instead of as weights"
    return f"is not a regular file but a folder; {STATE_DICT}"


def archive_kind(file: IO[bytes]) -> str:
    """Return the rest of the sentence about a zip archive that torch cannot read as a state dict; empty if it may.

    Use in a child process only: reading the list of contents of a malicious archive may take time and memory.
    """
    file.seek(0)
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError, IndexError):
        file.seek(max(0, file.seek(0, io.SEEK_END) - 2**17))
        ends = b"PK\x05\x06" in file.read()
        state = (
            "damaged: the list of contents of the archive cannot be read"
            if ends
            else "truncated: the archive has no end"
        )
        return f"is {state}; {AGAIN}"
    finally:
        file.seek(0)
    inner = {name.partition("/")[2] for name in names} | set(names)
    if any(name.startswith("code/") for name in inner) or "constants.pkl" in inner:
        return f"is a TorchScript program, which contains code; {SAVE}"
    if (
        any(name == "models/weights.pkl" or name.startswith("archive_format") for name in inner)
        and "data.pkl" not in inner
    ):
        return f"is an exported program of torch (.pt2); {SAVE}"
    if "data.pkl" in inner:
        return ""
    if {"config.json", "model.weights.h5"} & set(names):
        return f"is a Keras network; {CONVERT}"
    if names and all(name.endswith(".npy") for name in names):
        return f"is a file of NumPy arrays (.npz), as JAX saves weights; {CONVERT}"
    return _other_archive(names)


def _other_archive(names: Sequence[str]) -> str:
    inside = [name for name in names if name.lower().endswith((".pt", ".pth", ".bin", ".safetensors", ".ckpt"))]
    found = f" (it contains {printable(inside[0][:80])})" if inside else ""
    return f"is a zip archive{found}; unpack it and give the weights file inside"


MAGIC = b"\x80\x02"
"""first bytes of a file of torch's old format; pickle.dump uses a later protocol"""
GLOBAL = re.compile(r"GLOBAL ([A-Za-z_][\w.<>]{0,200})")
NETWORK_CLASSES = re.compile(
    r"^(torch\.nn\.modules|torchvision\.models|timm|transformers|__main__)\.|(^|\.)(models?|nets?|networks?)\."
    r"|(Net\w*|CNN|Model|Classifier|Module|Network|Transformer|ViT)$"
)
"""names of classes that are probably those of networks"""
PROGRAM_MODULES = {
    *("os", "posix", "nt", "sys", "builtins", "subprocess", "shutil", "socket", "runpy", "importlib", "ctypes", "pty"),
    *("webbrowser", "pickle", "operator", "functools", "code", "codeop", "eval", "exec", "getattr"),
}
"""modules of which no training program saves an object"""


def pickle_kind(fault: BaseException, file: IO[bytes]) -> str:
    """Return the rest of the sentence about a pickle that torch refuses.

    Args:
        fault: What `torch.load` raised.
        file: The file; it is read to see whether it is complete.
    """
    text = str(fault)
    named = GLOBAL.search(text)
    if named:
        return _class_kind(named[1])
    end = file.seek(0, io.SEEK_END)
    file.seek(0)
    legacy = (start := file.read(len(MAGIC)))[:1] == b"\x80"
    if isinstance(fault, EOFError) or (legacy and ("EOF" in text or "unexpected" in text or "ran out" in text.lower())):
        return f"is truncated after {end} bytes; {AGAIN}"
    if legacy and start[1] > MAGIC[1]:
        return (
            "was written by pickle.dump: a pickle that would run code when loaded; load it where it was made and save the "
            "tensors with torch.save"
        )
    return (
        "is damaged, or a pickle that would run code when loaded; if you trust it, convert it to safetensors with the "
        "program that wrote it"
    )


def _class_kind(name: str) -> str:
    """Return the rest of the sentence about a pickle that needs a class or a function."""
    name = printable(name)
    if name.split(".")[0] in PROGRAM_MODULES:
        return f"is a pickle that would run code when loaded ({name}), which weights never need; do not use this file"
    if NETWORK_CLASSES.search(name):
        return f"is a whole pickled network ({name}) instead of its weights, which would run code when loaded; {SAVE}"
    return (
        f"needs {name} to be read: a pickle that would run code when loaded; if you trust it, convert it to safetensors or "
        "save model.state_dict() with the program that wrote it"
    )
