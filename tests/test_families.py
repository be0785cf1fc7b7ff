"""Teachers of many families go all the way: inspection, two steps of every method that claims them, a distillation step."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
import timm
import torch
import torchvision
from torch import nn
from toys import same, snapshot

import datafree.networks.zoo  # noqa: F401  registers networks in timm
from datafree import METHODS, Classifier, DistillationConfig, Method, create_student, distill, inspect
from datafree.classifier import batch_norms
from datafree.types import Batch, InputError

CLASSES = 6
SQUARE, WIDE, TALL = (3, 32, 32), (3, 24, 40), (3, 40, 24)
GREY, FIVE = (1, 32, 32), (5, 32, 32)


class Family(NamedTuple):
    """A network of a family, and what is known about it."""

    build: Callable[[int], nn.Module]
    """from the number of channels"""
    shape: tuple[int, int, int]
    norm: str
    """kind of its normalisation layers: batch, layer, group, both (batch and layer) or none"""


def of_timm(name: str, **arguments: Any) -> Callable[[int], nn.Module]:
    return lambda channels: timm.create_model(name, num_classes=CLASSES, in_chans=channels, **arguments)


def of_torchvision(name: str, **arguments: Any) -> Callable[[int], nn.Module]:
    return lambda _: torchvision.models.get_model(name, weights=None, num_classes=CLASSES, **arguments)


def of_transformers(family: str, **settings: Any) -> Callable[[int], nn.Module]:
    def build(channels: int) -> nn.Module:
        import transformers

        config = getattr(transformers, f"{family}Config")(num_channels=channels, num_labels=CLASSES, **settings)
        return getattr(transformers, f"{family}ForImageClassification")(config)

    return build


def group_norm_net(channels: int) -> nn.Module:
    """A user's own network."""
    return nn.Sequential(
        *(nn.Conv2d(channels, 8, 3, stride=2), nn.GroupNorm(2, 8), nn.SiLU()),
        *(nn.Conv2d(8, 16, 3, stride=2), nn.GroupNorm(4, 16), nn.SiLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, CLASSES)),
    )


ATTENTION: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
QUICK = {
    "own network": Family(group_norm_net, (5, 24, 40), "group"),
    "convnet": Family(of_timm("convnet_w16"), (1, 8, 8), "batch"),
    "transformers ViT": Family(of_transformers("ViT", image_size=16, patch_size=8, **ATTENTION), (1, 16, 16), "layer"),
}
FAMILIES = {
    "LeNet": Family(of_timm("lenet5"), GREY, "none"),
    "ResNet": Family(of_timm("resnet10t"), WIDE, "batch"),
    "MobileNet": Family(of_timm("mobilenetv3_small_050"), FIVE, "batch"),
    "EfficientNet": Family(of_timm("tf_efficientnet_lite0"), TALL, "batch"),
    "ConvNeXt": Family(of_timm("convnext_atto", depths=(1, 1, 1, 1)), GREY, "layer"),
    "ViT": Family(
        of_timm("vit_tiny_patch16_224", img_size=(24, 40), patch_size=8, embed_dim=24, depth=2), (5, 24, 40), "layer"
    ),
    "DeiT, distilled": Family(
        of_timm("deit_tiny_distilled_patch16_224", img_size=32, patch_size=8, embed_dim=24, depth=2), SQUARE, "layer"
    ),
    "Swin": Family(
        of_timm(
            "swin_tiny_patch4_window7_224", img_size=32, window_size=4, embed_dim=24, depths=(1, 1), num_heads=(2, 2)
        ),
        SQUARE,
        "layer",
    ),
    "MLP-Mixer": Family(of_timm("mixer_s16_224", img_size=32), GREY, "layer"),
    "PoolFormer": Family(of_timm("poolformer_s12"), SQUARE, "group"),
    "ResNet, group norm": Family(of_timm("resnet50_gn", layers=(1, 1, 1, 1)), FIVE, "group"),
    "RegNet": Family(of_timm("regnetx_002"), SQUARE, "batch"),
    "RepVGG": Family(of_timm("repvgg_a0"), GREY, "batch"),
    "GhostNet": Family(of_timm("ghostnet_050"), WIDE, "batch"),
    "DenseNet": Family(of_timm("densenet121", block_config=(2, 2)), TALL, "batch"),
    "NF-RegNet": Family(of_timm("nf_regnet_b0"), SQUARE, "none"),
    "LeViT": Family(of_timm("levit_128s", img_size=64), (3, 64, 64), "batch"),
    "XCiT": Family(of_timm("xcit_nano_12_p16_224", img_size=32, depth=2), SQUARE, "both"),
    "EdgeNeXt": Family(of_timm("edgenext_xx_small"), SQUARE, "layer"),
    "MobileViT": Family(of_timm("mobilevit_xxs"), SQUARE, "both"),
    "SqueezeNet": Family(of_torchvision("squeezenet1_1"), TALL, "none"),
    "ShuffleNet": Family(of_torchvision("shufflenet_v2_x0_5"), WIDE, "batch"),
    "GoogLeNet": Family(of_torchvision("googlenet", aux_logits=False, init_weights=False), SQUARE, "batch"),
    "transformers ResNet": Family(
        of_transformers("ResNet", embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"),
        FIVE,
        "batch",
    ),
    "transformers ConvNeXt V2": Family(
        of_transformers("ConvNextV2", hidden_sizes=[8, 16], depths=[1, 1], num_stages=2), SQUARE, "layer"
    ),
}


def teacher_of(family: Family) -> Classifier:
    """Return a teacher with random weights, whose running statistics are those of a few batches."""
    torch.manual_seed(0)
    teacher = Classifier(family.build(family.shape[0]), shape=family.shape, classes=CLASSES, mean=(0.4,), std=(0.3,))
    teacher.train()
    with torch.no_grad():
        for _ in range(4):
            teacher.model(teacher.normalize(torch.rand(8, *family.shape)))
    return teacher.eval()


def short(method: Method) -> Method:
    """Return a method with two steps on batches of 3 images; its other settings are its own."""
    changes: dict[str, Any] = {name: 3 for name in ("batch_size", "student_batch_size") if hasattr(method, name)}
    changes |= {"discard_first": 0} if hasattr(method, "discard_first") else {}
    for name in ("steps", "steps_per_batch"):
        value = vars(method).get(name)
        if value is not None:
            changes[name] = (*(1 for _ in value[1:]), 2) if isinstance(value, tuple) else min(2, value)
    return replace(method, **changes)


def go_all_the_way(family: Family) -> None:
    teacher = teacher_of(family)
    before = snapshot(teacher)
    report = inspect(teacher)
    norms = batch_norms(teacher)
    assert bool(norms) == (family.norm in ("batch", "both")) and report.batch_norms == len(norms)
    assert report.outputs == "logits" and report.untrained_batch_norms == 0
    student = create_student(teacher, "convnet_w16")
    batches: list[Batch] = []
    for fit in report.methods:
        method = short(METHODS[fit.name])
        if fit.reason:
            with pytest.raises(InputError, match=re.escape(fit.reason)):
                method.build(teacher)
            continue
        synthesizer = method.build(teacher)
        batches += [synthesizer.synthesize(student) for _ in range(2)]
        images = batches[-1].images
        assert images.shape == (3, *family.shape), fit.name
        assert images.isfinite().all() and images.min() >= 0 and images.max() <= 1, fit.name
        assert all(term.isfinite() for term in batches[-1].terms.values()), fit.name
    assert len(batches) >= 2 * 6
    assert same(before, snapshot(teacher))
    old = snapshot(student)["weights"]
    distill(student, teacher, batches, DistillationConfig(steps=1))
    new = snapshot(student)["weights"]
    assert not same(old, new) and all(tensor.isfinite().all() for tensor in new.values())
    assert same(before, snapshot(teacher))


@pytest.mark.parametrize("name", QUICK)
def test_a_small_teacher_goes_all_the_way(name: str):
    go_all_the_way(QUICK[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_a_teacher_goes_all_the_way(name: str):
    go_all_the_way(FAMILIES[name])
