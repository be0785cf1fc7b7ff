"""How a network behaves on a few images: what a user should know before anything is spent."""

from collections import Counter
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.func import functional_call

from datafree.classifier import Classifier, batch_norms, frozen
from datafree.randomness import RandomNumbers
from datafree.synthesis.method import is_untrained
from datafree.types import InputError, Logits

TOLERANCE, HALF_TOLERANCE = 0.01, 0.1
"""largest difference of two outputs relative to the largest one that still counts as none; and in half precision"""
CONSTANT = 1e-6
"""the same for the outputs of different images"""


def findings(classifier: Classifier) -> Iterator[str]:
    """Yield one sentence for each unusual property of a network, from four forward passes and its weights.

    The outputs are random, depend on the other images of the batch, or are the same for all images; batch-norm layers have
    initial statistics; weights are not float32; class names are given twice. The network is not changed, and no random
    number of the global generator is drawn.
    """
    images = classifier.probe_images(3)
    together, again = (_outputs(classifier, images, seed) for seed in (0, 1))
    tolerance = TOLERANCE if classifier.precision == torch.float32 else HALF_TOLERANCE
    if together is not None and again is not None and _differ(together, again, tolerance):
        yield (
            "its output for the same images is random, as with dropout that ignores the evaluation mode: no two passes agree"
        )
    elif _couples(classifier, images, together, tolerance):
        yield (
            "its answer for an image depends on the other images of the batch, as with batch norm without running "
            "statistics: accuracy depends on the batch size"
        )
    if together is not None and not _differ(together, together[:1].expand_as(together), CONSTANT):
        yield "its output is the same for every image tried; check that its weights were loaded"
    layers = batch_norms(classifier)
    untrained = sum(map(is_untrained, layers))
    if untrained:
        yield f"{untrained} of {len(layers)} batch-norm layers have initial running statistics, mean 0 and variance 1"
    if types := sorted(_types(classifier.model) - {"float32"}):
        yield f"some of its weights are {', '.join(types)}; images and losses are float32"
    if repeated := [name for name, count in Counter(classifier.classes).items() if count > 1]:
        more = f" and {len(repeated) - 1} other names" if len(repeated) > 1 else ""
        yield f"the class name {repeated[0]!r}{more} is given more than once, so classes cannot be matched by name"


def training_mode(classifier: Classifier) -> tuple[str, ...]:
    """Return the types of layers that act in another way in training mode; empty if the output is the same in both modes.

    Both passes use copies of the buffers, so that running statistics are not changed.
    """
    images = classifier.probe_images(3)
    usual = _outputs(classifier, images, 0)
    modes = {module: module.training for module in classifier.modules()}
    try:
        for module in modes:
            module.training = True
        buffers = {name: buffer.clone() for name, buffer in classifier.named_buffers()}
        with torch.no_grad(), RandomNumbers(0):
            trained = functional_call(classifier, buffers, (images,))
    except (InputError, RuntimeError, ValueError, TypeError):  # a network may not run in training mode at all
        return ()
    finally:
        for module, mode in modes.items():
            module.training = mode
    if usual is None or not _differ(usual, trained, TOLERANCE):
        return ()
    kinds = sorted({type(module).__name__ for module in modes if _acts_in_training(module)})
    return tuple(kinds) or ("the network itself",)


def _acts_in_training(module: nn.Module) -> bool:
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return True
    probability = getattr(module, "p", getattr(module, "drop_prob", 0))
    return isinstance(probability, (int, float)) and probability > 0 and "drop" in type(module).__name__.lower()


def _outputs(classifier: Classifier, images: Tensor, seed: int) -> Logits | None:
    """Return the logits of images, with random numbers of their own; None if the network does not accept this batch."""
    try:
        with frozen(classifier), torch.no_grad(), RandomNumbers(seed):
            return classifier(images)
    except (RuntimeError, ValueError, TypeError, IndexError):
        return None


def _couples(classifier: Classifier, images: Tensor, together: Logits | None, tolerance: float) -> bool:
    if together is None:
        return False
    alone = _outputs(classifier, images[:1], 0)
    return alone is None or alone.shape[1:] != together.shape[1:] or _differ(alone, together[:1], tolerance)


def _differ(a: Tensor, b: Tensor, tolerance: float) -> bool:
    return a.shape != b.shape or bool((a - b).abs().max() > tolerance * b.abs().max().clamp_min(1e-12))


def _types(model: nn.Module) -> set[str]:
    return {str(weight.dtype).removeprefix("torch.") for weight in model.parameters() if weight.is_floating_point()}
