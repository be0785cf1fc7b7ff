"""Small trainings in double precision, the same on any number of processes."""

import math
import os
import traceback
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
import toys
from torch import Tensor, nn

from datafree.applications.amalgamation import AmalgamationConfig
from datafree.applications.continual import ExtensionConfig
from datafree.applications.distillation import DistillationConfig
from datafree.applications.pruning import PruningConfig
from datafree.callback import Callback
from datafree.classifier import Classifier, cpu_state_dict
from datafree.ensemble import Ensemble
from datafree.losses import information_entropy_loss
from datafree.methods import METHODS
from datafree.networks.head_surgery import widen
from datafree.runs.launching.sharding import shard_teacher
from datafree.runs.launching.world import create_fabric, world_of
from datafree.synthesis import Method, Schedule, Stream, Synthesizer
from datafree.synthesis.augmentation import Augmentation
from datafree.synthesis.mixture import Mixture, Part
from datafree.types import Batch, Terms

TOLERANCE = 1e-10
"""largest difference of a loss or a weight between one process and several, in double precision"""

BATCH, STEPS = 12, 20


@dataclass(frozen=True, kw_only=True)
class ThirdParty(Method):
    """A method that knows nothing of several processes."""

    paper: ClassVar[str] = "none"

    @property
    def schedule(self) -> Schedule:
        return Schedule()

    @property
    def passes(self) -> float:
        return 1

    def build(self, teacher: Classifier) -> "Uniform":
        return Uniform(teacher, self)


class Uniform(Synthesizer):
    def __init__(self, teacher: Classifier, config: ThirdParty) -> None:
        self.teacher, self.config = teacher, config

    def synthesize(self, student: nn.Module | None = None) -> Batch:
        images = torch.rand(self.config.batch_size, *self.teacher.shape)
        with torch.no_grad():
            logits = self.teacher(images)
        return Batch(images, logits.argmax(1), {"entropy": information_entropy_loss(logits)})


METHODS_HERE: dict[str, Method] = {
    "noise": replace(METHODS["noise"], batch_size=BATCH, spectrum="natural"),
    "deep-inversion": replace(
        METHODS["deep-inversion"], batch_size=BATCH, steps=(3, 3), robust=0.5, jitter=1, flip=True
    ),
    "adi": replace(METHODS["adi"], batch_size=BATCH, steps=(4,), js="clamped", targets="balanced"),
    "refine": replace(METHODS["refine"], batch_size=BATCH, steps=(4,)),
    "prior": replace(METHODS["deep-inversion"], batch_size=BATCH, steps=(4,), statistics=0.0, prior=1.0),
    "dafl": replace(METHODS["dafl"], lr=0.01, batch_size=BATCH, student_batch_size=2 * BATCH, latent_size=8),
    "fast": replace(METHODS["fast"], batch_size=BATCH, latent_size=8, reset_every=6, discard_first=2),
    "zskd": replace(METHODS["zskd"], batch_size=BATCH, steps=4),
    "group-stack": replace(METHODS["group-stack"], batch_size=BATCH, latent_size=8, discard_first=1, statistics=0.1),
    "procedural": replace(METHODS["procedural"], batch_size=BATCH),
    "third party": ThirdParty(batch_size=BATCH),
    "indivisible": ThirdParty(batch_size=BATCH + 1),
}
METHODS_HERE["mixture"] = Mixture(
    batch_size=BATCH,
    parts=(
        Part(name="noise", method=METHODS_HERE["noise"], share=0.3, schedule=Schedule(pool_batches=3, refresh_every=2)),
        Part(name="fast", method=METHODS_HERE["fast"], share=0.7, schedule=Schedule(pool_batches=3, refresh_every=3)),
    ),
)
DISTILL = DistillationConfig(steps=STEPS, optimizer="sgd", lr=0.05)
APPLICATIONS: dict[str, Any] = {
    "distill": DISTILL,
    "select": replace(DISTILL, select=2, ema=0.5, hints=0.5,
                      augment=Augmentation(shift=1, rotate=5, flip=True, mix=0.5, cutmix=0.5)),
    "extend": ExtensionConfig(steps=STEPS, optimizer="sgd", lr=0.05, new_batch_size=6, head_weight=1.0, feature_weight=0.1,
                              local_weight=0.5, augment=Augmentation(shift=1)),
    "prune": PruningConfig(steps=STEPS, optimizer="sgd", lr=0.05, ratio=0.3, rounds=2, importance_batches=2, importance_slice=2),
    "amalgamate": AmalgamationConfig(steps=STEPS, optimizer="sgd", lr=0.05, measure_batches=2),
}  # fmt: skip


class Losses(Callback):
    """Keeps the terms of every step, and of every batch."""

    def __init__(self) -> None:
        self.terms: list[float] = []
        self.images = 0

    def log(self, step: int, terms: Terms) -> None:
        self.terms += [float(term) for term in terms.values()]

    def on_batch(self, batch: Batch, count: int, due: int) -> None:
        self.terms += [float(term) for term in batch.terms.values()]


class Net(nn.Module):
    """Batch norm, fused or not, dropout, stochastic depth."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True))
        self.second = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6, affine=False))
        self.norm, self.drop, self.unused = nn.BatchNorm1d(6), nn.Dropout(0.2), nn.Linear(3, 3)
        self.head = nn.Linear(6, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        depth = self.second(x)
        if self.training:
            depth = depth * x.new_empty(len(x), 1, 1, 1).bernoulli_(0.8) / 0.8
        return self.head(self.drop(self.norm((x + depth).mean((2, 3)))))


_fabrics: dict[int, Any] = {}


def fabric_here() -> Any:
    """Return the processes that this one belongs to; they connect once."""
    if os.getpid() not in _fabrics:
        _fabrics[os.getpid()] = create_fabric("cpu", world_of(1), "64-true")
        _fabrics[os.getpid()].launch()
    return _fabrics[os.getpid()]


def new_images(count: int = 64) -> list[Batch]:
    return [toys.bars(6) for _ in range(count)]


def networks(application: str, teacher: dict[str, Tensor], dtype: torch.dtype) -> tuple[Classifier, Classifier]:
    """Return the student and the teacher of an application."""
    net = toys.conv_net()
    net.load_state_dict(teacher)
    if application == "amalgamate":
        parts = [toys.classifier(deepcopy(net.model)) for _ in range(2)]
        parts[0].classes, parts[1].classes = ("top", "bottom", "left", "right"), ("a", "b", "left", "right")
        student = toys.conv_net()
        return student.to(dtype), Ensemble([part.to(dtype) for part in parts]).to(dtype).eval()
    if application == "extend":
        student = deepcopy(net)
        widen(student, ("e", "f", "g", "h"))
        return student.to(dtype), net.to(dtype).eval()
    if application == "prune":
        return deepcopy(net).to(dtype), net.to(dtype).eval()
    return toys.classifier(Net()).to(dtype), net.to(dtype).eval()


def train(
    method: str, application: str, teacher: dict[str, Tensor], schedule: Schedule | None = None
) -> dict[str, Any]:
    """Train a student on as many processes as there are, and return its weights and all losses."""
    fabric = fabric_here()
    return train_with(fabric, method, application, teacher, schedule)


def train_with(
    fabric: Any,
    method: str,
    application: str,
    teacher: dict[str, Tensor],
    schedule: Schedule | None,
    sharded: bool = False,
) -> dict[str, Any]:
    torch.set_default_dtype(torch.float64)
    try:
        torch.manual_seed(3)
        student, network = networks(application, teacher, torch.float64)
        if sharded:
            shard_teacher(network, fabric)
        settings = APPLICATIONS[application]
        schedule = schedule or Schedule(warmup_batches=2, refresh_every=4, pool_batches=3, batch_size=12)
        losses = Losses()
        torch.manual_seed(5)
        if application == "extend":
            new = new_images()
        stream = Stream.of(
            METHODS_HERE[method],
            network,
            student if application not in ("extend", "amalgamate") else None,
            schedule,
            losses,
        )
        inputs = {"new": new} if application == "extend" else {}
        settings.build()(student, network, stream, **inputs, fabric=fabric, callback=losses)
        return {"losses": losses.terms, "student": cpu_state_dict(student), "rng": torch.get_rng_state(),
                "pool": len(stream.pool)}  # fmt: skip
    finally:
        torch.set_default_dtype(torch.float32)


def train_all(
    pairs: Sequence[tuple[str, str]], teacher: dict[str, Tensor], sharded: bool = False
) -> dict[tuple[str, str], Any]:
    """Train one student for each pair of a method and an application, with a whole or a sharded teacher."""
    fabric = fabric_here()
    results: dict[tuple[str, str], Any] = {}
    for method, application in pairs:
        try:
            results[method, application] = train_with(fabric, method, application, teacher, None, sharded)
        except Exception:
            results[method, application] = traceback.format_exc()[-1500:]
    return results


def differing(one: dict[Any, Any], trained: dict[Any, Any], tolerance: float = TOLERANCE) -> dict[Any, Any]:
    """Return the pairs whose training failed, or whose losses or student differ, each with what was found."""
    found = {
        pair: difference(one[pair], trained[pair]) if isinstance(trained[pair], dict) else trained[pair]
        for pair in trained
    }
    return {pair: each for pair, each in found.items() if not (isinstance(each, float) and each < tolerance)}


def difference(one: dict[str, Any], other: dict[str, Any]) -> float:
    """Return the largest difference of losses and weights."""
    losses = max((abs(a - b) for a, b in zip(one["losses"], other["losses"], strict=True)), default=0.0)
    weights = max(float((one["student"][name] - other["student"][name]).abs().max()) for name in one["student"])
    return math.inf if math.isnan(losses + weights) else max(losses, weights)
