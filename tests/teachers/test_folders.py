"""Folders of networks: their hashes, and that a network is loaded as the function that was saved."""

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import toys
from torch import nn

from datafree import teachers
from datafree.classifier import Classifier
from datafree.types import InputError

SHAPE = (1, 32, 32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved network."""
    teachers.save_folder(teachers.create("convnet_w16", classes=("a", "b", "c")), tmp_path / "net")
    return tmp_path / "net"


def of_timm(name: str, **arguments: Any) -> Classifier:
    """Return a classifier around a network that was created with timm alone."""
    model = timm.create_model(name, num_classes=4, in_chans=1, **arguments)
    return Classifier(model, shape=SHAPE, classes=4).eval()


class TestHashes:
    def test_a_folder_as_it_was_written_has_no_notes(self, folder: Path):
        assert teachers.load_folder(folder).notes == ()
        assert set(json.loads((folder / "manifest.json").read_text())) == {"config.json", "model.safetensors"}

    @pytest.mark.parametrize("position", [-1, -100, 0.5])
    def test_damaged_weights_are_refused(self, folder: Path, position: float):
        content = bytearray((folder / "model.safetensors").read_bytes())
        content[position if isinstance(position, int) else int(position * len(content))] ^= 1
        (folder / "model.safetensors").write_bytes(content)
        with pytest.raises(InputError, match="model.safetensors does not have the hash in manifest.json"):
            teachers.load_folder(folder)

    def test_weights_of_another_folder_are_refused(self, folder: Path, tmp_path: Path):
        teachers.save_folder(teachers.create("convnet_w16", classes=("a", "b", "c")), tmp_path / "other")
        (tmp_path / "other" / "model.safetensors").replace(folder / "model.safetensors")
        with pytest.raises(InputError, match="does not have the hash"):
            teachers.load_folder(folder)

    def test_an_edited_configuration_is_noted(self, folder: Path):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"label_names": ["x", "y", "z"]}))
        loaded = teachers.load_folder(folder)
        assert loaded.classes == ("x", "y", "z")
        assert loaded.notes == (f"{folder / 'config.json'} was edited after the folder was written",)

    def test_a_folder_without_hashes_is_noted(self, folder: Path):
        (folder / "manifest.json").unlink()
        assert teachers.load_folder(folder).notes == (
            f"{folder} has no manifest.json, so damaged weights cannot be detected",
        )

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"model.safetensors": 3}', '{"model.safetensors": "0"}'])
    def test_a_damaged_manifest_is_refused(self, folder: Path, text: str):
        (folder / "manifest.json").write_text(text)
        with pytest.raises(InputError, match="manifest.json"):
            teachers.load_folder(folder)

    def test_a_folder_of_links_is_loaded(self, folder: Path, tmp_path: Path):
        (tmp_path / "cache").mkdir()
        for name in ("config.json", "model.safetensors", "manifest.json"):
            (tmp_path / "cache" / name).symlink_to(folder / name)
        assert teachers.load_folder(tmp_path / "cache").notes == ()

    def test_a_folder_that_timm_saved_is_loaded(self, tmp_path: Path):
        saved = of_timm("test_resnet")
        saved.model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        timm.models.save_for_hf(saved.model, tmp_path / "net", safe_serialization=True)  # type: ignore[attr-defined]
        loaded, images = teachers.load(f"local-dir:{tmp_path / 'net'}"), torch.rand(2, 1, 32, 32)
        assert torch.allclose(loaded.model(images), saved.model(images), atol=1e-6)
        assert len(loaded.notes) == 1 and "has no manifest.json" in loaded.notes[0]


class TestConfigurations:
    @pytest.mark.parametrize(
        ("entries", "fault"),
        [
            ({"num_classes": 4}, "label_names has 3 names for 4 classes"),
            ({"num_classes": "3"}, "num_classes is '3', but must be an integer"),
            ({"label_names": [1, 2, 3]}, r"label_names.0. is 1, but must be a text"),
            ({"label_names": None, "num_classes": 10**7}, "10000000 classes are not possible"),
            ({"multi_label": "yes"}, "multi_label is 'yes', but must be true or false"),
            ({"model_args": {"checkpoint_path": "/etc/passwd"}}, "which may choose a file or code"),
            ({"model_args": {"widths": [16, "x", 24]}}, "cannot be narrowed to 'x'"),
            ({"model_args": {"widths": [16, 24]}}, "is not a timm model configuration"),
            ({"model_args": {"widths": 5}}, "is not a timm model configuration"),
            ({"model_args": {"widths": [16, 10**9, 24]}}, "cannot be narrowed to 1000000000"),
            ({"widths": {"blocks.0.1": 0}}, "cannot be narrowed to 0"),
            ({"widths": {"blocks.0.1": True}}, "widths.blocks.0.1 is true, but must be an integer"),
            ({"widths": [1]}, "widths is a list, but must be an object"),
            ({"architecture": "vit_gigantic_patch14_224"}, "could not be created .it has more than 1 billion weights"),
            ({"architecture": "resnet_w16"}, "does not match the network resnet_w16"),
        ],
        ids=str,
    )
    def test_wrong_entries_are_one_sentence(self, folder: Path, entries: dict[str, Any], fault: str):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | entries))
        with pytest.raises(InputError, match=fault) as error:
            teachers.load_folder(folder)
        assert "\n" not in str(error.value)

    def test_names_by_index_are_read(self, folder: Path):
        config = json.loads((folder / "config.json").read_text())
        names = {"0": "x", "1": "y", "2": "z"}
        (folder / "config.json").write_text(json.dumps(config | {"label_names": names}))
        assert teachers.load_folder(folder).classes == ("x", "y", "z")


class TestSameFunction:
    @pytest.mark.parametrize(
        ("name", "arguments"),
        [
            ("lcnet_035", {"act_layer": "gelu"}),
            ("test_resnet", {"output_stride": 8}),
            ("test_resnet", {"act_layer": nn.SiLU, "global_pool": "max"}),
            ("test_vit", {"img_size": 32, "patch_size": 8, "depth": 3}),
            ("test_efficientnet", {"bn_eps": 0.1}),
        ],
        ids=str,
    )
    def test_arguments_that_timm_recorded_are_saved(self, tmp_path: Path, name: str, arguments: dict[str, Any]):
        saved = of_timm(name, **arguments)
        teachers.save_folder(saved, tmp_path / "net")
        loaded, images = teachers.load(f"local-dir:{tmp_path / 'net'}"), torch.rand(2, *SHAPE)
        timms = timm.create_model(f"local-dir:{tmp_path / 'net'}", pretrained=True).eval()
        assert torch.equal(loaded(images), saved(images))
        assert torch.allclose(timms(images), saved(images), atol=1e-6)

    @pytest.mark.parametrize(
        ("change", "difference"),
        [
            (lambda m: setattr(m, "act1", nn.GELU()), "act1 is GELU, and would be ReLU"),
            (lambda m: setattr(m.bn1, "eps", 0.1), "eps of bn1 is 0.1, and would be 1e-05"),
            (lambda m: setattr(m, "maxpool", nn.AvgPool2d(3, 2, 1)), "maxpool is AvgPool2d, and would be MaxPool2d"),
            (
                lambda m: setattr(m.conv1[0], "padding_mode", "circular"),
                "padding_mode of conv1.0 is circular",
            ),
        ],
        ids=["activation", "eps", "pooling", "padding"],
    )
    def test_a_network_that_was_changed_is_refused(self, tmp_path: Path, change: Any, difference: str):
        network = of_timm("test_resnet")
        change(network.model)
        with pytest.raises(InputError, match=difference):
            teachers.save_folder(network, tmp_path / "net")
        assert not (tmp_path / "net").exists()

    def test_a_function_inside_a_layer_is_found_by_its_output(self, tmp_path: Path):
        network = of_timm("test_resnet")
        network.model.bn1.forward = lambda x: torch.tanh(x)  # type: ignore[union-attr]
        with pytest.raises(InputError, match="the output of bn1"):
            teachers.save_folder(network, tmp_path / "net")

    def test_saving_draws_no_random_number(self, tmp_path: Path):
        network, before = of_timm("test_vit", img_size=32, patch_size=8), torch.get_rng_state()
        snapshot = toys.snapshot(network)
        teachers.save_folder(network, tmp_path / "net")
        assert torch.equal(torch.get_rng_state(), before) and toys.same(toys.snapshot(network), snapshot)
