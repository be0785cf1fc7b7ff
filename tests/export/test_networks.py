"""Networks of every family are exported, compute the same in ONNX Runtime, and load again."""

import copy
from pathlib import Path

import onnx
import pytest
import torch
from test_families import FAMILIES
from toys import SHAPE, bars, classifier, conv_net, teach

from datafree import teachers
from datafree.applications.pruning import PruningConfig, prune
from datafree.classifier import Classifier, batch_norms
from datafree.export import export_onnx
from datafree.export.writing import export
from datafree.networks.target_net import build_target_net
from datafree.networks.zoo import NETWORKS, PooledConv2d
from datafree.types import Batch

pytestmark = pytest.mark.slow


def with_statistics(made: Classifier) -> Classifier:
    """Set the running statistics of a network to those of random images, so that its logits are of ordinary size."""
    for norm in batch_norms(made):
        norm.momentum = None
    made.train()
    with torch.no_grad():
        for _ in range(2):
            made(torch.rand(4, *made.shape))
    return made.eval()


def require_same(made: Classifier, path: Path) -> None:
    images = torch.rand(3, *made.shape)
    with torch.no_grad():
        expected = made(images)
        loaded = teachers.load(str(path))(images)
    assert (loaded - expected).abs().max() <= 1e-4 * max(1.0, float(expected.abs().max()))


@pytest.mark.parametrize("name", NETWORKS)
def test_the_networks_of_the_papers(name: str, tmp_path: Path):
    made = with_statistics(teachers.create(name))
    exported = export_onnx(made, tmp_path / "x.onnx")
    assert exported.max_difference <= 1e-4 * max(1.0, exported.largest_logit) and exported.agreement > 0.98
    assert exported.batch == 0 and set(exported.details["operators"]) <= {
        "Add", "AveragePool", "BatchNormalization", "Conv", "Div", "Gemm", "MaxPool", "ReduceMean", "Relu", "Reshape", "Sub",
    }  # fmt: skip
    require_same(made, tmp_path / "x.onnx")


@pytest.mark.parametrize("name", FAMILIES)
def test_the_families(name: str, tmp_path: Path):
    family = FAMILIES[name]
    made = with_statistics(
        Classifier(family.build(family.shape[0]), shape=family.shape, classes=6, mean=(0.4,), std=(0.3,))
    )
    exported = export_onnx(made, tmp_path / "x.onnx")
    assert exported.max_difference <= 1e-4 * max(1.0, exported.largest_logit)
    require_same(made, tmp_path / "x.onnx")


@pytest.mark.parametrize("name", ["resnet18_cifar_w16", "lenet5"])
def test_pruned_networks(name: str, tmp_path: Path):
    made = with_statistics(teachers.create(name))
    images = torch.rand(8, *made.shape)
    batches = iter(lambda: Batch(images, torch.zeros(8, dtype=torch.long), {}), None)
    student = prune(copy.deepcopy(made), made, batches, PruningConfig(steps=0, multiple=4, importance_batches=1))
    assert isinstance(student, Classifier)
    teachers.save_folder(student, tmp_path / "student")
    loaded = teachers.load(str(tmp_path / "student"))
    for format in ("onnx", "torch-export"):
        exported = export(loaded, tmp_path / format, format)
        assert exported.max_difference <= 1e-4 * max(1.0, exported.largest_logit)
    require_same(student, tmp_path / "onnx" / "model.onnx")


def test_an_amalgamated_network(tmp_path: Path):
    network = build_target_net(["convnet_w16"] * 3, [1, 2], [[0, 1], [1, 2]], SHAPE)
    made = with_statistics(Classifier(network, shape=SHAPE, classes=("a", "b", "c")))
    assert export_onnx(made, tmp_path / "x.onnx").max_difference <= 1e-4
    require_same(made, tmp_path / "x.onnx")


def test_a_network_from_an_onnx_file(tmp_path: Path):
    made = teach(conv_net(), bars())
    export_onnx(made, tmp_path / "one.onnx")
    again = teachers.load(str(tmp_path / "one.onnx"))
    export_onnx(again, tmp_path / "two.onnx")
    require_same(made, tmp_path / "two.onnx")


def test_a_function(tmp_path: Path):
    made = classifier(conv_net().model)
    function = Classifier(lambda images: made.model(images) * 2, shape=SHAPE, classes=4)
    export_onnx(function, tmp_path / "x.onnx")
    require_same(function, tmp_path / "x.onnx")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_pooled_convolutions_become_plain_layers(tmp_path: Path):
    """By both exporters of torch."""
    torch.manual_seed(0)
    made = PooledConv2d(2, 3, 5).eval()
    images = torch.rand(2, 2, 12, 12)
    torch.onnx.export(made, (images,), tmp_path / "old.onnx", dynamo=False, opset_version=17)
    program = torch.export.export(made, (images,))
    assert torch.allclose(program.module()(images), made(images), atol=1e-5)
    assert [node.op_type for node in onnx.load(tmp_path / "old.onnx").graph.node] == ["Conv", "MaxPool"]
