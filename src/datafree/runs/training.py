"""Training an example teacher on real images: the only training here that may see them, beside the ceiling."""

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console

from datafree import teachers

from datafree.runs.hardware import set_threads, to_device
from datafree.synthesis.augmentation import Augmentation
from datafree.classifier import Classifier
from datafree.real.data import Ledger, RealImages, open_real
from datafree.evaluation import evaluate
from datafree.synthesis.features import Moments
from datafree.runs.logger import RunLogger, shown
from datafree.files import write_json
from datafree.types import at_least, is_seed
from datafree.callback import Callback, silent

TRAINING = "training.json"
"""in the folder of an example teacher: what it was trained by"""


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """A plain recipe: AdamW along one cycle."""

    steps: int = 600
    """optimiser steps"""
    batch_size: int = 128
    """real images per step"""
    lr: float = 5e-3
    """learning rate at its highest"""
    weight_decay: float = 1e-2
    """of all weights"""
    augment: Augmentation = field(default_factory=lambda: Augmentation(shift=0.7, rotate=8, scale=0.1))
    """small movements of the images"""

    def __post_init__(self) -> None:
        at_least(1, steps=self.steps, batch_size=self.batch_size)
        at_least(1e-9, lr=self.lr)
        at_least(0, weight_decay=self.weight_decay)
        self.augment.must_keep_labels()


def normalization(real: RealImages) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of the training images."""
    moments = Moments()
    for batch in real.once():
        moments.add(batch.images)
    mean, var = moments.result()
    return tuple(round(value, 4) for value in mean.tolist()), tuple(round(value, 4) for value in var.sqrt().tolist())


def train(classifier: Classifier, real: RealImages, config: TrainingConfig, callback: Callback = silent) -> Classifier:
    """Trains a classifier on labelled images, in place, and returns it in evaluation mode."""
    optimizer = torch.optim.AdamW(classifier.parameters(), config.lr, weight_decay=config.weight_decay, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.lr, config.steps)
    classifier.train()
    for step, batch in zip(callback.track(range(config.steps), "train"), real.forever(config.batch_size), strict=False):
        images, labels = batch.images.to(classifier.device), batch.targets.to(classifier.device)
        logits = classifier(config.augment(images))
        loss = F.cross_entropy(classifier.decisions(logits), classifier.choices(labels))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        callback.log(step + 1, {"cross entropy": loss.detach()})
    return classifier.eval()


def example_teacher(
    *,
    network: str,
    data: str,
    out: Path,
    data_root: str = "",
    training: TrainingConfig,
    seed: int = 0,
    device: str = "cpu",
    threads: int = 1,
    console: Console | None = None,
) -> float:
    """Trains a network on real images and writes it in timm's layout, with its ledger; returns its held-out score.

    What it was trained by is written last, as `training.json`: where that is, the folder is whole.

    Raises:
        InputError: If the network or the data are not to be had.
    """
    is_seed(seed)
    began = time.monotonic()
    set_threads(threads)
    torch.manual_seed(seed)
    ledger = Ledger()
    made_for = teachers.create(network)
    taken: dict[str, Any] = {"shape": made_for.shape, "view": made_for.view}
    real = open_real(data, "train", "teacher training", ledger, root=data_root, **taken)
    mean, std = normalization(real)
    classifier = teachers.create(
        network, classes=real.classes, shape=real.shape, mean=mean, std=std, view=made_for.view
    )
    classifier.multi_label = real.multi_label
    to_device(classifier, device)
    with RunLogger(None, classifier, None, console=console) as logger:
        train(classifier, real, training, logger)
    test = open_real(data, "test", "evaluation", ledger, root=data_root, **taken)
    found = evaluate(classifier, classifier, shown(test.once(), len(test), "evaluate", console))
    teachers.save_folder(classifier, out)
    write_json(out / "ledger.json", ledger.as_json())
    made_by = recipe(network=network, data=data, training=training, seed=seed)
    write_json(out / TRAINING, {**made_by, "held-out": found.score, "seconds": round(time.monotonic() - began, 2)})
    return found.score


def recipe(*, network: str, data: str, training: TrainingConfig, seed: int) -> dict[str, Any]:
    """By what an example teacher is made, as JSON."""
    return {"network": network, "data": data, "training": asdict(training), "seed": seed}
