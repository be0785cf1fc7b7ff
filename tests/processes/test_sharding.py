"""A teacher that is divided among processes computes what a whole one computes, and each process keeps a part of it."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import cases
import gang
import pytest
import torch
import toys
from torch import Tensor, nn
from torch.nn import functional as F

from datafree import processes
from datafree.classifier import Classifier, cpu_state_dict, fingerprint, frozen
from datafree.ensemble import Ensemble, SingleTeacher
from datafree.processes.sharding import kept_bytes, units_of
from datafree.runs.hardware import return_freed_memory
from datafree.runs.launching.sharding import require_shardable, shard_teacher, whole_again, without_weights
from datafree.teachers.costs import pass_cost
from datafree.types import InputError


class Attention(nn.Module):
    """Layers that are not called, called without a gradient only, or share their weights; an output that is a view."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.token = nn.Conv2d(1, 16, 4, 4), nn.Parameter(torch.randn(1, 1, 16))
        self.encoder = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, dropout=0.0)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.first, self.second, self.head = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 4)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).mT
        x = self.encoder(torch.cat([self.token.expand(len(x), -1, -1), x], 1))
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return self.head(self.second(self.first(x)).relu_()[:, 0])


def convolutions() -> nn.Module:
    """Return a network without batch norm whose activations change the outputs of layers in place."""
    layers = nn.Conv2d(1, 8, 3), nn.ReLU(inplace=True), nn.Conv2d(8, 9, 3), nn.ReLU(inplace=True)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(144, 16), nn.ReLU(inplace=True), nn.Linear(16, 4))


class Outside(nn.Module):
    """Uses the weights of a layer outside of this layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.other, self.last = nn.Linear(64, 8), nn.Linear(64, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        return self.last(self.first(x) + self.other(x) + F.linear(x, self.first.weight))


def names(network: nn.Module, found: dict[nn.Module, list[nn.Parameter]]) -> dict[str, list[int]]:
    modules = {module: name for name, module in network.named_modules()}
    return {modules[module]: [parameter.numel() for parameter in own] for module, own in found.items()}


def test_a_unit_is_the_innermost_module_that_is_called_around_all_places_of_a_weight():
    network = Attention().eval()
    images = torch.rand(2, *toys.SHAPE)
    found = names(network, units_of(network, lambda: network(images)))
    assert found[""] == [16, 256]  # the token, and the weights that two layers share
    assert found["patches"] == [256, 16] and found["attention"] == [768, 48, 256, 16] and found["head"] == [64, 4]
    assert sum(map(sum, found.values())) == sum(parameter.numel() for parameter in network.parameters())


def test_small_weights_are_not_divided():
    network = nn.Sequential(nn.Linear(64, 64, bias=True), nn.Linear(64, 1))
    found = names(network, units_of(network, lambda: network(torch.rand(1, 64))))
    assert found == {"0": [4096, 64], "1": [64]}  # the bias of the last layer is less than a thousandth


def test_outside_of_sharding_nothing_changes():
    tensor = torch.rand(3)
    assert processes.gathered(tensor) is tensor and processes.local(tensor) is tensor
    assert not processes.is_sharded(nn.Linear(2, 2)) and kept_bytes(nn.Linear(2, 2)) == 24
    return_freed_memory()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            {"processes": 1},
            "--shard-teacher divides the teacher among processes, but there is one; add --devices 2 or more",
        ),
        (
            {"processes": 2, "merges": True},
            "the student of an amalgamation takes over layers of its teachers, which must be whole; leave --shard-teacher out",
        ),
        (
            {"processes": 2, "halves": True},
            "a batch size that is found by trying needs a whole teacher; give --method.batch-size as a number, or leave ",
        ),
    ],
)
def test_what_needs_a_whole_teacher_is_refused(settings: dict[str, Any], expected: str):
    with pytest.raises(InputError, match=expected):
        require_shardable(**settings)


def test_one_process_continues_a_run_with_a_whole_teacher():
    require_shardable(1, resuming=True)
    require_shardable(2)


def test_a_teacher_without_weights_gets_them_again():
    teacher = toys.conv_net()
    empty = without_weights(teacher)
    assert all(parameter.is_meta for parameter in empty.parameters())
    assert [p.stride() for p in empty.parameters()] == [p.stride() for p in teacher.parameters()]
    empty.load_state_dict(teacher.state_dict(), assign=True)
    images = teacher.probe_images()
    assert torch.equal(empty(images), teacher(images)) and not processes.is_sharded(teacher)


def answers(teacher: Classifier) -> list[Tensor]:
    """Return logits and gradients of two passes that are differentiated at once, and logits without a gradient."""
    images = teacher.probe_images(4).to(torch.get_default_dtype()).requires_grad_()
    with frozen(teacher):
        first, second = teacher(images), teacher(images.flip(3))
        with torch.no_grad():
            third = teacher(images)
        loss = first.square().sum() + second.sum()
        loss.backward()
        assert images.grad is not None
        return [first.detach(), second.detach(), third, images.grad]


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "attention": Attention,
    "convolutions": convolutions,
    "batch norm": lambda: toys.conv_net((16, 16)).model,
}


def sharded(name: str, precision: torch.dtype) -> dict[str, Any]:
    """Shard a teacher, and compare it with the whole one."""
    fabric = cases.fabric_here()
    torch.manual_seed(fabric.global_rank)  # each process has other weights, until they get those of the first one
    teacher = toys.classifier(NETWORKS[name]())
    teacher.precision = precision
    whole = deepcopy(teacher)
    whole.load_state_dict(fabric.broadcast(teacher.state_dict()))
    skeleton = shard_teacher(teacher, fabric)
    results, expected = answers(teacher), answers(whole)
    single = [answers(SingleTeacher(each, ("left", "right")).eval())[0] for each in (teacher, whole)]
    weights, whole_weights = teacher.class_weights(), whole.class_weights()
    assert weights is not None and whole_weights is not None
    again = whole_again(teacher, skeleton, fabric)
    return {
        "difference": max(float((a - b).abs().max()) for a, b in zip(results, expected, strict=True)),
        "single": torch.equal(*single),
        "equal": (fingerprint(teacher), torch.equal(weights, whole_weights)) == (fingerprint(whole), True),
        "kept": kept_bytes(teacher) / kept_bytes(whole),
        "again": None
        if again is None
        else fingerprint(again) == fingerprint(whole) and not processes.is_sharded(again),
        "name": type(teacher.model).__name__ == type(whole.model).__name__,
        "activations": pass_cost(teacher).kept / pass_cost(whole).kept,
    }


def refusal(model: nn.Module) -> str:
    try:
        shard_teacher(toys.classifier(model), cases.fabric_here())
    except InputError as fault:
        return str(fault)
    return "it was sharded"


def ensemble() -> float:
    torch.manual_seed(0)
    teacher = Ensemble([toys.conv_net((16, 16)), toys.classifier(convolutions())]).eval()
    expected = answers(deepcopy(teacher))
    shard_teacher(teacher, cases.fabric_here())
    return max(float((a - b).abs().max()) for a, b in zip(answers(teacher), expected, strict=True))


def everything(pairs: list[tuple[str, str]], weights: dict[str, Tensor]) -> dict[str, Any]:
    return {
        **{name: sharded(name, torch.float32) for name in NETWORKS},
        "bf16": sharded("convolutions", torch.bfloat16),
        "ensemble": ensemble(),
        "one layer": refusal(nn.Sequential(nn.Flatten(), nn.Linear(64, 4))),
        "outside": refusal(Outside()),
        "trained": cases.train_all(pairs, weights, sharded=True),
    }


def test_two_processes_with_a_part_of_the_teacher_compute_what_a_whole_one_computes(teacher: Classifier):
    import torch.distributed.fsdp  # noqa: F401  # here, so that no process imports it on its own

    pairs, weights = [("deep-inversion", "distill"), ("zskd", "distill")], cpu_state_dict(teacher)
    one = cases.train_all(pairs, weights)
    results = gang.run_together(2, everything, pairs, weights)
    for rank, result in enumerate(results):
        assert isinstance(result, dict), result
        for name in (*NETWORKS, "bf16"):
            found = result[name]
            assert found["difference"] < 1e-5 and found["single"] and found["equal"] and found["name"], (name, found)
            assert found["again"] is (None if rank else True), (name, found)
            assert 0.45 < found["kept"] < 0.6 and found["activations"] == 1, (name, found)
        assert result["ensemble"] < 1e-5
        assert result["one layer"] == (
            "the teacher cannot be sharded, since nearly all of its weights are in one layer; leave --shard-teacher out"
        )
        assert result["outside"].startswith("the teacher cannot be sharded (")
        assert result["outside"].endswith("); leave --shard-teacher out")
        assert set(result["trained"]) == set(pairs)
        assert cases.differing(one, result["trained"]) == {}


PAIRS = [
    *((method, "distill") for method in cases.METHODS_HERE),
    *(("fast", application) for application in ("select", "extend", "prune")),
    *(("adi", "prune"), ("mixture", "select"), ("noise", "extend"), ("procedural", "select")),
]


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 3])
def test_every_method_with_a_sharded_teacher(size: int, teacher: Classifier):
    weights = cpu_state_dict(teacher)
    one = cases.train_all(PAIRS, weights)
    for trained in gang.run_together(size, cases.train_all, PAIRS, weights, True):
        assert isinstance(trained, dict), trained
        assert set(trained) == set(PAIRS)
        assert cases.differing(one, trained) == {}
