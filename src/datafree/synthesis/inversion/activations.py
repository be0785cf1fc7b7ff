"""In-place activations of a teacher, which compute out of place while images are optimized.

The gradient of ReLU6, SiLU, Hardswish and Mish needs their input, so autograd copies the input that they overwrite. Out of
place nothing is copied, and the input is kept. ReLU is left alone: its gradient needs only its output.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import nn

from datafree.classifier import Classifier, frozen

COPIED = (nn.Hardtanh, nn.SiLU, nn.Hardswish, nn.Mish)
"""activations whose input is copied; ReLU6 is a Hardtanh"""


def copied_activations(teacher: Classifier) -> list[nn.Module]:
    """Return the in-place activations whose input autograd copies, if the teacher gives the same logits out of place.

    It does not if something else reads what they have overwritten, such as a shortcut. The teacher is run on the same two
    images each time, and only if it has such activations.
    """
    found: list[nn.Module] = [module for module in teacher.modules() if isinstance(module, COPIED) and module.inplace]
    if not found:
        return []
    images = teacher.probe_images()
    with frozen(teacher), torch.no_grad():
        before = teacher(images)
        with out_of_place(found):
            after = teacher(images)
    return found if torch.equal(before, after) else []


@contextmanager
def out_of_place(activations: Sequence[nn.Module]) -> Iterator[None]:
    """Let activations compute out of place inside a `with` block; afterwards they compute in place."""
    modules = [cast(Any, module) for module in activations]
    try:
        for module in modules:
            module.inplace = False
        yield
    finally:
        for module in modules:
            module.inplace = True
