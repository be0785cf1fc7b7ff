"""Reading a file of weights, and loading it into a network.

Files are hostile until proven otherwise: safetensors, or `torch.load` with `weights_only=True` written out. There is
no second, laxer try.
"""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from datafree.types import InputError


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors by name, from a file of which nothing is believed.

    Raises:
        InputError: If it is missing, empty, truncated, or would have to run code to be read.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist; give a file of weights (.safetensors or a state dict)")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        _refuse_bombs(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except SafetensorError as fault:
        raise InputError(f"{path} is truncated or no safetensors file ({fault}); copy it again") from fault
    except Exception as fault:  # a damaged file raises any of eight types, some of whose texts advise unsafe loading
        raise InputError(
            f"{path} is damaged, or a pickle that would run code when it is read; convert it to safetensors where you trust it"
        ) from fault
    for key in ("state_dict", "model"):
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or not found or not all(isinstance(value, Tensor) for value in found.values()):
        raise InputError(f"{path} holds no state dict of tensors; save model.state_dict() and nothing else")
    for name, tensor in found.items():
        if (
            tensor.layout == torch.strided
            and tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes()
        ):
            raise InputError(f"{path} claims more numbers for {name!r} than it holds; do not trust this file")
    return dict(found)


def _refuse_bombs(path: Path) -> None:
    """A checkpoint stores its tensors uncompressed; one that does not may unpack to anything."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        packed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
        if packed or sum(member.file_size for member in members) > path.stat().st_size:
            raise InputError(f"{path} is compressed in a way torch does not write; do not trust this file")


def fit(model: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Loads weights into a network that must match them in every name and shape.

    Raises:
        InputError: Naming the first tensors that do not fit.
    """
    for prefix in ("module.", "_orig_mod.", "model."):
        if all(name.startswith(prefix) for name in weights):
            weights = {name.removeprefix(prefix): tensor for name, tensor in weights.items()}
    wanted = model.state_dict()
    faults = [f"{name} is missing" for name in wanted if name not in weights]
    faults += [f"{name} is not in the network" for name in weights if name not in wanted]
    faults += [
        f"{name} is {tuple(weights[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise InputError(
            f"{source} is of another architecture ({'; '.join(faults[:3])}{more}); name the network it was saved from"
        )
    model.load_state_dict(dict(weights))


def require_finite(classifier: nn.Module, source: str) -> None:
    """Refuses weights and statistics that are not finite.

    Raises:
        InputError: Naming the first such tensor and how many there are.
    """
    bad = [name for name, tensor in classifier.state_dict().items() if not torch.isfinite(tensor).all()]
    if bad:
        raise InputError(
            f"{source} has numbers that are not finite in {len(bad)} tensors, {bad[0]} first; it cannot teach"
        )
