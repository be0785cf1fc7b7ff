"""Matching tensors by their names: prefixes of wrappers, the names of public repositories, and entries that are no weights."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from datafree.types import InputError, printable
from datafree.weights.heads import head_note, moved_head

Tensors: TypeAlias = Mapping[str, Tensor]

WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
"""parts of names that `torch.compile`, FSDP and activation checkpointing insert, at any depth"""
COUNTER = "num_batches_tracked"
"""counter of batch norm, which has no effect in evaluation mode; files of old versions of torch lack it"""
BOOKKEEPING = re.compile(
    r"(^|\.)(n_averaged|total_ops|total_params|_extra_state)$"
    r"|^(criterion|loss|loss_fn|losses|metrics?|(train|val|valid|test)_(loss|acc\w*|f1\w*|auroc|metrics?)|accuracy)\."
)
"""entries that counters of operations, averages, losses and metrics add"""
SMALLEST_COPY = 10
"""names above which equal groups are taken for copies of a network instead of layers of the same kind"""
AVERAGE = re.compile(r"(^|[._])(ema|swa|averaged?)([._]|$)", re.IGNORECASE)
"""prefixes of a moving average"""

Rule: TypeAlias = tuple[str, str | Callable[[re.Match[str]], str]]


def _stage(first: int) -> Callable[[re.Match[str]], str]:
    return lambda found: f"stages.{int(found[1]) - first}."


RENAMINGS: dict[str, tuple[Rule, ...]] = {
    "the names of a ResNet as in torchvision and pytorch-cifar": (
        (r"^layer(\d)\.", _stage(1)),
        (r"\.downsample\.", ".shortcut."),
        (r"^(linear|fc|classifier)\.", "head."),
    ),
    "the names of WideResNet-pytorch": (
        (r"^block(\d)\.(layer\.)?", _stage(1)),
        (r"\.convShortcut\.", ".shortcut."),
        (r"^bn1\.", "bn."),
        (r"^(fc|linear)\.", "head."),
    ),
    "the names of pytorch-cifar100": (
        (r"^conv1\.0\.", "conv1."),
        (r"^conv1\.1\.", "bn1."),
        (r"^conv(\d)_x\.", _stage(2)),
        (r"\.residual_function\.0\.", ".conv1."),
        (r"\.residual_function\.1\.", ".bn1."),
        (r"\.residual_function\.3\.", ".conv2."),
        (r"\.residual_function\.4\.", ".bn2."),
        (r"^(fc|linear)\.", "head."),
    ),
}
"""how repositories name the layers of networks that compute the same function as those in `networks.zoo`"""


@dataclass(frozen=True)
class Renamed:
    """Tensors by the names of a network; some may be missing or have another shape."""

    weights: dict[str, Tensor]
    notes: tuple[str, ...] = ()
    count: int = 0
    """names that both have"""


def by_names(expected: Tensors, tensors: Tensors, source: str) -> Renamed:
    """Return the tensors of a file by the names of a network.

    The prefix and the renaming are those with which most names match. Entries outside the prefix are left out.

    Args:
        expected: The state dict of the network; it may be on the meta device.
        tensors: The tensors of the file.
        source: The file, for messages.

    Raises:
        InputError: If the file has the network twice, under two prefixes.
    """
    candidates = [
        (count, prefix, rule, renamed)
        for rule, renamed in renamings(unwrapped(tensors))
        for prefix, count in prefixes(expected, renamed).items()
    ]
    best = max((count for count, *_ in candidates), default=0)
    if not best:
        return Renamed(dict(unwrapped(tensors)))
    _, prefix, rule, renamed = next(candidate for candidate in candidates if candidate[0] == best)
    twins = [other for count, other, translation, _ in candidates if count == best and translation == rule]
    notes = []
    if len(twins) > 1 and 2 * best > len(expected):
        prefix, note = _one_of(twins, source)
        notes.append(note)
        renamed = {name: tensor for name, tensor in renamed.items() if not name.startswith(_others(prefix, twins))}
    if rule:
        notes.append(f"{source} has {rule}; they were translated to those of the network")
    weights, dropped = _inside(expected, renamed, prefix)
    if head := _moved_head(expected, weights, {name: renamed[name] for name in dropped if name in renamed}):
        notes.append(head_note(head, source))
        tensors = {**renamed, **weights}
        dropped = [name for name in dropped if name not in head.values()]
        weights = {name: tensor for name, tensor in weights.items() if name not in head.values()}
        weights |= {here: tensors[there] for here, there in head.items()}
    if dropped:
        notes.append(f"{source} has entries that are not part of the network and were left out: {listed(dropped)}")
    return Renamed(_completed(expected, weights), tuple(notes), best)


def _moved_head(expected: Tensors, weights: Tensors, dropped: Tensors) -> dict[str, str]:
    """Return where the file has the last layer of the network, see `moved_head`."""
    missing = [name for name in expected if name not in weights and not name.endswith(COUNTER)]
    unplaced = {name: tensor for name, tensor in weights.items() if name not in expected}
    unplaced |= {name: tensor for name, tensor in dropped.items() if not BOOKKEEPING.search(name)}
    return moved_head(expected, unplaced, missing) if missing and unplaced else {}


def copies(tensors: Tensors) -> list[str]:
    """Return the prefixes under which a file contains the same names several times; empty if it does not."""
    inner: dict[str, set[str]] = {}
    for name in tensors:
        first, _, rest = name.partition(".")
        inner.setdefault(f"{first}.", set()).add(rest)
    groups = list(inner.values())
    repeated = len(groups) > 1 and len(groups[0]) > SMALLEST_COPY and all(group == groups[0] for group in groups)
    return list(inner) if repeated else []


def _others(prefix: str, twins: list[str]) -> tuple[str, ...]:
    """Return the prefixes under which a file contains the network again."""
    return tuple(twin for twin in twins if twin and twin != prefix and not prefix.startswith(twin))


def _one_of(prefixes: list[str], source: str) -> tuple[str, str]:
    """Return the prefix of the moving average, if the network is in a file several times, and the note about it."""
    averages = [prefix for prefix in prefixes if AVERAGE.search(prefix)]
    shown = " and ".join(printable(repr(prefix[:60] or "no prefix")) for prefix in prefixes[:4])
    if len(averages) != 1:
        raise InputError(
            f"{source} contains the network {len(prefixes)} times, under the prefixes {shown}; save the state dict of the one "
            "to be used"
        )
    return averages[0], f"{source} contains the network under the prefixes {shown}; the moving average was taken"


def unwrapped(tensors: Tensors) -> dict[str, Tensor]:
    """Return tensors without the parts of their names that wrappers insert at any depth."""
    names = {name: name for name in tensors}
    for wrapper in WRAPPERS:
        names = {name: short.replace(wrapper, "") for name, short in names.items()}
    return (
        {names[name]: tensor for name, tensor in tensors.items()}
        if len(set(names.values())) == len(names)
        else dict(tensors)
    )


def renamings(tensors: Tensors) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield the tensors with their own names, and then with each translation that changes a name."""
    yield "", dict(tensors)
    common = common_prefix(tensors)
    for title, rules in RENAMINGS.items():
        names = [name.removeprefix(common) for name in tensors]
        for pattern, replacement in rules:
            names = [re.sub(pattern, replacement, name) for name in names]
        if len(set(names)) == len(tensors) and any(f"{common}{name}" not in tensors for name in names):
            yield title, {f"{common}{name}": tensor for name, tensor in zip(names, tensors.values(), strict=True)}


def common_prefix(tensors: Tensors) -> str:
    """Return the longest prefix, of whole parts, that all names but bookkeeping have."""
    rows = [name.split(".")[:-1] for name in tensors if not BOOKKEEPING.search(name)]
    shared: list[str] = []
    for parts in zip(*rows, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return "".join(f"{part}." for part in shared)


def prefixes(expected: Tensors, tensors: Tensors) -> Counter[str]:
    """Return how many names of the network follow each prefix in a file; the shortest prefix first among equals."""
    counts: Counter[str] = Counter()
    for name in tensors:
        parts = name.split(".")
        for place in range(min(len(parts), 12)):
            if ".".join(parts[place:]) in expected:
                counts["".join(f"{part}." for part in parts[:place])] += 1
    return Counter(dict(sorted(counts.items(), key=lambda item: (-item[1], len(item[0])))))


def _inside(expected: Tensors, tensors: Tensors, prefix: str) -> tuple[dict[str, Tensor], list[str]]:
    """Return the tensors under a prefix, without it, and the names of those that were left out.

    A layer that the network has and the prefix has not is taken from outside, because many programs keep the classifier beside
    the rest, as in `backbone.*` and `fc.*`.
    """
    inside = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    dropped = []
    for name, tensor in tensors.items():
        if prefix and not name.startswith(prefix):
            if name in expected and name not in inside:
                inside[name] = tensor
            elif not BOOKKEEPING.search(name) or not name.endswith(("n_averaged", "_extra_state")):
                dropped.append(name)
    for name in list(inside):
        counter = name.endswith(COUNTER) and name.removesuffix(COUNTER) + "running_mean" in expected
        if name not in expected and (counter or BOOKKEEPING.search(name)):
            del inside[name]
            if not counter and not name.endswith(("n_averaged", "_extra_state")):
                dropped.append(name)
    return inside, dropped


def _completed(expected: Tensors, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Add missing counters of batch norm, and give a fully connected layer the shape of a 1 x 1 convolution, or back."""
    for name, tensor in expected.items():
        given = weights.get(name)
        if given is None and name.endswith(COUNTER):
            weights[name] = torch.zeros(tensor.shape, dtype=tensor.dtype)
        elif given is not None and given.shape != tensor.shape and given.numel() == tensor.numel() == 1:
            weights[name] = given.reshape(tensor.shape)
        elif (
            given is not None
            and {given.ndim, tensor.ndim} == {2, 4}
            and given.flatten(1).shape == tensor.flatten(1).shape
        ):
            small = given if given.ndim == 4 else tensor
            weights[name] = given.reshape(tensor.shape) if small.shape[2:] == (1, 1) else given
    return {
        name: weights[name]
        for name in (*(n for n in expected if n in weights), *(n for n in weights if n not in expected))
    }


def listed(names: list[str], most: int = 3) -> str:
    """Return the first names, and how many more there are."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(printable(name[:60]) for name in names[:most]) + rest
