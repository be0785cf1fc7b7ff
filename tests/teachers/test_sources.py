"""Where classifiers come from and where they go. Files are hostile until proven otherwise."""

import json
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import toys
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from datafree import teachers
from datafree.classifier import Classifier
from datafree.types import InputError, Preprocessing

NETWORK = "convnet_w16"
VIEW = Preprocessing(crop_pct=0.875, crop_mode="squash", interpolation="bicubic")


def network(**settings: Any) -> Classifier:
    return teachers.create(
        NETWORK, **{"classes": ("a", "b", "c"), "shape": (2, 8, 8), "mean": (0.1, 0.2), "std": (0.3, 0.4)} | settings
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved network."""
    teachers.save_folder(network(), tmp_path / "net")
    return tmp_path / "net"


def weights() -> dict[str, Tensor]:
    return teachers.state(teachers.create(NETWORK).model)


class TestFolders:
    def test_everything_comes_back(self, tmp_path: Path):
        saved = network(view=VIEW).eval()
        teachers.save_folder(saved, tmp_path / "net", card="a card")
        found = teachers.load(f"local-dir:{tmp_path / 'net'}")
        assert (found.classes, found.shape, found.view) == (("a", "b", "c"), (2, 8, 8), VIEW)
        assert torch.allclose(found.mean, saved.mean) and torch.allclose(found.std, saved.std)
        assert toys.same(dict(found.state_dict()), dict(saved.state_dict()))
        assert not found.training and (tmp_path / "net" / "README.md").read_text() == "a card"

    def test_timm_loads_a_paper_network_once_datafree_has_registered_it(self, folder: Path):
        model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
        found, images = teachers.load_folder(folder).eval(), torch.rand(3, 2, 8, 8)
        assert torch.allclose(model(found.normalize(images)), found(images), atol=1e-6)

    def test_timm_loads_its_own_network_with_datafree_absent(self, tmp_path: Path):
        saved = teachers.create("test_resnet", classes=4, shape=(1, 32, 32), mean=(0.5,), std=(0.25,)).eval()
        teachers.save_folder(saved, tmp_path / "net")
        images = torch.rand(2, 1, 32, 32)
        save_file({"images": saved.normalize(images).contiguous()}, tmp_path / "in")
        program = (
            "import sys; sys.modules['datafree'] = None\n"
            "import timm, torch; from safetensors.torch import load_file, save_file\n"
            "model = timm.create_model('local-dir:net', pretrained=True).eval()\n"
            "with torch.no_grad(): save_file({'out': model(load_file('in')['images'])}, 'out')\n"
            "known = model.pretrained_cfg\n"
            "assert tuple(known['mean']) == (0.5,) and tuple(known['input_size']) == (1, 32, 32)\n"
        )
        subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, timeout=60)
        assert torch.allclose(load_file(tmp_path / "out")["out"], saved(images), atol=1e-5)

    def test_one_mean_is_written_for_every_channel(self, tmp_path: Path):
        teachers.save_folder(network(mean=(0.5,), std=(0.25,)), tmp_path / "net")
        config = json.loads((tmp_path / "net" / "config.json").read_text())["pretrained_cfg"]
        assert config["mean"] == [0.5, 0.5] and config["std"] == [0.25, 0.25]

    @pytest.mark.parametrize(
        "text",
        ["", "{", "[]", "null", "{}", '{"architecture": "convnet_w16"}', '{"architecture": 3, "pretrained_cfg": {}}'],
    )
    def test_a_damaged_configuration_is_refused(self, folder: Path, text: str):
        (folder / "config.json").write_text(text)
        with pytest.raises(InputError, match="config.json is not a model configuration"):
            teachers.load_folder(folder)

    @pytest.mark.parametrize(
        ("part", "value", "fault"),
        [
            ("crop_pct", -1.0, "crop-pct is -1.0, but it must be at least 0.01"),
            ("crop_pct", "much", "is not a model configuration"),
            ("interpolation", "bicubi", "is not a model configuration"),
        ],
    )
    def test_a_view_that_cannot_be_is_refused(self, folder: Path, part: str, value: Any, fault: str):
        config = json.loads((folder / "config.json").read_text())
        config["pretrained_cfg"][part] = value
        (folder / "config.json").write_text(json.dumps(config))
        with pytest.raises(InputError, match=fault):
            teachers.load_folder(folder)

    def test_a_view_that_is_left_open_is_the_usual_one(self, folder: Path):
        config = json.loads((folder / "config.json").read_text())
        config["pretrained_cfg"] |= {"crop_pct": None, "crop_mode": None, "interpolation": ""}
        (folder / "config.json").write_text(json.dumps(config))
        assert teachers.load_folder(folder).view == Preprocessing()

    def test_every_network_of_timm_has_a_view(self):
        configurations = [timm.get_pretrained_cfg(name) for name in timm.list_models(pretrained=True)]
        assert len(configurations) > 1000
        for cfg in configurations:
            assert cfg and teachers.preprocessing_in(cfg.to_dict()).crop_pct == cfg.crop_pct

    def test_a_view_in_words_that_timm_does_not_have_is_refused(self):
        """Past the type checker of the tests, which no user has."""
        object.__setattr__(view := Preprocessing(), "interpolation", "bicubi")
        with pytest.raises(InputError, match="interpolation 'bicubi' is unknown; did you mean bicubic"):
            view.__post_init__()

    def test_a_missing_folder_is_refused(self, tmp_path: Path):
        with pytest.raises(InputError, match="config.json does not exist"):
            teachers.load(f"local-dir:{tmp_path / 'nowhere'}")

    def test_missing_weights_are_refused(self, folder: Path):
        (folder / "model.safetensors").unlink()
        with pytest.raises(InputError, match="model.safetensors does not exist"):
            teachers.load_folder(folder)

    def test_a_configuration_cannot_name_anything_but_a_network(self, folder: Path):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"architecture": "os.system"}))
        with pytest.raises(InputError, match="unknown to timm"):
            teachers.load_folder(folder)


class TestFingerprint:
    def test_follows_from_the_weights_alone(self):
        net = network()
        again = network(mean=(0.5,), std=(0.5,))
        again.load_state_dict(net.state_dict())
        again.model.to(memory_format=torch.contiguous_format)
        assert teachers.fingerprint(net.model) == teachers.fingerprint(again.model)

    @pytest.mark.parametrize("name", ["head.bias", "blocks.1.2.running_mean", "blocks.0.2.num_batches_tracked"])
    def test_changes_with_the_last_bit_of_any_tensor(self, name: str):
        net = network()
        before = teachers.fingerprint(net.model)
        tensor = net.model.state_dict()[name].view(-1)
        tensor[0] = torch.nextafter(tensor[0], torch.tensor(9.0)) if tensor.is_floating_point() else tensor[0] + 1
        assert teachers.fingerprint(net.model) != before

    def test_tells_shapes_apart(self):
        one, other = nn.Linear(2, 3, bias=False), nn.Linear(3, 2, bias=False)
        other.weight = nn.Parameter(one.weight.detach().reshape(2, 3))
        assert teachers.fingerprint(one) != teachers.fingerprint(other)


class Hostile:
    """Runs code when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return os.mkdir, (str(self.canary),)


class TestFiles:
    @pytest.mark.parametrize("name", ["x.safetensors", "x.pt", "x.pth"])
    @pytest.mark.parametrize(
        "wrap",
        [
            lambda w: w,
            lambda w: {f"module.{k}": v for k, v in w.items()},
            lambda w: {f"module._orig_mod.{k}": v for k, v in w.items()},
        ],
    )
    def test_weights_come_with_and_without_a_prefix(
        self, tmp_path: Path, name: str, wrap: Callable[..., dict[str, Tensor]]
    ):
        plain = weights()
        (save_file if name.endswith("s") else torch.save)(wrap(plain), tmp_path / name)
        found = teachers.load(NETWORK, weights=str(tmp_path / name))
        assert toys.same(teachers.state(found.model), plain)

    @pytest.mark.parametrize("key", ["state_dict", "model"])
    def test_a_state_dict_may_lie_in_a_training_checkpoint(self, tmp_path: Path, key: str):
        torch.save({key: weights(), "epoch": 3}, tmp_path / "x.pt")
        assert teachers.read_weights(tmp_path / "x.pt").keys() == weights().keys()

    def test_old_checkpoints_are_read_as_well(self, tmp_path: Path):
        saved = weights()
        torch.save(saved, tmp_path / "x.pt", _use_new_zipfile_serialization=False)
        assert toys.same(teachers.read_weights(tmp_path / "x.pt"), saved)

    @pytest.mark.parametrize("forced", [False, True])
    @pytest.mark.parametrize("legacy", [False, True])
    def test_code_in_a_pickle_is_not_run(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forced: bool, legacy: bool
    ):
        if forced:
            monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
        hostile = {"w": Hostile(tmp_path / "canary")}
        if legacy:
            (tmp_path / "x.pt").write_bytes(pickle.dumps(hostile))
        else:
            torch.save(hostile, tmp_path / "x.pt")
        with pytest.raises(InputError, match="a pickle that would run code"):
            teachers.read_weights(tmp_path / "x.pt")
        assert not (tmp_path / "canary").exists()
        pickle.loads(pickle.dumps(hostile))  # noqa: S301
        assert (tmp_path / "canary").exists(), "the canary would have run"

    def test_a_pickled_module_is_refused(self, tmp_path: Path):
        torch.save(toys.plain_net(), tmp_path / "x.pt")
        with pytest.raises(InputError, match="convert it to safetensors where you trust it"):
            teachers.read_weights(tmp_path / "x.pt")

    @pytest.mark.parametrize("name", ["x.pt", "x.safetensors"])
    @pytest.mark.parametrize(
        "data",
        [b"", b"<!doctype html><title>404</title>", b"\xff" * 100, b"PK\x03\x04"],
        ids=["empty", "page", "bytes", "zip"],
    )
    def test_what_is_no_file_of_weights_is_refused(self, tmp_path: Path, name: str, data: bytes):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match=f"{name} is (damaged|truncated)"):
            teachers.read_weights(tmp_path / name)

    @pytest.mark.parametrize("name", ["x.pt", "x.safetensors"])
    @pytest.mark.parametrize("part", [0.01, 0.5, 0.99])
    def test_a_truncated_file_is_refused(self, tmp_path: Path, name: str, part: float):
        (save_file if name.endswith("s") else torch.save)(weights(), tmp_path / name)
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[: int(part * len(data))])
        with pytest.raises(InputError, match=f"{name} is (damaged|truncated)"):
            teachers.read_weights(tmp_path / name)

    def test_a_missing_file_is_refused(self, tmp_path: Path):
        with pytest.raises(InputError, match="does not exist; give a file of weights"):
            teachers.read_weights(tmp_path / "x.pt")

    @pytest.mark.parametrize(
        "found", [{}, {"epoch": 3}, [torch.zeros(2)], torch.zeros(3)], ids=["empty", "number", "list", "tensor"]
    )
    def test_what_is_no_state_dict_is_refused(self, tmp_path: Path, found: Any):
        torch.save(found, tmp_path / "x.pt")
        with pytest.raises(InputError, match="holds no state dict of tensors"):
            teachers.read_weights(tmp_path / "x.pt")

    def test_a_tensor_that_repeats_one_number_without_end_is_refused(self, tmp_path: Path):
        torch.save({"w": torch.zeros(1).expand(2**40)}, tmp_path / "x.pt")
        with pytest.raises(InputError, match="claims more numbers for 'w' than it holds"):
            teachers.read_weights(tmp_path / "x.pt")

    def test_an_archive_that_unpacks_to_much_more_is_refused(self, tmp_path: Path):
        torch.save({"w": torch.zeros(2**20)}, tmp_path / "x.pt")
        with (
            zipfile.ZipFile(tmp_path / "x.pt") as plain,
            zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb,
        ):
            for member in plain.namelist():
                bomb.writestr(member, plain.read(member))
        assert (tmp_path / "bomb.pt").stat().st_size < 2**16
        with pytest.raises(InputError, match="compressed in a way torch does not write"):
            teachers.read_weights(tmp_path / "bomb.pt")


class TestFit:
    def test_another_architecture_is_named_by_its_first_tensors(self, tmp_path: Path):
        save_file(teachers.state(teachers.create("convnet_w64").model), tmp_path / "x.safetensors")
        with pytest.raises(InputError) as refusal:
            teachers.load(NETWORK, weights=str(tmp_path / "x.safetensors"))
        assert "blocks.0.1.weight is (32, 1, 3, 3) instead of (16, 1, 3, 3)" in str(refusal.value)
        assert "more)" in str(refusal.value) and "\n" not in str(refusal.value)

    def test_missing_and_superfluous_tensors_are_named(self):
        found = weights()
        found["head.weights"] = found.pop("head.weight")
        with pytest.raises(InputError, match="head.weight is missing; head.weights is not in the network"):
            teachers.fit(teachers.create(NETWORK).model, found, "x.pt")

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    @pytest.mark.parametrize("name", ["head.weight", "blocks.0.2.running_var"])
    def test_weights_that_are_not_finite_are_refused(self, folder: Path, name: str, value: float):
        tensors = load_file(folder / "model.safetensors")
        tensors[name].view(-1)[0] = value
        save_file(tensors, folder / "model.safetensors")
        with pytest.raises(InputError, match=f"not finite in 1 tensors, model.{name} first"):
            teachers.load(f"local-dir:{folder}")


class TestCreate:
    def test_an_unknown_network_is_refused_with_the_nearest_name(self):
        with pytest.raises(InputError, match="network 'convnet_w1' is unknown to timm; did you mean convnet_w16"):
            teachers.create("convnet_w1")

    def test_a_network_that_cannot_take_the_shape_is_refused(self):
        with pytest.raises(InputError, match="could not be made"):
            teachers.create("test_vit", shape=(0, 8, 8))

    def test_normalization_for_three_channels_is_averaged_for_another_number(self):
        grey = teachers.create("test_resnet", shape=(1, 32, 32))
        assert grey.mean.flatten().tolist() == pytest.approx([sum(timm.get_pretrained_cfg("test_resnet").mean) / 3])  # type: ignore[union-attr]


def test_a_folder_says_itself_what_it_is(folder: Path):
    with pytest.raises(InputError, match="leave weights, classes out"):
        teachers.load(f"local-dir:{folder}", weights="other.pt", classes=3)
