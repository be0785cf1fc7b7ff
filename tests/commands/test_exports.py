"""`datafree export`, and uploads as the last step of commands."""

import json
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import timm
import torch
import toys

from datafree import teachers
from datafree.classifier import Classifier
from datafree.commands.main import main
from datafree.export import comparison, writing
from datafree.runs.experiment import run
from datafree.runs.reporting.provenance import provenance_of
from datafree.sets import image_set
from datafree.types import Batch


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "SECONDS", 0.0)
    monkeypatch.setattr(comparison, "MOST", 8)


@pytest.fixture
def uploads(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What is uploaded to a hub that is not there."""
    made: list[dict[str, Any]] = []

    class Hub:
        def create_repo(self, name: str, **settings: Any) -> str:
            return f"https://hub.example/{name}"

        def upload_folder(self, **settings: Any) -> None:
            made.append(settings | {"card": (Path(settings["folder_path"]) / "README.md").read_text()})

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_x")
    return made


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("network") / "net"
    torch.manual_seed(0)
    made = teachers.create("convnet_w16", classes=toys.CLASSES, shape=toys.SHAPE, mean=(0.4,), std=(0.3,))
    teachers.save_folder(toys.teach(made, toys.bars(), steps=2), folder, "---\nlicense: mit\n---\n")
    return folder


def words(network: Path, out: Path, *more: str) -> list[str]:
    return ["export", str(network), "--format", "torch-export", "--out", str(out), *more]


def test_a_folder_with_the_program_its_comparison_and_a_card(
    network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], uploads: list[dict[str, Any]]
):
    assert main(words(network, tmp_path / "out", "--push-to-hub", "me/net")) == 0
    out = capsys.readouterr().out
    assert "agreement 100.0 % on 8 synthetic and 8 random images" in out.replace("\n", " ") and "torch-export" in out
    result = json.loads((tmp_path / "out" / "export.json").read_text())
    assert result["path"] == str(tmp_path / "out" / "model.pt2") and result["max_difference"] <= 1e-4
    program = torch.export.load(tmp_path / "out" / "model.pt2").module()
    images = torch.rand(3, 1, 8, 8)
    assert torch.allclose(program(images), teachers.load(str(network))(images), atol=1e-5)
    (upload,) = uploads
    assert upload["repo_id"] == "me/net" and upload["repo_type"] == "model" and "license: mit" in upload["card"]
    assert (
        "`mit`, that of the teacher" in upload["card"]
        and "pixels in [0, 1]; the file normalises them" in upload["card"]
    )
    assert "uploaded" in out and "https://hub.example/me/net" in out


def test_one_file_that_takes_normalised_images(network: Path, tmp_path: Path):
    assert main(words(network, tmp_path / "x.pt2", "--no-normalise")) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["x.pt2"]
    facts: dict[str, Any] = {"metadata.json": ""}
    program = torch.export.load(tmp_path / "x.pt2", extra_files=facts).module()
    classifier = teachers.load(str(network))
    images = torch.rand(1, 1, 8, 8)
    assert torch.allclose(program(classifier.normalize(images)), classifier(images), atol=1e-5)
    said = json.loads(facts["metadata.json"])
    assert said["input"] == "normalised images" and json.loads(said["class_names"]) == list(toys.CLASSES)


def test_a_folder_that_timm_loads(tmp_path: Path):
    torch.manual_seed(0)
    model = timm.create_model("test_byobnet", num_classes=3, in_chans=1)
    made = Classifier(model, shape=(1, 24, 32), classes=("a", "b", "c"), mean=(0.3,), std=(0.2,)).eval()
    exported = writing.export(made, tmp_path / "out", "timm")
    assert exported.max_difference <= 1e-4 and exported.path == tmp_path / "out"
    assert {path.name for path in exported.path.iterdir()} == {
        "README.md", "config.json", "export.json", "manifest.json", "model.safetensors",
    }  # fmt: skip
    loaded = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    images = torch.rand(2, 1, 24, 32)
    assert torch.allclose(loaded(made.normalize(images)), made(images), atol=1e-5)


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        (["--format", "timm"], "timm alone cannot load this network, because convnet_w16 is registered by datafree.networks.zoo; use --format onnx or torch-export"),
        (["--out", "x.onnx"], "x.onnx is the name of a file of the format onnx; give --format onnx or another --out"),
        (["--out", "x.pth"], "x.pth is the name of a file that export does not write; end it in .onnx or .pt2, or name a folder"),
        (["--out", "x.pt2", "--push-to-hub", "me/x"], "a single file has no model card to upload; give --out the name of a folder"),
        (["--push-to-hub", "x"], "'x' is no repository of the Hugging Face hub; write OWNER/NAME"),
        (["--images", "nowhere"], "nowhere"),
        (["--format", "tflite"], "tflite"),
    ],
)  # fmt: skip
def test_faults_in_one_sentence_and_nothing_is_written(
    network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    uploads: Any, more: list[str], fault: str,
):  # fmt: skip
    monkeypatch.chdir(tmp_path)
    given = words(network, tmp_path / "out")
    for option, value in zip(more[::2], more[1::2], strict=True):
        if option in given:
            given[given.index(option) + 1] = value
        else:
            given += [option, value]
    assert main(given) == 2
    error = capsys.readouterr().err
    assert fault in error and error.count("\n") == 1 and not list(tmp_path.iterdir())


def test_an_output_that_exists_is_refused_before_the_network_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["export", "no-such-network", "--out", str(tmp_path)]) == 2
    assert f"{tmp_path} already exists; give another --out" in capsys.readouterr().err


def test_an_image_set_of_another_shape_is_refused(network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    made = image_set.ImageSet(
        batch=Batch(torch.rand(4, 1, 9, 9), torch.zeros(4, dtype=torch.long), {}),
        classes=("0", "1"),
        teacher_sha256="0" * 64,
        made_by="noise",
    )
    flat = Classifier(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(81, 2)), shape=(1, 9, 9), classes=2)
    image_set.write(made, flat, tmp_path / "set")
    assert main(words(network, tmp_path / "out", "--images", str(tmp_path / "set"))) == 2
    assert "has images of shape (1, 9, 9), but the teacher takes (1, 8, 8)" in capsys.readouterr().err


@pytest.fixture(scope="module")
def finished(network: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(toys.experiment(network), tmp_path_factory.mktemp("run") / "run").path


class TestProvenance:
    def test_a_student_has_the_teacher_and_the_method_of_its_run(self, finished: Path, network: Path):
        summary = json.loads((finished / "summary.json").read_text())
        for spec in (f"{finished}/student", f"local-dir:{finished}/student", f"{finished}/student/model.safetensors"):
            found = provenance_of(spec, teachers.load(spec), library="onnx")
            assert (
                found.facts["teacher_sha256"] == summary["teacher_sha256"]
                and found.facts["method"] == summary["method"]
            )
            assert found.header.relation == "finetune" and found.header.licence == "mit"
            assert found.header.name == "student of net" and "held_out" not in found.facts and not found.header.measured

    def test_a_student_that_was_changed_has_none(self, finished: Path):
        spec = f"{finished}/student"
        changed = teachers.load(spec)
        with torch.no_grad():
            next(changed.model.parameters()).add_(1)
        assert provenance_of(spec, changed, library="onnx").facts == {"network": "student"}

    def test_a_damaged_summary_is_no_provenance(self, finished: Path):
        before = (finished / "summary.json").read_text()
        try:
            (finished / "summary.json").write_text("{}")
            found = provenance_of(f"{finished}/student", teachers.load(f"{finished}/student"), library="onnx")
        finally:
            (finished / "summary.json").write_text(before)
        assert found.facts == {"network": "student"}

    def test_any_other_network_has_its_own_origin(self, network: Path):
        found = provenance_of(str(network), teachers.load(str(network)), library="onnx", relation="quantized", name="x")
        assert found.header.name == "x" and found.header.relation == "quantized" and found.header.licence == "mit"

    def test_the_card_of_the_student_says_the_same(self, finished: Path):
        card = (finished / "student" / "README.md").read_text()
        assert "license: mit" in card and "**Licence.** `mit`, that of the teacher." in card


def test_a_run_uploads_its_student(
    network: Path, tmp_path: Path, uploads: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
):
    given = ["prune", str(network), "--method", "noise", "--steps", "0", "--rounds", "1", "--importance-batches", "1"]
    assert main([*given, "--out", str(tmp_path / "run"), "--push-to-hub", "me/pruned"]) == 0
    (upload,) = uploads
    assert upload["repo_id"] == "me/pruned" and Path(upload["folder_path"]) == tmp_path / "run" / "student"
    assert "pruning" in upload["card"] and "push-to-hub" not in capsys.readouterr().out.partition("repeat")[2]
