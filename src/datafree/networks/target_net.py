"""The TargetNet of amalgamation: a shared trunk with one branch per teacher.

It is registered in timm as `target_net` when this file is imported. Its arguments are names and numbers only, so that
`timm.create_model("local-dir:...")` can load a folder with such a network.
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
from datafree.types import InputError, suggestion


class TargetNet(nn.Module):
    """One network for the labels of several teachers.

    References:
        | Data-Free Knowledge Amalgamation via Group-Stack Dual-GAN (Ye et al., 2020), section 4
        | https://arxiv.org/abs/2003.09088

    Args:
        trunk: The first blocks of the network, shared by all branches.
        branches: For each teacher, a filter followed by the last blocks of that teacher.
        branch_points: For each branch, the number of trunk blocks before it, at least one.
        labels: For each teacher, the index in the output of each of its classes; -1 drops the class. The logit of a
            class that several teachers share is the mean of theirs.
    """

    averaging: Tensor
    """of shape (classes of all teachers, classes of the output): weight of each teacher's logit in the output"""

    def __init__(
        self,
        trunk: Sequence[nn.Module],
        branches: Sequence[nn.Module],
        branch_points: Sequence[int],
        labels: Sequence[Sequence[int]],
    ) -> None:
        super().__init__()
        self.trunk, self.branches = nn.ModuleList(trunk), nn.ModuleList(branches)
        self.branch_points, self.labels = tuple(branch_points), tuple(map(tuple, labels))
        indices = torch.tensor([index for row in labels for index in row])
        self.num_classes = 1 + max(index for row in labels for index in row)
        matches = (indices[:, None] == torch.arange(self.num_classes)).float()
        self.register_buffer("averaging", matches / matches.sum(0).clamp_min(1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        features = []
        for block in self.trunk:
            x = block(x)
            features.append(x)
        logits = [branch(features[point - 1]) for branch, point in zip(self.branches, self.branch_points, strict=True)]
        return torch.cat(logits, 1) @ self.averaging


def draw_diagram(target: TargetNet, shape: tuple[int, int, int], classes: Sequence[str]) -> str:
    """Return the network as lines of text: the trunk from top to bottom, with each branch where it starts.

    Args:
        target: The network.
        shape: Channels, height and width of an image.
        classes: Class names of the output.
    """
    lines, x = [f"image {shape}"], torch.zeros(1, *shape, device=target.averaging.device)
    with frozen(target), torch.no_grad():
        for depth, block in enumerate(target.trunk, 1):
            x = block(x)
            lines.append(f"  |  block {depth} -> {tuple(x.shape[1:])}")
            for m, (point, row) in enumerate(zip(target.branch_points, target.labels, strict=True), 1):
                if point == depth:
                    blocks = len(target.branches[m - 1]) - 1  # type: ignore[arg-type]
                    names = ", ".join(classes[index] for index in row if index >= 0)
                    lines.append(f"  |-- teacher {m}: filter, its last {blocks} block{'s' * (blocks > 1)} -> {names}")
    return "\n".join(lines)


def make_branch(blocks: Blocks, branch_point: int) -> nn.Sequential:
    """Return a new filter followed by a teacher's blocks after the branch point. The blocks are not copied."""
    return nn.Sequential(Filter(blocks.shapes[branch_point][0]), *list(blocks)[branch_point:])


def build_target_net(
    networks: Sequence[str],
    branch_points: Sequence[int],
    labels: Sequence[Sequence[int]],
    shape: tuple[int, int, int],
    blocks: int = 0,
) -> TargetNet:
    """Build an untrained TargetNet from the names of its networks.

    Args:
        networks: timm names of the trunk's network and of each teacher's, in this order.
        branch_points: As for `TargetNet`.
        labels: As for `TargetNet`.
        shape: Channels, height and width of an image.
        blocks: Number of blocks of each network; 0 uses its own number.

    Raises:
        InputError: If a network is unknown, or the arguments do not match it or each other.
    """
    if not len(networks) - 1 == len(branch_points) == len(labels) > 0 or not all(map(len, labels)):
        raise InputError("a TargetNet needs a trunk, and a network, a branch point and labels for each branch")
    classes = [len(labels[0]), *map(len, labels)]
    trunk, *teachers = (
        Blocks(_untrained(name, count, shape), blocks) for name, count in zip(networks, classes, strict=True)
    )
    if not all(1 <= point < len(trunk) for point in branch_points) or any(t.shapes != trunk.shapes for t in teachers):
        raise InputError(
            f"branches at {tuple(branch_points)} do not fit a trunk of {len(trunk)} blocks; "
            "use networks with the same block shapes and branch points inside the trunk"
        )
    branches = [make_branch(teacher, point) for teacher, point in zip(teachers, branch_points, strict=True)]
    target = TargetNet(list(trunk)[: max(branch_points)], branches, branch_points, labels)
    if sorted({index for row in labels for index in row} - {-1}) != list(range(target.num_classes)):
        raise InputError("the labels of a TargetNet must include every index from 0 to the largest one")
    return target


def _untrained(name: str, classes: int, shape: tuple[int, int, int]) -> Classifier:
    """Create a network without downloading weights, because the name may come from an untrusted file."""
    import datafree.networks.zoo  # noqa: F401  registers the papers' networks

    if not is_model(name):
        raise InputError(
            f"the TargetNet uses network {name!r}, which is unknown to timm{suggestion(name, list_models())}"
        )
    return Classifier(create_model(name, num_classes=classes, in_chans=shape[0]), shape=shape, classes=classes)


def target_net(pretrained: bool = False, **arguments: Any) -> nn.Module:
    """Build a TargetNet: timm's entry point. `input_size` is (height, width); the rest is as for `build_target_net`."""

    def build(
        *,
        networks: Any,
        branch_points: Any,
        labels: Any,
        input_size: Any,
        in_chans: int,
        blocks: int = 0,
        num_classes: int = 0,
    ) -> TargetNet:
        return build_target_net(networks, branch_points, labels, (in_chans, *input_size), blocks)

    return build_model_with_cfg(build, "target_net", pretrained, **arguments)  # type: ignore[arg-type]


default_cfgs = generate_default_cfgs({"target_net": {"input_size": (1, 32, 32), "mean": (0.0,), "std": (1.0,)}})
register_model(target_net)
