from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from datafree.classifier import Classifier
from datafree.quantization.saturation import (
    HIGHEST,
    LARGEST,
    IntegerLayer,
    as_columns,
    missing_sums,
    paired,
    possible_pairs,
    saturation,
    too_large,
)
from datafree.quantization.schemes import BOUNDS, Scheme
from datafree.quantization.workbench import Workbench
from datafree.types import Batch


def conv_layer(weight: torch.Tensor, groups: int = 1, **attributes: Any) -> IntegerLayer:
    from onnx import helper

    node = helper.make_node("Conv", ["x", "w"], ["y"], name="conv", **attributes)
    return IntegerLayer(
        node=node,
        activation="x",
        activation_scale=1.0,
        activation_zero=0,
        weight=weight,
        weight_scale=torch.ones(len(weight)),
        groups=groups,
    )


def gemm_layer(weight: torch.Tensor) -> IntegerLayer:
    from onnx import helper

    return IntegerLayer(
        node=helper.make_node("Gemm", ["x", "w"], ["y"], name="gemm"),
        activation="x",
        activation_scale=0.5,
        activation_zero=0,
        weight=weight,
        weight_scale=torch.tensor([2.0]),
    )


def test_the_forms_that_cannot_saturate():
    for form in ("reduced", "four-bit"):
        low, high = BOUNDS[form]
        assert not too_large(torch.tensor([[high, high], [low, low]], dtype=torch.float32)).any()
    assert too_large(torch.tensor([[127.0, 127.0], [-127.0, -127.0]])).all()


@pytest.mark.parametrize(
    ("pair", "large"), [((64, 64), False), ((65, 64), True), ((127, -127), False), ((-65, -64), True)]
)
def test_pairs_at_the_limit(pair: tuple[int, int], large: bool):
    # 255 * 128 = 32,640 fits into 16 bits, 255 * 129 = 32,895 does not
    assert bool(too_large(torch.tensor([pair], dtype=torch.float32))) is large


def test_what_is_missing_by_hand():
    layer = gemm_layer(torch.tensor([[127.0, 127.0, 1.0]]))
    missing, count = missing_sums(layer, torch.tensor([[255, 255, 7], [128, 129, 7]], dtype=torch.uint8))
    # 255 * 254 = 64,770 is cut to 32,767; 257 * 127 = 32,639 is not cut. The scale of a product is 1.
    assert missing[:, :, 0].tolist() == [[32767.0 - 64770.0], [0.0]]
    assert count == 1
    assert possible_pairs(layer) == (1, 2)


@pytest.mark.parametrize(
    ("groups", "attributes"),
    [(1, {}), (1, {"pads": [1, 1, 1, 1], "strides": [2, 2]}), (2, {"pads": [1, 0, 1, 0]}), (1, {"dilations": [2, 2]})],
)
def test_columns_and_pairs_give_the_convolution(groups: int, attributes: dict[str, Any]):
    weight = torch.randint(-127, 128, (4, 6 // groups, 3, 2)).float()
    values = torch.randint(0, 256, (2, 6, 7, 8), dtype=torch.uint8)
    layer = conv_layer(weight, groups, **attributes)
    columns = as_columns(layer, values)
    rows = paired(weight).flatten(1)[:, : columns[0].shape[1]]
    sums = torch.cat([row @ column for row, column in zip(rows.chunk(groups), columns, strict=True)], 1)
    top, left, bottom, right = attributes.get("pads", [0, 0, 0, 0])
    expected = F.conv2d(
        F.pad(values.float(), (left, right, top, bottom)),
        weight,
        stride=attributes.get("strides", [1, 1]),
        dilation=attributes.get("dilations", [1, 1]),
        groups=groups,
    )
    assert torch.equal(sums, expected.flatten(2))


def test_saturation_of_a_convolution_equals_a_slow_reference():
    weight = torch.randint(-127, 128, (3, 2, 3, 3)).float()
    values = torch.randint(128, 256, (1, 2, 4, 4), dtype=torch.uint8)
    missing, count = missing_sums(conv_layer(weight), values)
    pixels, expected, cut = values[0].numpy().astype(np.int64), torch.zeros(3, 4), 0
    for channel in range(3):
        for position, (row, column) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
            patch = pixels[:, row : row + 3, column : column + 3].transpose(1, 2, 0).ravel()
            kernel = weight[channel].numpy().astype(np.int64).transpose(1, 2, 0).ravel()
            for k in range(0, 18, 2):
                exact = int(patch[k] * kernel[k] + patch[k + 1] * kernel[k + 1])
                stored = max(-(2**15), min(HIGHEST, exact))
                expected[channel, position] += stored - exact
                cut += stored != exact
    assert torch.equal(missing[0], expected) and count == cut > 0


def test_a_network_saturates_with_signed_weights_only(bench: Workbench, ranges: Any, teacher: Classifier, bars: Batch):
    found = {}
    for form in ("signed", "paired", "reduced", "unsigned"):
        path = bench.build(Scheme(form=form), ranges, "minmax", (), f"saturation-{form}")
        found[form] = saturation(path, teacher, bars.images[:32])
    assert found["signed"].possible > 0 and found["signed"].pairs > found["signed"].possible
    assert found["signed"].changes is (found["signed"].saturated > 0)
    assert (found["signed"].logit_difference > 0) is found["signed"].changes
    for form in ("paired", "reduced", "unsigned"):
        assert found[form].possible == found[form].saturated == 0
        assert found[form].logit_difference == 0 and found[form].agreement == 1
    assert LARGEST == 255
