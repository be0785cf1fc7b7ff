from typing import Any

import pytest

from datafree.quantization.choosing import QuantizationConfig, without_gain
from datafree.quantization.schemes import BOUNDS, Scheme, parse_bits
from datafree.types import InputError


def test_the_bits_that_engines_compute():
    assert [parse_bits(bits) for bits in ("w8a8", "w4a8", "w8")] == ["w8a8", "w4a8", "w8"]


@pytest.mark.parametrize("bits", ["w1a8", "w1", "1-bit", "binary", "w2a8", "w3a8"])
def test_fewer_than_four_bits_are_refused_with_the_bits_of_each_engine(bits: str):
    with pytest.raises(InputError, match=r"fewer than 4 bits \(onnx: w8a8, w4a8, w8; torchao: w8a8\); use w4a8"):
        parse_bits(bits)


def test_a_near_name_is_proposed():
    with pytest.raises(InputError, match="bits 'int8' is unknown; did you mean w8a8?"):
        parse_bits("int8")
    with pytest.raises(InputError, match="choose one of w8a8, w4a8, w8"):
        parse_bits("w16a16")


def test_forms_have_the_integers_that_their_bits_can_hold():
    assert Scheme(form="reduced").bounds == (-64, 64)
    assert {high - low for low, high in (BOUNDS["signed"], BOUNDS["unsigned"])} == {254, 255}
    assert BOUNDS["four-bit"] == (-8, 7)
    assert Scheme(form="unsigned").zero_point == 128 and Scheme(form="signed").zero_point == 0
    assert not Scheme(bits="w8").quantises_activations
    assert Scheme(bits="w4a8").weight_bits == 4


def test_an_engine_that_lacks_the_bits_names_the_one_that_has_them():
    with pytest.raises(InputError, match="torchao has no w4a8 for convolutions on x86; use --engine onnx"):
        QuantizationConfig(bits="w4a8", engine="torchao")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"float_layers": -1}, "float-layers is -1"),
        ({"recovery_steps": -1}, "recovery-steps is -1"),
        ({"tolerance": -0.1}, "tolerance is -0.1"),
        ({"recovery_lr": -0.1}, "recovery-lr is -0.1"),
    ],
)
def test_impossible_settings_are_refused(settings: dict, message: str):
    with pytest.raises(InputError, match=message):
        QuantizationConfig(**settings)


@pytest.mark.parametrize("form", ["paired", "unsigned"])
def test_torchao_has_no_such_weights(form: Any):
    with pytest.raises(InputError, match=f"torchao has no {form} weights; use --form signed or --form reduced"):
        QuantizationConfig(engine="torchao", form=form)


def test_what_is_tried_follows_from_the_settings():
    assert QuantizationConfig().forms == ("signed", "paired")
    assert QuantizationConfig(form="unsigned").forms == ("unsigned",)
    assert QuantizationConfig(bits="w4a8").forms == ("four-bit",)
    assert QuantizationConfig(bits="w8").forms == ("signed",)
    assert QuantizationConfig().observers == ("minmax", "percentile", "entropy")
    assert QuantizationConfig(bits="w8").observers == ("minmax",)


def test_four_bit_weights_are_trained_faster():
    assert QuantizationConfig().lr == 1e-4 and QuantizationConfig(bits="w4a8").lr == 1e-3
    assert QuantizationConfig(bits="w4a8", recovery_lr=3e-4).lr == 3e-4


@pytest.mark.parametrize(
    ("sizes", "times", "notes"),
    [
        ((100, 40), (1.0, 1.2), ()),
        ((100, 100), (1.0, 0.5), ("size: not smaller than in float, since the graph is larger than the weights",)),
        ((100, 40), (2.0, 5.0), ("latency: 2.5 times that of float on this machine",)),
        ((100, 40), (), ()),
    ],
)
def test_what_is_not_gained_is_said(sizes: tuple[int, int], times: tuple[float, ...], notes: tuple[str, ...]):
    names = ("float", "quantized")
    assert without_gain(dict(zip(names, sizes, strict=True)), dict(zip(names, times, strict=False))) == notes
