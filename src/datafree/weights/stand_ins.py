"""Inert stand-ins for the classes that training programs save beside the weights.

`torch.load` with `weights_only=True` refuses every class that it does not know, also in entries that are not used. The
classes below only hold values: options of the command line, numbers and arrays of numpy, paths. When their names occur in a
file, objects of this module are created instead, so that no code of numpy, of a library or of the file runs.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class Attributes:
    """Stands for an object whose attributes are its values, such as `argparse.Namespace`."""

    def __new__(cls, *values: Any, **attributes: Any) -> "Attributes":
        del values, attributes
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) == 2:  # of a class with slots
            state = state[0] or state[1]
        if isinstance(state, dict):
            self.__dict__.update({name: value for name, value in state.items() if isinstance(name, str)})


class Dictionary:
    """Stands for a subclass of `dict`: a plain dictionary is created."""

    def __new__(cls, *values: Any) -> dict[Any, Any]:  # type: ignore[misc]
        given = values[0] if values and type(values[0]) is dict else {}
        return dict(given)


class Nothing:
    """Stands for a class or a function that is only mentioned."""

    def __new__(cls, *values: Any) -> "Nothing":
        del values
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        del state


class Path:
    """Stands for a path: its text is created."""

    def __new__(cls, *parts: Any) -> str:  # type: ignore[misc]
        return "/".join(part for part in parts if isinstance(part, str))


NUMPY_TYPES: dict[str, torch.dtype] = {
    "f8": torch.float64,
    "f4": torch.float32,
    "f2": torch.float16,
    "i8": torch.int64,
    "i4": torch.int32,
    "i2": torch.int16,
    "i1": torch.int8,
    "u1": torch.uint8,
    "b1": torch.bool,
}
"""data types of numpy that become numbers and tensors; others become None"""


class NumpyType:
    """Stands for `numpy.dtype`."""

    def __new__(cls, code: Any = "", *rest: Any) -> "NumpyType":
        del rest
        made = super().__new__(cls)
        made.dtype = NUMPY_TYPES.get(code) if isinstance(code, str) else None
        return made

    dtype: torch.dtype | None

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", "|", "="):
            self.dtype = None  # values of a big-endian machine


class NumpyArray:
    """Stands for `numpy.ndarray`; `value` is the tensor, or None if it has no numbers."""

    value: Tensor | None = None

    def __new__(cls, *rest: Any) -> "NumpyArray":
        del rest
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            return
        _, shape, kind, columns_first, data = state
        if isinstance(kind, NumpyType) and isinstance(data, bytes) and _is_shape(shape):
            shape = tuple(shape)
            values = _tensor(kind, data, math.prod(shape))
            if values is not None:
                self.value = (
                    values.view(shape[::-1]).permute(*range(len(shape))[::-1]) if columns_first else values.view(shape)
                )


def _is_shape(shape: Any) -> bool:
    return (
        isinstance(shape, tuple) and len(shape) <= 8 and all(type(side) is int and 0 <= side < 2**40 for side in shape)
    )


def _tensor(kind: NumpyType, data: bytes, count: int) -> Tensor | None:
    if kind.dtype is None or len(data) != count * kind.dtype.itemsize:
        return None
    return torch.frombuffer(bytearray(data), dtype=kind.dtype) if data else torch.empty(0, dtype=kind.dtype)


def numpy_scalar(kind: Any = None, data: Any = b"", *rest: Any) -> Any:
    """Stands for `numpy.core.multiarray.scalar`: the number is created, or None."""
    del rest
    if not isinstance(kind, NumpyType) or not isinstance(data, bytes):
        return None
    value = _tensor(kind, data, 1)
    return None if value is None else value.item()


_NAMES: dict[Any, tuple[str, ...]] = {
    Attributes: (
        "argparse.Namespace",
        "types.SimpleNamespace",
        *(f"omegaconf.base.{name}" for name in ("ContainerMetadata", "Metadata")),
        *(f"omegaconf.{kind}config.{kind.capitalize()}Config" for kind in ("dict", "list")),
        *(f"omegaconf.nodes.{kind}Node" for kind in ("Any", "String", "Integer", "Float", "Boolean", "Path", "Enum")),
    ),
    Dictionary: (
        "collections.defaultdict",
        "easydict.EasyDict",
        "addict.addict.Dict",
        "yacs.config.CfgNode",
        "fvcore.common.config.CfgNode",
        "ml_collections.config_dict.config_dict.ConfigDict",
        "lightning.fabric.utilities.data.AttributeDict",
        "lightning_fabric.utilities.data.AttributeDict",
        "pytorch_lightning.utilities.parsing.AttributeDict",
        "lightning.pytorch.utilities.parsing.AttributeDict",
    ),
    Nothing: (
        *(f"builtins.{name}" for name in ("int", "float", "str", "bool", "dict", "list", "tuple")),
        *(f"__builtin__.{name}" for name in ("int", "float", "str", "bool", "dict", "list", "tuple")),
        "typing.Any",
        "datetime.datetime",
        "datetime.date",
        "datetime.timedelta",
    ),
    Path: tuple(
        f"{module}.{name}"
        for module in ("pathlib", "pathlib._local")
        for name in ("Path", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")
    ),
    NumpyType: ("numpy.dtype",),
    NumpyArray: ("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"),
    numpy_scalar: ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"),
}

STAND_INS: list[tuple[Callable[..., Any], str]] = [
    *((stand_in, name) for stand_in, names in _NAMES.items() for name in names),
    (Nothing, "numpy.ndarray"),
]
"""for `torch.serialization.safe_globals`: what is created, and the name in the file that it stands for"""
