"""ONNX files: what ONNX Runtime computes is what torch computes, and the file says what it takes."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import toys
from torch import Tensor, nn

from datafree import teachers
from datafree.classifier import Classifier, fingerprint
from datafree.export import Exported, comparison, export_onnx, onnx_file
from datafree.export.deployment import Deployed
from datafree.teachers.onnx_networks.graphs import Interface
from datafree.teachers.onnx_networks.runtime import OnnxRuntimeNetwork
from datafree.types import InputError, Preprocessing


def run(path: Path, images: Tensor) -> Tensor:
    """What ONNX Runtime alone computes."""
    session = onnxruntime.InferenceSession(path)
    return torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("onnx")


@pytest.fixture(scope="module")
def grey(teacher: Classifier, folder: Path) -> tuple[Exported, Path]:
    """A trained network of grey images, with a note on its provenance."""
    before = toys.snapshot(teacher)
    exported = export_onnx(teacher, folder / "grey.onnx", provenance={"method": "fast", "seed": 3})
    assert toys.same(toys.snapshot(teacher), before), "the classifier was changed"
    return exported, folder / "grey.onnx"


class Probabilities(nn.Module):
    """Sigmoids of a convolution of colour images, which are not square."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3, stride=2), nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.conv(images).relu().mean((2, 3))).sigmoid()


@pytest.fixture(scope="module")
def colour(folder: Path) -> tuple[Classifier, Path]:
    """A network of colour images with several labels, which returns probabilities and takes normalised images."""
    torch.manual_seed(0)
    classifier = Classifier(
        Probabilities(),
        shape=(3, 12, 20),
        classes=("red", "grün", "a, b"),
        mean=(0.1, 0.2, 0.3),
        std=(0.5, 0.4, 0.3),
        multi_label=True,
        preprocessing=Preprocessing(crop_pct=0.9, crop_mode="squash", interpolation="bicubic"),
    ).eval()
    classifier.outputs = "sigmoid"
    export_onnx(classifier, folder / "colour.onnx", normalise=False)
    return classifier, folder / "colour.onnx"


class TestAFileThatNormalises:
    @pytest.mark.parametrize("count", [1, 2, 7])
    def test_it_takes_pixels_in_batches_of_any_size(self, grey: Any, teacher: Classifier, count: int):
        images = torch.rand(count, 1, 8, 8)
        with torch.no_grad():
            assert torch.allclose(run(grey[1], images), teacher(images), atol=1e-4)

    def test_what_was_measured_is_returned(self, grey: Any, teacher: Classifier):
        exported, path = grey
        assert (
            exported.max_difference < 1e-4
            and exported.agreement == 1
            and exported.images == {"synthetic": 16, "random": 16}
        )
        assert exported.largest_logit > 1 and exported.bytes == path.stat().st_size and exported.batch == 0
        assert set(exported.milliseconds) == {"torch", "onnxruntime"} and min(exported.milliseconds.values()) > 0
        assert exported.details["opset"] == 20 and exported.details["operators"]["Conv"] == 2
        assert json.loads(json.dumps(exported.as_dict()))["path"] == str(path)
        assert (
            "agreement 100.0 % on 16 synthetic and 16 random images" in exported.sentence
            and "onnxruntime" in exported.latency
        )

    def test_the_graph_has_plain_names_and_no_trace_of_this_machine(self, grey: Any):
        model = onnx.load(grey[1])
        onnx.checker.check_model(model, full_check=True)
        shape = model.graph.input[0].type.tensor_type.shape.dim
        assert [dim.dim_param or dim.dim_value for dim in shape] == ["batch", 1, 8, 8]
        assert model.graph.output[0].type.tensor_type.shape.dim[0].dim_param == "batch"
        assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["images", "logits"]
        assert model.opset_import[0].version == 20 and model.producer_name == "datafree"
        content = grey[1].read_bytes()
        assert not [word for word in (b"site-packages", b".py", str(Path.cwd()).encode()) if word in content]

    def test_the_metadata(self, grey: Any, teacher: Classifier):
        found = {entry.key: entry.value for entry in onnx.load(grey[1]).metadata_props}
        assert json.loads(found["class_names"]) == list(toys.CLASSES) and found["input"] == "pixels in [0, 1]"
        assert json.loads(found["mean"]) == pytest.approx([0.4]) and found["weights_sha256"] == fingerprint(
            teacher.model
        )
        assert found["method"] == "fast" and found["seed"] == "3" and found["multi_label"] == "false"

    def test_it_is_a_teacher_with_the_same_normalisation(self, grey: Any, teacher: Classifier):
        loaded = teachers.load(str(grey[1]))
        assert loaded.classes == teacher.classes and loaded.shape == teacher.shape and loaded.differentiable
        assert torch.allclose(loaded.mean, teacher.mean) and torch.allclose(loaded.std, teacher.std)
        images = torch.rand(5, 1, 8, 8)
        assert torch.allclose(loaded(images), teacher(images), atol=1e-4)
        assert not [note for note in loaded.notes if "normalised" in note]

    def test_a_mean_for_it_is_refused(self, grey: Any):
        with pytest.raises(InputError, match=r"grey.onnx normalises its images itself; remove --mean and --std$"):
            teachers.load(str(grey[1]), mean=(0.5,))


class TestAFileThatTakesNormalisedImages:
    def test_it_computes_logits_of_probabilities(self, colour: tuple[Classifier, Path]):
        classifier, path = colour
        images = torch.rand(3, 3, 12, 20)
        with torch.no_grad():
            assert torch.allclose(run(path, classifier.normalize(images)), classifier(images), atol=1e-4)

    def test_it_is_a_teacher_with_all_that_its_metadata_say(self, colour: tuple[Classifier, Path]):
        classifier, path = colour
        loaded = teachers.load(str(path))
        assert (
            loaded.classes == ("red", "grün", "a, b")
            and loaded.multi_label
            and loaded.preprocessing == classifier.preprocessing
        )
        assert loaded.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
        images = torch.rand(3, 3, 12, 20)
        assert torch.allclose(loaded(images), classifier(images), atol=1e-4)
        assert torch.equal(teachers.load(str(path), mean=(0.0,), std=(1.0,)).mean.flatten(), torch.zeros(1))

    @pytest.mark.parametrize(
        "spoiled",
        [
            {"mean": "[0.1]x"},
            {"std": "[0, 0, 0]"},
            {"mean": "[1e999]"},
            {"std": '["1"]'},
            {"input": "bytes"},
            {"mean": "[[[["},
            {"mean": "[1, 2]"},
        ],
    )
    def test_damaged_metadata_are_ignored_with_the_usual_note(
        self, colour: tuple[Classifier, Path], tmp_path: Path, spoiled: dict[str, str]
    ):
        model = onnx.load(colour[1])
        for entry in model.metadata_props:
            entry.value = spoiled.get(entry.key, entry.value)
        onnx.save(model, tmp_path / "spoiled.onnx")
        loaded = teachers.load(str(tmp_path / "spoiled.onnx"), multi_label=True)
        assert loaded.mean.flatten().tolist() == [0] and any(
            "does not say how images are normalised" in n for n in loaded.notes
        )


class Decides(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class Bessel(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.special.bessel_j0(x)


class OneByOne(nn.Module):
    """Images one after the other, so that the size of a batch is part of the graph."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([image.flatten()[:4] for image in x.unbind()])


def with_layer(layer: nn.Module) -> Classifier:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), layer, nn.Flatten(), nn.Linear(72, 4))
    return Classifier(model, shape=toys.SHAPE, classes=4).eval()


class TestWhatCannotBeExported:
    def test_the_layer_is_named(self, tmp_path: Path):
        fault = (
            r"^torch.export cannot take layer '1' \(Decides\): its code depends on the values that it computes; change this "
            "code, or use --format timm if timm builds the network$"
        )
        with pytest.raises(InputError, match=fault):
            export_onnx(with_layer(Decides()), tmp_path / "x.onnx")
        assert not list(tmp_path.iterdir())

    def test_the_operator_is_named(self, tmp_path: Path):
        fault = r"^the ONNX exporter cannot take the operator prims.bessel_j0 in layer '1'; use --format torch-export$"
        with pytest.raises(InputError, match=fault):
            export_onnx(with_layer(Bessel()), tmp_path / "x.onnx")
        assert not list(tmp_path.iterdir())

    def test_a_network_of_onnx_runtime_has_its_own_file(self, grey: Any, tmp_path: Path):
        network = OnnxRuntimeNetwork(grey[1].read_bytes(), Interface(input="images", output="logits"))
        forward_only = Classifier(network, shape=toys.SHAPE, classes=4)
        with pytest.raises(
            InputError, match=r"computed by ONNX Runtime and has no weights in torch.*; use its own ONNX file$"
        ):
            export_onnx(forward_only, tmp_path / "x.onnx")

    def test_more_weights_than_a_file_can_have(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, teacher: Classifier
    ):
        monkeypatch.setattr(onnx_file, "SIZE_LIMIT", 100)
        with pytest.raises(
            InputError,
            match=r"^the network has 0.0 GiB of weights, but one ONNX file has at most 2 GiB; use --format torch-export$",
        ):
            export_onnx(teacher, tmp_path / "x.onnx")

    @pytest.mark.parametrize("package", ["onnx", "onnxruntime", "onnxscript"])
    def test_a_missing_package(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, teacher: Classifier, package: str
    ):
        monkeypatch.setitem(sys.modules, package, None)
        fault = rf"^an export to ONNX needs {package}, which is not installed; install it with: pip install 'datafree\[export\]'$"
        with pytest.raises(InputError, match=fault):
            export_onnx(teacher, tmp_path / "x.onnx")

    def test_a_file_that_would_compute_another_function_is_not_written(
        self, grey: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, teacher: Classifier
    ):
        model = onnx.load(grey[1])
        for tensor in model.graph.initializer:
            if tensor.name.endswith("head.bias"):
                tensor.CopyFrom(
                    onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) + np.float32(1), tensor.name)
                )
        monkeypatch.setattr(onnx_file, "translate", lambda traced: model)
        fault = r"^onnxruntime computes another function than torch: logits differ by up to 1 .*, agreement .*; use --format torch-export$"
        with pytest.raises(InputError, match=fault):
            export_onnx(teacher, tmp_path / "x.onnx")
        assert not list(tmp_path.iterdir())

    def test_a_file_that_onnx_runtime_refuses(
        self, grey: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, teacher: Classifier
    ):
        model = onnx.load(grey[1])
        model.graph.node[0].op_type = "Nonsense"
        monkeypatch.setattr(onnx_file, "translate", lambda traced: model)
        with pytest.raises(
            InputError, match=r"^ONNX Runtime cannot run the exported network \(.*\); use --format torch-export$"
        ):
            export_onnx(teacher, tmp_path / "x.onnx")


def test_a_network_that_fixes_the_batch_is_exported_for_single_images(tmp_path: Path):
    torch.manual_seed(0)
    classifier = Classifier(OneByOne(), shape=toys.SHAPE, classes=4).eval()
    exported = export_onnx(classifier, tmp_path / "x.onnx")
    assert exported.batch == 1 and exported.notes == (
        "the code of the network fixes the batch size: the file takes batches of 1",
    )
    images = torch.rand(1, 1, 8, 8)
    assert torch.equal(run(tmp_path / "x.onnx", images), classifier(images))


class TestComparison:
    @pytest.mark.parametrize(
        ("difference", "largest", "equal"), [(9e-5, 0.1, True), (2e-4, 0.1, False), (9e-4, 10, True), (2e-3, 10, False)]
    )
    def test_differences_are_relative_to_large_logits(self, difference: float, largest: float, equal: bool):
        found = comparison.Comparison(max_difference=difference, largest_logit=largest, agreement=1.0)
        assert found.is_equal is equal

    def test_numbers_by_hand(self, teacher: Classifier):
        images = {"one": torch.zeros(2, 1, 8, 8), "other": torch.zeros(2, 1, 8, 8)}
        rows: list[Tensor] = [torch.tensor([[1.0, 2, 3, -4]] * 2), torch.tensor([[1.0, 2, 3, -4]] * 2)]
        others = [rows[0] + torch.tensor([2.5, 0, 0, 0]), rows[1]]

        def answering(values: list[Tensor]) -> Callable[[Tensor], Tensor]:
            iterator = iter(values)
            return lambda _: next(iterator)

        found = comparison.compare(teacher, answering(rows), answering(others), images)
        assert (found.max_difference, found.largest_logit, found.agreement) == (2.5, 4.0, 0.5)

    def test_other_shapes_are_refused(self, teacher: Classifier):
        images = {"one": torch.zeros(2, 1, 8, 8)}
        with pytest.raises(InputError, match=r"^the exported network returns outputs of shape \(2, 3\), not \(2, 4\)$"):
            comparison.compare(teacher, lambda x: torch.zeros(2, 4), lambda x: torch.zeros(2, 3), images)

    def test_no_random_number_is_drawn(self, teacher: Classifier):
        state = torch.get_rng_state()
        one, other = comparison.images_for(teacher), comparison.images_for(teacher)
        assert torch.equal(torch.get_rng_state(), state)
        assert all(torch.equal(one[kind], other[kind]) for kind in ("synthetic", "random"))

    def test_images_of_the_user_are_taken(self, teacher: Classifier):
        images = torch.rand(40, 1, 8, 8)
        assert torch.equal(comparison.images_for(teacher, images)["synthetic"], images[:16])

    def test_engines_take_turns(self):
        turns: list[str] = []
        engines = {name: (lambda x, name=name: turns.append(name) or x) for name in ("a", "b")}
        times = comparison.milliseconds(engines, torch.zeros(1, 1, 2, 2))
        assert set(times) == {"a", "b"} and turns[2:] == ["a", "b"] * ((len(turns) - 2) // 2)

    def test_a_network_that_amplifies_rounding_is_not_refused_for_it(self, monkeypatch: pytest.MonkeyPatch):
        """Both engines are right, but float32 is not exact: the difference of large numbers is small."""

        class Amplifies(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return ((x.flatten(1)[:, :4] + 1e5) - 1e5) * 1e3

        made = Classifier(Amplifies(), shape=toys.SHAPE, classes=4).eval()
        network = Deployed(made)
        found = comparison.verified(made, network, {"exact": lambda x: network(x.double()).float()})
        assert 1 < found["rounding"] < 10 and found["max_difference"] <= 4 * found["rounding"]
        with pytest.raises(InputError, match=r"^other computes another function than torch: .*; do that$"):
            comparison.verified(made, network, {"other": lambda x: network(x) + 100}, other="do that")
