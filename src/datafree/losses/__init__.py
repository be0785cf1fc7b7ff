"""The loss functions of the methods and applications.

Every loss is a pure function of tensors on any device. It returns an unweighted scalar; weights belong to the settings of a
method.
"""

from datafree.losses.channels import channel_statistics as channel_statistics
from datafree.losses.hints import hint_loss as hint_loss
from datafree.losses.images import image_norm as image_norm
from datafree.losses.images import spectrum_distance as spectrum_distance
from datafree.losses.images import total_variation as total_variation
from datafree.losses.observing import observe_batch_norms as observe_batch_norms
from datafree.losses.predictions import activation_loss as activation_loss
from datafree.losses.predictions import clamped_divergence as clamped_divergence
from datafree.losses.predictions import decision_adversarial_loss as decision_adversarial_loss
from datafree.losses.predictions import distillation_loss as distillation_loss
from datafree.losses.predictions import information_entropy_loss as information_entropy_loss
from datafree.losses.predictions import js_divergence as js_divergence
from datafree.losses.predictions import mean_prediction_entropy as mean_prediction_entropy
from datafree.losses.predictions import one_hot_loss as one_hot_loss
from datafree.losses.predictions import soft_cross_entropy as soft_cross_entropy
from datafree.losses.predictions import sparsity_loss as sparsity_loss
from datafree.losses.statistics import LayerMoments as LayerMoments
from datafree.losses.statistics import batch_norm_moments as batch_norm_moments
from datafree.losses.statistics import batch_norm_statistics as batch_norm_statistics
from datafree.losses.statistics import feature_statistics as feature_statistics
from datafree.losses.statistics import layer_moments as layer_moments
from datafree.losses.statistics import relative_distance as relative_distance
from datafree.losses.statistics import relative_layer_distance as relative_layer_distance
from datafree.losses.statistics import statistics_distance as statistics_distance
