"""Toy images, networks, methods and experiments, small enough for tests."""

import gc
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datafree.applications.distillation import DistillationConfig
from datafree.classifier import Classifier, ClassSubset, batch_norms
from datafree.methods import METHODS
from datafree.networks.head_surgery import widen
from datafree.networks.zoo import ConvNet
from datafree.runs.experiment import Experiment
from datafree.runs.logger import RunLogger
from datafree.runs.tasks import Task
from datafree.synthesis import Method, Schedule
from datafree.types import Batch

SHAPE = (1, 8, 8)
CLASSES = ("top", "bottom", "left", "right")


def bars(count: int = 256) -> Batch:
    """Return images with a bright bar at one edge; the class is the edge."""
    labels = torch.arange(count) % 4
    images = 0.2 * torch.rand(count, *SHAPE)
    for image, label in zip(images, labels.tolist(), strict=True):
        (image[:, :3], image[:, 5:], image[:, :, :3], image[:, :, 5:])[label].add_(0.7)
    return Batch(images, labels, {})


def classifier(model: nn.Module) -> Classifier:
    """Return a classifier of the bars."""
    return Classifier(model, shape=SHAPE, classes=CLASSES, mean=(0.4,), std=(0.3,)).eval()


def conv_net(widths: Sequence[int] = (8, 8)) -> Classifier:
    """Return an untrained network of two blocks with batch norm."""
    return classifier(ConvNet(num_classes=4, in_chans=1, widths=tuple(widths)))


def plain_net() -> Classifier:
    """Return an untrained network without batch norm."""
    return classifier(
        nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(128, 4))
    )


def teach(student: Classifier, batch: Batch, steps: int = 60) -> Classifier:
    """Train on one batch, then set the running statistics to those of this batch."""
    optimizer = torch.optim.Adam(student.parameters(), 1e-2)
    student.train()
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(student(batch.images), batch.targets).backward()
        optimizer.step()
    for norm in batch_norms(student):
        norm.momentum = 1.0
    with torch.no_grad():
        student(batch.images)
    for norm in batch_norms(student):
        norm.momentum = 0.1
    student.zero_grad()
    return student.eval()


def snapshot(model: nn.Module) -> dict[str, Any]:
    """Return everything about a network that must not change: weights, modes, flags, gradients, hooks."""
    return {
        "weights": {name: tensor.clone() for name, tensor in model.state_dict().items()},
        "modes": [module.training for module in model.modules()],
        "requires_grad": [parameter.requires_grad for parameter in model.parameters()],
        "gradients": [parameter.grad is not None for parameter in model.parameters()],
        "hooks": [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()],
    }


def same(a: Any, b: Any) -> bool:
    """Return whether two values are equal to the last bit; dicts and sequences are compared recursively."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


@contextmanager
def counting_images() -> Iterator[None]:
    """Let `images_held` count what is made inside a `with` block only, which is also much faster."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def images_held(shape: tuple[int, ...]) -> int:
    """Return the number of images of a shape in all tensors that are alive; see `counting_images`."""
    gc.collect(1)
    held: dict[int, int] = {}
    for thing in gc.get_objects():
        if issubclass(type(thing), Tensor) and thing.ndim == 4 and thing.shape[1:] == shape:
            storage = thing.untyped_storage()
            held[storage.data_ptr()] = storage.nbytes() // (thing.element_size() * math.prod(shape))
    return sum(held.values())


SMALL = {"batch_size": 8, "student_batch_size": 8, "latent_size": 4, "reset_every": 3, "discard_first": 1}


def tiny(method: Method) -> Method:
    """Return the same method with tiny settings, which synthesizes in milliseconds."""
    changes: dict[str, Any] = {name: value for name, value in SMALL.items() if getattr(method, name, 0)}
    if steps := getattr(method, "steps", 0):
        changes["steps"] = (3,) if isinstance(steps, tuple) else 3
    return replace(method, **changes)


TINY = {name: tiny(method) for name, method in METHODS.items()}


def synthesize(method: Method, teacher: Classifier, student: Classifier | None, seed: int = 0) -> Batch:
    """One batch of a method, from a seed."""
    torch.manual_seed(seed)
    return method.build(teacher).synthesize(student)


class BlackBox(nn.Module):
    """A teacher of which only inputs and outputs are accessible."""

    def __init__(self, teacher: Classifier) -> None:
        super().__init__()
        self.hidden = [teacher]  # a list hides it from `modules`

    def forward(self, images: Tensor) -> Tensor:
        return self.hidden[0].model(images)


def experiment(teacher: Path, **changes: Any) -> Experiment:
    """Return an experiment that runs in about a second."""
    settings: dict[str, Any] = {
        "task": Task(teacher=f"local-dir:{teacher}", student="convnet_w16"),
        "method": TINY["deep-inversion"],
        "schedule": Schedule(warmup_batches=2, refresh_every=0, pool_batches=2, batch_size=8),
        "application": DistillationConfig(steps=12),
        "device": "cpu",
        "checkpoint_interval": 0.0,
    }
    return Experiment(**settings | changes)


def application_inputs(
    name: str, teacher: Classifier, student: Classifier
) -> tuple[Classifier, nn.Module, dict[str, Any]]:
    """Return what an application gets: the student, the part of it that methods see, and further arguments."""
    if name == "extend":
        wide = widen(deepcopy(teacher), ["middle", "frame"])
        new = Batch(torch.rand(8, *SHAPE), torch.arange(8) % 2, {})
        return wide, ClassSubset(wide, range(len(CLASSES))), {"new": repeat(new)}
    if name == "amalgamate":
        student = conv_net()  # its blocks are those of the teacher
    return student, student, {}


@contextmanager
def interrupted(monkeypatch: pytest.MonkeyPatch, step: int) -> Iterator[None]:
    """Interrupt the run inside a `with` block after a step, as Ctrl-C does."""
    original = RunLogger.log

    def log(self: RunLogger, now: int, terms: Any) -> None:
        original(self, now, terms)
        if now == step:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(RunLogger, "log", log)
        yield
