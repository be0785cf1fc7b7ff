"""Synthesized images for the calibration of ONNX Runtime's quantizer, by any method or from a saved set."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from datafree.callback import silent
from datafree.classifier import Classifier
from datafree.randomness import RandomNumbers
from datafree.sets.collecting import Sources, Wanted, collect
from datafree.sets.saved import require_fit
from datafree.synthesis import Method
from datafree.synthesis.image_sets import StoredSet
from datafree.types import Images, require_at_least

Feed = dict[str, "np.ndarray[tuple[int, ...], np.dtype[np.float32]]"]
"""a batch of images, by the name of the input"""


class CalibrationReader:
    """What `onnxruntime.quantization` takes as a `CalibrationDataReader`: it gives one batch after the other.

    Args:
        images: Images as the network takes them, of shape `(n, c, h, w)`.
        input_name: Name of the input of the ONNX file.
        batch_size: Number of images of a batch; the last one may have fewer.
    """

    def __init__(self, images: Images, input_name: str = "images", batch_size: int = 1) -> None:
        require_at_least(1, batch_size=batch_size)
        self.images, self.input_name, self.batch_size = images.float().cpu(), input_name, batch_size
        self.set_range(0, len(self))

    def get_next(self) -> Feed | None:
        """Return the next batch; None after the last one."""
        return next(self.feeds, None)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Give only the batches from one index to before another one, from now on."""
        batches = self.images.split(self.batch_size)[start_index:end_index]
        self.feeds = iter([{self.input_name: batch.contiguous().numpy()} for batch in batches])

    def rewind(self) -> None:
        """Give all batches again."""
        self.set_range(0, len(self))

    def __len__(self) -> int:
        """Return the number of batches."""
        return -(-len(self.images) // self.batch_size)

    def __iter__(self) -> Iterator[Feed]:
        return self.feeds


def calibration_reader(
    source: Method | str | Path | Tensor,
    classifier: Classifier,
    *,
    images: int = 256,
    seed: int = 0,
    input_name: str = "images",
    normalise: bool = False,
    batch_size: int = 1,
) -> CalibrationReader:
    """Return images for the calibration of an ONNX file.

    Args:
        source: A synthesis method, a folder that `datafree synthesize` wrote, or images in [0, 1].
        classifier: The network, in torch. A method synthesizes from it.
        images: Number of images, at most.
        seed: Random seed of a method.
        input_name: Name of the input of the ONNX file.
        normalise: Whether the file takes normalised images. One that `export_onnx` wrote takes pixels in [0, 1] by default.
        batch_size: Number of images of a batch.

    Raises:
        InputError: If the method does not support the classifier, or the folder is no image set of its shape.
    """
    require_at_least(1, images=images)
    pixels = images_of(source, classifier, images, seed)[:images]
    taken = classifier.normalize(pixels.to(classifier.device)) if normalise else pixels
    return CalibrationReader(taken.detach(), input_name, batch_size)


def images_of(source: Method | str | Path | Tensor, classifier: Classifier, count: int, seed: int = 0) -> Images:
    """Return images in [0, 1]: given ones, those of a set, or at least `count` that a method synthesizes."""
    if isinstance(source, Tensor):
        return source
    if isinstance(source, (str, Path)):
        stored = StoredSet(source)
        require_fit(stored, classifier, str(source))
        return stored.read(torch.arange(min(count, len(stored)))).images
    sources = Sources(
        teacher=classifier, student=None, callback=silent, note=lambda _: None, numbers=RandomNumbers(seed)
    )
    return collect(source, sources, Wanted(images=count)).batch.images
