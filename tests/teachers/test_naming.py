"""Networks that are named with their weights, and students that have weights, in every form."""

from pathlib import Path

import pytest
import timm
import torch

import datafree.networks.zoo  # noqa: F401  registers networks in timm
from datafree import teachers
from datafree.classifier import Classifier
from datafree.runs.tasks import Task, create_student, student_start
from datafree.teachers.code import is_code
from datafree.teachers.naming import divided, has_weights
from datafree.types import InputError

CODE = """
from torch import nn

class Net(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(width, 3)

    def forward(self, images):
        return self.head(self.features(images))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with code, its weights, and a folder in timm's layout; it is the current one."""
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(CODE)
    network = teachers.load("net.py:Net", shape=(1, 8, 8), mean=(0.3,), std=(0.2,))
    teachers.save_folder(network, tmp_path / "own")
    torch.manual_seed(1)
    model = timm.create_model("convnet_w16", num_classes=3)
    teachers.save_folder(Classifier(model.eval(), shape=(1, 8, 8), classes=3), tmp_path / "timm")
    return tmp_path


@pytest.mark.parametrize(
    ("spec", "network", "weights"),
    [
        ("net.py:Net@own", "net.py:Net", "own"),
        ("a@b/net.py:Net@c@d/w.pt", "a@b/net.py:Net", "c@d/w.pt"),
        ("package.module:build@w.pt", "package.module:build", "w.pt"),
        ("resnet18@w.pth", "resnet18", "w.pth"),
        ("resnet18.a1_in1k@w.pth", "resnet18.a1_in1k", "w.pth"),
        ("torchvision:resnet18@/a/w.pth", "torchvision:resnet18", "/a/w.pth"),
        ("hf-hub:owner/name@main", "hf-hub:owner/name@main", ""),
        ("transformers:owner/name@main", "transformers:owner/name@main", ""),
        ("local-dir:a@b", "local-dir:a@b", ""),
        ("owner/name@main", "owner/name@main", ""),
        ("resnet18", "resnet18", ""),
        ("net.py:Net", "net.py:Net", ""),
        ("resnet18@", "resnet18@", ""),
    ],
)
def test_a_specification_is_divided(spec: str, network: str, weights: str):
    assert divided(spec) == (network, weights)
    assert is_code(spec) == is_code(network)


def test_a_path_with_an_at_sign_is_a_path(folder: Path):
    (folder / "timm").rename(folder / "net@2")
    assert divided("net@2") == ("net@2", "")
    assert teachers.load("net@2").shape == (1, 8, 8)


@pytest.mark.parametrize("weights", ["own", "own/model.safetensors"])
def test_code_is_loaded_with_what_the_folder_of_its_weights_says(folder: Path, weights: str):
    loaded = teachers.load(f"net.py:Net@{weights}")
    assert loaded.shape == (1, 8, 8) and loaded.mean.item() == pytest.approx(0.3) and loaded.code == "net.py:Net"
    expected = teachers.load("net.py:Net", weights="own/model.safetensors")
    images = torch.rand(2, 1, 8, 8)
    assert torch.equal(loaded(images), expected(images))


def test_a_name_is_loaded_with_its_weights(folder: Path):
    loaded = teachers.load("convnet_w16@timm/model.safetensors")
    assert torch.equal(loaded(torch.ones(1, 1, 8, 8)), teachers.load("timm")(torch.ones(1, 1, 8, 8)))


def test_two_weights_files_are_refused(folder: Path):
    with pytest.raises(InputError, match="two weights files are given, in net.py:Net@own and with --weights"):
        teachers.load("net.py:Net@own", weights="own/model.safetensors")


STUDENTS = ["local-dir:timm", "timm", "./timm", "timm/model.safetensors", "convnet_w16@timm", "net.py:Net@own"]


@pytest.mark.parametrize("spec", STUDENTS)
def test_a_student_with_weights_starts_from_them(folder: Path, spec: str):
    assert has_weights(spec)
    student = create_student(teachers.load("timm"), spec)
    images = torch.rand(2, 1, 8, 8)
    expected = teachers.load("net.py:Net@own" if "net.py" in spec else "timm").eval()
    assert torch.allclose(student.eval().model(images), expected.model(images))
    start = student_start(Task(teacher="timm", student=spec))
    assert start is not None and start.images is None


def test_a_student_starts_from_random_weights_if_that_is_asked_for(folder: Path):
    student = create_student(teachers.load("timm"), "timm", init="random")
    assert not torch.equal(next(student.parameters()), next(teachers.load("timm").parameters()))
    assert student_start(Task(teacher="timm", student="timm", student_init="random")) is None


@pytest.mark.parametrize("spec", ["convnet_w16", "net.py:Net", "resnet18.a1_in1k", ""])
def test_a_name_or_code_alone_has_no_weights(folder: Path, spec: str):
    assert not has_weights(spec) and student_start(Task(teacher="timm", student=spec)) is None
    with pytest.raises(InputError, match="--student-init weights needs a student with weights; give a folder or"):
        Task(teacher="timm", student=spec, student_init="weights")


def test_a_folder_of_the_name_of_a_network_is_not_meant(folder: Path):
    (folder / "timm").rename(folder / "convnet_w16")
    assert not has_weights("convnet_w16") and has_weights("./convnet_w16")


def test_arguments_of_a_student_that_has_its_own_are_refused(folder: Path):
    with pytest.raises(InputError, match="timm has its own arguments; remove --student-args"):
        create_student(teachers.load("timm"), "timm", {"width": 2})


def test_a_missing_folder_is_one_sentence(folder: Path):
    with pytest.raises(InputError, match="no/such does not exist"):
        create_student(teachers.load("timm"), "no/such")
