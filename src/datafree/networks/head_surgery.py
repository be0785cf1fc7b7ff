"""Adding, reordering and removing the classes of a network: only the rows of its last layer change."""

from collections.abc import Sequence

import torch
from torch import nn

from datafree.classifier import Classifier, frozen, last_layer, record
from datafree.types import InputError


def widen(classifier: Classifier, classes: Sequence[str]) -> Classifier:
    """Append classes to a classifier, in place, and make all its weights trainable.

    The weights and the bias of each new class are the mean over the old classes, so an untrained new class gets the
    mean of the old logits. No random number is drawn.

    Args:
        classifier: A classifier whose logits are the output of one fully connected layer.
        classes: Names of the new classes.

    Returns:
        The same classifier.

    Raises:
        InputError: If there is no such layer, no new class, or a class that the classifier already has.
    """
    if not classes:
        raise InputError("there are no new classes to add; give data with classes that the network does not have")
    duplicates = sorted(set(classes) & set(classifier.classes))
    if duplicates:
        raise InputError(f"the network already has class {duplicates[0]!r}; give data with new classes only")
    layer = logit_layer(classifier)
    classifier.requires_grad_(True)  # a copy of a teacher may be frozen
    with torch.no_grad():
        layer.weight = nn.Parameter(_append_means(layer.weight, len(classes)))
        if layer.bias is not None:
            layer.bias = nn.Parameter(_append_means(layer.bias, len(classes)))
    layer.out_features += len(classes)
    classifier.classes += tuple(classes)
    if hasattr(classifier.model, "num_classes"):
        classifier.model.num_classes = len(classifier.classes)  # type: ignore[assignment]
    return classifier


def _append_means(rows: torch.Tensor, count: int) -> torch.Tensor:
    return torch.cat([rows, rows.mean(0, keepdim=True).expand(count, *rows.shape[1:])])


def reorder_classes(classifier: Classifier, order: Sequence[int]) -> Classifier:
    """Put the classes of a classifier in another order, in place; it predicts the same.

    Args:
        classifier: A classifier whose logits are the output of one fully connected layer.
        order: For each class of the result, its index before.

    Returns:
        The same classifier.

    Raises:
        InputError: If there is no such layer.
    """
    layer, rows = logit_layer(classifier), list(order)
    with torch.no_grad():
        layer.weight.copy_(layer.weight[rows].clone())
        if layer.bias is not None:
            layer.bias.copy_(layer.bias[rows].clone())
    classifier.classes = tuple(classifier.classes[row] for row in rows)
    return classifier


def keep_classes(classifier: Classifier, kept: Sequence[int]) -> Classifier:
    """Remove all other classes of a classifier, in place; the logits of those kept are the same.

    Args:
        classifier: A classifier whose logits are the output of one fully connected layer.
        kept: For each class of the result, its index before.

    Returns:
        The same classifier.

    Raises:
        InputError: If there is no such layer.
    """
    layer, rows = logit_layer(classifier), list(kept)
    layer.weight = nn.Parameter(layer.weight.detach()[rows].clone())
    if layer.bias is not None:
        layer.bias = nn.Parameter(layer.bias.detach()[rows].clone())
    layer.out_features = len(rows)
    classifier.classes = tuple(classifier.classes[row] for row in rows)
    if hasattr(classifier.model, "num_classes"):
        classifier.model.num_classes = len(rows)  # type: ignore[assignment]
    return classifier


def logit_layer(classifier: Classifier) -> nn.Linear:
    """Return the fully connected layer whose output is the logits, verified by a forward pass.

    Raises:
        InputError: If there is none.
    """
    layer = last_layer(classifier)
    if layer is not None:
        with frozen(classifier), torch.no_grad(), record(layer, function=lambda call: call.output.clone()) as outputs:
            logits = classifier(torch.zeros(1, *classifier.shape, device=classifier.device))
        if len(outputs) == 1 and torch.equal(outputs[0].to(logits.dtype), logits):
            return layer
    raise InputError(
        "the network's logits are not the output of a single fully connected layer; "
        "classes can only be added or reordered in a network with such a layer"
    )
