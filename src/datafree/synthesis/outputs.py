"""What a network returns: logits, or probabilities that have to become logits first."""

from typing import Literal

import torch
from torch import Tensor

from datafree.classifier import Classifier, frozen
from datafree.randomness import RandomNumbers
from datafree.types import InputError

TOLERANCE = 1e-3
"""how far the sum of a softmax may be from 1; half precision is not exact"""


def inspect_teachers(teacher: Classifier) -> None:
    """Inspect the outputs of a teacher, or of each teacher of an ensemble, unless that was done before."""
    for module in teacher.modules():
        if type(module) is Classifier and not module.inspected:
            inspect_outputs(module, "the teacher")


def inspect_outputs(classifier: Classifier, name: str) -> None:
    """Run a classifier on a few images, and find out whether its network ends in a softmax or in sigmoids.

    If it does, `classifier.outputs` is set, so that its logits are the logarithm of the probabilities (or their log-odds if
    multi-label), and a note is added. A log-softmax needs nothing: its outputs are logits. No random number is drawn.

    Args:
        classifier: The classifier, changed in place.
        name: What an error message calls it.

    Raises:
        InputError: If it has one class and is not multi-label, so that its loss is always 0; if the network does not accept
            images of its shape, or does not return one finite number per class.
    """
    if len(classifier.classes) == 1 and not classifier.multi_label:
        raise InputError(
            f"{name} has a single class, which it always predicts; if its output is yes or no, make it multi-label: "
            '"multi_label": true in config.json, or Classifier(..., multi_label=True)'
        )
    if classifier.outputs != "logits":
        return
    classifier.inspected = True
    images = classifier.probe_images(3)
    images[1], images[2] = 0, 1
    try:
        with frozen(classifier), torch.no_grad(), RandomNumbers(0):
            usual, strong = classifier(images), classifier(1 + 8 * (images - 0.5))
    except Exception as fault:  # a layer may raise anything for a size it was not built for
        raise _refusal(classifier, name, str(fault).splitlines()[0] if str(fault) else type(fault).__name__) from fault
    if usual.shape != (3, len(classifier.classes)):
        raise _refusal(classifier, name, f"its output has shape {tuple(usual.shape)}")
    if not torch.isfinite(usual).all():
        raise _refusal(classifier, name, "its output has NaN or infinite values")
    kind = output_kind(torch.cat([usual, strong]), multi_label=classifier.multi_label)
    if kind != "logits":
        classifier.outputs = kind
        what = "the logarithm is" if kind == "softmax" else "their log-odds are"
        classifier.notes += (f"{name} returns probabilities ({kind}): {what} used as logits",)


def output_kind(outputs: Tensor, *, multi_label: bool) -> Literal["logits", "softmax", "sigmoid"]:
    """Return `softmax`, `sigmoid` or `logits` for the outputs of a network on several images."""
    if not bool(((outputs >= 0) & (outputs <= 1)).all()):
        return "logits"
    if multi_label:
        return "sigmoid"
    sums = outputs.sum(1)
    return "softmax" if bool(((sums - 1).abs() < TOLERANCE).all()) else "logits"


def _refusal(classifier: Classifier, name: str, why: str) -> InputError:
    shape = classifier.shape
    return InputError(f"{name} does not classify images of shape {shape} ({why}); correct its shape or its classes")
