"""Classifiers from ONNX files: imported into torch, or forward-only. The files are untrusted."""

import os
import warnings
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import toys
from onnx import TensorProto, helper, numpy_helper

from datafree import teachers
from datafree.applications.distillation import DistillationConfig
from datafree.classifier import Classifier, batch_norms, fingerprint, record
from datafree.commands.teachers import facts
from datafree.evaluation import evaluate, measure
from datafree.methods import METHODS
from datafree.networks.blocks import Blocks
from datafree.runs.experiment import run
from datafree.runs.tasks import ExtensionTask, Task
from datafree.synthesis.method import capabilities
from datafree.teachers.inspection import inspect
from datafree.teachers.onnx_networks import load_onnx
from datafree.teachers.onnx_networks.graphs import parse_names
from datafree.teachers.onnx_networks.importing import OPERATORS, import_network
from datafree.teachers.onnx_networks.reading import read_onnx
from datafree.types import InputError

RANDOM = np.random.default_rng(0)
CONV, BIAS = RANDOM.normal(size=(6, 1, 3, 3)).astype("f"), RANDOM.normal(size=6).astype("f")
HEAD, OFFSET = RANDOM.normal(size=(4, 6)).astype("f"), RANDOM.normal(size=4).astype("f")
NORM = [np.abs(RANDOM.normal(size=6)).astype("f") + 0.5 for _ in range(4)]


def network(  # noqa: PLR0913
    *,
    batch: int | str = "n",
    norm: bool = False,
    end: Sequence[Any] = (),
    image: Sequence[Any] = (1, 8, 8),
    start: Sequence[Any] = (),
    kind: int = TensorProto.FLOAT,
    flatten: Any = None,
    outputs: Sequence[str] = ("logits",),
    metadata: dict[str, str] | None = None,
    domains: Sequence[str] = (),
) -> onnx.ModelProto:
    """A convolution, global pooling and a linear layer with 4 classes; `start` computes `x` from `images`."""
    weights = {"conv.weight": CONV, "conv.bias": BIAS, "head": HEAD, "offset": OFFSET}
    weights |= {f"norm{i}": value for i, value in enumerate(NORM)} if norm else {}
    nodes = [*start, helper.make_node("Conv", ["x" if start else "images", "conv.weight", "conv.bias"], ["a"])]
    nodes += [helper.make_node("BatchNormalization", ["a", *(f"norm{i}" for i in range(4))], ["b"])] if norm else []
    nodes += [
        helper.make_node("Relu", ["b" if norm else "a"], ["c"]),
        helper.make_node("GlobalAveragePool", ["c"], ["d"]),
    ]
    nodes += [flatten or helper.make_node("Flatten", ["d"], ["e"])]
    nodes += [helper.make_node("Gemm", ["e", "head", "offset"], ["y" if end else "logits"], transB=1), *end]
    if flatten:
        weights["shape"] = np.array([batch, 6], dtype="q")
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("images", kind, [batch, *image])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, 4]) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    imports = [helper.make_opsetid("", 20), *(helper.make_opsetid(domain, 1) for domain in domains)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=10)
    helper.set_model_props(model, metadata or {})
    return model


def saved(path: Path, model: onnx.ModelProto) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def expected(images: torch.Tensor, norm: bool = False) -> torch.Tensor:
    """The same network in torch."""
    x = torch.nn.functional.conv2d(images, torch.tensor(CONV), torch.tensor(BIAS))
    if norm:
        scale, shift, mean, var = map(torch.tensor, NORM)
        x = torch.nn.functional.batch_norm(x, mean, var, scale, shift)
    return x.relu().mean((2, 3)) @ torch.tensor(HEAD).T + torch.tensor(OFFSET)


QUANTISE = [
    helper.make_node("Constant", [], ["scale"], value_float=0.05),
    helper.make_node("Constant", [], ["zero"], value=numpy_helper.from_array(np.array(128, dtype="B"))),
    helper.make_node("QuantizeLinear", ["y", "scale", "zero"], ["q"]),
    helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["logits"]),
]
IMAGES = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def quantised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A quantised classifier of the bars."""
    path = tmp_path_factory.mktemp("onnx") / "q.onnx"
    return saved(path, network(end=QUANTISE, metadata={"classes": "top,bottom,left,right"}))


@pytest.fixture(scope="module")
def forward_only(quantised: Path) -> Classifier:
    return load_onnx(quantised)


class TestImport:
    def test_gives_the_function_of_the_file_with_gradients(self, tmp_path: Path):
        loaded = teachers.load(str(saved(tmp_path / "net.onnx", network())), mean=(0.4,), std=(0.3,))
        images = IMAGES.clone().requires_grad_()
        assert torch.allclose(loaded(images), expected((images - 0.4) / 0.3), atol=1e-5)
        (ours,) = torch.autograd.grad(loaded(images).sum(), images)
        (theirs,) = torch.autograd.grad(expected((images - 0.4) / 0.3).sum(), images)
        assert torch.allclose(ours, theirs, atol=1e-5)
        assert loaded.differentiable and not loaded.training and (loaded.shape, len(loaded.classes)) == ((1, 8, 8), 4)
        assert capabilities(loaded) == {"gradients", "last layer"}
        assert len(loaded.feature_layers()) == 1
        notes = " ".join(loaded.notes)
        assert "no batch norm; exporters fold it into the convolutions if there was any" in notes
        assert "remain" not in notes  # whether a method supports it is for the table of `inspect` to say
        assert "does not say how images are normalised" not in notes

    def test_batch_norm_that_is_kept_can_be_recorded(self, tmp_path: Path):
        loaded = load_onnx(saved(tmp_path / "net.onnx", network(norm=True)))
        assert torch.allclose(loaded(IMAGES), expected(IMAGES, norm=True), atol=1e-5)
        with record(*batch_norms(loaded)) as calls:
            loaded(IMAGES)
        assert [call.input.shape for call in calls] == [(5, 6, 6, 6)]
        assert "batch-norm statistics" in capabilities(loaded)
        assert toys.synthesize(toys.TINY["deep-inversion"], loaded, None).images.shape == (8, 1, 8, 8)
        assert [note for note in loaded.notes if "does not say how images are normalised" in note] and len(
            loaded.notes
        ) == 1

    def test_float16_is_computed_in_float32_with_gradients(self, tmp_path: Path):
        model = network(norm=True)
        for tensor in model.graph.initializer:
            half = numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(half, tensor.name))
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
        loaded = teachers.load(str(saved(tmp_path / "half.onnx", model)))
        full = teachers.load(str(saved(tmp_path / "full.onnx", network(norm=True))))
        images = torch.rand(3, 1, 8, 8)
        assert {weight.dtype for weight in loaded.parameters()} == {torch.float32}
        assert torch.allclose(loaded(images), full(images), atol=1e-2) and "gradients" in capabilities(loaded)

    def test_entries_are_gathered_without_a_warning(self, tmp_path: Path):
        """onnx2pytorch indexes by a list, which torch deprecates."""
        order = helper.make_node("Constant", [], ["order"], value=numpy_helper.from_array(np.array([3, 2, 1, 0])))
        gather = helper.make_node("Gather", ["y", "order"], ["logits"], axis=1)
        loaded = load_onnx(saved(tmp_path / "net.onnx", network(end=[order, gather])))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert torch.allclose(loaded(IMAGES), expected(IMAGES).flip(1), atol=1e-5)
        assert loaded.differentiable

    def test_a_copy_is_independent_and_the_fingerprint_is_that_of_the_weights(self, tmp_path: Path):
        loaded = load_onnx(saved(tmp_path / "net.onnx", network()))
        copy = deepcopy(loaded)
        assert fingerprint(copy) == fingerprint(loaded) and torch.equal(copy(IMAGES), loaded(IMAGES))

    def test_a_fixed_batch_is_computed_in_parts(self, tmp_path: Path):
        reshape = helper.make_node("Reshape", ["d", "shape"], ["e"])
        loaded = load_onnx(saved(tmp_path / "net.onnx", network(batch=2, flatten=reshape)))
        assert loaded.differentiable and torch.allclose(loaded(IMAGES), expected(IMAGES), atol=1e-5)
        assert any("fixed batch size of 2" in note for note in loaded.notes)

    def test_channels_last_and_probabilities_are_recognised(self, tmp_path: Path):
        transpose = helper.make_node("Transpose", ["images"], ["x"], perm=[0, 3, 1, 2])
        softmax = helper.make_node("Softmax", ["y"], ["logits"])
        loaded = load_onnx(saved(tmp_path / "net.onnx", network(start=[transpose], end=[softmax], image=(8, 8, 1))))
        assert loaded.shape == (1, 8, 8) and loaded.outputs == "softmax"
        assert torch.allclose(loaded(IMAGES).softmax(1), expected(IMAGES).softmax(1), atol=1e-5)
        assert any("channels last: they are transposed" in note for note in loaded.notes)

    def test_an_open_size_is_given_by_the_user(self, tmp_path: Path):
        path = saved(tmp_path / "net.onnx", network(image=(1, "h", "w")))
        assert load_onnx(path, shape=(1, 12, 10)).shape == (1, 12, 10)
        with pytest.raises(InputError, match=r"images of any size \(1 \? \?\); give it: --input CHANNELS HEIGHT WIDTH"):
            load_onnx(path)
        with pytest.raises(InputError, match="takes images of 1 0 0, but --input is 3 8 8; remove it"):
            load_onnx(path, shape=(3, 8, 8))

    @pytest.mark.parametrize(
        ("text", "names"),
        [
            ('["a", "b"]', ("a", "b")),
            ("{0: 'a', 1: 'b'}", ("a", "b")),
            ('{"1": "b", "0": "a"}', ("a", "b")),
            ("a\nb", ("a", "b")),
            ("a, b", ("a", "b")),
            ('{"a": 1}', ()),
            ("[1, 2]", ()),
            ("[" * 10_000, ()),
            ("a," * 3_000_000, ()),
        ],
    )
    def test_class_names_in_the_metadata(self, text: str, names: tuple[str, ...]):
        assert parse_names(text) == names

    def test_weights_beside_the_file(self, tmp_path: Path):
        model = network()
        onnx.save(model, tmp_path / "net.onnx", save_as_external_data=True, location="net.onnx.data", size_threshold=0)
        loaded = load_onnx(tmp_path / "net.onnx")
        assert torch.allclose(loaded(IMAGES), expected(IMAGES), atol=1e-5)
        assert set(loaded.dependencies) == {"net.onnx", "net.onnx.data"}

    def test_operators_are_on_a_list(self):
        """onnx2pytorch calls `torch.NAME` for an operator it does not know."""
        assert not OPERATORS & {"Load", "Save", "Loop", "If", "Scan", "SequenceMap", "ImageDecoder", "RegexFullMatch"}


class TestForwardOnly:
    def test_a_quantised_network_is_run_by_onnx_runtime(self, forward_only: Classifier):
        assert torch.allclose(forward_only(IMAGES), expected(IMAGES), atol=0.026)
        assert not forward_only.differentiable and not capabilities(forward_only)
        assert forward_only.classes == ("top", "bottom", "left", "right")
        assert (
            "because it is quantised, by QuantizeLinear: methods that need no gradients remain: noise,"
            in (forward_only.notes[0])
        )
        assert not forward_only(IMAGES.clone().requires_grad_()).requires_grad

    def test_everything_lives_with_a_network_without_parameters(self, forward_only: Classifier, tmp_path: Path):
        copy = deepcopy(forward_only)
        assert torch.equal(copy(IMAGES), forward_only(IMAGES)) and fingerprint(copy) == fingerprint(forward_only)
        other = saved(tmp_path / "other.onnx", network(end=QUANTISE))
        assert fingerprint(forward_only.model) != fingerprint(load_onnx(other).model)
        assert forward_only.feature_layers() == [] and forward_only.class_weights() is None
        cost = measure(forward_only)
        assert cost.parameters == sum(array.size for array in (CONV, BIAS, HEAD, OFFSET)) and cost.bytes > 0
        assert evaluate(forward_only, forward_only, [toys.bars(16)]).agreement == 1

    def test_methods_that_need_gradients_are_refused_and_those_that_remain_are_named(self, forward_only: Classifier):
        with pytest.raises(InputError, match="the teacher has no gradients; methods that work with it: noise"):
            teachers.inspection.require_capabilities(forward_only, METHODS["deep-dream"])
        with pytest.raises(InputError, match="no gradients and no batch-norm statistics"):
            METHODS["deep-inversion"].build(forward_only)
        usable = [name for name, method in METHODS.items() if not method.missing(forward_only)]
        assert {"noise"} <= set(usable) and all("gradients" not in METHODS[name].needs for name in usable)

    @pytest.mark.parametrize(
        ("changes", "why"),
        [
            ({"end": [helper.make_node("Round", ["y"], ["logits"])]}, "no gradient reaches the images"),
            (
                {"end": [helper.make_node("Hardmax", ["y"], ["logits"])]},
                "its operator Hardmax has no equivalent in torch",
            ),
            (
                {
                    "kind": TensorProto.UINT8,
                    "start": [helper.make_node("Cast", ["images"], ["x"], to=TensorProto.FLOAT)],
                },
                "it takes whole numbers",
            ),
            (
                {"batch": 2, "norm": True, "flatten": helper.make_node("Reshape", ["d", "shape"], ["e"])},
                "its batch size is fixed to 2, and it has batch norm",
            ),
        ],
        ids=["no gradient", "operator", "whole numbers", "fixed batch with batch norm"],
    )
    def test_the_note_says_why(self, tmp_path: Path, changes: dict[str, Any], why: str):
        loaded = load_onnx(saved(tmp_path / "net.onnx", network(**changes)))
        assert f"because {why}: methods that need no gradients remain" in loaded.notes[0]
        assert loaded(IMAGES).shape == (5, 4)

    def test_its_operations_are_not_counted_as_none(self, forward_only: Classifier):
        assert measure(forward_only).macs is None and inspect(forward_only, {}).macs is None
        assert any("MACs not counted" in text for _, text in facts(inspect(forward_only, {})))

    def test_it_is_not_traced(self, forward_only: Classifier):
        """ONNX Runtime would crash."""
        with pytest.raises(InputError, match="cannot be split into blocks"):
            Blocks(forward_only)

    def test_whole_numbers_are_pixels_from_0_to_255(self, tmp_path: Path):
        cast = helper.make_node("Cast", ["images"], ["x"], to=TensorProto.FLOAT)
        loaded = load_onnx(saved(tmp_path / "net.onnx", network(kind=TensorProto.UINT8, start=[cast])))
        assert torch.allclose(loaded(IMAGES), expected((255 * IMAGES).round()), rtol=1e-3, atol=1e-2)

    def test_it_cannot_be_copied_as_the_student(self, quantised: Path, tmp_path: Path):
        with pytest.raises(InputError, match="forward-only, so that it has no weights to train; .* with --student"):
            Task(teacher=str(quantised)).load()
        with pytest.raises(InputError, match="forward-only, so that it has no weights to train"):
            ExtensionTask(teacher=str(quantised), new_data="digits").load()
        with pytest.raises(InputError, match="from an ONNX file, and no library builds its network again"):
            Task(teacher=str(saved(tmp_path / "net.onnx", network()))).load()

    @pytest.mark.parametrize("method", ["noise", "deep-dream"])
    def test_a_distillation_goes_all_the_way(self, quantised: Path, tmp_path: Path, method: str):
        experiment = toys.experiment(
            tmp_path,
            task=Task(teacher=str(quantised), student="convnet_w16"),
            method=toys.TINY[method],
            application=DistillationConfig(steps=3),
        )
        if method != "noise":
            with pytest.raises(InputError, match="no gradients; methods that work with it: noise"):
                run(experiment, tmp_path / "run")
            return
        result = run(experiment, tmp_path / "run")
        assert result.student.classes == ("top", "bottom", "left", "right")
        assert result.summary["teacher"]["parameters"] > 0
        assert "forward-only" in (tmp_path / "run" / "student" / "README.md").read_text()


def external(model: onnx.ModelProto, location: str, **entries: str) -> onnx.ModelProto:
    """Say that the head is stored in another file."""
    tensor = model.graph.initializer[2]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=value)
    return model


class TestHostileFiles:
    @pytest.mark.parametrize("location", ["/etc/passwd", "../secret", "a/b", "..", "", "..\\secret"])
    def test_external_data_are_beside_the_file(self, tmp_path: Path, location: str):
        with pytest.raises(
            InputError, match="which is not the name of a file beside it; export it again with its weights inside"
        ):
            read_onnx(saved(tmp_path / "net.onnx", external(network(), location)))

    def test_external_data_are_regular_files(self, tmp_path: Path):
        path = saved(tmp_path / "net.onnx", external(network(), "data"))
        with pytest.raises(InputError, match="data does not exist"):
            read_onnx(path)
        (tmp_path / "secret").write_bytes(bytes(96))
        (tmp_path / "data").symlink_to(tmp_path / "secret")
        with pytest.raises(InputError, match="behind a symbolic link, which is not followed here"):
            read_onnx(path)
        (tmp_path / "data").unlink()
        os.mkfifo(tmp_path / "data")
        with pytest.raises(InputError, match="not a regular file"):
            read_onnx(path)

    def test_external_data_have_the_size_of_the_tensor(self, tmp_path: Path):
        (tmp_path / "data").write_bytes(bytes(50))
        with pytest.raises(InputError, match="ends before the values of 'head'; copy it again"):
            read_onnx(saved(tmp_path / "net.onnx", external(network(), "data")))
        with pytest.raises(InputError, match="stores 5 bytes for 'head', which has 96; do not trust this file"):
            read_onnx(saved(tmp_path / "net.onnx", external(network(), "data", length="5")))
        with pytest.raises(InputError, match="does not say where 'head' is stored"):
            read_onnx(saved(tmp_path / "net.onnx", external(network(), "data", offset="x")))

    @pytest.mark.parametrize("content", [b"", b"not an ONNX file", b"\x08"])
    def test_other_files(self, tmp_path: Path, content: bytes):
        (tmp_path / "net.onnx").write_bytes(content)
        with pytest.raises(InputError, match="is no ONNX file, or"):
            load_onnx(tmp_path / "net.onnx")

    def test_a_truncated_file(self, tmp_path: Path):
        content = network().SerializeToString()
        for size in (len(content) // 3, len(content) - 20):
            (tmp_path / "net.onnx").write_bytes(content[:size])
            with pytest.raises(InputError, match="is no (valid )?ONNX file|has \\d inputs"):
                load_onnx(tmp_path / "net.onnx")

    def test_the_sentence_of_the_child_process_arrives(self, tmp_path: Path):
        with pytest.raises(
            InputError, match="keeps its weights in '/etc/passwd', which is not the name of a file beside it"
        ):
            load_onnx(saved(tmp_path / "net.onnx", external(network(), "/etc/passwd")))

    def test_a_missing_file(self, tmp_path: Path):
        with pytest.raises(InputError, match="net.onnx does not exist; give another path"):
            load_onnx(tmp_path / "net.onnx")

    def test_a_tensor_that_claims_many_values(self, tmp_path: Path):
        model = network()
        del model.graph.initializer[0].dims[:]
        model.graph.initializer[0].dims.extend([2**40, 2**20])
        with pytest.raises(InputError, match="'conv.weight' in .* claims more values than the format allows"):
            read_onnx(saved(tmp_path / "net.onnx", model))

    def test_an_operator_that_fills_the_memory(self, tmp_path: Path):
        nodes = [
            helper.make_node("Constant", [], ["size"], value_ints=[2**14, 2**14, 2**10]),
            helper.make_node("ConstantOfShape", ["size"], ["huge"]),
            helper.make_node("ReduceSum", ["huge"], ["sum"], keepdims=0),
            helper.make_node("Add", ["y", "sum"], ["logits"]),
        ]
        with pytest.raises(InputError, match="does not run on images|takes more than|crashes the process"):
            load_onnx(saved(tmp_path / "net.onnx", network(end=nodes)))

    @pytest.mark.parametrize(
        ("node", "name"),
        [
            (helper.make_node("Steal", ["y"], ["logits"], domain="evil"), "evil.Steal"),
            (helper.make_node("EPContext", ["y"], ["logits"], domain="com.microsoft"), "com.microsoft.EPContext"),
        ],
    )
    def test_an_operator_of_unknown_origin(self, tmp_path: Path, node: onnx.NodeProto, name: str):
        with pytest.raises(InputError, match=f"has the operator '{name}', which is not ONNX's own"):
            read_onnx(saved(tmp_path / "net.onnx", network(end=[node], domains=[node.domain])))

    def test_an_operator_that_names_a_function_of_torch(self, tmp_path: Path):
        """onnx2pytorch would call torch.manual_seed."""
        before = torch.get_rng_state()
        with pytest.raises(InputError, match="is no valid ONNX file|does not run on images"):
            load_onnx(saved(tmp_path / "net.onnx", network(end=[helper.make_node("Manual_seed", ["y"], ["logits"])])))
        assert torch.equal(torch.get_rng_state(), before)


class TestRefusals:
    @pytest.mark.parametrize(
        ("settings", "option"),
        [
            ({"weights": "x.pt"}, "--weights"),
            ({"arguments": {"a": 1}}, "--teacher-args"),
            ({"match": "order"}, "--match"),
        ],
    )
    def test_what_the_file_has(self, settings: dict[str, Any], option: str):
        with pytest.raises(InputError, match=f"already contains the network and its weights; remove {option}"):
            load_onnx("net.onnx", **settings)

    def test_a_missing_package(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
        with pytest.raises(
            InputError, match=r"onnxruntime is not installed; install it with: pip install 'datafree\[onnx\]'"
        ):
            load_onnx(tmp_path / "net.onnx")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                lambda graph: graph.input.append(helper.make_tensor_value_info("mask", 1, [1])),
                "has 2 inputs .images, mask.",
            ),
            (lambda graph: graph.input[0].type.tensor_type.shape.dim.pop(), "is no batch of images with 4 dimensions"),
            (
                lambda graph: graph.output[0].type.tensor_type.shape.dim.add(dim_value=7),
                "no output with one row of numbers",
            ),
            (
                lambda graph: graph.output.extend(helper.make_tensor_value_info(n, 1, ["n", 6]) for n in ("e", "y2")),
                None,
            ),
        ],
        ids=["two inputs", "three dimensions", "no row", "usual name"],
    )
    def test_graphs_of_other_networks(self, tmp_path: Path, change: Any, message: str | None):
        model = network(end=[helper.make_node("Identity", ["y"], ["logits"]), helper.make_node("Neg", ["y"], ["y2"])])
        change(model.graph)
        path = saved(tmp_path / "net.onnx", model)
        if message:
            with pytest.raises(InputError, match=message):
                load_onnx(path)
        else:
            del path
            from datafree.teachers.onnx_networks.graphs import output_of

            assert output_of(model.graph, "net.onnx") == "logits"
            model.graph.output[0].name = "other"
            with pytest.raises(InputError, match="has several outputs .other, e, y2.; export it with one"):
                output_of(model.graph, "net.onnx")


def test_averages_over_several_axes_can_be_exported_again():
    axes = numpy_helper.from_array(np.array([2, 3]), "axes")
    node = helper.make_node("ReduceMean", ["images", "axes"], ["means"], keepdims=0)
    values = [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, 8, 8])]
    outputs = [helper.make_tensor_value_info("means", TensorProto.FLOAT, ["n", 3])]
    graph = helper.make_graph([node], "means", values, outputs, [axes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    network, images = import_network(model, "means"), torch.rand(2, 3, 8, 8)
    assert torch.allclose(network(images), images.mean((2, 3)))
    program = torch.export.export(network, (images,))
    assert torch.equal(program.module()(images), network(images))
    assert [len(node.input) for node in model.graph.node] == [2]  # it is not changed
