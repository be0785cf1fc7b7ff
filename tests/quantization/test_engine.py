import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

from datafree.applications.distillation import DistillationConfig, distill
from datafree.applications.pruning import PruningConfig, prune
from datafree.classifier import Classifier
from datafree.networks.target_net import build_target_net
from datafree.quantization import QuantizationConfig, quantize
from datafree.quantization.calibration import Reader
from datafree.quantization.choosing import split_images
from datafree.quantization.graphs import float_file, layers_of, require_engine
from datafree.quantization.schemes import Scheme
from datafree.quantization.sessions import SETS, OnnxNetwork, instruction_set, processor_flags
from datafree.quantization.workbench import Workbench, logits_of
from datafree.types import Batch, InputError


def kinds(path: Path) -> list[str]:
    import onnx

    return [node.op_type for node in onnx.load(str(path)).graph.node]


def test_layers_have_the_names_of_torch(bench: Workbench, teacher: Classifier):
    names = [layer.name for layer in bench.layers]
    assert set(names) <= {name for name, _ in teacher.model.named_modules()}
    assert [layer.operator for layer in bench.layers][-1] == "Gemm"


@pytest.mark.parametrize(
    ("bits", "form", "types"),
    [
        ("w8a8", "signed", {3}),
        ("w8a8", "paired", {3}),
        ("w8a8", "reduced", {3}),
        ("w8a8", "unsigned", {2}),
        ("w4a8", "four-bit", {22}),
        ("w8", "signed", {3}),
    ],
)
def test_the_file_is_in_qdq_form_and_near_the_float_network(
    bench: Workbench, ranges: Path, bars: Batch, bits: Any, form: Any, types: set[int]
):
    import onnx

    path = bench.build(Scheme(bits=bits, form=form), ranges, "minmax", (), f"{bits}-{form}")
    model = onnx.load(str(path))
    weights = [tensor for tensor in model.graph.initializer if tensor.name.endswith("weight_quantized")]
    assert len(weights) == len(bench.layers) and {tensor.data_type for tensor in weights} == types
    assert ("QuantizeLinear" in kinds(path)) is (bits != "w8")
    logits, real = OnnxNetwork(path)(bars.images), logits_of(bench.classifier, bars.images)
    assert 0 < (logits - real).abs().max() < (0.5 if bits == "w4a8" else 0.15) * real.abs().max()
    assert (logits.argmax(1) == real.argmax(1)).float().mean() > 0.95
    assert {entry.key for entry in model.metadata_props} >= {"class_names", "weights_sha256"}


def test_weights_have_the_integers_of_their_form(bench: Workbench, ranges: Path):
    import onnx
    from onnx.numpy_helper import to_array

    path = bench.build(Scheme(form="reduced"), ranges, "minmax", (), "integers")
    arrays = [
        to_array(tensor) for tensor in onnx.load(str(path)).graph.initializer if tensor.name.endswith("_quantized")
    ]
    largest = [abs(array.astype(int)).reshape(len(array), -1).max(1) for array in arrays if array.ndim == 4]
    assert largest and all((row == 64).all() for row in largest)  # one scale per output channel


def test_the_logits_are_not_rounded(bench: Workbench, ranges: Path, bars: Batch):
    path = bench.build(Scheme(), ranges, "minmax", (), "logits")
    assert kinds(path)[-1] == "Gemm"
    assert len(OnnxNetwork(path)(bars.images).unique()) > 256


def test_a_layer_in_float_keeps_its_weights(bench: Workbench, ranges: Path):
    import onnx

    name = bench.layers[0].name
    path = bench.build(Scheme(), ranges, "minmax", (name,), "one-in-float")
    names = {tensor.name for tensor in onnx.load(str(path)).graph.initializer}
    assert bench.layers[0].weight in names and f"{bench.layers[1].weight}_quantized" in names


def test_the_graph_means_the_same_with_and_without_kernels(bench: Workbench, ranges: Path, bars: Batch):
    path = bench.build(Scheme(form="reduced"), ranges, "minmax", (), "kernels")
    fast, plain = OnnxNetwork(path)(bars.images), OnnxNetwork(path, optimized=False)(bars.images)
    assert (fast - plain).abs().max() < 0.1 * plain.abs().max()


def test_dynamic_quantisation_needs_no_image(bench: Workbench, bars: Batch):
    logits = OnnxNetwork(bench.dynamic())(bars.images)
    assert (logits.argmax(1) == logits_of(bench.classifier, bars.images).argmax(1)).float().mean() > 0.95


@pytest.mark.parametrize("observer", ["minmax", "percentile", "entropy"])
def test_observers_find_ranges_once(bench: Workbench, bars: Batch, observer: Any):
    path = bench.ranges("observed", bars.images[:32], observer)
    written = path.stat().st_mtime_ns
    assert bench.ranges("observed", bars.images[32:64], observer) == path and path.stat().st_mtime_ns == written


def test_the_reader_yields_each_image_once():
    images = torch.rand(5, 1, 2, 2)
    batches = [batch["images"] for batch in Reader("images", images, batch=2)]
    assert [len(batch) for batch in batches] == [2, 2, 1]
    assert torch.equal(torch.cat([torch.from_numpy(batch) for batch in batches]), images)


def test_the_processor_is_named():
    assert instruction_set() in {name for name, _ in SETS} or not processor_flags() & {"avx2", "asimddp"}


def test_a_network_is_quantised_without_data(teacher: Classifier, bars: Batch, bench: Workbench, tmp_path: Path):
    result = quantize(
        teacher,
        bars.images,
        tmp_path / "model.onnx",
        QuantizationConfig(recovery_steps=0, observer="minmax"),
        bench=bench,
    )
    assert result.form in ("paired", "signed") and result.observer == "minmax"
    assert result.saturation is not None and (result.form == "signed") is (result.saturation.possible == 0)
    assert result.measured.agreement > 0.97 and result.measured.images == 128
    assert result.bytes == (tmp_path / "model.onnx").stat().st_size
    assert set(result.milliseconds) == {"float", "quantized"}
    assert result.as_dict()["measured"]["images"] == 128 and "classifier" not in result.as_dict()
    logits = OnnxNetwork(tmp_path / "model.onnx")(bars.images)
    assert (logits.argmax(1) == bars.targets).float().mean() > 0.95


def test_too_few_images_are_refused():
    with pytest.raises(InputError, match="7 images are too few for calibration; give 8 or more"):
        split_images(torch.rand(7, 1, 8, 8))
    calibration, deciding = split_images(torch.arange(600.0)[:, None, None, None])
    assert len(calibration) == len(deciding) == 256 and not set(calibration.flatten()) & set(deciding.flatten())


def test_a_missing_package_is_named_with_its_pip_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(
        InputError, match=r"which is not installed; install it with: pip install 'datafree\[quantize\]'"
    ):
        require_engine()


def test_a_graph_without_layers_is_refused(tmp_path: Path):
    import onnx
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "empty",
        [value("x", TensorProto.FLOAT, [1])],
        [value("y", TensorProto.FLOAT, [1])],
    )
    onnx.save(helper.make_model(graph), str(tmp_path / "empty.onnx"))
    with pytest.raises(InputError, match="no convolution and no linear layer"):
        layers_of(tmp_path / "empty.onnx")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            "the ONNX exporter cannot take the operator aten.foo in layer 'odd'; use --format torch-export",
            "the operator aten.foo in layer 'odd'; use --engine torchao",
        ),
        (
            "torch.export cannot take layer 'odd' (Odd): its code depends on values; change this code, or use --format timm",
            "layer 'odd' (Odd): its code depends on values; no engine can quantise this network",
        ),
    ],
)
def test_a_layer_that_the_exporter_cannot_take_is_named_with_the_engine_that_can(
    said: str, expected: str, teacher: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*_: Any, **__: Any) -> None:
        raise InputError(said)

    monkeypatch.setattr("datafree.quantization.graphs.export_onnx", refuse)
    with pytest.raises(InputError, match=re.escape(expected)):
        float_file(teacher, tmp_path / "float.onnx")


@pytest.mark.slow
def test_torchao_makes_a_program(teacher: Classifier, bars: Batch, tmp_path: Path):
    from datafree.quantization.torchao_engine import load_program

    path = tmp_path / "model.pt2"
    result = quantize(teacher, bars.images, path, QuantizationConfig(engine="torchao"))
    assert result.engine == "torchao" and result.form == "reduced" and result.measured.agreement > 0.97
    assert set(result.milliseconds) == {"float", "quantized"} and min(result.milliseconds.values()) > 0
    assert "latency: of both programs after torch.compile with frozen weights" in result.notes
    logits = load_program(path)(bars.images)
    assert (logits.argmax(1) == logits_of(teacher, bars.images).argmax(1)).float().mean() > 0.97


def test_without_a_compiler_there_is_no_latency_and_the_reason_is_said(monkeypatch: pytest.MonkeyPatch):
    from datafree.quantization.torchao_engine import latency

    def fails(_: Any) -> None:
        raise RuntimeError("\nno C++ compiler\nmore lines")

    monkeypatch.setattr(torch, "compile", fails)
    times, note = latency(torch.nn.Identity(), torch.nn.Identity(), torch.rand(1, 1, 2, 2))
    assert times == {} and note == "latency: not measured, since torch.compile fails here (no C++ compiler)"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pruned", "amalgamated"])
@pytest.mark.parametrize("bits", ["w8a8", "w4a8"])
def test_pruned_and_amalgamated_students_are_quantised(
    kind: str, bits: str, teacher: Classifier, bars: Batch, tmp_path: Path
):
    if kind == "pruned":
        batches = iter(lambda: bars, None)
        config = PruningConfig(ratio=0.3, steps=60, lr=1e-3, importance_batches=2, rounds=2)
        student = prune(deepcopy(teacher), teacher, batches, config)
    else:
        network = build_target_net(["convnet_w16"] * 3, [1, 2], [[0, 1], [2, 3]], teacher.shape)
        student = Classifier(network, shape=teacher.shape, classes=teacher.classes)
        distill(student, teacher, iter(lambda: bars, None), DistillationConfig(steps=60, lr=1e-2))
    path = tmp_path / "model.onnx"
    config = QuantizationConfig(bits=bits, tolerance=0.0, recovery_steps=20)
    result = quantize(student, bars.images, path, config)
    assert result.layers > 1 and result.form == ("four-bit" if bits == "w4a8" else result.form)
    expected = logits_of(student, bars.images).argmax(1)
    assert (OnnxNetwork(path)(bars.images).argmax(1) == expected).float().mean() > 0.95
