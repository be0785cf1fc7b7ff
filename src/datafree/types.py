"""The nouns every other file speaks of: images, logits, labels, terms, a batch."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any, Literal, Protocol, TypeAlias, get_args, get_origin, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

Images: TypeAlias = Float[Tensor, "n c h w"]
"""pixels; in [0, 1] wherever they pass from one file to another"""
Logits: TypeAlias = Float[Tensor, "n k"]
"""what a classifier says before the softmax"""
Labels: TypeAlias = Int[Tensor, " n"]
"""class indices"""
Probabilities: TypeAlias = Float[Tensor, "n k"]
"""rows on the simplex"""
Decisions: TypeAlias = Float[Tensor, "m j"]
"""logits as one row per choice between classes; see `Classifier.decisions`"""
Targets: TypeAlias = Int[Tensor, " m"] | Float[Tensor, "n k"]
"""class indices; or, where an image has several labels, a one for each it has; or soft labels"""
Scalar: TypeAlias = Float[Tensor, ""]
Terms: TypeAlias = Mapping[str, Scalar]
"""the summands of an objective, weights included, by name"""


class InputError(ValueError):
    """Something the user gave cannot be used; the message is one sentence that names the fault and the mend."""


@dataclass(frozen=True)
class Preprocessing:
    """What a network is shown of an image file that has another size than it takes, in timm's words."""

    crop_pct: float = 1.0
    """part of the shorter side that is seen; of some networks more than 1, so that a frame is seen as well"""
    crop_mode: Literal["center", "squash", "border"] = "center"
    """the middle; all of it, its proportions lost; or all of it in a grey frame"""
    interpolation: Literal["nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"] = "bilinear"
    """how it is scaled"""

    def __post_init__(self) -> None:
        words_known(self)
        at_least(0.01, crop_pct=self.crop_pct)


def at_least(bound: float, **values: float | Sequence[float]) -> None:
    """Refuses a setting under its bound, and one that is no finite number, by name; of several numbers, each and none.

    Raises:
        InputError: Naming the setting, its value and the bound.
    """
    for name, value in values.items():
        numbers = value if isinstance(value, Sequence) else [value]
        if not numbers:
            raise InputError(f"{name.replace('_', '-')} has no number; give one or more")
        for number in numbers:
            if not bound <= number < math.inf:
                finite = " and finite" if number == math.inf else ""
                raise InputError(f"{name.replace('_', '-')} is {number}, but it must be at least {bound}{finite}")


def at_most(bound: float, **values: float) -> None:
    """Refuses a setting over its bound, by name.

    Raises:
        InputError: Naming the setting, its value and the bound.
    """
    for name, value in values.items():
        if not value <= bound:
            raise InputError(f"{name.replace('_', '-')} is {value}, but it must be at most {bound}")


def is_seed(seed: int) -> None:
    """Refuses what random numbers cannot begin at.

    Raises:
        InputError: If it is negative or too large.
    """
    at_least(0, seed=seed)
    at_most(2**63 - 1, seed=seed)


def same_as_before(name: str, now: str | None, before: str | None) -> None:
    """Refuses to go on with a run when a file that it rests on is another one than at the checkpoint.

    Args:
        name: Of the file or folder.
        now: Its hash.
        before: What it was then; None if nobody had looked.

    Raises:
        InputError: Naming it.
    """
    if before is not None and now != before:
        raise InputError(f"{name} is not what it was when this run was interrupted; put it back, or begin a new run")


def words_known(settings: Any) -> None:
    """Refuses a word that is not among those that a setting's type names.

    Args:
        settings: A dataclass; its fields of type `Literal` are looked at.

    Raises:
        InputError: Naming the setting, the word and what there is to choose from.
    """
    for setting in fields(settings):
        if get_origin(setting.type) is Literal:
            one_of(get_args(setting.type), **{setting.name: getattr(settings, setting.name)})


def one_of(known: Sequence[str], **words: str) -> None:
    """Refuses a word that is not known, by the name of its setting.

    Raises:
        InputError: Naming the setting, the word and what there is to choose from.
    """
    for name, word in words.items():
        if word not in known:
            choices = ", ".join(filter(None, known))
            raise InputError(f"{name} {word!r} is unknown{nearest(word, known)}; choose one of {choices}")


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean X?` if a known word is near, else nothing; for the end of an error message."""
    close = get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else ""


class Diverged(RuntimeError):
    """A loss or an image stopped being finite; what was saved before is untouched."""


@runtime_checkable
class Stateful(Protocol):
    """What a checkpoint can hold: a module, an optimiser, a learning-rate schedule, a stream."""

    def state_dict(self) -> dict[str, Any]: ...

    load_state_dict: Callable[..., Any]


@dataclass(frozen=True)
class Batch:
    """Images, what they should be, and the objective they reached."""

    images: Images
    """pixels in [0, 1]"""
    targets: Targets
    """the classes asked for, or soft labels"""
    terms: Terms
    """the summands of the objective at the last step, detached"""
    answers: Logits | None = None
    """the teacher's logits on these very images, where they are known already"""
    features: tuple[Tensor, ...] = ()
    """what the second and later blocks of a teacher might take for these images, where they were made as well"""

    def __len__(self) -> int:
        return len(self.images)
