r"""A classifier as one module for other engines: in float32, on the CPU, without hooks and without autocast.

.. math:: g(x) = \text{logits} \Bigl( \text{model} \Bigl( \frac{x - \mu}{\sigma} \Bigr) \Bigr)
"""

from copy import deepcopy

import torch
from torch import Tensor, nn

from datafree.classifier import Classifier
from datafree.teachers.onnx_networks.runtime import OnnxRuntimeNetwork
from datafree.types import Images, InputError


class Deployed(nn.Module):
    """A copy of a classifier, in evaluation mode.

    Args:
        classifier: The classifier; it is not changed.
        normalise: Whether the module takes pixels in [0, 1] and normalises them. Otherwise it takes normalised images.

    Raises:
        InputError: If the classifier is forward-only: another engine computes it already.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, classifier: Classifier, *, normalise: bool = True) -> None:
        super().__init__()
        if any(isinstance(module, OnnxRuntimeNetwork) for module in classifier.model.modules()):
            raise InputError(
                "the network is computed by ONNX Runtime and has no weights in torch, so that it cannot be exported; use its "
                "own ONNX file"
            )
        copy = deepcopy(classifier).cpu().float()
        copy.precision = torch.float32
        self.normalise = normalise
        self.model = copy.model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        self.register_buffer("mean", copy.mean, persistent=False)
        self.register_buffer("std", copy.std, persistent=False)
        self.to_logits = copy.to_logits
        self.eval().requires_grad_(False)

    def taken(self, images: Images) -> Images:
        """Return images in [0, 1] as `forward` takes them: as they are, or normalised."""
        return images if self.normalise else (images - self.mean) / self.std

    def forward(self, images: Tensor) -> Tensor:
        """Return logits in float32 of shape `(n, k)` for images of shape `(n, c, h, w)`."""
        if self.normalise:
            images = (images - self.mean) / self.std
        return self.to_logits(self.model(images))
