"""Reading a weights file and loading it into a network.

Files are untrusted. What a file is, its first bytes decide. A safetensors file is read here, after its header was checked; a
pickle of torch's is read by `torch.load` with an explicit `weights_only=True` and no less strict fallback, in a child process
with a limit of memory and time.
"""

import io
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor, nn

from datafree.files import open_regular
from datafree.types import InputError
from datafree.weights.containers import Checkpoint
from datafree.weights.isolation import LimitExceeded, isolated
from datafree.weights.tensor_file import DTYPES, MAX_TENSORS, map_tensors, starts_like_tensor_file, write_tensors

SIZE_LIMIT = 32 * 2**30
"""bytes of a weights file"""
PICKLE_MEMORY = (512 * 2**20, 2)
"""bytes that reading a pickle may allocate, and further bytes per byte of the file"""
PICKLE_SECONDS = (2.0, 20 * 2**20)
"""seconds that reading a pickle may take, and bytes of the file per further second"""


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read an untrusted weights file, with what its container says about the network.

    Args:
        path: As for `read_weights`.

    Raises:
        InputError: As for `read_weights`.
    """
    return Checkpoint(read_weights(path))


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors of an untrusted weights file.

    Args:
        path: A safetensors file, or a state dict saved by torch, on its own or under `state_dict` or `model`. Its name does
            not matter.

    Returns:
        The tensors by name, on the CPU. Of a safetensors file they share the file's memory, which is read when they are used.

    Raises:
        InputError: If the file is missing, empty, truncated or malicious, can only be read by running its code, or takes more
            memory or time to be read than a file of its size may.
    """
    with open_regular(path, SIZE_LIMIT, follow_links=True) as file:
        first_bytes = file.read(64)
        if starts_like_tensor_file(first_bytes):
            return map_tensors(file, str(path))
        size = file.seek(0, io.SEEK_END)
    if _is_pickle(first_bytes):
        return _read_pickle(path, size)
    raise InputError(f"{path} {_other_kind(first_bytes)}; give a weights file (.safetensors or a state dict)")


def _is_pickle(first_bytes: bytes) -> bool:
    return first_bytes.startswith((b"PK\x03\x04", b"\x80"))


def _other_kind(first_bytes: bytes) -> str:
    if not first_bytes:
        return "is empty"
    if first_bytes.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer instead of the file itself"
    if first_bytes.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return "is a web page"
    return "is damaged or not a weights file"


def _read_pickle(path: str | Path, size: int) -> dict[str, Tensor]:
    with suppress(Exception):
        torch.load(io.BytesIO(b"\x80\x02."), weights_only=True)  # imports what the child needs; it should not import
    memory = PICKLE_MEMORY[0] + PICKLE_MEMORY[1] * size
    seconds = PICKLE_SECONDS[0] + size / PICKLE_SECONDS[1]
    try:
        with isolated(convert_pickle, path, memory, seconds) as file:
            return map_tensors(file, str(path))  # pyright: ignore[reportArgumentType]
    except LimitExceeded as fault:
        raise InputError(
            f"reading {path}, a file of {size / 2**20:.1f} MiB, {fault}; do not trust this file, or convert it to safetensors"
        ) from fault


def convert_pickle(path: str, result: IO[bytes]) -> None:
    """Read a state dict saved by torch and write its tensors to a safetensors file. Use in a child process only.

    Raises:
        InputError: If the file is damaged, would have to run code, or is not a state dict of dense tensors.
        MemoryError: If it needs more memory than the process has.
    """
    with open_regular(path, SIZE_LIMIT, follow_links=True) as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        try:
            warnings.simplefilter("ignore")  # in the child, for its whole life
            content = torch.load(file, map_location="cpu", weights_only=True)
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as fault:  # damaged files raise many types, and some messages advise unsafe loading
            if "alloc" in str(fault):
                raise MemoryError from fault
            raise InputError(
                f"{path} is damaged, or a pickle that would run code when loaded; if you trust it, convert it to safetensors"
            ) from fault
    weights = _state_dict_in(content, path)
    _require_dense(weights, path, size)
    write_tensors(weights, result)  # pyright: ignore[reportArgumentType]


def _state_dict_in(content: Any, path: str) -> dict[str, Tensor]:
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if (
        not isinstance(content, Mapping)
        or not 0 < len(content) <= MAX_TENSORS
        or not all(isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items())
    ):
        raise InputError(f"{path} does not contain a state dict of tensors; save model.state_dict() and nothing else")
    return dict(content)


def _require_dense(weights: Mapping[str, Tensor], path: str, size: int) -> None:
    """Check that tensors are dense, on the CPU and of a type that weights have, and together not larger than the file."""
    for name, tensor in weights.items():
        kind = "" if tensor.layout == torch.strided else "sparse"
        kind = kind or ("quantized" if tensor.is_quantized else "")
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


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Load weights into a network, in place. All names and shapes must match, see `matching_weights`.

    Args:
        model: The network.
        weights: Tensors by name.
        source: The file or network the weights come from, for the error message.

    Raises:
        InputError: If the weights do not match. The message lists the first three differences.
    """
    model.load_state_dict(matching_weights(model, weights, source))


def matching_weights(model: nn.Module, weights: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Check that weights have the names, shapes and kinds of those of a network, without using their values.

    The prefixes `module.` (`DataParallel`), `_orig_mod.` (`torch.compile`) and `model.` are removed if all names have
    them.

    Args:
        model: The network; it may be a blueprint on the meta device.
        weights: Tensors by name.
        source: The file or network the weights come from, for the error message.

    Returns:
        The weights by the names of the network.

    Raises:
        InputError: If the weights do not match. The message lists the first three differences.
    """
    for prefix in ("module.", "_orig_mod.", "model."):
        if all(name.startswith(prefix) for name in weights):
            weights = {name.removeprefix(prefix): tensor for name, tensor in weights.items()}
    expected = model.state_dict()
    faults = [f"{name} is missing" for name in expected if name not in weights]
    faults += [f"{name[:80]} is not in the network" for name in weights if name not in expected]
    completed = {**expected, **weights}
    for name, tensor in expected.items():
        given = completed[name]
        if given.shape != tensor.shape:
            faults.append(f"{name} has shape {tuple(given.shape)} instead of {tuple(tensor.shape)}")
        elif given.is_floating_point() != tensor.is_floating_point():
            faults.append(f"{name} has values of type {given.dtype} instead of {tensor.dtype}")
    if faults:
        rest = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise InputError(
            f"{source} does not match the network {_name(model)} ({'; '.join(faults[:3])}{rest}); "
            "choose the network these weights were saved from"
        )
    return dict(weights)


def _name(model: nn.Module) -> str:
    return (getattr(model, "pretrained_cfg", None) or {}).get("architecture") or type(model).__name__


def require_finite(model: nn.Module, source: str) -> None:
    """Check that all weights and statistics of a network are finite, and that no running variance is negative.

    Raises:
        InputError: If not. The message names the first such tensor and their number.
    """
    for name, layer in model.named_modules():
        variance = getattr(layer, "running_var", None)
        if isinstance(variance, Tensor) and (variance < 0).any():
            raise InputError(f"{source} has a negative variance in {name}.running_var; use other weights")
    bad = [name for name, tensor in model.state_dict().items() if not torch.isfinite(tensor).all()]
    if bad:
        others = f" and {len(bad) - 1} other tensors" if len(bad) > 1 else ""
        raise InputError(f"{source} has NaN or infinite values in {bad[0]}{others}; use other weights")
