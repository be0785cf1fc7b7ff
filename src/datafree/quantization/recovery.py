r"""Data-free recovery: float weights are trained so that they are still right after the engine has rounded them.

.. math:: \min_W \sum_x \tau^2 \, \text{KL}\bigl(p_T^\tau(x) \Vert p_{Q(W)}^\tau(x)\bigr)

The teacher :math:`T` is the float network, the images are those of the calibration, and :math:`Q` is fake quantisation with
the scheme of the engine. The images are shifted and combined at random, since a few hundred are soon learned by heart. The
trained float weights are then quantised by the engine itself.

References:
    | LLM-QAT: Data-Free Quantization Aware Training for Large Language Models (Liu et al., 2023), section 2
    | https://arxiv.org/abs/2305.17888
    | ZeroQ: A Novel Zero Shot Quantization Framework (Cai et al., 2020), for the images
    | https://arxiv.org/abs/2001.00281
"""

from collections.abc import Iterator
from copy import deepcopy

import torch

from datafree.applications.distillation import DistillationConfig, distill
from datafree.callback import Callback, silent
from datafree.classifier import Classifier
from datafree.quantization.fake import FakeQuantized
from datafree.quantization.schemes import Scheme
from datafree.randomness import RandomNumbers
from datafree.synthesis.augmentation import Augmentation
from datafree.types import Batch, Images, Terms, require_at_least

AUGMENT = Augmentation(shift=1, cutmix=0.5)
"""how the images are changed in each step"""


def recover(
    classifier: Classifier,
    images: Images,
    scheme: Scheme,
    *,
    steps: int,
    lr: float = 1e-4,
    batch_size: int = 64,
    in_float: frozenset[str] = frozenset(),
    seed: int = 0,
    callback: Callback = silent,
) -> Classifier:
    """Return a copy of a classifier whose float weights were trained under fake quantisation.

    Args:
        classifier: The float network, the teacher; it is not changed.
        images: Pixels in [0, 1], of shape `(n, c, h, w)`.
        scheme: The scheme of the engine.
        steps: Training steps.
        lr: Peak learning rate of AdamW.
        batch_size: Images per step.
        in_float: Names of layers that stay in float.
        seed: Random seed of the order of the images.
        callback: Shows progress and the loss.

    Raises:
        InputError: If steps or batch size are below 1, or the learning rate is not positive.
    """
    require_at_least(1, steps=steps, batch_size=batch_size)
    student = deepcopy(classifier).requires_grad_(True)
    quantized = FakeQuantized(student, scheme, in_float).eval()
    quantized.observe(images.to(classifier.device))
    config = DistillationConfig(steps=steps, lr=lr, weight_decay=0.0, temperature=4.0, augment=AUGMENT)
    with RandomNumbers(seed):
        distill(quantized, classifier, drawn(images, batch_size), config, callback=Quiet(callback))
    return student.eval().requires_grad_(True)


class Quiet(Callback):
    """Passes progress and losses on, but no notes: those of the trainer are about batch norm, which is fixed."""

    def __init__(self, callback: Callback) -> None:
        self.callback = callback

    def log(self, step: int, terms: Terms) -> None:
        self.callback.log(step, terms)

    def on_step(self) -> None:
        self.callback.on_step()


def drawn(images: Images, batch_size: int) -> Iterator[Batch]:
    """Yield random images without end."""
    targets = torch.zeros(batch_size, dtype=torch.long)
    while True:
        chosen = torch.randint(len(images), (batch_size,))
        yield Batch(images[chosen], targets, {})
