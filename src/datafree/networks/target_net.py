"""The TargetNet of amalgamation: a trunk, and for each teacher a branch that leaves it where that teacher's features begin.

Registered in timm as `target_net`; its arguments are plain names and numbers, so that a folder with it can be loaded by
`timm.create_model("local-dir:...")` once this file is imported.
"""

from collections.abc import Sequence
from typing import Any

import torch
from timm import create_model, is_model, list_models
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn

from datafree.classifier import Classifier, frozen
from datafree.networks.blocks import Blocks
from datafree.networks.filters import Filter
from datafree.types import InputError, nearest


class TargetNet(nn.Module):
    """One network over the labels of several teachers.

    References:
        | Data-Free Knowledge Amalgamation via Group-Stack Dual-GAN (Ye et al., 2020), section 4
        | https://arxiv.org/abs/2003.09088

    Args:
        trunk: The first blocks, shared.
        branches: For each teacher, a filter and its last blocks.
        points: How many blocks of the trunk lie before each branch, at least one.
        labels: For each teacher, the place of each of its classes in the answer; -1 if it is not wanted. What several
            teachers know is the mean of theirs.
    """

    places: Tensor

    def __init__(
        self,
        trunk: Sequence[nn.Module],
        branches: Sequence[nn.Module],
        points: Sequence[int],
        labels: Sequence[Sequence[int]],
    ) -> None:
        super().__init__()
        self.trunk, self.branches = nn.ModuleList(trunk), nn.ModuleList(branches)
        self.points, self.labels = tuple(points), tuple(map(tuple, labels))
        self.num_classes = 1 + max(place for row in labels for place in row)
        wanted = torch.tensor([place for row in labels for place in row])
        places = (wanted[:, None] == torch.arange(self.num_classes)).float()
        self.register_buffer("places", places / places.sum(0).clamp_min(1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        features = []
        for block in self.trunk:
            x = block(x)
            features.append(x)
        answers = [branch(features[point - 1]) for branch, point in zip(self.branches, self.points, strict=True)]
        return torch.cat(answers, 1) @ self.places


def drawing(target: TargetNet, shape: tuple[int, int, int], classes: Sequence[str]) -> str:
    """The network as lines of text: the trunk downwards, each branch where it leaves it.

    Args:
        target: The network.
        shape: Of one image.
        classes: The names of its answers.
    """
    lines, x = [f"image {shape}"], torch.zeros(1, *shape, device=target.places.device)
    with frozen(target), torch.no_grad():
        for depth, block in enumerate(target.trunk, 1):
            x = block(x)
            lines.append(f"  |  block {depth} -> {tuple(x.shape[1:])}")
            for m, (point, row) in enumerate(zip(target.points, target.labels, strict=True), 1):
                if point == depth:
                    blocks = len(target.branches[m - 1]) - 1  # type: ignore[arg-type]
                    names = ", ".join(classes[place] for place in row if place >= 0)
                    lines.append(f"  |-- teacher {m}: filter, its last {blocks} block{'s' * (blocks > 1)} -> {names}")
    return "\n".join(lines)


def branch_of(blocks: Blocks, point: int) -> nn.Sequential:
    """A filter for what the trunk makes, and the blocks of a teacher behind it; the blocks themselves, not copies."""
    return nn.Sequential(Filter(blocks.shapes[point][0]), *list(blocks)[point:])


def by_names(
    networks: Sequence[str],
    points: Sequence[int],
    labels: Sequence[Sequence[int]],
    shape: tuple[int, int, int],
    blocks: int = 0,
) -> TargetNet:
    """A TargetNet, untrained.

    Args:
        networks: The timm name of the trunk's network, then those of the teachers.
        points: As for `TargetNet`.
        labels: As for `TargetNet`.
        shape: Channels, height and width of an image.
        blocks: B, into how many each network is cut; as many as it falls into, if 0.

    Raises:
        InputError: If a network is unknown, or the numbers do not fit it or each other.
    """
    if not len(networks) - 1 == len(points) == len(labels) > 0 or not all(map(len, labels)):
        raise InputError("a TargetNet needs a trunk, and a network, a point and labels for each branch")
    classes = [len(labels[0]), *map(len, labels)]
    trunk, *teachers = (
        Blocks(_untrained(name, count, shape), blocks) for name, count in zip(networks, classes, strict=True)
    )
    if not all(1 <= point < len(trunk) for point in points) or any(one.shapes != trunk.shapes for one in teachers):
        raise InputError(f"branches at {tuple(points)} do not fit a trunk of {len(trunk)} blocks")
    branches = [branch_of(one, point) for one, point in zip(teachers, points, strict=True)]
    target = TargetNet(list(trunk)[: max(points)], branches, points, labels)
    if sorted({place for row in labels for place in row} - {-1}) != list(range(target.num_classes)):
        raise InputError("the labels of a TargetNet are not the numbers from 0 on; each must be some teacher's")
    return target


def _untrained(name: str, classes: int, shape: tuple[int, int, int]) -> Classifier:
    """A network of a known name; what a folder says must not fetch anything."""
    import datafree.networks.zoo  # noqa: F401  registers the papers' networks

    if not is_model(name):
        raise InputError(
            f"a TargetNet is to be made of {name!r}, which is unknown to timm{nearest(name, list_models())}"
        )
    return Classifier(create_model(name, num_classes=classes, in_chans=shape[0]), shape=shape, classes=classes)


def target_net(pretrained: bool = False, **arguments: Any) -> nn.Module:
    """timm's way to make one; `input_size` is height and width."""

    def make(*, networks: Any, points: Any, labels: Any, input_size: Any, in_chans: int, blocks: int = 0, **_: Any):  # noqa: ANN202
        return by_names(networks, points, labels, (in_chans, *input_size), blocks)

    return build_model_with_cfg(make, "target_net", pretrained, **arguments)  # type: ignore[arg-type]


default_cfgs = generate_default_cfgs({"target_net": {"input_size": (1, 32, 32), "mean": (0.0,), "std": (1.0,)}})
register_model(target_net)
