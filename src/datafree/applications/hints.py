r"""Hints: the student learns the features of its teacher too, where both have feature maps of the same size.

.. math:: \min_{W_S, A} \sum_x \tau^2 \, \text{KL}\bigl(p_T^\tau(x) \Vert p_S^\tau(x)\bigr)
    + \lambda \, \mathcal{L}_\text{hint}\bigl(A_l \, s_l(x), t_l(x)\bigr)

For each of the three smallest sizes, the last features of that size are taken: of a ResNet the outputs of its last stages,
of a transformer that of its last block. The linear maps :math:`A_l` have as many outputs as the teacher has channels. They are
trained with the student and dropped in the end.

A teacher of ten classes tells ten numbers about an image by its predictions, and thousands by its features. On pictures that
are not like its training images, its predictions alone leave much open.

References:
    | FitNets: Hints for Thin Deep Nets (Romero et al., 2015), section 2. There, one hint is learned before the predictions;
    | here, all are learned together with them.
    | https://arxiv.org/abs/1412.6550
"""

from collections.abc import Iterable
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from datafree.classifier import Classifier, LayerCall, frozen, record
from datafree.ensemble import Ensemble
from datafree.matching import resized_to
from datafree.types import Images, InputError, Logits

Calls = dict[nn.Module, LayerCall]
Size = tuple[int, ...]

SIZES = 3
"""sizes that give hints, at most, the smallest ones: the features of larger sizes cost most and tell least"""


class Layer(NamedTuple):
    """A module whose outputs are features."""

    module: nn.Module
    channels: int
    """number of channels"""
    dim: int
    """the dimension of the channels"""

    @property
    def is_tokens(self) -> bool:
        """Whether its features have one direction, not two."""
        return self.dim == 2

    def features(self, calls: Calls) -> Tensor:
        """Return its features, of shape `(n, c, *)`, of the calls that were collected."""
        return calls[self.module].output.movedim(self.dim, 1)


class HintedStudent(nn.Module):
    """A student that also predicts the features of its teacher.

    Args:
        student: Its weights are shared, not copied.
        teacher: Must have features of the size of some of the student's.

    Raises:
        InputError: If it has none.
    """

    def __init__(self, student: nn.Module, teacher: Classifier) -> None:
        super().__init__()
        pairs = shared_layers(student, teacher)
        if not pairs:
            raise InputError("student and teacher have no features of the same size; leave out --hints")
        self.layers, self.teacher_layers = zip(*pairs, strict=True)
        like = next(student.parameters())
        self.student = student
        self.maps = nn.ModuleList(
            (nn.Conv1d if own.is_tokens else nn.Conv2d)(own.channels, other.channels, 1).to(like.device, like.dtype)
            for own, other in pairs
        )

    def forward(self, images: Images) -> tuple[Logits, list[Tensor]]:
        """Return the student's logits, and its predictions of the teacher's features, each of shape `(n, c, *)`."""
        with record(*(layer.module for layer in self.layers)) as calls:
            logits = self.student(images)
        last = last_calls(calls)
        dtype = next(self.maps.parameters()).dtype  # in mixed precision the student computes in another one
        features = [layer.features(last).to(dtype) for layer in self.layers]
        return logits, [linear(of) for linear, of in zip(self.maps, features, strict=True)]

    def answers(self, teacher: Classifier, images: Images) -> tuple[Logits, list[Tensor]]:
        """Return the teacher's logits and its features."""
        with record(*(layer.module for layer in self.teacher_layers)) as calls:
            logits = teacher(images)
        last = last_calls(calls)
        return logits, [layer.features(last) for layer in self.teacher_layers]


def last_calls(calls: Iterable[LayerCall]) -> Calls:
    """Return the last call of each module, in order. Calls whose input or output is no tensor are left out."""
    found: Calls = {}
    for call in calls:
        if isinstance(call.input, Tensor) and isinstance(call.output, Tensor):
            found.pop(call.module, None)
            found[call.module] = call
    return found


def shared_layers(student: nn.Module, teacher: Classifier) -> list[tuple[Layer, Layer]]:
    """Return the last layers of student and teacher for each size that features of both have, the smallest size last.

    There are at most `SIZES` of them, those of the smallest sizes.

    Both networks are run on the same two images, and no random number is drawn.

    Args:
        student: The student.
        teacher: The teacher. The members of an ensemble have features of their own: then there is no such layer.
    """
    if isinstance(teacher, Ensemble):
        return []
    images = teacher.probe_images()
    own, others = last_layers(student, resized_to(images, student)), last_layers(teacher, images)
    sizes = sorted((size for size in own if size in others), key=prod, reverse=True)
    return [(own[size], others[size]) for size in sizes[-SIZES:]]


def last_layers(network: nn.Module, images: Images) -> dict[Size, Layer]:
    """Return the last module that returns features of each size.

    Features are of shape `(n, c, h, w)` or `(n, h, w, c)`, with about the aspect of the images, or `(n, positions, c)`. Those
    with one position are no feature maps, but often gates; those with the shape of the images are often the images. What is
    computed inside of a block that leads to the next size is a part of that step. The patches that the tokens of a
    transformer are made of are a linear map of the image, and tokens within a network of feature maps are a part of a block.
    """
    modules = [module for module in network.modules() if not isinstance(module, nn.modules.dropout._DropoutNd)]
    with frozen(network), torch.no_grad(), record(*modules) as recorded:
        network(images)
    calls = last_calls(recorded)
    sizes = {module: (size_of(call.input, images), size_of(call.output, images)) for module, call in calls.items()}
    steps = {
        (part, before)
        for module, (before, after) in sizes.items()
        if not isinstance(module, nn.Sequential) and before and after and before != after
        for part in module.modules()
    }
    found: dict[Size, Layer] = {}
    for module, (_, size) in sizes.items():
        output = calls[module].output
        if prod(size) > 1 and output.shape != images.shape and (module, size) not in steps:
            found.pop(size, None)
            dim = channel_dim(output, images)
            found[size] = Layer(module, output.shape[dim], dim)
    last = next(reversed(found), ())
    if len(last) == 1:
        return {size: layer for size, layer in found.items() if prod(size) >= last[0]}
    return {size: layer for size, layer in found.items() if len(size) > 1}


def size_of(features: Tensor, images: Images) -> Size:
    """Return the number of positions of features in each direction; an empty tuple if a tensor holds none."""
    dim = channel_dim(features, images)
    return tuple(features.shape[1:dim] + features.shape[dim + 1 :]) if dim else ()


def channel_dim(features: Tensor, images: Images) -> int:
    """Return the dimension of the channels of features; 0 if a tensor holds none."""
    if features.ndim not in (3, 4) or len(features) != len(images):
        return 0
    return 2 if features.ndim == 3 else next((dim for dim in (1, 3) if has_aspect(features, dim, images)), 0)


def has_aspect(features: Tensor, dim: int, images: Images) -> bool:
    """Return whether features have the aspect of the images, but for a position, if this is the dimension of the channels."""
    (height, width), (h, w) = images.shape[2:], features.shape[1:dim] + features.shape[dim + 1 :]
    return abs(h * width - w * height) <= max(height, width)
