"""Building timm networks from untrusted settings: what arguments may say, and how large a network may be."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from datafree.randomness import RandomNumbers
from datafree.types import InputError, suggestion

MAX_SIDE, MAX_CHANNELS, MAX_PIXELS = 2048, 1024, 3 * 2048 * 2048
"""largest height or width of an image, number of its channels, and number of its values"""
MAX_CLASSES = 100_000
MAX_PARAMETERS = 1_000_000_000
"""values of all weights of a network: 4 GB as float32"""
MAX_TENSORS = 10_000
"""tensors that may be created to build a network"""
MAX_NUMBER, MAX_ENTRIES, MAX_DEPTH = 100_000, 10_000, 3
"""largest number in an argument, number of its entries, and nesting of its lists"""
WORD = re.compile(r"[A-Za-z][A-Za-z0-9_+-]{0,31}|")
FORBIDDEN = re.compile(
    r"pretrained|checkpoint|path|file|dir$|dir_|url|hub|cache|cfg|config|code|module|import|script|jit|hook|filter|weights?$"
)
"""names of arguments that may choose a file, an address or code, or that belong to timm's own loading"""
OWN_OPTIONS = {
    "num_classes": "the classes",
    "in_chans": "the shape of the images",
    "features_only": "nothing: a classifier has logits",
}
"""arguments that something else decides"""


def require_known_network(name: str) -> None:
    """Check that a name is one of timm's, and its tag one of the network's.

    Raises:
        InputError: If not; with the nearest name.
    """
    import timm

    base, _, tag = name.partition(".")
    if not timm.is_model(base) or ":" in name:
        raise InputError(f"network {name!r} is unknown to timm{suggestion(base, timm.list_models())}")
    if tag:
        tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{base}.*")]
        if tag not in tags:
            choice = f"choose one of {', '.join(tags)}" if tags else "leave it out"
            raise InputError(f"network {base!r} has no weights {tag!r}{suggestion(tag, tags)}; {choice}")


def require_plain_arguments(arguments: Mapping[str, Any], source: str) -> None:
    """Check that arguments of a network are numbers and short words: they must not choose files, addresses or code.

    Args:
        arguments: The arguments. Values are numbers, booleans, None, words, and lists of these.
        source: The network or the file that they are for, for the error message.

    Raises:
        InputError: If an argument is something else, or has an option of its own. The message names the first one.
    """
    for name, value in arguments.items():
        if name in OWN_OPTIONS:
            raise InputError(f"{source} sets {name}, which is decided by {OWN_OPTIONS[name]}; leave it out")
        if FORBIDDEN.search(name) or not name.isidentifier():
            raise InputError(f"{source} sets {name[:50]!r}, which may choose a file or code; leave it out")
        fault = _fault(value, names=name == "networks")
        if fault:
            raise InputError(
                f"{source} sets {name} to {_shown(value)}, which {fault}; only numbers and words are allowed"
            )


def is_plain(value: Any) -> bool:
    """Return whether a value may be an argument of a network: a number, a word, None, or a list of these."""
    return not _fault(value)


def _fault(value: Any, depth: int = 0, *, names: bool = False) -> str:
    """Return what is wrong with the value of an argument; empty if nothing is."""
    if isinstance(value, (list, tuple)):
        if depth >= MAX_DEPTH or len(value) > MAX_ENTRIES:
            return "is too long or nested too deeply"
        return next(filter(None, (_fault(item, depth + 1, names=names) for item in value)), "")
    if isinstance(value, (int, float)):
        finite = not isinstance(value, float) or math.isfinite(value)
        return "" if finite and abs(value) <= MAX_NUMBER else f"is not at most {MAX_NUMBER}"
    if isinstance(value, str):
        word = value.replace(".", "_", 1) if names else value  # names of networks may have a tag
        return "" if WORD.fullmatch(word[: 80 if names else 40]) else "is no word"
    return "" if value is None else "is no number"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def require_bounded(shape: Sequence[int] | None, classes: int | None) -> None:
    """Check the shape of an image and the number of classes.

    Raises:
        InputError: If a number is not positive, or too large to be meant.
    """
    if shape is not None:
        channels, height, width = shape
        fits = 1 <= channels <= MAX_CHANNELS and min(height, width) >= 1 and max(height, width) <= MAX_SIDE
        if not fits or channels * height * width > MAX_PIXELS:
            raise InputError(
                f"images of shape {tuple(shape)} are not possible; give 1 to {MAX_CHANNELS} channels and a height and width "
                f"of 1 to {MAX_SIDE}, with at most {MAX_PIXELS} values"
            )
    if classes is not None and not 1 <= classes <= MAX_CLASSES:
        raise InputError(f"{classes} classes are not possible; give 1 to {MAX_CLASSES}")


class _Counter(TorchDispatchMode):
    """Stops the creation of a network that has too many tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.tensors = self.values = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.empty.memory_format:
            self.tensors += 1
            self.values += math.prod(args[0])
            if self.tensors > MAX_TENSORS or self.values > 4 * MAX_PARAMETERS:
                raise InputError(TOO_LARGE)
        return func(*args, **(kwargs or {}))


INITIALISERS = {
    *("uniform_", "normal_", "erfinv_", "clamp_", "mul_", "add_", "fill_", "zero_", "constant_", "ones_", "zeros_"),
    *("trunc_normal_", "kaiming_uniform_", "kaiming_normal_", "xavier_uniform_", "xavier_normal_"),
}
"""methods of tensors and functions of `torch.nn.init` with which weights are initialised"""


class _EmptyTensors(TorchFunctionMode):
    """Creates what `torch.empty` creates on the meta device: weights, which are not initialised then."""

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in INITIALISERS:
            tensor = args[0] if args else kwargs.get("tensor")
            if isinstance(tensor, Tensor) and tensor.is_meta:
                return tensor
        if func is torch.empty and kwargs.get("device") is None:
            kwargs = {**kwargs, "device": "meta"}
        return func(*args, **kwargs)


TOO_LARGE = f"it has more than {MAX_PARAMETERS / 1e9:.0f} billion weights or {MAX_TENSORS} layers"


def blueprint(name: str, **arguments: Any) -> nn.Module:
    """Create a network without memory for its weights, on the meta device. No random number is drawn.

    Args:
        name: A timm name.
        arguments: Arguments of the network, checked.

    Raises:
        InputError: If the network is too large.
        Exception: Whatever timm and the network raise.
    """
    import timm

    def create() -> nn.Module:
        with torch.device("meta"):
            return timm.create_model(name, **arguments)

    return sketch(create)


def sketch(create: Callable[[], nn.Module]) -> nn.Module:
    """Create a network without memory for its weights. No random number is drawn.

    Tensors that `torch.empty` creates, which are the weights, are on the meta device; other ones, which may be computed with,
    are where the caller wants them.

    Args:
        create: Returns the network.

    Raises:
        InputError: If the network is too large.
        Exception: Whatever `create` raises.
    """
    with RandomNumbers(0), _EmptyTensors(), _Counter():
        network = create()
    tensors: list[Tensor] = [*network.parameters(), *network.buffers()]
    if not all(parameter.numel() for parameter in network.parameters()):
        raise InputError("it has a layer without weights")
    if sum(tensor.numel() for tensor in tensors) > MAX_PARAMETERS:
        raise InputError(TOO_LARGE)
    return network


def require_buildable(name: str, arguments: Mapping[str, Any], **numbers: Any) -> nn.Module | None:
    """Create the blueprint of a network.

    Args:
        name: A timm name.
        arguments: Arguments of the network, checked.
        numbers: `num_classes` and `in_chans`, if they are given.

    Returns:
        The blueprint; None for a TargetNet, which is examined by running it. Then the networks it consists of are checked.

    Raises:
        InputError: If the network is too large.
        Exception: Whatever timm and the network raise.
    """
    if name != "target_net":
        return blueprint(name, **arguments, **numbers)
    channels = {"in_chans": numbers["in_chans"]} if "in_chans" in numbers else {}
    for part in arguments.get("networks", ()):
        if part == name:
            raise InputError("a TargetNet cannot contain another one")
        require_known_network(str(part))
        blueprint(part, **channels)
    return None
