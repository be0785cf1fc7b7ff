"""Every application in every precision, and with everything on one device."""

from contextlib import nullcontext
from copy import deepcopy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import toys
from torch import Tensor, nn

from datafree.applications import APPLICATIONS
from datafree.applications.amalgamation import AmalgamationConfig
from datafree.applications.base import Application
from datafree.applications.continual import ExtensionConfig
from datafree.applications.distillation import DistillationConfig, Distiller
from datafree.applications.pruning import PruningConfig
from datafree.callback import Callback
from datafree.classifier import Classifier, ClassSubset
from datafree.ensemble import Ensemble, SingleTeacher
from datafree.networks.target_net import TargetNet
from datafree.runs.hardware import launch, place
from datafree.synthesis import Schedule, Stream
from datafree.types import Batch, Terms

CONFIGS: dict[str, Application] = {
    "distill": DistillationConfig(steps=3, ema=0.5, hints=1.0),
    "extend": ExtensionConfig(steps=3, local_weight=1.0, head_weight=1.0, feature_weight=0.1),
    "amalgamate": AmalgamationConfig(steps=4, measure_batches=1),
    "prune": PruningConfig(steps=3, rounds=2, importance_batches=1, macs_weight=0.1, hints=1.0),
}


class Recorder(Callback):
    """Remembers the terms of all steps."""

    def __init__(self) -> None:
        self.terms: list[Tensor] = []

    def log(self, step: int, terms: Terms) -> None:
        self.terms += terms.values()


class Meta(SimpleNamespace):
    """A Fabric for the meta device."""

    device, world_size, global_rank, is_global_zero = torch.device("meta"), 1, 0, True
    to_device = broadcast = all_reduce = staticmethod(lambda value, **settings: value)

    def setup(self, model: nn.Module, optimizer: Any, move_to_device: bool) -> tuple[nn.Module, Any]:
        optimizer.optimizer = optimizer
        return model, optimizer

    def backward(self, loss: Tensor) -> None:
        loss.backward()


def networks(name: str, teacher: Classifier) -> tuple[Classifier, Classifier, nn.Module, dict[str, Any]]:
    """Return the teacher of an application, its student, what a method sees of the student, and further arguments."""
    if name != "amalgamate":
        return (teacher, *toys.application_inputs(name, teacher, deepcopy(teacher)))
    other = toys.conv_net()
    other.classes = ("left", "right", "middle", "frame")
    ensemble = Ensemble([teacher, other]).eval()
    student = toys.conv_net()
    student.classes = ensemble.classes
    return ensemble, student, student, {}


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
@pytest.mark.parametrize("name", APPLICATIONS)
def test_every_application_trains_in_every_precision(name: str, precision: str, teacher: Classifier):
    teacher, student, visible, inputs = networks(name, deepcopy(teacher))
    fabric = launch("cpu", precision="32-true" if precision == "16-mixed" else precision)  # a CPU has no loss scaling
    for network in (teacher, student):
        place(network, precision, fabric)
    stream = Stream.of(toys.TINY["group-stack"], teacher, visible, Schedule(refresh_every=1))
    before = [parameter.detach().clone() for parameter in student.parameters()]
    recorder = Recorder()
    CONFIGS[name].build()(student, teacher, stream, **inputs, fabric=fabric, callback=recorder)
    assert recorder.terms and all(bool(term.isfinite()) for term in recorder.terms)
    assert all(
        parameter.dtype == torch.float32 and bool(parameter.isfinite().all()) for parameter in student.parameters()
    )
    assert not toys.same(before, list(student.parameters()))
    assert isinstance(student.model, TargetNet) == (name == "amalgamate")
    assert student(torch.rand(2, *toys.SHAPE)).dtype == torch.float32


@pytest.fixture
def meta_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let networks run on the meta device, which has no mixed precision."""
    monkeypatch.setattr(torch, "autocast", lambda *arguments, **settings: nullcontext())


@pytest.mark.usefixtures("meta_autocast")
def test_a_step_of_distillation_brings_everything_to_the_device_of_the_networks(teacher: Classifier):
    """On the meta device, a tensor that was left on the CPU is an error, as it is on a GPU."""
    teacher, student = deepcopy(teacher).to("meta"), deepcopy(teacher).to("meta")
    config = DistillationConfig(optimizer="lamb", lr_warmup=0.0)
    distiller = Distiller(student, teacher, config, Meta())  # type: ignore[arg-type]
    terms = distiller.step(Batch(torch.rand(4, *toys.SHAPE), torch.arange(4), {}, torch.rand(4, 4)))
    assert terms["distillation"].is_meta


@pytest.mark.usefixtures("meta_autocast")
def test_parts_of_a_network_are_selected_on_its_device(teacher: Classifier):
    images = torch.rand(2, *toys.SHAPE, device="meta")
    single = SingleTeacher(deepcopy(teacher), ("left", "up", "top")).to("meta")
    for network in (ClassSubset(Ensemble([deepcopy(teacher)] * 2).to("meta"), [2, 0]), single):
        assert all(buffer.is_meta for buffer in network.buffers()) and network(images).is_meta
