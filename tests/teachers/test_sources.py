"""Creating, loading and saving classifiers. Files are untrusted."""

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import toys
from safetensors.torch import load_file, save_file
from torch import Tensor

from datafree import teachers
from datafree.classifier import Classifier, cpu_state_dict
from datafree.teachers.creation import preprocessing_from_config
from datafree.types import InputError, Preprocessing

NETWORK = "convnet_w16"
PREPROCESSING = Preprocessing(crop_pct=0.875, crop_mode="squash", interpolation="bicubic")


def network(**settings: Any) -> Classifier:
    return teachers.create(
        NETWORK, **{"classes": ("a", "b", "c"), "shape": (2, 8, 8), "mean": (0.1, 0.2), "std": (0.3, 0.4)} | settings
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved network."""
    teachers.save_folder(network(), tmp_path / "net")
    return tmp_path / "net"


def change(folder: Path, **entries: Any) -> None:
    """Replace entries of `config.json`."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | entries))


class TestFolders:
    def test_a_saved_classifier_is_loaded_unchanged(self, tmp_path: Path):
        saved = network(preprocessing=PREPROCESSING).eval()
        teachers.save_folder(saved, tmp_path / "net", card="a card")
        loaded = teachers.load(f"local-dir:{tmp_path / 'net'}")
        assert (loaded.classes, loaded.shape, loaded.preprocessing) == (("a", "b", "c"), (2, 8, 8), PREPROCESSING)
        assert torch.allclose(loaded.mean, saved.mean) and torch.allclose(loaded.std, saved.std)
        assert toys.same(dict(loaded.state_dict()), dict(saved.state_dict()))
        assert not loaded.training and (tmp_path / "net" / "README.md").read_text() == "a card"

    def test_the_path_may_be_a_string(self, tmp_path: Path):
        saved = network()
        teachers.save_folder(saved, str(tmp_path / "net"))
        loaded = teachers.load_folder(str(tmp_path / "net"))
        assert toys.same(dict(loaded.state_dict()), dict(saved.state_dict()))

    def test_timm_loads_a_paper_network_once_datafree_has_registered_it(self, folder: Path):
        model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
        loaded, images = teachers.load_folder(folder).eval(), torch.rand(3, 2, 8, 8)
        assert torch.allclose(model(loaded.normalize(images)), loaded(images), atol=1e-6)

    def test_timm_loads_its_own_network_without_datafree(self, tmp_path: Path):
        saved = teachers.create("test_resnet", classes=4, shape=(1, 32, 32), mean=(0.5,), std=(0.25,)).eval()
        teachers.save_folder(saved, tmp_path / "net")
        images = torch.rand(2, 1, 32, 32)
        save_file({"images": saved.normalize(images).contiguous()}, tmp_path / "in")
        program = (
            "import sys; sys.modules['datafree'] = None\n"
            "import timm, torch; from safetensors.torch import load_file, save_file\n"
            "model = timm.create_model('local-dir:net', pretrained=True).eval()\n"
            "with torch.no_grad(): save_file({'out': model(load_file('in')['images'])}, 'out')\n"
            "cfg = model.pretrained_cfg\n"
            "assert tuple(cfg['mean']) == (0.5,) and tuple(cfg['input_size']) == (1, 32, 32)\n"
        )
        subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, timeout=60)
        assert torch.allclose(load_file(tmp_path / "out")["out"], saved(images), atol=1e-5)

    def test_a_single_mean_is_saved_for_every_channel(self, tmp_path: Path):
        teachers.save_folder(network(mean=(0.5,), std=(0.25,)), tmp_path / "net")
        config = json.loads((tmp_path / "net" / "config.json").read_text())["pretrained_cfg"]
        assert config["mean"] == [0.5, 0.5] and config["std"] == [0.25, 0.25]

    def test_a_network_that_only_its_own_code_builds_is_saved_with_what_builds_it(self, tmp_path: Path):
        saved = toys.plain_net()
        saved.code, saved.dependencies = "net.py:build", {"net.py": "0" * 64}
        teachers.save_folder(saved, tmp_path / "net")
        config = json.loads((tmp_path / "net" / "config.json").read_text())
        assert config["code"]["spec"] == "net.py:build" and config["code"]["files"] == {"net.py": "0" * 64}
        assert toys.same(load_file(tmp_path / "net" / "model.safetensors"), cpu_state_dict(saved.model))
        with pytest.raises(InputError, match=r"name the network as net.py:build@.*net$"):
            teachers.load_folder(tmp_path / "net")

    @pytest.mark.parametrize(
        ("text", "fault"),
        [
            ("", "is not valid JSON"),
            ("{", "is not valid JSON"),
            ("[" * 100_000, "is not valid JSON .it is nested too deeply"),
            ("[]", "its content is a list, but must be an object"),
            ("null", "its content is null, but must be an object"),
            ("{}", "architecture is missing"),
            ('{"architecture": 3, "pretrained_cfg": {}}', "architecture is 3, but must be a text"),
        ],
    )
    def test_a_damaged_configuration_is_refused(self, folder: Path, text: str, fault: str):
        (folder / "config.json").write_text(text)
        with pytest.raises(InputError, match=f"config.json:? {fault}"):
            teachers.load_folder(folder)

    @pytest.mark.parametrize(
        ("name", "value", "fault"),
        [
            ("crop_pct", -1.0, "crop-pct is -1.0, but it must be at least 0.01"),
            ("crop_pct", "much", "config.json: pretrained_cfg.crop_pct is 'much', but must be a finite number"),
            ("interpolation", "bicubi", "is not a timm model configuration"),
            ("mean", [0.1], None),
            ("mean", [float("nan"), 0.0], "config.json is not valid JSON"),
            ("std", [0.0, 1.0], "it must be positive"),
            ("std", [1e39, 1.0], "has NaN or infinite values|must be finite"),
            ("std", "abc", "pretrained_cfg.std is 'abc', but must be a list"),
            ("mean", [0.1, 0.2, 0.3, 0.4], "mean has 4 values for 2 channels"),
            ("input_size", [2, 8], "pretrained_cfg.input_size has 2 entries, but must have 3"),
            ("input_size", [2, 8, True], r"pretrained_cfg.input_size.2. is true, but must be an integer"),
            ("input_size", [2, 10**5, 10**5], "images of shape .2, 100000, 100000. are not possible"),
        ],
    )
    def test_invalid_preprocessing_is_refused(self, folder: Path, name: str, value: Any, fault: str | None):
        cfg = json.loads((folder / "config.json").read_text())["pretrained_cfg"]
        change(folder, pretrained_cfg=cfg | {name: value})
        with pytest.raises(InputError, match=fault) if fault else nullcontext():
            teachers.load_folder(folder)

    def test_empty_preprocessing_entries_give_the_default(self, folder: Path):
        cfg = json.loads((folder / "config.json").read_text())["pretrained_cfg"]
        change(folder, pretrained_cfg=cfg | {"crop_pct": None, "crop_mode": None, "interpolation": ""})
        assert teachers.load_folder(folder).preprocessing == Preprocessing()

    def test_the_preprocessing_of_every_timm_network_is_valid(self):
        configurations = [timm.get_pretrained_cfg(name) for name in timm.list_models(pretrained=True)]
        assert len(configurations) > 1000
        for cfg in configurations:
            assert cfg and preprocessing_from_config(cfg.to_dict()).crop_pct == cfg.crop_pct

    def test_an_unknown_preprocessing_value_is_refused(self):
        """Set after construction, because the tests check the types of arguments at run time."""
        object.__setattr__(preprocessing := Preprocessing(), "interpolation", "bicubi")
        with pytest.raises(InputError, match="interpolation 'bicubi' is unknown; did you mean bicubic"):
            preprocessing.__post_init__()

    def test_a_missing_folder_is_refused(self, tmp_path: Path):
        with pytest.raises(InputError, match="config.json does not exist"):
            teachers.load(f"local-dir:{tmp_path / 'nowhere'}")

    def test_missing_weights_are_refused(self, folder: Path):
        (folder / "model.safetensors").unlink()
        with pytest.raises(InputError, match="model.safetensors does not exist"):
            teachers.load_folder(folder)

    def test_a_configuration_can_only_name_a_network(self, folder: Path):
        change(folder, architecture="os.system")
        with pytest.raises(InputError, match="unknown to timm"):
            teachers.load_folder(folder)

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    @pytest.mark.parametrize("name", ["head.weight", "blocks.0.2.running_var"])
    def test_weights_that_are_not_finite_are_refused(self, folder: Path, name: str, value: float):
        tensors = load_file(folder / "model.safetensors")
        tensors[name].view(-1)[0] = value
        save_file(tensors, folder / "model.safetensors")
        (folder / "manifest.json").unlink()
        with pytest.raises(InputError, match=f"has NaN or infinite values in model.{name};"):
            teachers.load(f"local-dir:{folder}")


class TestWeightsFiles:
    @pytest.mark.parametrize("name", ["x.safetensors", "x.pt", "x.pth"])
    @pytest.mark.parametrize(
        "wrap",
        [
            lambda w: w,
            lambda w: {f"module.{k}": v for k, v in w.items()},
            lambda w: {f"module._orig_mod.{k}": v for k, v in w.items()},
        ],
    )
    def test_weights_are_loaded_with_and_without_a_prefix(
        self, tmp_path: Path, name: str, wrap: Callable[..., dict[str, Tensor]]
    ):
        plain = cpu_state_dict(network().model)
        (save_file if name.endswith("s") else torch.save)(wrap(plain), tmp_path / name)
        loaded = teachers.load(NETWORK, weights=str(tmp_path / name), classes=3, shape=(2, 8, 8))
        assert toys.same(cpu_state_dict(loaded.model), plain)

    def test_the_file_may_be_a_path(self, tmp_path: Path):
        plain = cpu_state_dict(teachers.create(NETWORK).model)
        save_file(plain, tmp_path / "x.safetensors")
        assert toys.same(cpu_state_dict(teachers.load(NETWORK, weights=tmp_path / "x.safetensors").model), plain)

    def test_weights_of_another_architecture_are_refused_with_the_file(self, tmp_path: Path):
        save_file(cpu_state_dict(teachers.create("convnet_w64").model), tmp_path / "x.safetensors")
        with pytest.raises(InputError, match=f"x.safetensors does not match the network {NETWORK} "):
            teachers.load(NETWORK, weights=str(tmp_path / "x.safetensors"))


class TestCreate:
    def test_an_unknown_network_is_refused_with_the_nearest_name(self):
        with pytest.raises(InputError, match="network 'convnet_w1' is unknown to timm; did you mean convnet_w16"):
            teachers.create("convnet_w1")

    def test_a_network_that_cannot_have_the_shape_is_refused(self):
        with pytest.raises(InputError, match="images of shape .0, 8, 8. are not possible"):
            teachers.create("test_vit", shape=(0, 8, 8))

    def test_normalisation_for_three_channels_is_averaged_for_another_number(self):
        grey = teachers.create("test_resnet", shape=(1, 32, 32))
        assert grey.mean.flatten().tolist() == pytest.approx([sum(timm.get_pretrained_cfg("test_resnet").mean) / 3])  # type: ignore[union-attr]


def test_what_the_user_says_is_used_instead_of_the_folder(folder: Path):
    loaded = teachers.load(f"local-dir:{folder}", classes=("x", "y", "z"), mean=(0.5,))
    assert loaded.classes == ("x", "y", "z") and loaded.mean.flatten().tolist() == [0.5]
    said = f"the classes and mean given with the teacher are used instead of those in {folder / 'config.json'}"
    assert loaded.notes == (said,)
    assert teachers.load(f"local-dir:{folder}", classes=3).classes == ("a", "b", "c")


def test_weights_for_a_folder_are_refused(folder: Path):
    with pytest.raises(InputError, match="already contains weights; remove --weights"):
        teachers.load(f"local-dir:{folder}", weights="other.pt")


def test_weights_of_a_folder_of_code_bring_their_settings(tmp_path: Path):
    code = tmp_path / "net.py"
    code.write_text("from torch import nn\ndef build():\n    return nn.Sequential(nn.Flatten(), nn.Linear(48, 3))\n")
    saved = teachers.load(f"{code}:build", shape=(3, 4, 4), classes=("a", "b", "c"), mean=(0.1, 0.2, 0.3), std=(0.5,))
    teachers.save_folder(saved, tmp_path / "net")
    loaded, images = (
        teachers.load(f"{code}:build", weights=tmp_path / "net" / "model.safetensors"),
        torch.rand(2, 3, 4, 4),
    )
    assert torch.equal(loaded(images), saved(images)) and loaded.classes == ("a", "b", "c")
    with pytest.raises(InputError, match=f"name the network as {code}:build@{tmp_path / 'net'}$"):
        teachers.load(str(tmp_path / "net"))
