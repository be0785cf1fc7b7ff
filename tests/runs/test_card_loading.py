"""The lines with which a card says how to load a student without datafree do so."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import toys

from datafree import teachers
from datafree.classifier import Classifier
from datafree.runs.reporting.card import library_of, loading


def run_lines(card: str) -> dict[str, Any]:
    """Run the indented lines of a card, and return the names that they define."""
    lines = [line.removeprefix("    ") for line in card.splitlines() if line.startswith("    ")]
    names: dict[str, Any] = {}
    exec("\n".join(lines), names)
    return names


def saved(classifier: Classifier, folder: Path) -> dict[str, Any]:
    """Save a student and return its `config.json`."""
    teachers.save_folder(classifier.eval(), folder / "student")
    return json.loads((folder / "student" / "config.json").read_text())


@pytest.mark.parametrize("channels", [1, 3])
def test_a_network_of_torchvision_is_loaded_with_torchvision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, channels: int
):
    student = teachers.create("torchvision:squeezenet1_1", classes=3, shape=(channels, 32, 32))
    config = saved(student, tmp_path)
    monkeypatch.chdir(tmp_path)
    card = loading(config)
    assert "datafree" not in card and library_of(config) == "pytorch"
    model, images = run_lines(card)["model"], torch.rand(2, channels, 32, 32)
    assert torch.allclose(model(images), student.model(images), atol=1e-6)


def test_a_network_of_transformers_is_loaded_with_transformers():
    config = {"model_type": "vit", "architectures": ["ViTForImageClassification"]}
    assert "AutoModelForImageClassification.from_pretrained" in loading(config) and library_of(config) == "transformers"


def test_a_network_of_code_is_loaded_with_the_code(tmp_path: Path):
    student = toys.plain_net()
    student.code, student.dependencies = "my_net.py:build", {"my_net.py": "ab" * 32}
    config = saved(student, tmp_path)
    card = loading(config)
    assert f"`my_net.py:build`, of `my_net.py` (SHA-256 `{'ab' * 32}`)" in card and library_of(config) == "pytorch"
    assert "--teacher my_net.py:build --weights student/model.safetensors" in card


def test_an_architecture_of_ours_is_registered_first(tmp_path: Path):
    card = loading(saved(teachers.create("convnet_w16"), tmp_path))
    assert "import datafree.networks.zoo  # registers" in card
    assert "import datafree" not in loading(saved(teachers.create("test_resnet", shape=(3, 32, 32)), tmp_path))
