"""Measure feature statistics of a teacher on real images."""

import torch

from datafree.classifier import Classifier
from datafree.real.data import open_real
from datafree.real.ledger import Ledger
from datafree.synthesis.features import FeatureStatistics, measure_features


def measure_real_images(teacher: Classifier, data: str, images: int, seed: int, root: str = "") -> FeatureStatistics:
    """Measure feature statistics on randomly chosen real images of the training split.

    Args:
        teacher: The classifier whose features are measured.
        data: Name of the data set; see `open_real`.
        images: Number of images; all of them if there are fewer.
        seed: Random seed of the choice.
        root: Folder of the data sets.

    Raises:
        InputError: If the data set is unknown, missing or does not fit the teacher, or no feature layer is found.
    """
    real = open_real(
        data, "train", "statistics", Ledger(), shape=teacher.shape, preprocessing=teacher.preprocessing, root=root
    )
    indices = torch.randperm(len(real), generator=torch.Generator().manual_seed(seed))[:images]
    return measure_features(teacher, (batch.images for batch in real.batches(250, indices)), data)
