"""What a network returns: logits, or probabilities that have to become logits first."""

from typing import Any, Literal

import torch
from torch import Tensor

from datafree.classifier import Classifier, LayerCall, frozen, record
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
    """Run a classifier on a few images, and find out what its network returns.

    - If it ends in a softmax or in sigmoids, `classifier.outputs` is set, so that its logits are the logarithm of the
      probabilities (or their log-odds if multi-label), and a note is added. A log-softmax needs nothing: its outputs are
      logits.
    - If it has one class and ends in a sigmoid, it becomes a classifier with one label, yes or no; with a note.
    - If it returns several values, and it is plain which of them are the logits, a note is added.

    No random number is drawn.

    Args:
        classifier: The classifier, changed in place.
        name: What an error message calls it.

    Raises:
        InputError: If it has one class, is not multi-label and does not end in a sigmoid, so that its loss is always 0; if
            the network does not accept images of its shape, or does not return one finite number per class.
    """
    if classifier.outputs != "logits":
        return
    classifier.inspected = True
    outputs, form = probe_outputs(classifier, name)
    if len(classifier.classes) == 1 and not classifier.multi_label:
        _take_as_one_label(classifier, outputs, name)
    kind = output_kind(outputs, multi_label=classifier.multi_label)
    if kind != "logits":
        classifier.outputs = kind
        what = "the logarithm is" if kind == "softmax" else "their log-odds are"
        classifier.notes += (f"{name} returns probabilities ({kind}): {what} used as logits",)
    if form:
        classifier.notes += (f"{name} returns {form}: the logits are taken from it",)


def probe_outputs(classifier: Classifier, name: str) -> tuple[Tensor, str]:
    """Return the outputs of a classifier on three usual and three strong images, and the form of what its network returns.

    Returns:
        The outputs, of shape `(6, k)`, and a phrase such as "a tuple of 2 values"; empty if it is one tensor `(n, k)`.

    Raises:
        InputError: If the network does not accept images of its shape, or does not return one finite number per class.
    """
    images = classifier.probe_images(3)
    images[1], images[2] = 0, 1
    try:
        with frozen(classifier), torch.no_grad(), RandomNumbers(0):
            with record(classifier.model, function=_form) as forms:
                usual = classifier(images)
            strong = classifier(1 + 8 * (images - 0.5))
    except Exception as fault:  # a layer may raise anything for a size it was not built for
        raise _refusal(classifier, name, _why(classifier, fault)) from fault
    if usual.shape != (3, len(classifier.classes)):
        raise _refusal(classifier, name, f"its output has shape {tuple(usual.shape)}", usual)
    if not torch.isfinite(usual).all():
        raise _refusal(
            classifier, name, f"its output has NaN or infinite values{_first_not_finite(classifier, images)}"
        )
    return torch.cat([usual, strong]), forms[-1] if forms else ""


def _take_as_one_label(classifier: Classifier, outputs: Tensor, name: str) -> None:
    """Turn a classifier with one class that ends in a sigmoid into one with one label, in place."""
    if not bool(((outputs >= 0) & (outputs <= 1)).all()) or bool((outputs == outputs[0]).all()):
        raise InputError(
            f"{name} has a single class, which it always predicts; if its output is yes or no, make it multi-label: "
            '--multi-label, "multi_label": true in config.json, or Classifier(..., multi_label=True)'
        )
    classifier.multi_label = True
    classifier.notes += (f"{name} has one output, a probability: it is used as one label, yes or no",)


def output_kind(outputs: Tensor, *, multi_label: bool) -> Literal["logits", "softmax", "sigmoid"]:
    """Return `softmax`, `sigmoid` or `logits` for the outputs of a network on several images."""
    if not bool(((outputs >= 0) & (outputs <= 1)).all()):
        return "logits"
    if multi_label:
        return "sigmoid"
    sums = outputs.sum(1)
    return "softmax" if bool(((sums - 1).abs() < TOLERANCE).all()) else "logits"


def is_log_softmax(outputs: Tensor) -> bool:
    """Return whether the outputs of a network on several images, of shape `(n, k)`, are the logarithms of probabilities."""
    return bool((outputs <= TOLERANCE).all()) and bool((outputs.logsumexp(1).abs() < TOLERANCE).all())


def _form(call: LayerCall) -> str:
    """Return a phrase for what a network returns; empty for a tensor with one row per image."""
    output: Any = call.output
    if isinstance(output, Tensor):
        return "" if output.ndim == 2 else f"a tensor of shape {tuple(output.shape)} for {len(call.input)} images"
    size = f" of {len(output)} values" if isinstance(output, (tuple, list, dict)) else ""
    return f"a {type(output).__name__}{size}"


def _why(classifier: Classifier, fault: Exception) -> str:
    """Return why a network cannot be run, as part of a sentence."""
    types = {str(weight.dtype).removeprefix("torch.") for weight in classifier.model.parameters()} - {"float32"}
    if types:
        return f"its weights are {' and '.join(sorted(types))}; call .float() on the network"
    return str(fault).splitlines()[0] if str(fault) else type(fault).__name__


def _first_not_finite(classifier: Classifier, images: Tensor) -> str:
    """Return the first layer whose output is not finite, as the end of a phrase; empty if there is none."""
    names = {module: name for name, module in classifier.model.named_modules() if not list(module.children())}

    def bad(call: LayerCall) -> str:
        output: Any = call.output
        return names[call.module] if isinstance(output, Tensor) and not torch.isfinite(output).all() else ""

    with frozen(classifier), torch.no_grad(), RandomNumbers(0), record(*names, function=bad) as found:
        classifier(images)
    first = next(filter(None, found), "")
    return f", first in the layer {first}" if first else ""


def _refusal(classifier: Classifier, name: str, why: str, output: Tensor | None = None) -> InputError:
    fix = "correct its shape or its classes"
    if output is not None and output.ndim == 2 and len(output) == 3:
        fix = f"give --classes {output.shape[1]}, or the names of {output.shape[1]} classes"
    return InputError(f"{name} does not classify images of shape {classifier.shape} ({why}); {fix}")
