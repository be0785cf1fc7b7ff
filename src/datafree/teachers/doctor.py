"""Diagnosis of a teacher: its properties, and the methods that support it."""

from dataclasses import dataclass

from datafree.classifier import Classifier, batch_norms
from datafree.methods import METHODS
from datafree.synthesis import Method
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
    last_layer: bool
    """whether the logits come from a fully connected layer with one output per class, and exactly one class is correct"""

    @property
    def capabilities(self) -> frozenset[str]:
        """What the teacher offers, in the words of `Method.needs`."""
        available = {
            "batch-norm statistics": self.batch_norms > self.untrained_batch_norms,
            "last layer": self.last_layer,
        }
        return frozenset(name for name, is_available in available.items() if is_available)


def diagnose(teacher: Classifier) -> Diagnosis:
    """Inspect a teacher without running it."""
    layers = batch_norms(teacher)
    untrained = sum(
        bool((layer.running_mean == 0).all() and (layer.running_var == 1).all())  # type: ignore[union-attr]
        for layer in layers
    )
    return Diagnosis(
        parameters=count_parameters(teacher),
        shape=teacher.shape,
        classes=len(teacher.classes),
        batch_norms=len(layers),
        untrained_batch_norms=untrained,
        last_layer=teacher.class_weights() is not None and not teacher.multi_label,
    )


def count_parameters(model: Classifier) -> int:
    """Return the number of learned parameters; running statistics are not included."""
    return sum(parameter.numel() for parameter in model.parameters())


def usable_methods(teacher: Classifier) -> list[str]:
    """Return the names of the methods that support this teacher."""
    capabilities = diagnose(teacher).capabilities
    return [
        name for name, method in METHODS.items() if capabilities.issuperset(method.needs) and can_build(method, teacher)
    ]


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
    capabilities = diagnose(teacher).capabilities
    missing = [need for need in method.needs if need not in capabilities]
    if missing:
        raise InputError(
            f"the teacher has no {' and no '.join(missing)}; methods that work with it: "
            f"{', '.join(usable_methods(teacher))}"
        )
