"""Types and checks shared by the whole package: tensor types, a batch, the errors, and the validation of settings."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, Protocol, TypeAlias, get_args, get_origin, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from datafree.errors import Diverged as Diverged
from datafree.errors import InputError as InputError
from datafree.errors import OutOfMemory as OutOfMemory
from datafree.errors import printable as printable
from datafree.errors import suggestion as suggestion

Images: TypeAlias = Float[Tensor, "n c h w"]
"""pixels; in [0, 1] at every public interface"""
Logits: TypeAlias = Float[Tensor, "n k"]
"""outputs of a classifier before softmax or sigmoid"""
Labels: TypeAlias = Int[Tensor, " n"]
"""class indices"""
Probabilities: TypeAlias = Float[Tensor, "n k"]
"""values in [0, 1]; rows sum to 1 for single-label classifiers"""
Decisions: TypeAlias = Float[Tensor, "m j"]
"""logits with one row per softmax; see `Classifier.decisions`"""
Targets: TypeAlias = Int[Tensor, " m"] | Float[Tensor, "n k"]
"""class indices, a multi-hot matrix, or soft labels"""
Scalar: TypeAlias = Float[Tensor, ""]
Terms: TypeAlias = Mapping[str, Scalar]
"""the weighted summands of an objective, by name"""


@dataclass(frozen=True)
class Preprocessing:
    """How an image file of another size is resized and cropped to the input size of a network; the names are timm's."""

    crop_pct: float = 1.0
    """input size divided by the size that the image is resized to; above 1 the image gets a frame"""
    crop_mode: Literal["center", "squash", "border"] = "center"
    """center: crop the middle; squash: ignore the aspect ratio; border: pad with grey"""
    interpolation: Literal["nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"] = "bilinear"
    """resampling filter"""

    def __post_init__(self) -> None:
        require_choices(self)
        require_at_least(0.01, crop_pct=self.crop_pct)


def require_at_least(bound: float, **values: float | Sequence[float]) -> None:
    """Check that settings are finite and not below a bound.

    Args:
        bound: The smallest valid value.
        values: The settings by name. Of a sequence every number is checked; it must not be empty.

    Raises:
        InputError: Names the setting, its value and the bound.
    """
    for name, value in values.items():
        numbers = value if isinstance(value, Sequence) else [value]
        if not numbers:
            raise InputError(f"{_option(name)} is empty; give one or more numbers")
        for number in numbers:
            if not bound <= number < math.inf:
                finite = " and finite" if number == math.inf else ""
                raise InputError(f"{_option(name)} is {number}, but it must be at least {bound}{finite}")


def require_at_most(bound: float, **values: float) -> None:
    """Check that settings are not above a bound.

    Args:
        bound: The largest valid value.
        values: The settings by name.

    Raises:
        InputError: Names the setting, its value and the bound.
    """
    for name, value in values.items():
        if not value <= bound:
            raise InputError(f"{_option(name)} is {value}, but it must be at most {bound}")


def require_below_one(**values: float) -> None:
    """Check that settings are below 1.

    Args:
        values: The settings by name.

    Raises:
        InputError: Names the setting and its value.
    """
    for name, value in values.items():
        if not value < 1:
            raise InputError(f"{_option(name)} is {value}, but it must be below 1")


def require_seed(seed: int) -> None:
    """Check that a number is a valid random seed.

    Raises:
        InputError: If it is negative or above 2^63 - 1.
    """
    require_at_least(0, seed=seed)
    require_at_most(2**63 - 1, seed=seed)


def require_unchanged(name: str, current: str | None, saved: str | None) -> None:
    """Check that a file or a network is the same as when a checkpoint was written.

    Args:
        name: What the message calls it.
        current: Its hash now.
        saved: Its hash in the checkpoint; None if the checkpoint has none.

    Raises:
        InputError: If the hashes differ.
    """
    if saved is not None and current != saved:
        raise InputError(f"{name} has changed since this run was interrupted; restore it or start a new run")


def require_choices(settings: Any) -> None:
    """Check every field of type `Literal` of a dataclass.

    Raises:
        InputError: Names the field, its value and the valid choices.
    """
    for setting in fields(settings):
        if get_origin(setting.type) is Literal:
            require_one_of(get_args(setting.type), **{setting.name: getattr(settings, setting.name)})


def require_one_of(choices: Sequence[str], **values: str) -> None:
    """Check that settings are among the valid choices.

    Args:
        choices: The valid values. The empty string may be among them.
        values: The settings by name.

    Raises:
        InputError: Names the setting, its value and the choices.
    """
    for name, value in values.items():
        if value not in choices:
            listed = ", ".join(filter(None, choices))
            raise InputError(
                f"{_option(name)} {value!r} is unknown{suggestion(value, choices)}; choose one of {listed}"
            )


def _option(name: str) -> str:
    """A setting as it is written on the command line."""
    return name.replace("_", "-")


@runtime_checkable
class Stateful(Protocol):
    """An object that a checkpoint can hold: a module, an optimizer, a learning-rate schedule, a stream."""

    def state_dict(self) -> dict[str, Any]: ...

    load_state_dict: Callable[..., Any]


@dataclass(frozen=True)
class Batch:
    """Images, their targets, and the objective that synthesis reached on them."""

    images: Images
    """pixels in [0, 1]"""
    targets: Targets
    """class indices, a multi-hot matrix, or soft labels"""
    terms: Terms
    """the terms of the objective at the last step, detached; empty for real images"""
    teacher_logits: Logits | None = None
    """the teacher's logits on these images, if they are known already"""
    block_inputs: tuple[Tensor, ...] = ()
    """synthesized inputs of the teacher's second and later blocks; empty if the method makes images only"""
    part: str = ""
    """the part of a mixture that synthesized the images; empty without a mixture"""
    stands_for: int = 0
    """number of images of which these are some, if the others stay on disk; 0: these are all"""

    def __len__(self) -> int:
        return len(self.images)
