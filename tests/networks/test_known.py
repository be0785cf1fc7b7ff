"""The index of known architectures, and the digests it consists of."""

import json

import pytest

from datafree.networks.building import blueprint
from datafree.networks.known.blueprints import known_blueprint, known_networks
from datafree.networks.known.digests import names_digest, neutral_shapes, order_digest
from datafree.networks.known.write import INDEX, digests_of
from datafree.networks.zoo import NETWORKS

Shapes = dict[str, tuple[int, ...]]


def shapes(name: str, **settings: int) -> Shapes:
    return {key: tuple(tensor.shape) for key, tensor in blueprint(name, **settings).state_dict().items()}


@pytest.mark.parametrize("name", ["resnet18", "convnet_w16", "mobilenetv3_small_050"])
def test_digests_do_not_depend_on_classes_and_channels(name: str):
    own, other = shapes(name), shapes(name, num_classes=7, in_chans=4)
    assert names_digest(own) == names_digest(other) and order_digest(own) == order_digest(other)


def test_digests_tell_networks_apart():
    own, other = shapes("resnet18_cifar"), shapes("resnet18_cifar_w16")  # equal names, other widths
    assert list(own) == list(other) and names_digest(own) != names_digest(other)
    renamed = {f"x.{name}": shape for name, shape in own.items()}
    assert order_digest(renamed) == order_digest(own) != order_digest(other)
    assert names_digest(renamed) != names_digest(own)


def test_names_have_no_order_and_counters_do_not_count():
    own = shapes("convnet_w16")
    fewer = {name: own[name] for name in reversed(own) if not name.endswith("num_batches_tracked")}
    assert names_digest(fewer) == names_digest(own)


def test_classes_and_channels_become_zero():
    rows = {"conv.weight": (8, 3, 3, 3), "bn.num_batches_tracked": (), "fc.weight": (10, 8), "fc.bias": (10,)}
    assert neutral_shapes(rows) == [(8, 0, 3, 3), (0, 8), (0,)]
    assert neutral_shapes({}) == []


def test_the_index_is_complete_and_has_only_known_names():
    index, known = json.loads(INDEX.read_text()), list(known_networks())
    assert len(index) > 0.97 * len(known), "run `python -m datafree.networks.known.write`"
    assert set(NETWORKS) <= set(index) <= set(known)


@pytest.mark.parametrize(
    "name", ["resnet18", "wrn_16_1", "tf_efficientnet_lite0", "torchvision:resnet18", "torchvision:regnet_y_400mf"]
)
def test_the_index_is_up_to_date(name: str):
    row = digests_of(name)
    assert row and json.loads(INDEX.read_text())[name] == list(row)


def test_networks_of_torchvision_have_no_memory():
    assert all(parameter.is_meta for parameter in known_blueprint("torchvision:regnet_y_400mf").parameters())
