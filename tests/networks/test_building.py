"""Untrusted settings of networks: arguments, sizes, names."""

from typing import Any

import pytest
import torch

from datafree import teachers
from datafree.networks.building import blueprint, require_bounded, require_known_network, require_plain_arguments
from datafree.networks.zoo import NETWORKS
from datafree.types import InputError


class TestArguments:
    @pytest.mark.parametrize(
        "arguments",
        [
            {"depth": 4, "mlp_ratio": 1.5, "qkv_bias": False, "dims": [8, 16], "head": None},
            {"act_layer": "gelu", "global_pool": "", "norm_layer": "layernorm2d", "labels": [[0, -1], [1]]},
            {"networks": ["convnet_w16", "resnet18.a1_in1k"], "stages": ["a", "b"]},
        ],
    )
    def test_numbers_and_words_are_accepted(self, arguments: dict[str, Any]):
        require_plain_arguments(arguments, "x")

    @pytest.mark.parametrize(
        "arguments",
        [
            {"checkpoint_path": "x"},
            {"pretrained_cfg": "x"},
            {"pretrained_cfg_overlay": {}},
            {"cache_dir": "x"},
            {"url": 1},
            {"act_layer": "../x"},
            {"act_layer": "os.system"},
            {"act_layer": "http:x"},
            {"act_layer": "x" * 100},
            {"networks": ["a/b"]},
            {"networks": ["hf-hub:a"]},
            {"dims": {"a": 1}},
            {"dims": [[[[1]]]]},
            {"dims": [1] * 100_000},
            {"depth": 10**9},
            {"depth": 10**20},
            {"rate": float("nan")},
            {"a b": 1},
            {"num_classes": 3},
            {"in_chans": 3},
        ],
        ids=str,
    )
    def test_files_addresses_code_and_other_options_are_refused(self, arguments: dict[str, Any]):
        with pytest.raises(InputError, match="^x sets ") as fault:
            require_plain_arguments(arguments, "x")
        assert len(str(fault.value)) < 250

    @pytest.mark.parametrize(
        "name", ["convnet_w16", "lenet5", "resnet_w16", "wrn_16_1", "vgg11_bn_cifar", "test_resnet"]
    )
    def test_unknown_arguments_are_refused(self, name: str):
        with pytest.raises(InputError, match=f"network '{name}' could not be created .*nonsense"):
            teachers.create(name, arguments={"nonsense": 5})

    @pytest.mark.parametrize(
        ("name", "arguments"),
        [
            ("test_vit", {"num_heads": 5}),
            ("test_vit", {"depth": -1}),
            ("resnet_w16", {"width": 0}),
            ("resnet_w16", {"width": 100_000}),
            ("convnet_w16", {"widths": [1.5, 2, 3]}),
            ("wrn_16_1", {"depth": -1}),
            ("wrn_16_1", {"depth": 12}),
            ("resnet_w16", {"depths": [1, 0]}),
            ("target_net", {"networks": ["target_net"], "branch_points": [1], "labels": [[0]]}),
        ],
        ids=str,
    )
    def test_impossible_arguments_are_one_sentence(self, name: str, arguments: dict[str, Any]):
        with pytest.raises(InputError, match=f"network '{name}' could not be created") as fault:
            teachers.create(name, arguments=arguments, shape=(1, 32, 32), classes=2)
        assert "\n" not in str(fault.value)


class TestNames:
    def test_the_tag_of_a_network_is_checked(self):
        require_known_network("resnet18.a1_in1k")
        for name, fault in {
            "resnet18.foo": "network 'resnet18' has no weights 'foo'",
            "resnet18.a1_in1": "did you mean a1_in1k",
            "hf-hub:a/b": "unknown to timm",
            "local-dir:x": "unknown to timm",
            "": "unknown to timm",
        }.items():
            with pytest.raises(InputError, match=fault):
                require_known_network(name)


class TestSizes:
    @pytest.mark.parametrize("shape", [(3, 10**5, 10**5), (0, 8, 8), (3, 0, 8), (3, 8, -1), (10**9, 1, 1)], ids=str)
    def test_impossible_images_are_refused(self, shape: tuple[int, int, int]):
        with pytest.raises(InputError, match="images of shape"):
            require_bounded(shape, None)

    @pytest.mark.parametrize("classes", [0, -1, 10**7, 10**20])
    def test_impossible_numbers_of_classes_are_refused(self, classes: int):
        with pytest.raises(InputError, match="classes are not possible"):
            teachers.create("convnet_w16", classes=classes)

    def test_a_huge_network_is_refused_before_memory_is_allocated(self):
        with pytest.raises(InputError, match="more than 1 billion weights"):
            blueprint("vit_gigantic_patch14_224")

    @pytest.mark.parametrize("name", ["convnet_w16", "test_vit", "test_resnet"])
    def test_a_blueprint_has_the_shapes_of_the_network_and_draws_nothing(self, name: str):
        before = torch.get_rng_state()
        plan = blueprint(name, num_classes=3)
        assert torch.equal(torch.get_rng_state(), before)
        real = teachers.create(name, classes=3).model
        assert {k: v.shape for k, v in plan.state_dict().items()} == {k: v.shape for k, v in real.state_dict().items()}

    @pytest.mark.parametrize("name", NETWORKS)
    def test_the_papers_networks_have_blueprints(self, name: str):
        assert all(tensor.is_meta for tensor in blueprint(name).parameters())
