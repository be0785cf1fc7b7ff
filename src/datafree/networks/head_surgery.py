"""A network with room for more classes: its last layer has a row more for each, and nothing else of it changes."""

from collections.abc import Sequence

import torch
from torch import nn

from datafree.classifier import Classifier, frozen, last_layer, record
from datafree.types import InputError


def widen(classifier: Classifier, classes: Sequence[str]) -> Classifier:
    """Gives a classifier more classes, in place and after those that it has, and returns it; all its weights can learn.

    The row and the bias of a new class are the mean of those of the old ones: before it has learned anything, a new
    class is as probable as an old one is on average. Nothing is drawn at random.

    Args:
        classifier: Its logits must be made by one fully connected layer.
        classes: Names of the new classes.

    Raises:
        InputError: If no such layer is to be seen, there is no new class, or it has a class of that name already.
    """
    known = sorted(set(classes) & set(classifier.classes))
    if known or not classes:
        what = f"knows class {known[0]!r} already" if known else "is given no new class"
        raise InputError(f"the network {what}; give data of classes that are new to it")
    layer = logit_layer(classifier)
    classifier.requires_grad_(True)  # a copy of a teacher may be frozen
    with torch.no_grad():
        layer.weight = nn.Parameter(_with_means(layer.weight, len(classes)))
        if layer.bias is not None:
            layer.bias = nn.Parameter(_with_means(layer.bias, len(classes)))
    layer.out_features += len(classes)
    classifier.classes += tuple(classes)
    if hasattr(classifier.model, "num_classes"):
        classifier.model.num_classes = len(classifier.classes)  # type: ignore[assignment]
    return classifier


def _with_means(rows: torch.Tensor, count: int) -> torch.Tensor:
    return torch.cat([rows, rows.mean(0, keepdim=True).expand(count, *rows.shape[1:])])


def logit_layer(classifier: Classifier) -> nn.Linear:
    """The fully connected layer whose output are the logits, found by asking it.

    Raises:
        InputError: If there is none.
    """
    layer = last_layer(classifier)
    if layer is not None:
        with frozen(classifier), torch.no_grad(), record(layer) as calls:
            logits = classifier(torch.zeros(1, *classifier.shape, device=classifier.device))
        if len(calls) == 1 and torch.equal(calls[0].output.float(), logits):
            return layer
    raise InputError(
        "the network's logits are not made by one fully connected layer that is seen; it cannot be widened"
    )
