"""Tensors of a file against a network: renamings, order, inferred settings, and refusals with their fix."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

import datafree.networks.zoo  # noqa: F401  registers networks in timm
from datafree.networks.building import blueprint
from datafree.networks.known.blueprints import known_blueprint
from datafree.types import InputError
from datafree.weights.matching import match
from datafree.weights.order import by_order, not_in_tensors
from datafree.weights.reading import read_checkpoint
from datafree.weights.settings import Settings, infer_settings

Tensors = dict[str, Tensor]


def weights(name: str, **settings: Any) -> Tensors:
    torch.manual_seed(1)
    return dict(timm.create_model(name, **settings).state_dict())


def zeros(network: nn.Module) -> Tensors:
    """Return tensors of the shapes of a blueprint, without its memory."""
    return {name: torch.zeros((), dtype=t.dtype).expand(t.shape) for name, t in network.state_dict().items()}


def renamed(tensors: Tensors, *pairs: tuple[str, str]) -> Tensors:
    """Replace parts of names, one pair after the other; a part that begins with ^ only at the start of a name."""
    names = list(tensors)
    for old, new in pairs:
        start = old.startswith("^")
        old = old.removeprefix("^")
        names = [
            (new + name.removeprefix(old) if name.startswith(old) else name) if start else name.replace(old, new)
            for name in names
        ]
    return dict(zip(names, tensors.values(), strict=True))


RESNET_STAGES = tuple((f"^stages.{stage}.", f"layer{stage + 1}.") for stage in range(4))
WIDE_STAGES = tuple((f"^stages.{stage}.", f"block{stage + 1}.layer.") for stage in range(3))
REPOSITORIES: dict[str, tuple[str, Callable[[Tensors], Tensors]]] = {
    "pytorch-cifar": ("resnet18_cifar_w16", lambda t: renamed(t, *RESNET_STAGES, ("^head.", "linear."))),
    "torchvision's names": (
        "resnet18_cifar_w16",
        lambda t: renamed(t, *RESNET_STAGES, (".shortcut.", ".downsample."), ("^head.", "fc.")),
    ),
    "in DataParallel": (
        "resnet18_cifar_w16",
        lambda t: renamed(t, *RESNET_STAGES, ("^head.", "linear."), ("^", "module.")),
    ),
    "WideResNet-pytorch": (
        "wrn_16_2",
        lambda t: renamed(t, *WIDE_STAGES, (".shortcut.", ".convShortcut."), ("^bn.", "bn1."), ("^head.", "fc.")),
    ),
    "pytorch-cifar100": (
        "resnet18_cifar_w16",
        lambda t: renamed(
            t,
            *((f"^stages.{stage}.", f"conv{stage + 2}_x.") for stage in range(4)),
            ("^conv1.", "STEM.0."),
            ("^bn1.", "STEM.1."),
            (".conv1.", ".residual_function.0."),
            (".bn1.", ".residual_function.1."),
            (".conv2.", ".residual_function.3."),
            (".bn2.", ".residual_function.4."),
            ("^STEM.", "conv1."),
            ("^head.", "fc."),
        ),
    ),
}


@pytest.mark.parametrize(("name", "rename"), REPOSITORIES.values(), ids=REPOSITORIES)
def test_names_of_public_repositories_are_translated(name: str, rename: Callable[[Tensors], Tensors]):
    own = weights(name)
    found = match(blueprint(name), rename(own), "x.pt")
    assert list(found.weights) == list(own)
    assert all(found.weights[key] is tensor for key, tensor in own.items())
    assert "they were translated to those of the network" in found.notes[0] and len(found.notes) == 1


def test_a_network_with_its_own_names_needs_no_note():
    assert match(blueprint("wrn_16_1"), weights("wrn_16_1"), "x.pt").notes == ()


def test_files_of_other_programs_are_translated_by_timm():
    """torchvision's VGG has its fully connected layers as matrices; timm has convolutions, and converts them."""
    theirs = zeros(known_blueprint("torchvision:vgg11"))
    found = match(blueprint("vgg11"), theirs, "x.pt")
    assert found.weights["pre_logits.fc1.weight"].shape == (4096, 512, 7, 7)
    assert "translated by timm's own conversion" in found.notes[0]


def test_a_linear_layer_and_a_1x1_convolution_are_the_same():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(4, 2))
    tensors = dict(network.state_dict())
    given = tensors | {"0.weight": tensors["0.weight"].flatten(1), "2.weight": tensors["2.weight"][..., None, None]}
    found = match(network, given, "x.pt").weights
    assert torch.equal(found["0.weight"], tensors["0.weight"]) and torch.equal(found["2.weight"], tensors["2.weight"])
    with pytest.raises(InputError, match="does not match"):
        match(network, tensors | {"2.weight": torch.zeros(2, 1, 2, 2)}, "x.pt")


def other_names(tensors: Tensors) -> Tensors:
    """Return tensors under names like those of another program: numbers, with the kind at the end."""
    modules = list(dict.fromkeys(name.rpartition(".")[0] for name in tensors))
    return {
        f"layer_{modules.index(name.rpartition('.')[0])}.{name.rpartition('.')[2]}": t for name, t in tensors.items()
    }


class TestOrder:
    NAME = "resnet_w16"

    def test_tensors_of_the_same_shapes_are_mapped(self):
        own = weights(self.NAME)
        found = match(blueprint(self.NAME), other_names(own), "x.pt", by="order")
        assert all(found.weights[key] is tensor for key, tensor in own.items() if not key.endswith("tracked"))
        assert found.notes == (
            f"the tensors of x.pt were mapped to {self.NAME} by their order and shapes, {len(own)} of {len(own)}; not in the "
            f"file, and taken from {self.NAME}: epsilon 1e-05 of the normalisation, symmetric padding; check the accuracy",
        )

    def test_counters_do_not_matter(self):
        theirs = {name: tensor for name, tensor in other_names(weights(self.NAME)).items() if "tracked" not in name}
        found = match(blueprint(self.NAME), theirs, "x.pt", by="order").weights
        assert found.keys() == weights(self.NAME).keys() and int(found["bn1.num_batches_tracked"]) == 0

    def test_names_propose_it(self):
        with pytest.raises(InputError, match=r"give --match order if the file is of this architecture") as refusal:
            match(blueprint(self.NAME), other_names(weights(self.NAME)), "x.pt", keys=("epoch", "state_dict"))
        assert "its names are layer_0.weight, layer_1.weight, layer_1.bias, layer_1.running_mean" in str(refusal.value)
        assert "those of the network are conv1.weight, bn1.weight, bn1.bias, bn1.running_mean" in str(refusal.value)
        assert "the file contains epoch, state_dict" in str(refusal.value) and "\n" not in str(refusal.value)

    def test_another_architecture_is_refused_with_the_first_difference(self):
        with pytest.raises(InputError, match="not in the order of the network") as refusal:
            match(blueprint(self.NAME), other_names(weights("convnet_w16")), "x.pt", by="order")
        assert "it has 17 tensors instead of 47" in str(refusal.value)
        assert "layer_2.weight (24, 16, 3, 3) stands where stages.0.0.conv1.weight (16, 16, 3, 3)" in str(refusal.value)

    def test_weight_and_bias_are_not_exchanged(self):
        own = weights(self.NAME)
        names = list(own)
        names[1], names[2] = names[2], names[1]  # of equal shape
        assert by_order(own, {name: own[name] for name in names}) is None

    def test_a_sorted_file_has_no_order(self):
        with pytest.raises(InputError, match=r"x.safetensors is a safetensors file, whose tensors are sorted by name"):
            match(blueprint(self.NAME), weights(self.NAME), "x.safetensors", by="order", ordered=False)

    def test_other_classes_and_channels_are_named(self):
        theirs = other_names(weights(self.NAME, num_classes=7, in_chans=3))
        with pytest.raises(InputError, match=r"give --classes 7 --input 3 HEIGHT WIDTH$"):
            match(blueprint(self.NAME), theirs, "x.pt", by="order")
        found = match(blueprint(self.NAME, num_classes=7, in_chans=3), theirs, "x.pt", by="order")
        assert len(found.weights["head.weight"]) == 7

    def test_what_is_no_tensor_is_said(self):
        said = not_in_tensors(blueprint("tf_efficientnet_lite0"))
        assert said == "epsilon 0.001 of the normalisation, asymmetric ('same') padding, activation ReLU6"
        assert not_in_tensors(blueprint("efficientnet_b0")) == (
            "epsilon 1e-05 of the normalisation, symmetric padding, activation SiLU and Sigmoid"
        )


class TestSettings:
    @pytest.mark.parametrize(
        ("name", "settings", "expected"),
        [
            ("convnet_w16", {"num_classes": 7, "in_chans": 3}, (7, 3, None, {})),
            ("resnet18", {"num_classes": 5, "in_chans": 1}, (5, 1, None, {})),
            ("vit_tiny_patch16_224", {"num_classes": 10, "in_chans": 1, "img_size": 96}, (10, 1, (96, 96), {})),
            ("vit_tiny_patch16_224", {"img_size": 32, "patch_size": 4}, (1000, 3, (32, 32), {"patch_size": 4})),
            ("deit_tiny_distilled_patch16_224", {"num_classes": 3, "img_size": 64}, (3, 3, (64, 64), {})),
            ("mixer_s32_224", {"img_size": 64}, (1000, 3, (64, 64), {})),
            ("mobilenetv3_small_050", {"num_classes": 2}, (2, 3, None, {})),
            ("vit_tiny_patch16_224", {"img_size": (32, 64)}, (1000, 3, None, {})),
        ],
    )
    def test_the_tensors_say_it(self, name: str, settings: dict[str, Any], expected: tuple[object, ...]):
        found = infer_settings(zeros(blueprint(name, **settings)), blueprint(name))
        assert (found.classes, found.channels, found.size, found.arguments) == expected

    @pytest.mark.parametrize(
        ("name", "settings", "size"),
        [("vit_b_32", {"num_classes": 5, "image_size": 64}, (64, 64)), ("squeezenet1_1", {"num_classes": 5}, None)],
    )
    def test_networks_of_torchvision(self, name: str, settings: dict[str, int], size: tuple[int, int] | None):
        name = f"torchvision:{name}"
        found = infer_settings(zeros(known_blueprint(name, **settings)), known_blueprint(name))
        assert (found.classes, found.channels, found.size) == (5, 3, size)

    def test_under_a_prefix_and_by_order(self):
        theirs = weights("convnet_w16", num_classes=7)
        for tensors in (renamed(theirs, ("^", "module.model.")), other_names(theirs)):
            assert infer_settings(tensors, blueprint("convnet_w16")).classes == 7

    def test_a_network_of_the_user_without_a_configuration(self):
        network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(16, 10))
        other = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 7))
        found = infer_settings(other.state_dict(), network)
        assert (found.classes, found.channels, found.size) == (7, 3, None)

    def test_another_network_says_nothing(self):
        assert infer_settings({"a.b": torch.zeros(3)}, blueprint("convnet_w16")) == Settings()

    def test_refusals_propose_the_settings(self):
        theirs = zeros(blueprint("vit_tiny_patch16_224", num_classes=10, in_chans=1, img_size=32, patch_size=4))
        with pytest.raises(InputError, match="give --classes 10 --input 1 32 32 --teacher-args patch_size=4$"):
            match(blueprint("vit_tiny_patch16_224"), theirs, "x.pt")
        with pytest.raises(InputError, match="give --classes 7$"):
            match(blueprint("convnet_w16"), weights("convnet_w16", num_classes=7), "x.pt")

    def test_another_width_is_not_a_setting(self):
        with pytest.raises(InputError, match="choose the network these weights were saved from$"):
            match(blueprint("convnet_w16"), weights("convnet_w64", num_classes=7), "x.pt")


def test_half_precision_becomes_float32_without_loss(tmp_path: Path):
    network = timm.create_model("convnet_w16").half()
    torch.save(network.state_dict(), tmp_path / "x.pt")
    full = timm.create_model("convnet_w16")
    full.load_state_dict(match(full, read_checkpoint(tmp_path / "x.pt").tensors, "x.pt").weights)
    name = "head.weight"
    assert full.state_dict()[name].dtype == torch.float32
    assert torch.equal(full.state_dict()[name].half(), network.state_dict()[name])


class TestMovedHead:
    """People replace the last layer, or keep it beside the rest."""

    def of(self, *pairs: tuple[str, str]) -> Any:
        network = timm.create_model("test_resnet", num_classes=5)
        return match(network, renamed(weights("test_resnet", num_classes=5), *pairs), "x.pt")

    @pytest.mark.parametrize(
        "pairs",
        [
            [("fc.", "fc.1.")],
            [("fc.", "classifier.")],
            [("^", "backbone."), ("^backbone.fc.", "head.fc.")],
            [("^", "module.net."), ("^module.net.fc.", "module.head.0.")],
        ],
        ids=["in a Sequential", "of another name", "beside the backbone", "nested"],
    )
    def test_it_is_found(self, pairs: list[tuple[str, str]]):
        found = self.of(*pairs)
        own = weights("test_resnet", num_classes=5)
        assert set(found.weights) == set(own) and all(torch.equal(found.weights[name], own[name]) for name in own)
        assert any("the last layer is " in note and "fc in the network" in note for note in found.notes)
        assert not any("left out" in note for note in found.notes)

    def test_two_layers_in_place_of_one_are_refused(self):
        network, tensors = timm.create_model("test_resnet", num_classes=5), weights("test_resnet", num_classes=5)
        tensors = renamed(tensors, ("fc.", "fc.2.")) | {
            "fc.0.weight": tensors["fc.weight"],
            "fc.0.bias": tensors["fc.bias"],
        }
        with pytest.raises(InputError, match="fc.weight is missing"):
            match(network, tensors, "x.pt")

    def test_a_layer_of_other_features_is_refused(self):
        network, tensors = timm.create_model("test_resnet", num_classes=5), weights("test_resnet", num_classes=5)
        tensors = renamed(tensors, ("fc.", "fc.1."))
        tensors["fc.1.weight"] = tensors["fc.1.weight"][:, :-1]
        with pytest.raises(InputError, match="fc.weight is missing"):
            match(network, tensors, "x.pt")
