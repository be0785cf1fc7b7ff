"""The papers' networks. Importing this file registers them in timm: `timm.create_model("wrn_40_2", num_classes=10)`."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn

from datafree.types import Preprocessing


class LeNet5(nn.Module):
    """LeNet-5 for 32 x 32 images, as in the data-free papers: three convolutions and two fully connected layers.

    Images from 28 x 28 are padded with zeros to 32 x 32, the size for which it was made.

    Args:
        num_classes: Number of classes.
        in_chans: Number of channels of an image.
        widths: Output channels of the convolutions and units of the hidden layer.
        norm: Add batch norm after each convolution.

    References:
        | Data-Free Learning of Student Networks (Chen et al., 2019), section 4.1
        | https://arxiv.org/abs/1904.01186
    """

    def __init__(
        self,
        *,
        num_classes: int = 10,
        in_chans: int = 1,
        widths: Sequence[int] = (6, 16, 120, 84),
        norm: bool = False,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.conv1 = FittingConv2d(in_chans, widths[0], 5, bias=not norm)
        self.conv2 = PooledConv2d(widths[0], widths[1], 5, bias=not norm)
        self.conv3 = nn.Conv2d(widths[1], widths[2], 5, bias=not norm)
        self.bn1, self.bn2, self.bn3 = (nn.BatchNorm2d(width) if norm else nn.Identity() for width in widths[:3])
        self.fc1 = nn.Linear(widths[2], widths[3])
        self.fc2 = nn.Linear(widths[3], num_classes)

    @property
    def widths(self) -> tuple[int, ...]:
        """The `widths` argument that creates this network, pruned or not."""
        return self.conv1.out_channels, self.conv2.out_channels, self.conv3.out_channels, self.fc1.out_features

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        x = F.relu(self.bn3(self.conv3(x))).flatten(1)
        return self.fc2(F.relu(self.fc1(x)))


class PooledConv2d(nn.Conv2d):
    """Compute `max_pool2d(conv(x), 2)` for an odd kernel without padding, up to rounding, but faster on a CPU.

    The four values that enter one maximum are outputs of four convolutions of stride 2. After `pixel_unshuffle` these
    become one convolution with half the kernel size and four times the channels, which fills a CPU's vector registers.
    An export has the plain layers instead, which every engine knows.
    """

    def forward(self, input: Tensor) -> Tensor:
        if torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export():
            return F.max_pool2d(super().forward(input), 2)
        shifted = [F.pad(self.weight, (right, 1 - right, down, 1 - down)) for down in (0, 1) for right in (0, 1)]
        kernels = torch.cat([F.pixel_unshuffle(kernel, 2) for kernel in shifted])
        pooled = F.conv2d(F.pixel_unshuffle(input, 2), kernels).unflatten(1, (4, -1)).amax(1)
        return pooled if self.bias is None else pooled + self.bias[:, None, None]


class FittingConv2d(PooledConv2d):
    """Pads images whose smaller side has 28 to 31 pixels with zeros to 32 x 32 before the convolution."""

    def forward(self, input: Tensor) -> Tensor:
        height, width = input.shape[-2:]
        if 28 <= min(height, width) < 32:
            down, across = max(0, 32 - height), max(0, 32 - width)
            input = F.pad(input, (across // 2, across - across // 2, down // 2, down - down // 2))
        return super().forward(input)


class ConvNet(nn.Module):
    """A small plain network: blocks of average pooling, 3 x 3 convolution, batch norm and ReLU.

    The first block has no pooling, so that 8 x 8 images pass through three blocks.

    Args:
        num_classes: Number of classes.
        in_chans: Number of channels of an image.
        widths: Output channels of each block.
    """

    def __init__(self, *, num_classes: int = 10, in_chans: int = 3, widths: Sequence[int] = (32, 64, 64)) -> None:
        super().__init__()
        self.num_classes = num_classes
        blocks: list[nn.Module] = []
        for in_channels, out_channels in zip((in_chans, *widths), widths, strict=False):
            pool = nn.AvgPool2d(2) if blocks else nn.Identity()
            blocks.append(
                nn.Sequential(
                    pool,
                    nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
                    nn.BatchNorm2d(out_channels),
                    nn.ReLU(),
                )
            )
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(widths[-1], num_classes)

    @property
    def widths(self) -> tuple[int, ...]:
        """The `widths` argument that creates this network, pruned or not."""
        return tuple(module.out_channels for module in self.blocks.modules() if isinstance(module, nn.Conv2d))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(x).mean((2, 3)))


def _norm(kind: str, channels: int) -> nn.Module:
    """Return batch norm or group norm, with eight channels in a group where they can be divided so.

    Raises:
        ValueError: If the kind is unknown.
    """
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "group":
        return nn.GroupNorm(max(1, channels // 8) if channels % 8 == 0 else 1, channels)
    raise ValueError(f"norm is {kind}, but must be batch or group")


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions with a shortcut."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, norm: str = "batch") -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = _norm(norm, out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = _norm(norm, out_channels)
        self.shortcut = (
            nn.Identity()
            if stride == 1 and in_channels == out_channels
            else nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), _norm(norm, out_channels))
        )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


def _stage(
    block: Callable[[int, int, int], nn.Module], depth: int, in_channels: int, out_channels: int, *, stride: int
) -> nn.Sequential:
    """Return `depth` residual blocks; the first one changes the number of channels and the resolution."""
    if depth < 1:
        raise ValueError(f"a stage has {depth} blocks; give at least one")
    channels, strides = [in_channels] + [out_channels] * (depth - 1), [stride] + [1] * (depth - 1)
    return nn.Sequential(*(block(c, out_channels, s) for c, s in zip(channels, strides, strict=True)))


class ResNetCifar(nn.Module):
    """The ImageNet ResNet with a 3 x 3 stem without pooling, for 32 x 32 images.

    Args:
        depths: Number of blocks in each stage.
        num_classes: Number of classes.
        in_chans: Number of channels of an image.
        width: Channels of the first stage; each further stage has twice as many.
        norm: `batch` or `group` (Wu and He, 2018); group norm has no running statistics.

    References:
        | Deep Residual Learning for Image Recognition (He et al., 2016); stem as in arXiv 1904.01186, section 4.2
        | https://arxiv.org/abs/1512.03385
    """

    def __init__(
        self,
        *,
        depths: tuple[int, ...],
        num_classes: int = 10,
        in_chans: int = 3,
        width: int = 64,
        norm: str = "batch",
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.conv1 = nn.Conv2d(in_chans, width, 3, 1, 1, bias=False)
        self.bn1 = _norm(norm, width)
        stages: list[nn.Module] = []
        in_channels = width
        for stage, depth in enumerate(depths):
            out_channels = width * 2**stage
            block = partial(BasicBlock, norm=norm)
            stages.append(_stage(block, depth, in_channels, out_channels, stride=1 if stage == 0 else 2))
            in_channels = out_channels
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(in_channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stages(F.relu(self.bn1(self.conv1(x)))).mean((2, 3)))


class WideBlock(nn.Module):
    """A pre-activation block: batch norm and ReLU before each of two 3 x 3 convolutions, with a shortcut."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.shortcut = (
            None
            if in_channels == out_channels and stride == 1
            else nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(x))
        shortcut = x if self.shortcut is None else self.shortcut(y)
        return self.conv2(F.relu(self.bn2(self.conv1(y)))) + shortcut


class WideResNet(nn.Module):
    """Three stages of pre-activation blocks.

    Args:
        depth: Number of layers, `6 n + 4` for `n` blocks per stage.
        widen: Width relative to a ResNet of the same depth.
        num_classes: Number of classes.
        in_chans: Number of channels of an image.

    References:
        | Wide Residual Networks (Zagoruyko and Komodakis, 2016)
        | https://arxiv.org/abs/1605.07146
    """

    def __init__(self, *, depth: int, widen: int, num_classes: int = 10, in_chans: int = 3) -> None:
        super().__init__()
        if depth < 10 or depth % 6 != 4:
            raise ValueError(f"depth is {depth}, but must be 6 n + 4, such as 10, 16, 28 or 40")
        self.num_classes = num_classes
        blocks = (depth - 4) // 6
        widths = (16, 16 * widen, 32 * widen, 64 * widen)
        self.conv1 = nn.Conv2d(in_chans, widths[0], 3, 1, 1, bias=False)
        stages = []
        for stage, (in_channels, out_channels) in enumerate(zip(widths, widths[1:], strict=False)):
            stages.append(_stage(WideBlock, blocks, in_channels, out_channels, stride=1 if stage == 0 else 2))
        self.stages = nn.Sequential(*stages)
        self.bn = nn.BatchNorm2d(widths[-1])
        self.head = nn.Linear(widths[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.bn(self.stages(self.conv1(x)))).mean((2, 3)))


class VGGCifar(nn.Module):
    """VGG-11 with batch norm, global average pooling and one linear layer, for 32 x 32 images.

    Args:
        num_classes: Number of classes.
        in_chans: Number of channels of an image.

    References:
        | Very Deep Convolutional Networks for Large-Scale Image Recognition (Simonyan and Zisserman, 2015), column A
        | https://arxiv.org/abs/1409.1556
    """

    def __init__(self, *, num_classes: int = 10, in_chans: int = 3) -> None:
        super().__init__()
        self.num_classes = num_classes
        layers: list[nn.Module] = []
        in_channels = in_chans
        for block, widths in enumerate(((64,), (128,), (256, 256), (512, 512), (512, 512))):
            for out_channels in widths:
                layers += [
                    nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
                    nn.BatchNorm2d(out_channels),
                    nn.ReLU(),
                ]
                in_channels = out_channels
            if block < 3:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(in_channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean((2, 3)))


NETWORKS: dict[str, tuple[type[nn.Module], dict[str, Any], tuple[int, int, int]]] = {
    "lenet5": (LeNet5, {}, (1, 32, 32)),
    "lenet5_half": (LeNet5, {"widths": (3, 8, 60, 42)}, (1, 32, 32)),
    "lenet5_bn": (LeNet5, {"norm": True}, (1, 32, 32)),
    "convnet_w64": (ConvNet, {}, (1, 8, 8)),
    "convnet_w16": (ConvNet, {"widths": (16, 24, 24)}, (1, 8, 8)),
    "resnet_w16": (ResNetCifar, {"depths": (1, 1, 1), "width": 16}, (1, 8, 8)),
    "convnet_mnist": (ConvNet, {"widths": (16, 32, 64)}, (1, 28, 28)),
    "convnet_mnist_deep": (ConvNet, {"widths": (16, 32, 64, 64)}, (1, 28, 28)),
    "resnet10_cifar_w16": (ResNetCifar, {"depths": (1, 1, 1, 1), "width": 16}, (3, 32, 32)),
    "resnet18_cifar_w16": (ResNetCifar, {"depths": (2, 2, 2, 2), "width": 16}, (3, 32, 32)),
    "resnet18_cifar": (ResNetCifar, {"depths": (2, 2, 2, 2)}, (3, 32, 32)),
    "resnet34_cifar": (ResNetCifar, {"depths": (3, 4, 6, 3)}, (3, 32, 32)),
    "vgg11_bn_cifar": (VGGCifar, {}, (3, 32, 32)),
    **{
        f"wrn_{depth}_{widen}": (WideResNet, {"depth": depth, "widen": widen}, (3, 32, 32))
        for depth, widen in ((16, 1), (16, 2), (40, 1), (40, 2))
    },
}
"""class, arguments and input shape (channels, height, width) of each network, by its timm name"""


default_cfgs = generate_default_cfgs(
    {
        name: {"input_size": shape, "num_classes": 10, "mean": (0.0,), "std": (1.0,), **asdict(Preprocessing())}
        for name, (_, _, shape) in NETWORKS.items()
    }
)


def _entrypoint(name: str) -> Callable[..., nn.Module]:
    network, settings, shape = NETWORKS[name]

    def create(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        return build_model_with_cfg(network, name, pretrained, **{"in_chans": shape[0], **settings, **kwargs})

    create.__name__, create.__module__ = name, __name__
    return create


for _name in NETWORKS:
    globals()[_name] = register_model(_entrypoint(_name))
