r"""An image prior for teachers without batch norm: images with the colours and the average spectrum of photographs.

.. math:: R_\text{image}(x) = R_\text{spectrum}(x) + \frac1C \sum_c \Bigl[ \mu_c(x)^2 + \bigl(\ln \sigma_c^2(x)\bigr)^2 \Bigr]

Without running statistics, the only trace of the training data outside of the weights is the normalisation: the mean and the
standard deviation of each colour channel. In the normalised space of the teacher a batch of real images has mean 0 and
variance 1, as if the normalisation were the first batch-norm layer. The second known property holds for photographs in
general: their power falls with the square of the spatial frequency (Field 1987), while images that are optimized for a
class alone have most of their power at high frequencies, where teachers are sensitive (Olah et al. 2017).

References:
    | Relations between the Statistics of Natural Images and the Response Properties of Cortical Cells (Field, 1987)
    | https://doi.org/10.1364/JOSAA.4.002379
    | Feature Visualization (Olah, Mordvintsev and Schubert, 2017), section "The Enemy of Feature Visualization"
    | https://doi.org/10.23915/distill.00007
"""

import torch

from datafree.classifier import Classifier
from datafree.losses import relative_layer_distance, spectrum_distance
from datafree.synthesis.drawings.levels import known_levels
from datafree.types import Images, Scalar


def image_prior(normalized: Images, teacher: Classifier) -> Scalar:
    """Return the distance of a batch from the spectrum of photographs and from the colours of the teacher's images.

    Args:
        normalized: Images in the normalised space of the teacher, of shape `(n, c, h, w)`.
        teacher: Whether its normalisation tells the colours of images; mean 0.5 and standard deviation 0.5 do not.

    Returns:
        A non-negative scalar.
    """
    distance = spectrum_distance(normalized)
    if known_levels(teacher) is None:
        return distance
    zeros = torch.zeros(normalized.shape[1], device=normalized.device)
    return distance + relative_layer_distance(normalized, (zeros, zeros + 1))
