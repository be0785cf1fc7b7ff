"""Feature statistics, measured once on real images, replace the running statistics of batch norm."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import toys
from safetensors.torch import load_file, save_file
from torch import nn

from datafree import teachers
from datafree.classifier import Classifier, batch_norms, fingerprint, record
from datafree.commands.main import main
from datafree.losses import batch_norm_statistics, feature_statistics, statistics_distance
from datafree.methods import METHODS
from datafree.methods.deep_inversion import DeepInversion
from datafree.runs.experiment import run
from datafree.runs.synthesizing import job
from datafree.runs.tasks import Task
from datafree.sets.image_set import read
from datafree.synthesis import Schedule, features
from datafree.synthesis.features import FeatureStatistics, feature_layers, measure_features, measured_moments
from datafree.teachers.inspection import require_capabilities
from datafree.types import Batch, InputError


def linear(*weights: list[list[float]]) -> Classifier:
    """Fully connected layers on images of two pixels."""
    layers: list[nn.Module] = [nn.Flatten()]
    for weight in weights:
        layer = nn.Linear(2, 2, bias=False)
        layer.weight = nn.Parameter(torch.tensor(weight))
        layers.append(layer)
    return Classifier(nn.Sequential(*layers), shape=(1, 1, 2), classes=2)


def test_mean_and_variance_by_hand():
    network = linear([[2.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]])
    images = torch.tensor([[1.0, 0.0], [0.0, 0.5], [0.5, 1.0]]).view(3, 1, 1, 2)
    statistics = measure_features(network, iter([images[:2], images[2:]]), "by hand")
    assert list(statistics.layers) == ["1"], "the layer that returns the logits is not a feature layer"
    mean, var = statistics.layers["1"]
    assert mean.tolist() == pytest.approx([1.0, 0.5])
    assert var.tolist() == pytest.approx([2 / 3, 1 / 6])
    assert (statistics.images, statistics.source) == (3, "by hand")


def test_agrees_with_torch_on_all_images_at_once(plain_teacher: Classifier, bars: Batch):
    conv = next(iter(feature_layers(plain_teacher.model).values()))
    with record(conv) as calls:
        plain_teacher(bars.images)
    statistics = measure_features(plain_teacher, iter(bars.images.split(100)))
    mean, var = next(iter(statistics.layers.values()))
    assert torch.allclose(mean, calls[0].output.mean((0, 2, 3)), atol=1e-6)
    assert torch.allclose(var, calls[0].output.var((0, 2, 3), unbiased=False), atol=1e-6)


def test_an_in_place_activation_changes_neither_measurement_nor_loss(bars: Batch):
    def network(*, inplace: bool) -> Classifier:
        torch.manual_seed(0)
        layers = (nn.Conv2d(1, 4, 3), nn.ReLU(inplace), nn.Conv2d(4, 4, 3), nn.ReLU(inplace), nn.Flatten())
        return toys.classifier(nn.Sequential(*layers, nn.Linear(64, 4)))

    terms, gradients = [], []
    for inplace in (False, True):
        teacher = network(inplace=inplace)
        statistics = measure_features(teacher, [bars.images[:64]])
        with torch.no_grad():
            raw = teacher.model[0](teacher.normalize(bars.images[:64]))  # type: ignore[index]
        assert torch.allclose(statistics.layers["0"][0], raw.mean((0, 2, 3)), atol=1e-5)
        assert raw.min() < 0
        images = bars.images[64:72].clone().requires_grad_()
        stored = statistics.by_layer(teacher)
        with record(*stored, function=partial(measured_moments, stored)) as moments:
            teacher(images)
        loss = statistics_distance(moments)
        terms.append(loss.item())
        gradients.append(torch.autograd.grad(loss, images)[0])
    assert terms[0] == pytest.approx(terms[1], rel=1e-5)
    torch.testing.assert_close(*gradients)


def test_a_small_variance_far_from_zero_survives():
    network = linear([[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]])
    images = 5000 + torch.tensor([[0.0, 0.25], [0.5, 0.25]]).view(2, 1, 1, 2)
    assert measure_features(network, [images]).layers["1"][1].tolist() == [0.0625, 0.0]


def test_a_layer_that_is_called_twice_is_measured_over_both_calls():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.head = nn.Linear(2, 2, bias=False), nn.Linear(2, 2)
            self.layer.weight = nn.Parameter(2 * torch.eye(2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.layer(self.layer(x.flatten(1))))

    network = Classifier(Twice(), shape=(1, 1, 2), classes=2)
    mean, var = measure_features(network, [torch.ones(1, 1, 1, 2)]).layers["layer"]
    assert mean.tolist() == [3, 3] and var.tolist() == [1, 1]  # 2 and 4


def test_layers_that_are_never_called_are_omitted():
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle, self.head = (nn.Linear(2, 2) for _ in range(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.used(x.flatten(1)))

    assert list(measure_features(Classifier(Idle(), shape=(1, 1, 2), classes=2), [torch.ones(1, 1, 1, 2)]).layers) == [
        "used"
    ]


@pytest.mark.parametrize(
    ("name", "shape", "channels"),
    [
        ("lenet5", (1, 32, 32), {"conv1": 6, "conv2": 16, "conv3": 120}),
        ("convnet_w16", (1, 8, 8), {"blocks.0.1": 16}),
        ("test_vit", (3, 160, 160), {"patch_embed.proj": 64, "blocks.0.attn.qkv": 192, "blocks.0.mlp.fc2": 64}),
        ("test_convnext", (3, 64, 64), {"stem.0": 24, "stages.0.blocks.0.conv_dw": 24}),
    ],
)
def test_channels_of_feature_maps_and_of_tokens(name: str, shape: tuple[int, int, int], channels: dict[str, int]):
    network = teachers.create(name, classes=3, shape=shape).eval()
    images = torch.rand(2, *shape)
    measured = measure_features(network, [images]).layers
    assert {layer: len(measured[layer][0]) for layer in channels} == channels
    layers = {layer: network.model.get_submodule(layer) for layer in measured}
    stored = {layers[layer]: pair for layer, pair in measured.items()}
    with record(*layers.values(), function=partial(measured_moments, stored)) as moments:
        network(images)
    assert statistics_distance(moments).item() == pytest.approx(0, abs=1e-3)


class TestTheLoss:
    def test_by_hand(self):
        features = torch.tensor([[0.0, 1.0], [2.0, 1.0]])  # means 1, 1; variances 1, 0
        stored = (torch.tensor([1.0, 4.0]), torch.tensor([0.0, 0.0]))
        assert feature_statistics([features], [stored]).item() == pytest.approx(3 + 1)
        assert feature_statistics([features, features], [stored, stored], (0.5, 2.0)).item() == pytest.approx(2 + 8)

    def test_gradient(self):
        features = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
        stored = (torch.randn(3, dtype=torch.float64), torch.rand(3, dtype=torch.float64))
        assert torch.autograd.gradcheck(lambda x: feature_statistics([x], [stored]), features)

    def test_batch_norm_statistics_are_a_special_case(self, teacher: Classifier, bars: Batch):
        with record(*batch_norms(teacher)) as calls:
            teacher(bars.images[:7])
        stored = [(norm.running_mean, norm.running_var) for norm, _, _ in calls]
        expected = feature_statistics([call.input for call in calls], stored)  # type: ignore[arg-type]
        assert batch_norm_statistics(calls).item() == expected.item() > 0


@pytest.fixture
def statistics_file(plain_teacher: Classifier, bars: Batch, tmp_path: Path) -> Path:
    features.save(measure_features(plain_teacher, [bars.images], "bars"), tmp_path / "stats.safetensors")
    return tmp_path / "stats.safetensors"


def test_the_file_restores_everything(statistics_file: Path, plain_teacher: Classifier, bars: Batch):
    expected, loaded = (
        measure_features(plain_teacher, [bars.images], "bars"),
        features.load(str(statistics_file), plain_teacher),
    )
    assert toys.same(dict(loaded.layers), dict(expected.layers)) and list(loaded.layers) == list(expected.layers)
    assert replace(loaded, layers={}) == replace(expected, layers={})


METADATA = {"datafree": "feature statistics", "teacher": "", "source": "", "images": "1", "layers": "0", "sha256": ""}


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (Path.unlink, "does not exist"),
        (lambda path: path.write_bytes(b""), "cannot be used"),
        (lambda path: path.write_bytes(path.read_bytes()[:-4]), "cannot be used"),
        (lambda path: path.write_bytes(path.read_bytes()[:-5] + b"?" + path.read_bytes()[-4:]), "its own SHA-256"),
        (lambda path: path.write_bytes(path.read_bytes().replace(b'"bars"', b'"cars"')), "its own SHA-256"),
        (lambda path: path.write_bytes(path.read_bytes().replace(b'"256"', b'"255"')), "its own SHA-256"),
        (lambda path: path.write_bytes(path.read_bytes().replace(b'"256"', b'"x56"')), "cannot be used"),
        (lambda path: path.write_bytes(path.read_bytes().replace(b'"256"', b"25600")), "cannot be used"),
        (lambda path: save_file({"a": torch.zeros(1)}, path), "cannot be used"),
        (
            lambda path: save_file({"a": torch.zeros(1)}, path, {"datafree": "feature statistics", "layers": "b"}),
            "cannot",
        ),
        (
            lambda path: save_file({"0.mean": torch.zeros(8, 1), "0.var": torch.zeros(8)}, path, METADATA),
            "cannot be used",
        ),
        (lambda path: (path.unlink(), os.mkfifo(path)), "not a regular file"),
    ],
)
def test_a_damaged_or_foreign_file_is_refused(
    statistics_file: Path, plain_teacher: Classifier, damage: Callable[[Path], None], fault: str
):
    damage(statistics_file)
    with pytest.raises(InputError, match=fault):
        features.load(str(statistics_file), plain_teacher)


def test_a_flipped_bit_of_the_header_is_detected(statistics_file: Path, plain_teacher: Classifier):
    content = statistics_file.read_bytes()
    for position in range(0, 8 + int.from_bytes(content[:8], "little"), 5):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        statistics_file.write_bytes(damaged)
        with pytest.raises(InputError):
            features.load(str(statistics_file), plain_teacher)


@pytest.mark.parametrize(
    "pair",
    [
        (torch.zeros(8), torch.full((8,), -1.0)),
        (torch.full((8,), float("nan")), torch.ones(8)),
        (torch.zeros(8), torch.full((8,), float("inf"))),
        (torch.zeros(7), torch.ones(7)),
        (torch.zeros(8, dtype=torch.float64), torch.ones(8, dtype=torch.float64)),
    ],
)
def test_statistics_that_no_layer_can_have_are_refused(
    pair: tuple[torch.Tensor, torch.Tensor], plain_teacher: Classifier, tmp_path: Path
):
    """Also with a correct SHA-256."""
    for layer, tensors in (("0", pair), ("9", (torch.zeros(8), torch.ones(8)))):
        hostile = FeatureStatistics({layer: tensors}, fingerprint(plain_teacher.model), "bars", 2)
        features.save(hostile, tmp_path / "x")
        with pytest.raises(InputError, match=rf"statistics of '{layer}' that no layer of the teacher can have"):
            features.load(str(tmp_path / "x"), plain_teacher)


def test_statistics_of_another_teacher_are_refused(statistics_file: Path, teacher: Classifier):
    with pytest.raises(InputError, match="was measured on another teacher"):
        features.load(str(statistics_file), teacher)


def test_a_teacher_without_feature_layers_is_refused():
    with pytest.raises(InputError, match="no layer whose features can be measured"):
        measure_features(Classifier(nn.Flatten(), shape=(1, 1, 2), classes=2), [torch.rand(2, 1, 1, 2)])


def test_measuring_does_not_change_the_teacher(plain_teacher: Classifier, bars: Batch):
    before = toys.snapshot(plain_teacher)
    measure_features(plain_teacher, [bars.images])
    assert toys.same(toys.snapshot(plain_teacher), before)


class TestDeepInversion:
    def method(self, path: Path, **changes: Any) -> Any:
        return replace(toys.TINY["deep-inversion"], feature_statistics=str(path), **changes)

    def test_supports_a_teacher_without_batch_norm(self, statistics_file: Path, plain_teacher: Classifier):
        with pytest.raises(InputError, match="no batch-norm statistics"):
            require_capabilities(plain_teacher, toys.TINY["deep-inversion"])
        require_capabilities(plain_teacher, self.method(statistics_file))

    def test_its_objective_is_small_for_the_data_and_large_for_noise(
        self, statistics_file: Path, plain_teacher: Classifier, bars: Batch
    ):
        synthesizer = DeepInversion(plain_teacher, self.method(statistics_file, statistics=1.0))
        data = synthesizer.objective(bars.images, bars.targets)["statistics"].item()
        noise = synthesizer.objective(torch.rand_like(bars.images), bars.targets)["statistics"].item()
        assert data == pytest.approx(0, abs=1e-4) and noise > 1

    def test_it_brings_features_closer_to_the_data(self, statistics_file: Path, plain_teacher: Classifier, bars: Batch):
        def distance(weight: float) -> float:
            torch.manual_seed(0)
            method = self.method(statistics_file, batch_size=64, steps=(40,), statistics=weight)
            images = method.build(plain_teacher).synthesize().images
            reference = DeepInversion(plain_teacher, self.method(statistics_file, statistics=1.0))
            return reference.objective(images, torch.zeros(64, dtype=torch.long))["statistics"].item()

        assert distance(10.0) < 0.5 * distance(0.0)

    def test_without_the_term_the_file_is_not_read(self, plain_teacher: Classifier, tmp_path: Path):
        self.method(tmp_path / "missing", statistics=0.0).build(plain_teacher)

    def test_adi_supports_it_as_well(self, statistics_file: Path, plain_teacher: Classifier, student: Classifier):
        method = replace(METHODS["adi"], batch_size=8, steps=(2,), feature_statistics=str(statistics_file))
        assert {"statistics", "compete"} <= method.build(plain_teacher).synthesize(student).terms.keys()


class TestCommand:
    def measure(self, teacher: Path, out: Path, *more: str) -> int:
        data = ["--data", "digits", "--images", "300", "--out", str(out)]
        return main(["statistics", f"local-dir:{teacher}", *data, *more])

    def test_the_file_contains_the_number_of_images(
        self, plain_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ):
        out = tmp_path / "folder" / "stats.safetensors"
        assert self.measure(plain_folder, out) == 0
        assert "3 layers, 284 numbers, from 300 real images" in capsys.readouterr().out
        assert [path.name for path in out.parent.iterdir()] == ["stats.safetensors"]
        statistics = features.load(str(out), teachers.load_folder(plain_folder))
        assert (statistics.images, statistics.source) == (300, "digits")
        assert self.measure(plain_folder, tmp_path / "all.safetensors", "--images", "99999") == 0
        assert features.load(str(tmp_path / "all.safetensors"), teachers.load_folder(plain_folder)).images == 1347

    def test_the_choice_of_images_depends_on_the_seed(self, plain_folder: Path, tmp_path: Path):
        for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
            self.measure(plain_folder, tmp_path / name, "--seed", seed)
        data = [load_file(tmp_path / name) for name in "abc"]
        assert toys.same(data[0], data[1]) and not toys.same(data[1], data[2])

    def test_a_run_that_uses_statistics_reports_it(self, plain_folder: Path, tmp_path: Path):
        self.measure(plain_folder, tmp_path / "stats.safetensors")
        method = replace(
            METHODS["deep-inversion"], batch_size=8, steps=(2,), feature_statistics=str(tmp_path / "stats.safetensors")
        )
        task = Task(teacher=f"local-dir:{plain_folder}", student="lenet5_half")
        experiment = toys.experiment(
            plain_folder, method=method, task=task, schedule=Schedule(refresh_every=0, batch_size=8)
        )
        summary = run(experiment, tmp_path / "run").summary
        entry = {"source": "digits", "split": "train", "purpose": "statistics", "images": 300}
        assert summary["ledger"] == json.loads((tmp_path / "run" / "ledger.json").read_text()) == [entry]
        assert (summary["real_images_seen"], summary["real_images_measured"]) == (0, 300)
        assert summary["notes"] == ["feature statistics were measured on 300 real images of digits"]
        for page in ("student/README.md", "report.html"):
            assert "used to measure feature statistics: 300." in (tmp_path / "run" / page).read_text()

    def test_an_image_set_synthesized_with_statistics_reports_it(self, plain_folder: Path, tmp_path: Path):
        self.measure(plain_folder, tmp_path / "stats.safetensors")
        method = replace(
            METHODS["deep-inversion"], batch_size=8, steps=(2,), feature_statistics=str(tmp_path / "stats.safetensors")
        )
        job.synthesize(method, teacher=f"local-dir:{plain_folder}", out=tmp_path / "set", images=8, format=())
        assert read(tmp_path / "set").measured_images == {"digits": 300}
        assert "300 real images of `digits`" in (tmp_path / "set" / "README.md").read_text()


def test_sources_and_layers_may_have_any_name(plain_teacher: Classifier, tmp_path: Path):
    pair = (torch.zeros(8), torch.ones(8))
    some = FeatureStatistics(
        {"0": pair}, measure_features(plain_teacher, [torch.rand(2, *toys.SHAPE)]).teacher, "a\nb", 2
    )
    features.save(some, tmp_path / "x")
    assert features.load(str(tmp_path / "x"), plain_teacher).source == "a\nb"
