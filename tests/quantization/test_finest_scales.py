from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import nn

from datafree.classifier import Classifier
from datafree.quantization.fake import fake_weight
from datafree.quantization.saturation import finest_scales, integer_layers, is_depthwise, paired, too_large
from datafree.quantization.schemes import Scheme
from datafree.quantization.workbench import Workbench, logits_of
from datafree.types import Batch


def test_scales_by_hand():
    # Neighbours in a row are (1, 2) and (-3, -1); the largest sums with one sign are 3 and 4.
    assert finest_scales(torch.tensor([[1.0, 2.0, -3.0, -1.0]])).tolist() == pytest.approx([4 / 127])
    # (2, -2) never adds up; a third weight has no neighbour.
    assert finest_scales(torch.tensor([[2.0, -2.0, 1.0]])).tolist() == pytest.approx([2 / 127])
    assert finest_scales(torch.tensor([[1.0, 2.0, -3.0, -1.0]]), depthwise=True).tolist() == pytest.approx([3 / 127])


def test_neighbours_of_a_kernel_are_its_channels():
    weight = torch.zeros(1, 2, 2, 2)
    weight[0, :, 1, 0] = torch.tensor([5.0, 6.0])
    assert finest_scales(weight).item() == pytest.approx(11 / 127)


def test_no_sum_is_too_large_and_some_scale_cannot_be_finer():
    weight = torch.randn(64, 16, 3, 3)
    scale = finest_scales(weight)
    integers = (weight / scale[:, None, None, None]).round()
    pairs = paired(integers)
    assert not too_large(pairs).any() and integers.abs().max() <= 127
    sums = torch.maximum(pairs.clamp_min(0).sum(-1), (-pairs).clamp_min(0).sum(-1)).amax(1)
    assert (sums >= 126).all()  # each channel uses the whole range
    assert (scale < weight.flatten(1).abs().amax(1) / 63.5).all()  # finer than 7 bits


def test_depthwise_layers_have_one_channel_out_of_several():
    assert is_depthwise(torch.zeros(8, 1, 3, 3), 8)
    assert not is_depthwise(torch.zeros(8, 1, 3, 3), 1)  # the first layer of a network of grey images
    assert not is_depthwise(torch.zeros(8, 4, 3, 3), 8) and not is_depthwise(torch.zeros(8, 1), 1)


def test_fake_quantisation_rounds_as_the_file(bench: Workbench, ranges: Path, teacher: Classifier):
    import onnx

    path = bench.build(Scheme(form="paired"), ranges, "minmax", (), "paired")
    for layer in integer_layers(onnx.load(str(path))):
        integers, scale = layer.weight, layer.weight_scale
        stored = integers * scale.reshape(-1, *[1] * (integers.ndim - 1))
        assert torch.allclose(fake_weight(stored, Scheme(form="paired")), stored, atol=float(scale.max()))
        assert not too_large(paired(integers)).any()
        sums = paired(integers).abs().amax((1, 2))
        assert (sums[scale != 1] >= 60).all()


def test_channels_of_zeros_and_layers_in_float(teacher: Classifier, tmp_path: Path, bars: Batch):
    pruned = deepcopy(teacher)
    next(module for module in pruned.modules() if isinstance(module, nn.Conv2d)).weight.data[0] = 0
    workbench = Workbench(pruned, tmp_path / "zeros")
    found = workbench.ranges("bars", bars.images[:32], "minmax")
    last = workbench.layers[-1]
    path = workbench.build(Scheme(form="paired"), found, "minmax", (last.name,), "zeros")
    assert workbench.measure(path, bars.images, logits_of(pruned, bars.images)).agreement > 0.95
