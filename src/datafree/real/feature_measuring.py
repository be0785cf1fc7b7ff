"""Statistics of a teacher's features, measured on real images, where those may still be seen."""

import torch

from datafree.classifier import Classifier
from datafree.real.data import Ledger, open_real
from datafree.synthesis.features import FeatureStatistics, measure_features


def measure_some(teacher: Classifier, data: str, images: int, seed: int, root: str = "") -> FeatureStatistics:
    """Looks at so many real images of the train split, chosen at random, or at all if there are fewer.

    Raises:
        InputError: If the data are unknown, are not there or do not fit, or no layer of features is to be seen.
    """
    real = open_real(data, "train", "statistics", Ledger(), shape=teacher.shape, view=teacher.view, root=root)
    chosen = torch.randperm(len(real), generator=torch.Generator().manual_seed(seed))[:images]
    return measure_features(teacher, (batch.images for batch in real.once(250, chosen)), data)
