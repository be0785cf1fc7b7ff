"""Diagnosis of a teacher: its properties, and the methods that support it."""

from dataclasses import dataclass

from datafree.classifier import Classifier, batch_norms
from datafree.methods import METHODS
from datafree.synthesis import Method
from datafree.synthesis.method import capabilities, is_untrained
from datafree.types import InputError


@dataclass(frozen=True)
class Diagnosis:
    """Properties of a teacher."""

    parameters: int
    """number of learned parameters; running statistics are not included"""
    shape: tuple[int, int, int]
    """channels, height and width of an image"""
    classes: int
    """number of classes"""
    batch_norms: int
    """number of layers with running statistics"""
    untrained_batch_norms: int
    """number of these layers whose running statistics have their initial values, mean 0 and variance 1"""
    capabilities: frozenset[str]
    """what the teacher offers, in the words of `Method.needs`; see `datafree.synthesis.method.capabilities`"""


def diagnose(teacher: Classifier) -> Diagnosis:
    """Inspect a teacher without running it."""
    layers = batch_norms(teacher)
    return Diagnosis(
        parameters=count_parameters(teacher),
        shape=teacher.shape,
        classes=len(teacher.classes),
        batch_norms=len(layers),
        untrained_batch_norms=sum(map(is_untrained, layers)),
        capabilities=capabilities(teacher),
    )


def count_parameters(model: Classifier) -> int:
    """Return the number of learned parameters; running statistics are not included."""
    return sum(parameter.numel() for parameter in model.parameters())


def usable_methods(teacher: Classifier) -> list[str]:
    """Return the names of the methods that support this teacher."""
    return [name for name, method in METHODS.items() if can_build(method, teacher)]


def can_build(method: Method, teacher: Classifier) -> bool:
    """Return whether a method can be built for this teacher."""
    try:
        method.build(teacher)
    except InputError:
        return False
    return True


def require_capabilities(teacher: Classifier, method: Method) -> None:
    """Check that a teacher has what a method needs.

    Raises:
        InputError: If it does not. The message names what is missing and the methods that support the teacher.
    """
    if missing := method.missing(teacher):
        raise InputError(
            f"the teacher has no {' and no '.join(missing)}; methods that work with it: "
            f"{', '.join(usable_methods(teacher))}"
        )
