"""Reading a weights file and loading it into a network.

Files are untrusted: they are read as safetensors, or by `torch.load` with an explicit `weights_only=True`, with no less
strict fallback.
"""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from datafree.types import InputError


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors of an untrusted weights file.

    Args:
        path: A `.safetensors` file, or a state dict saved by torch, on its own or under `state_dict` or `model`.

    Returns:
        The tensors by name, on the CPU.

    Raises:
        InputError: If the file is missing, empty, truncated or malicious, or can only be read by running its code.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} does not exist; give a weights file (.safetensors or a state dict)")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        _refuse_compressed(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except SafetensorError as fault:
        raise InputError(f"{path} is truncated or not a safetensors file ({fault}); copy it again") from fault
    except Exception as fault:  # damaged files raise many types, and some messages advise unsafe loading
        raise InputError(
            f"{path} is damaged, or a pickle that would run code when loaded; if you trust it, convert it to safetensors"
        ) from fault
    return _state_dict_in(content, path)


def _state_dict_in(content: Any, path: Path) -> dict[str, Tensor]:
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if (
        not isinstance(content, Mapping)
        or not content
        or not all(isinstance(value, Tensor) for value in content.values())
    ):
        raise InputError(f"{path} does not contain a state dict of tensors; save model.state_dict() and nothing else")
    for name, tensor in content.items():
        if (
            tensor.layout == torch.strided
            and tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes()
        ):
            raise InputError(
                f"tensor {name!r} in {path} claims more values than the file stores; do not trust this file"
            )
    return dict(content)


def _refuse_compressed(path: Path) -> None:
    """Raise `InputError` for a compressed archive: torch stores tensors uncompressed, so it could be a zip bomb."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        compressed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
        if compressed or sum(member.file_size for member in members) > path.stat().st_size:
            raise InputError(f"{path} is a compressed archive, which torch never writes; do not trust this file")


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Load weights into a network, in place. All names and shapes must match.

    The prefixes `module.` (`DataParallel`), `_orig_mod.` (`torch.compile`) and `model.` are removed if all names have
    them.

    Args:
        model: The network.
        weights: Tensors by name.
        source: The file or network the weights come from, for the error message.

    Raises:
        InputError: If the weights do not match. The message lists the first three differences.
    """
    for prefix in ("module.", "_orig_mod.", "model."):
        if all(name.startswith(prefix) for name in weights):
            weights = {name.removeprefix(prefix): tensor for name, tensor in weights.items()}
    expected = model.state_dict()
    faults = [f"{name} is missing" for name in expected if name not in weights]
    faults += [f"{name} is not in the network" for name in weights if name not in expected]
    faults += [
        f"{name} has shape {tuple(weights[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    if faults:
        rest = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise InputError(
            f"{source} does not match the network {_name(model)} ({'; '.join(faults[:3])}{rest}); "
            "choose the network these weights were saved from"
        )
    model.load_state_dict(dict(weights))


def _name(model: nn.Module) -> str:
    return (getattr(model, "pretrained_cfg", None) or {}).get("architecture") or type(model).__name__


def require_finite(model: nn.Module, source: str) -> None:
    """Check that all weights and statistics of a network are finite.

    Raises:
        InputError: If not. The message names the first such tensor and their number.
    """
    bad = [name for name, tensor in model.state_dict().items() if not torch.isfinite(tensor).all()]
    if bad:
        others = f" and {len(bad) - 1} other tensors" if len(bad) > 1 else ""
        raise InputError(f"{source} has NaN or infinite values in {bad[0]}{others}; use other weights")
