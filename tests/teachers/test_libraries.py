"""Networks of torchvision and transformers: made, loaded, saved, and refused in one sentence."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch import nn

from datafree import teachers
from datafree.classifier import Classifier, cpu_state_dict
from datafree.teachers.folders import untrained
from datafree.teachers.libraries import image_processors, torchvision_networks
from datafree.types import InputError, Preprocessing

SQUEEZENET = "torchvision:squeezenet1_1"


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of downloads, and no network."""

    def refuse(*_: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return tmp_path


class TestTorchvision:
    def test_a_network_is_created_for_any_classes_and_channels(self):
        network = teachers.create(SQUEEZENET, classes=("a", "b"), shape=(5, 32, 32)).eval()
        assert network(torch.rand(2, 5, 32, 32)).shape == (2, 2)
        assert network.mean.flatten().tolist() == pytest.approx([(0.485 + 0.456 + 0.406) / 3])
        assert network.preprocessing == Preprocessing(crop_pct=224 / 256, interpolation="bilinear")

    def test_a_vision_transformer_is_created_for_the_size_of_the_images(self):
        plan = torchvision_networks.blueprint(
            "vit_b_32", num_classes=2, **torchvision_networks.size_arguments("vit_b_32", (3, 64, 64))
        )
        assert plan.state_dict()["encoder.pos_embedding"].shape[1] == 1 + 2 * 2

    @pytest.mark.parametrize(
        ("spec", "settings", "fault"),
        [
            ("torchvision:resnet19", {}, "'resnet19' is unknown to torchvision; did you mean resnet1"),
            ("torchvision:fcn_resnet50", {}, "'fcn_resnet50' is unknown to torchvision"),
            ("torchvision:resnet18.V7", {}, "'resnet18' has no weights 'V7'.*choose one of IMAGENET1K_V1"),
            ("torchvision:vit_b_32", {"shape": (3, 32, 64)}, "takes square images only"),
            ("torchvision:resnet18", {"arguments": {"weights": 1}}, "may choose a file or code"),
            ("torchvision:resnet18", {"arguments": {"x": 1}}, "could not be created .*unexpected keyword"),
            ("torchvision:resnet18", {"classes": 10**7}, "10000000 classes are not possible"),
            ("torchvision:mobilenet_v2", {"arguments": {"width_mult": 99_999}}, "more than 1 billion weights"),
        ],
        ids=str,
    )
    def test_what_cannot_be_created_is_one_sentence(self, spec: str, settings: dict[str, Any], fault: str):
        with pytest.raises(InputError, match=fault) as error:
            teachers.create(spec, **settings)
        assert "\n" not in str(error.value)

    def test_weights_that_were_downloaded_are_loaded_with_the_names_of_their_classes(self, offline: Path):
        entry = torchvision_networks.described(SQUEEZENET)[1]
        path = offline / "torch" / "hub" / "checkpoints" / entry.url.rpartition("/")[2]
        path.parent.mkdir(parents=True)
        saved = torchvision.models.squeezenet1_1()
        torch.save(saved.state_dict(), path)
        loaded = teachers.load(SQUEEZENET, download=False, shape=(3, 32, 32))
        assert loaded.classes[:2] == ("tench", "goldfish") and len(set(loaded.classes)) == 1000
        assert any("those that torchvision provides" in note for note in loaded.notes)
        assert not any("defaults" in note for note in loaded.notes)

    @pytest.mark.usefixtures("offline")
    def test_a_resumed_run_downloads_nothing(self):
        with pytest.raises(InputError, match="torchvision's weights of squeezenet1_1 are not on this machine.*resumed"):
            teachers.load(SQUEEZENET, download=False)
        with pytest.raises(InputError, match="could not be downloaded .*; give --weights or a local-dir: folder"):
            teachers.load(SQUEEZENET)

    def test_a_saved_network_says_what_torchvision_builds(self, tmp_path: Path):
        saved = teachers.create(SQUEEZENET, classes=("a", "b"), shape=(1, 32, 32), arguments={"dropout": 0.25}).eval()
        teachers.save_folder(saved, tmp_path / "net")
        config = json.loads((tmp_path / "net" / "config.json").read_text())
        assert config["architecture"] == SQUEEZENET and config["model_args"] == {"in_chans": 1, "dropout": 0.25}
        loaded, images = teachers.load_folder(tmp_path / "net").eval(), torch.rand(2, 1, 32, 32)
        assert torch.equal(loaded(images), saved(images)) and loaded.classes == ("a", "b") and loaded.notes == ()
        assert untrained(loaded).training

    def test_a_network_that_was_handed_in_is_recognised(self, tmp_path: Path):
        network = torchvision.models.squeezenet1_0(num_classes=3)
        teachers.save_folder(Classifier(network, shape=(3, 32, 32), classes=3), tmp_path / "net")
        config = json.loads((tmp_path / "net" / "config.json").read_text())
        assert config["architecture"] == "torchvision:squeezenet1_0"
        assert torchvision_networks.recognise(nn.Flatten(), 3) == ""

    def test_a_network_that_was_changed_is_refused(self, tmp_path: Path):
        network = torchvision.models.squeezenet1_0(num_classes=3)
        network.features[1] = nn.Tanh()
        nn.init.ones_(network.get_parameter("classifier.1.bias"))  # so that its outputs are not zero
        with pytest.raises(InputError, match="features.1 is Tanh, and would be ReLU"):
            teachers.save_folder(Classifier(network, shape=(3, 32, 32), classes=3), tmp_path / "net")

    def test_heads_that_are_only_used_in_training_are_left_out(self):
        tensors = {"aux1.conv.weight": torch.zeros(1), "AuxLogits.fc.bias": torch.zeros(1), "fc.bias": torch.zeros(1)}
        assert set(torchvision_networks.without_auxiliary_heads(tensors)) == {"fc.bias"}


@pytest.fixture
def vit(tmp_path: Path) -> Path:
    """The folder of a vision transformer that transformers saved."""
    transformers = pytest.importorskip("transformers")
    transformers.logging.disable_progress_bar()
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    config = transformers.ViTConfig(**sizes, image_size=16, patch_size=8, id2label={0: "cat", 1: "dog"})
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path / "vit")
    processor = transformers.ViTImageProcessor(size={"height": 16, "width": 16}, resample=3, image_mean=[0.1, 0.2, 0.3])
    processor.save_pretrained(tmp_path / "vit")
    return tmp_path / "vit"


def change(path: Path, **entries: Any) -> None:
    """Replace entries of a JSON file; None removes one."""
    content = json.loads(path.read_text()) | entries
    path.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))


class TestTransformers:
    def test_names_and_preprocessing_are_those_of_the_folder(self, vit: Path):
        loaded = teachers.load(f"transformers:{vit}")
        assert loaded.classes == ("cat", "dog") and loaded.shape == (3, 16, 16)
        assert loaded.preprocessing == Preprocessing(crop_mode="squash", interpolation="bicubic")
        assert torch.allclose(loaded.mean.flatten(), torch.tensor([0.1, 0.2, 0.3]))
        assert loaded.std.flatten().tolist() == [0.5] * 3

    def test_a_saved_network_is_in_the_layout_of_transformers(self, vit: Path, tmp_path: Path):
        import transformers

        saved = teachers.load(str(vit), classes=("a", "b"))
        teachers.save_folder(saved, tmp_path / "net", card=lambda config: config["model_type"])
        loaded, images = teachers.load_folder(tmp_path / "net"), torch.rand(2, 3, 16, 16)
        theirs = transformers.ViTForImageClassification.from_pretrained(tmp_path / "net")
        assert torch.equal(loaded(images), saved(images)) and loaded.classes == ("a", "b") and loaded.notes == ()
        assert loaded.preprocessing == saved.preprocessing and torch.equal(loaded.mean, saved.mean)
        assert torch.allclose(theirs(loaded.normalize(images)).logits, saved(images), atol=1e-6)
        assert set(load_file(tmp_path / "net" / "model.safetensors")) == set(load_file(vit / "model.safetensors"))
        assert (tmp_path / "net" / "README.md").read_text() == "vit"
        fresh = untrained(saved)
        assert fresh.shape == saved.shape and not torch.equal(fresh.eval()(images), saved(images))

    @pytest.mark.parametrize(
        ("entries", "fault"),
        [
            ({"model_type": "bert"}, "transformers has no image classifier of the model_type 'bert'"),
            ({"model_type": 3}, "no image classifier of the model_type '3'"),
            ({"architectures": ["ViTModel"]}, "which is no image classifier; give a ViTForImageClassification"),
            ({"hidden_size": 10**9}, "sets hidden_size to '1000000000'; only numbers and words are allowed"),
            ({"hidden_size": 99_998, "intermediate_size": 99_999}, "transformers cannot create .*more than 1 billion"),
            ({"hidden_act": "/etc/passwd"}, "sets hidden_act to '/etc/passwd'"),
            ({"hidden_act": "no_such"}, "transformers cannot create"),
            ({"id2label": {"0": "a", "2": "b"}}, "id2label does not name the classes 0 to 1"),
            ({"id2label": ["a"]}, "id2label is no object"),
            ({"id2label": {"0": "a", "1": "b", "2": "c"}}, "does not match the ViTForImageClassification"),
            ({"problem_type": "regression"}, "describes a regression; give a classifier"),
        ],
        ids=str,
    )
    def test_a_hostile_or_wrong_configuration_is_one_sentence(self, vit: Path, entries: dict[str, Any], fault: str):
        change(vit / "config.json", **entries)
        with pytest.raises(InputError, match=fault) as error:
            teachers.load(str(vit))
        assert "\n" not in str(error.value)

    def test_code_that_a_folder_names_is_not_run(self, vit: Path):
        (vit / "evil.py").write_text("raise SystemExit\n")
        change(
            vit / "config.json", auto_map={"AutoModelForImageClassification": "evil.Net"}, _attn_implementation="a/b"
        )
        assert teachers.load(str(vit)).classes == ("cat", "dog")

    def test_missing_weights_are_refused(self, vit: Path):
        tensors = load_file(vit / "model.safetensors")
        del tensors["classifier.weight"]
        save_file(tensors, vit / "model.safetensors")
        with pytest.raises(InputError, match="missing: classifier.weight"):
            teachers.load(str(vit))

    def test_a_guessed_normalisation_is_said(self, vit: Path):
        (vit / "preprocessor_config.json").unlink()
        notes = teachers.load(str(vit)).notes
        assert any("transformers' defaults for vit" in note and "--mean" in note for note in notes)
        said = teachers.load(str(vit), mean=(0.5,), std=(0.5,)).notes
        assert not any("defaults" in note for note in said)

    def test_what_the_user_says_in_place_of_the_folder_is_noted(self, vit: Path):
        said = "the {} given with the teacher are used instead of those in " + str(vit)
        assert said.format("mean and std") in teachers.load(str(vit), mean=(0.5,), std=(0.1,)).notes
        assert said.format("classes") in teachers.load(str(vit), classes=("dog", "cat")).notes
        equal = teachers.load(str(vit), mean=(0.1, 0.2, 0.3), std=(0.5,), classes=2, shape=(3, 16, 16))
        assert not any("given with the teacher" in note for note in equal.notes)

    def test_without_the_package_its_installation_is_named(self, vit: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setitem(__import__("sys").modules, "transformers", None)
        with pytest.raises(InputError, match=r"pip install 'datafree\[transformers\]'"):
            teachers.load(str(vit))

    @pytest.mark.parametrize(
        ("settings", "mean", "std"),
        [
            ({"image_mean": [0.5], "image_std": [0.25]}, (0.5,), (0.25,)),
            ({"image_mean": 0.5, "image_std": 0.25, "do_normalize": False}, (0.0,), (1.0,)),
            ({"image_mean": [51.0], "image_std": [255.0], "do_rescale": False}, (0.2,), (1.0,)),
            (
                {"image_mean": [0.0], "image_std": [1.0], "rescale_factor": 2 / 255, "rescale_offset": True},
                (0.5,),
                (0.5,),
            ),
            ({"image_mean": [0.5], "image_std": [0.5], "include_top": True}, (0.5,), (0.25,)),
        ],
    )
    def test_normalisation_by_hand(self, settings: dict[str, Any], mean: tuple[float, ...], std: tuple[float, ...]):
        found = image_processors.normalisation(settings)
        assert found[0] == pytest.approx(mean) and found[1] == pytest.approx(std)

    @pytest.mark.parametrize(
        ("settings", "size", "preprocessing"),
        [
            ({"size": 32}, (32, 32), Preprocessing(crop_mode="squash")),
            (
                {"size": {"shortest_edge": 64}, "crop_size": {"height": 32, "width": 32}, "do_center_crop": True},
                (32, 32),
                Preprocessing(crop_pct=0.5),
            ),
            (
                {"size": {"shortest_edge": 224}, "crop_pct": 0.875, "resample": 3},
                (224, 224),
                Preprocessing(crop_pct=0.875, interpolation="bicubic"),
            ),
        ],
        ids=str,
    )
    def test_resizing_by_hand(self, settings: dict[str, Any], size: tuple[int, int], preprocessing: Preprocessing):
        assert image_processors.resizing(settings, None) == (size, preprocessing)


class TestHub:
    def test_a_folder_in_the_cache_is_loaded_without_a_request(self, offline: Path, tmp_path: Path):
        saved = teachers.create("convnet_w16", classes=3)
        snapshot = offline / "hub" / "models--me--digits" / "snapshots" / "1"
        teachers.save_folder(saved, snapshot)
        (snapshot.parents[1] / "refs").mkdir()
        (snapshot.parents[1] / "refs" / "main").write_text("1")
        for download in (False, True):
            loaded = teachers.load("hf-hub:me/digits", download=download)
            assert torch.equal(cpu_state_dict(loaded)["model.head.weight"], saved.model.head.weight)  # type: ignore[union-attr]
            assert loaded.notes[0] == "the weights of me/digits are those on the Hugging Face hub"

    @pytest.mark.usefixtures("offline")
    def test_what_is_not_there_is_refused(self):
        with pytest.raises(InputError, match="me/x is not on this machine.*`hf download me/x` and resume again"):
            teachers.load("hf-hub:me/x", download=False)
        with pytest.raises(InputError, match="could not be downloaded from the Hugging Face hub .*; give a folder"):
            teachers.load("transformers:me/x")


class TestPaths:
    @pytest.mark.parametrize(
        ("spec", "fault"),
        [
            ("some/where", "some/where does not exist; for a network of the Hugging Face hub write hf-hub:some/where"),
            ("/a/b/c", "/a/b/c does not exist; correct the path"),
            ("net.pth", "net.pth does not exist; correct the path"),
            ("resnet181", "network 'resnet181' is unknown to timm; did you mean resnet18"),
        ],
    )
    def test_what_is_neither_a_path_nor_a_network_is_refused(self, spec: str, fault: str):
        with pytest.raises(InputError, match=fault):
            teachers.load(spec)

    def test_a_file_that_fits_no_network_is_refused_with_its_names(self, tmp_path: Path):
        torch.save(nn.Linear(3, 2).state_dict(), tmp_path / "x.pt")
        with pytest.raises(
            InputError, match=r"its tensors \(weight, bias\) fit no known one; name its network, or the code"
        ):
            teachers.load(str(tmp_path / "x.pt"))

    def test_an_unknown_way_to_match_is_refused(self):
        with pytest.raises(InputError, match="match 'nams' is unknown; did you mean names"):
            teachers.load("convnet_w16", match="nams")
