"""What a weights file contains: the tensors, and what its container says about the network.

A container is the dictionary that a training program saves: the weights under one of many names, often their moving average
beside them, with the optimizer, the options and other values. All of it is untrusted.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from datafree.types import InputError, printable
from datafree.weights.descriptions import Description, describe
from datafree.weights.stand_ins import Attributes, NumpyArray
from datafree.weights.tensor_file import MAX_TENSORS

AVERAGES = (
    *(
        "state_dict_ema",
        "model_ema",
        "ema_state_dict",
        "model_ema_state_dict",
        "ema_model",
        "ema_model_state_dict",
        "ema",
    ),
    *("params_ema", "averaged_state_dict", "swa_state_dict", "swa_model"),
)
"""entries with the moving average of the weights, in the order of preference"""
WEIGHTS = (
    *(
        "state_dict",
        "model_state_dict",
        "model",
        "net",
        "network",
        "model_state",
        "net_state_dict",
        "network_state_dict",
    ),
    *("module", "weights", "params", "parameters", "classifier_state_dict", "backbone_state_dict"),
)
"""entries with the weights"""
OPTIMIZER = {"state", "param_groups"}
"""entries of the state of an optimizer"""
MAX_DEPTH = 4
"""containers inside each other"""
MAX_KEYS = 40
"""entries of a container that an error message can name"""


@dataclass(frozen=True)
class Checkpoint:
    """An untrusted weights file that was read."""

    tensors: Mapping[str, Tensor]
    """by name, on the CPU, in the order of the file"""
    notes: tuple[str, ...] = ()
    """sentences about what was chosen and left out"""
    description: Description = Description()
    """what the container says about the network"""
    keys: tuple[str, ...] = ()
    """entries of the container; empty for a state dict on its own"""
    ordered: bool = True
    """whether the tensors have the order in which the network registers them: safetensors files are sorted by name"""


def unpack(content: Any, path: str) -> Checkpoint:
    """Find the weights in what `torch.load` returned.

    Args:
        content: A state dict, or containers around one. Classes are stand-ins, see `weights.stand_ins`.
        path: The file, for messages.

    Raises:
        InputError: If there is no state dict of tensors. The message says what there is instead.
    """
    content = _opened(content)
    if isinstance(content, Mapping) and len(content) > MAX_TENSORS:
        raise InputError(f"{path} has more than {MAX_TENSORS} entries; save model.state_dict() and nothing else")
    found = _find(content, 0)
    if found is None:
        raise InputError(f"{path} {_other_content(content)}")
    own = isinstance(content, Mapping) and not _is_state_dict(content)
    return replace(
        found,
        notes=tuple(f"{path}: {note}" for note in found.notes),
        description=describe(content) if own else Description(),
        keys=_keys(content) if own else (),
    )


def _opened(value: Any) -> Any:
    """Return the attributes of a stand-in as a dictionary, and other values as they are."""
    return vars(value) if isinstance(value, Attributes) else value


def _keys(content: Mapping[Any, Any]) -> tuple[str, ...]:
    return tuple(printable(str(key)[:60]) for key in list(content)[:MAX_KEYS])


def _tensor(value: Any) -> Tensor | None:
    value = value.value if isinstance(value, NumpyArray) else value
    return value.detach() if isinstance(value, Tensor) else None


def _is_state_dict(content: Mapping[Any, Any]) -> bool:
    """Return whether most entries are tensors with a name."""
    names = [name for name, value in content.items() if isinstance(name, str) and _tensor(value) is not None]
    return 2 * len(names) > len(content)


def _find(content: Any, depth: int) -> Checkpoint | None:
    """Return the weights in a container, or None."""
    content = _opened(content)
    if isinstance(content, (list, tuple)) and depth <= MAX_DEPTH:
        return _listed_weights(content, depth)
    if not isinstance(content, Mapping) or not content or depth > MAX_DEPTH or set(content) >= OPTIMIZER:
        return None
    if _is_state_dict(content):
        return _state_dict(content)
    average, weights = (
        next(((key, found) for key, found in _searched(content, names, depth)), None) for names in (AVERAGES, WEIGHTS)
    )
    if average is not None:
        return _averaged(average, weights)
    if weights is not None:
        return weights[1]
    return _unnamed([(str(key), found) for key, found in _searched(content, tuple(content), depth)])


def _listed_weights(content: Sequence[Any], depth: int) -> Checkpoint | None:
    """Return the weights in a list or a tuple, if exactly one of its values has some."""
    found = [weights for value in content[:MAX_KEYS] if (weights := _find(value, depth + 1)) is not None]
    return found[0] if len(found) == 1 else None


def _searched(content: Mapping[Any, Any], names: tuple[Any, ...], depth: int) -> Iterator[tuple[str, Checkpoint]]:
    """Yield the weights in those entries of a container that have some."""
    for name in names:
        if name in content and (found := _find(content[name], depth + 1)) is not None:
            yield name, found


def _state_dict(content: Mapping[Any, Any]) -> Checkpoint:
    tensors, others = {}, []
    for name, value in content.items():
        tensor = _tensor(value)
        if tensor is not None and isinstance(name, str):
            tensors[name] = tensor
        elif not str(name).endswith("_extra_state"):
            others.append(printable(str(name)[:60]))
    note = f"entries that are not tensors were left out: {_listed(others)}"
    return Checkpoint(tensors, (note,) if others else ())


def _averaged(average: tuple[str, Checkpoint], weights: tuple[str, Checkpoint] | None) -> Checkpoint:
    """Return the moving average; an average of the parameters alone is completed with the statistics of the weights."""
    (name, found), tensors = average, dict(average[1].tensors)
    if weights is None:
        return replace(found, notes=(*found.notes, f"the weights are a moving average ({name!r})"))
    missing = {key: tensor for key, tensor in weights[1].tensors.items() if key not in tensors}
    note = f"the moving average of the weights ({name!r}) was taken instead of the last weights ({weights[0]!r})"
    if missing and tensors.keys() <= weights[1].tensors.keys():
        tensors = {key: tensors.get(key, tensor) for key, tensor in weights[1].tensors.items()}
        note += f", with {len(missing)} tensors that have no average, such as {next(iter(missing))[:60]}"
    return replace(found, tensors=tensors, notes=(*found.notes, printable(note)))


def _unnamed(found: list[tuple[str, Checkpoint]]) -> Checkpoint | None:
    """Return the weights of entries with other names: of the only one, or of all of them with the entry as a prefix."""
    if len(found) <= 1:
        return found[0][1] if found else None
    tensors = {f"{key}.{name}": tensor for key, entry in found for name, tensor in entry.tensors.items()}
    return Checkpoint(tensors, tuple(note for _, entry in found for note in entry.notes))


def _other_content(content: Any) -> str:
    """Return the second half of the sentence for content without weights."""
    fix = "save model.state_dict()"
    if isinstance(content, (Tensor, NumpyArray)):
        return f"does not contain a state dict of tensors but a single tensor; {fix}"
    if not isinstance(content, Mapping):
        return f"does not contain a state dict of tensors but a {type(content).__name__}; {fix}"
    if not content:
        return f"does not contain a state dict of tensors: it is an empty dictionary; {fix}"
    if any(key in content for key in ("optimizer", "optimizer_state_dict", "optim")) or set(content) >= OPTIMIZER:
        return (
            f"contains the state of an optimizer and no weights (its entries are {_listed(_keys(content))}); {fix} too"
        )
    return f"does not contain a state dict of tensors (its entries are {_listed(_keys(content))}); {fix}"


def _listed(names: Any, most: int = 8) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
