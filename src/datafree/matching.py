"""Match networks with images and with each other: images are resized to each network, classes are matched by name."""

from collections.abc import Sequence
from typing import NamedTuple

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from datafree.classifier import ClassSubset
from datafree.types import Images, InputError, Logits, suggestion


def resized_to(images: Images, network: nn.Module) -> Float[Tensor, "n c height width"]:
    """Return images in the input size of a network, so that networks of different sizes can share them.

    The resizing is bilinear with antialiasing and differentiable. Images of the right size are returned unchanged.

    Args:
        images: Pixels in [0, 1], of any size.
        network: A classifier, or a module around one that has its `shape`. For any other module the images are returned
            unchanged.
    """
    size = input_size(network)
    if size is None or images.shape[2:] == size:
        return images
    return F.interpolate(images, size, mode="bilinear", antialias=True).clamp(0, 1)


class Resized(nn.Module):
    """A network that is shown images in its own input size, whatever the size of the given ones.

    A teacher is never wrapped: what it is shown is chosen by the caller.

    Args:
        model: A classifier. Its weights are shared, not copied.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Images) -> Logits:
        """Return the logits of the resized images."""
        return self.model(resized_to(images, self.model))


def input_size(network: nn.Module) -> tuple[int, int] | None:
    """Return the height and width of the images that a network takes; None if the network does not have a shape."""
    if isinstance(network, ClassSubset):
        return input_size(network.model)
    shape = getattr(network, "shape", None)
    return (shape[1], shape[2]) if isinstance(shape, tuple) and len(shape) == 3 else None


class ClassMatch(NamedTuple):
    """How the classes of two sides correspond."""

    order: tuple[int, ...]
    """for each class of the first side, the index of the same class on the second side"""
    note: str = ""
    """what the user should know; empty if all classes were matched by name"""

    @property
    def changes_order(self) -> bool:
        """Whether some class has different indices on both sides."""
        return self.order != tuple(range(len(self.order)))


def match_classes(
    classes: Sequence[str], others: Sequence[str], name: str = "one side", other_name: str = "the other"
) -> ClassMatch:
    """Match the classes of two sides by name; by position if one side has only numbers for names.

    Args:
        classes: Class names of the first side, in the order of their indices.
        others: Class names of the second side.
        name: What a message calls the first side.
        other_name: What a message calls the second side.

    Raises:
        InputError: If the numbers of classes differ, or both sides have real names that differ.
    """
    if len(classes) != len(others):
        raise InputError(
            f"{name} has {len(classes)} classes, but {other_name} has {len(others)}; the numbers must be equal"
        )
    in_order = tuple(range(len(classes)))
    if tuple(classes) == tuple(others):
        return ClassMatch(in_order)
    if set(classes) == set(others) and len(set(classes)) == len(classes):
        index = {label: place for place, label in enumerate(others)}
        return ClassMatch(tuple(index[label] for label in classes))
    if is_numbered(classes) or is_numbered(others):
        unnamed = name if is_numbered(classes) else other_name
        return ClassMatch(
            in_order,
            f"the classes of {name} and {other_name} were matched by position: those of {unnamed} have no names",
        )
    place = next(place for place, pair in enumerate(zip(classes, others, strict=True)) if pair[0] != pair[1])
    label = next((label for label in classes if label not in others), classes[place])
    raise InputError(
        f"{name} and {other_name} have different classes: {label!r} of {name} has no counterpart; give both the same "
        "class names"
    )


def is_numbered(classes: Sequence[str]) -> bool:
    """Return whether class names are only the indices of the classes, as in a network that was created without names."""
    return all(
        label.isascii() and label.isdecimal() and label.lstrip("0") == str(place or "")
        for place, label in enumerate(classes)
    )


MAX_LISTED = 20
"""classes that an error message lists"""


def chosen_classes(classes: Sequence[str], labels: Sequence[str], *, multi_label: bool = False) -> tuple[str, ...]:
    """Return the names of chosen classes, which are given by their names or by their indices.

    Args:
        classes: All class names, in order. A name comes before an index.
        labels: The chosen ones.
        multi_label: Whether images can have several labels; then a single class may be chosen.

    Raises:
        InputError: If there is no such class, a class is chosen twice, or a single one is chosen without `multi_label`.
    """
    chosen = tuple(_chosen_class(classes, label) for label in labels)
    if twice := next((name for place, name in enumerate(chosen) if name in chosen[:place]), None):
        raise InputError(f"the label {twice!r} is given twice; give each label once")
    if len(chosen) == 1 and not multi_label:
        raise InputError(f"{chosen[0]!r} is the only label, which is then always predicted; give two or more labels")
    return chosen


def _chosen_class(classes: Sequence[str], label: str) -> str:
    if label in classes:
        return label
    if label.isascii() and label.isdecimal() and len(label) < 10 and int(label) < len(classes):
        return classes[int(label)]
    if near := "" if label.lstrip("+-").replace(",", "").isdecimal() else suggestion(label, classes):
        raise InputError(f"there is no class {label!r}{near}")
    if "," in label:
        raise InputError(f"there is no class {label!r}; separate labels by spaces, as in {label.replace(',', ' ')}")
    listed = f", or a name among {', '.join(classes)}" if len(classes) <= MAX_LISTED else ""
    raise InputError(f"there is no class {label!r}; give an index from 0 to {len(classes) - 1}{listed}")
