"""What a teacher is, and which methods can use it."""

from dataclasses import dataclass

from datafree.classifier import Classifier, batch_norms
from datafree.methods import METHODS
from datafree.synthesis import Method
from datafree.types import InputError


@dataclass(frozen=True)
class Diagnosis:
    """What was found in a teacher."""

    parameters: int
    shape: tuple[int, int, int]
    classes: int
    batch_norms: int
    """layers that remember statistics of the training data"""
    untouched: int
    """of those, layers whose memory is empty: mean 0 and variance 1 everywhere"""
    last_layer: bool
    """whether the weights that make the logits of one answer are to be seen"""

    @property
    def has(self) -> frozenset[str]:
        """What methods may need, by the names they ask for it."""
        found = {"batch-norm statistics": self.batch_norms > self.untouched, "last layer": self.last_layer}
        return frozenset(name for name, there in found.items() if there)


def examine(teacher: Classifier) -> Diagnosis:
    """Looks at a teacher; nothing is run."""
    layers = batch_norms(teacher)
    untouched = sum(
        bool((layer.running_mean == 0).all() and (layer.running_var == 1).all())  # type: ignore[union-attr]
        for layer in layers
    )
    return Diagnosis(
        parameters=count_parameters(teacher),
        shape=teacher.shape,
        classes=len(teacher.classes),
        batch_norms=len(layers),
        untouched=untouched,
        last_layer=teacher.class_weights() is not None and not teacher.multi_label,
    )


def count_parameters(model: Classifier) -> int:
    """Numbers that were learned; statistics are none."""
    return sum(parameter.numel() for parameter in model.parameters())


def usable(teacher: Classifier) -> list[str]:
    """The named methods that this teacher can feed: what they need is there, and they do not refuse it."""
    has = examine(teacher).has
    return [name for name, method in METHODS.items() if has.issuperset(method.needs) and accepts(method, teacher)]


def accepts(method: Method, teacher: Classifier) -> bool:
    """Whether a method can be built for this teacher."""
    try:
        method.build(teacher)
    except InputError:
        return False
    return True


def require(teacher: Classifier, method: Method) -> None:
    """Refuses a teacher that lacks what a method needs.

    Raises:
        InputError: Naming what is missing and the methods that work.
    """
    missing = [need for need in method.needs if need not in examine(teacher).has]
    if missing:
        raise InputError(
            f"the teacher has no {' and no '.join(missing)}; methods that work with it: {', '.join(usable(teacher))}"
        )
