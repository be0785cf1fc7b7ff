"""Train an example teacher on real images and their labels."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console

from datafree import teachers
from datafree.callback import Callback, silent
from datafree.classifier import Classifier
from datafree.evaluation import evaluate
from datafree.export.cards import Header, Measured
from datafree.files import atomic_folder, read_json, write_json
from datafree.files.validation import from_plain
from datafree.networks.input_fitting import require_accepts_images
from datafree.progress import with_progress
from datafree.real.data import RealImages, open_real
from datafree.real.ledger import LEDGER, Ledger
from datafree.runs.hardware import plain_faults, set_threads, to_device
from datafree.runs.logger import RunLogger
from datafree.runs.reporting.card import library_of, network_card
from datafree.runs.reporting.card_header import data_name
from datafree.sets.privacy import literal
from datafree.synthesis.augmentation import Augmentation
from datafree.synthesis.features import Moments
from datafree.teachers.folders import require_savable
from datafree.types import InputError, require_at_least, require_seed

TRAINING = "training.json"
"""file with the settings that a teacher was trained with"""


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Supervised training with AdamW and a one-cycle learning rate."""

    steps: int = 600
    """optimizer steps"""
    batch_size: int = 128
    """real images per step"""
    lr: float = 5e-3
    """peak learning rate"""
    weight_decay: float = 1e-2
    """weight decay of all parameters"""
    augment: Augmentation = field(default_factory=lambda: Augmentation(shift=0.7, rotate=8, scale=0.1))
    """augmentation of the real images"""

    def __post_init__(self) -> None:
        require_at_least(1, steps=self.steps, batch_size=self.batch_size)
        require_at_least(1e-9, lr=self.lr)
        require_at_least(0, weight_decay=self.weight_decay)
        self.augment.require_no_mix()


def normalization(real: RealImages) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and the standard deviation of each channel, rounded to four digits."""
    moments = Moments()
    for batch in real.batches():
        moments.add(batch.images)
    mean, var = moments.result()
    return tuple(round(value, 4) for value in mean.tolist()), tuple(round(value, 4) for value in var.sqrt().tolist())


def train(classifier: Classifier, real: RealImages, config: TrainingConfig, callback: Callback = silent) -> Classifier:
    """Train a classifier on labelled images, in place.

    Args:
        classifier: The classifier.
        real: The training images.
        config: The settings.
        callback: Shows progress and the loss.

    Returns:
        The classifier in evaluation mode.
    """
    optimizer = torch.optim.AdamW(classifier.parameters(), config.lr, weight_decay=config.weight_decay, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.lr, config.steps)
    steps, batches = callback.track(range(config.steps), "train"), real.random_batches(config.batch_size)
    classifier.train()
    for step, batch in zip(steps, batches, strict=False):
        images, labels = batch.images.to(classifier.device), batch.targets.to(classifier.device)
        logits = classifier(config.augment(images))
        loss = F.cross_entropy(classifier.decisions(logits), classifier.decision_targets(labels))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        callback.log(step + 1, {"cross_entropy": loss.detach()})
    return classifier.eval()


def example_teacher(
    *,
    network: str,
    data: str,
    out: str | Path,
    data_root: str = "",
    input: Sequence[int] = (),
    arguments: Mapping[str, Any] | None = None,
    training: TrainingConfig,
    seed: int = 0,
    device: str = "cpu",
    threads: int = 1,
    console: Console | None = None,
) -> float:
    """Train a network on real images, and write it to a folder in timm's layout, with its ledger and settings.

    Args:
        network: A timm name, including the papers' networks.
        data: Real images: digits, mnist, cifar10 or folder:PATH.
        out: The output folder.
        data_root: Folder of the data sets; default: `$DATAFREE_DATA`, else `./data`.
        input: Channels, height and width of the teacher's images, to which the real images are resized; grey ones are
            repeated in three channels, colour ones become grey for one channel. Default: those of the network.
        arguments: Further arguments of the network; see `teachers.create`.
        training: The settings of training.
        seed: Random seed.
        device: cpu, cuda, mps, or auto.
        threads: CPU threads.
        console: Where progress is shown; default: nowhere.

    Returns:
        The held-out accuracy; for multi-label data the mean average precision.

    Raises:
        InputError: If the network or the data set is not available.
    """
    require_seed(seed)
    require_input(input)
    start, out = time.monotonic(), Path(out)
    set_threads(threads)
    torch.manual_seed(seed)
    ledger = Ledger()
    template = teachers.create(network)
    shape = tuple(input) or template.shape
    inputs: dict[str, Any] = {"shape": shape, "preprocessing": template.preprocessing, "make_grey": bool(input)}
    real = open_real(data, "train", "teacher training", ledger, root=data_root, **inputs)
    mean, std = normalization(real)
    classifier = teachers.create(
        network,
        classes=real.classes,
        shape=real.shape,
        mean=mean,
        std=std,
        preprocessing=template.preprocessing,
        arguments=arguments,
    )
    require_accepts_images(classifier, network, "give another --input or network")
    classifier.multi_label = real.multi_label
    if arguments:
        require_savable(classifier, "give other --teacher-args")
    to_device(classifier, device)
    with plain_faults(("--batch-size",)), RunLogger(None, classifier, None, console=console) as logger:
        train(classifier, real, training, logger)
    test = open_real(data, "test", "evaluation", ledger, root=data_root, **inputs)
    held_out = evaluate(classifier, classifier, with_progress(test.batches(), len(test), "evaluate", console)).score
    settings = recipe(network=network, data=data, training=training, seed=seed)
    settings |= {"input": list(input)} if input else {}
    settings |= {"arguments": dict(arguments)} if arguments else {}
    with atomic_folder(out) as new:  # the teacher and what is known about it appear together
        teachers.save_folder(classifier, new, partial(trained_card, classifier, data, held_out, folder=out.name))
        write_json(new / LEDGER, ledger.to_json())
        write_json(new / TRAINING, {**settings, "held_out": held_out, "seconds": round(time.monotonic() - start, 2)})
    return held_out


def trained_card(classifier: Classifier, data: str, held_out: float, config: Mapping[str, Any], *, folder: str) -> str:
    """Return the model card of a network that was trained on real images.

    Args:
        classifier: The network.
        data: The images, as they were named.
        held_out: Accuracy, or mean average precision, on their test split.
        config: Its `config.json`.
        folder: Name of its folder.
    """
    from datafree import __version__

    images = "a folder of images" if data.startswith("folder:") else literal(data)
    metric = "mean_average_precision" if classifier.multi_label else "accuracy"
    header = Header(
        name=folder,
        library=library_of(config),
        tags=(library_of(config),),
        source="",
        measured=(Measured(metric=metric, value=held_out, data=data_name({"data": data})),),
    )
    words = metric.replace("_", " ")
    facts = [f"Trained on {images} with datafree {__version__}. Held-out {words}: {100 * held_out:.2f} %."]
    return network_card(classifier, config, header, facts, folder)


def require_input(input: Sequence[int]) -> None:
    """Check the shape of the images that a teacher is trained on, if it is given.

    Raises:
        InputError: If it is not that of grey or colour images.
    """
    if input and (len(input) != 3 or input[0] not in (1, 3) or not all(1 <= size <= 4096 for size in input)):
        given = " ".join(map(str, input))
        raise InputError(f"input is {given}; give channels (1 or 3), height and width, such as --input 3 32 32")


def was_trained_with(folder: Path, settings: Mapping[str, Any]) -> bool:
    """Return whether a trained network has these settings. One that was added since then has its default.

    Args:
        folder: The network, as `example_teacher` wrote it.
        settings: The settings that decide; see `recipe`.

    Raises:
        InputError: If the file with its settings is damaged.
    """
    path = folder / TRAINING
    found = from_plain(dict[str, Any], read_json(path), str(path))
    expected = json.loads(json.dumps(settings))
    try:
        same = from_plain(TrainingConfig, found.get("training"), str(path)) == from_plain(
            TrainingConfig, expected.pop("training"), "the settings"
        )
    except InputError:  # a setting that is not known today
        return False
    return same and expected.items() <= found.items()


def recipe(*, network: str, data: str, training: TrainingConfig, seed: int) -> dict[str, Any]:
    """Return all settings of an example teacher as JSON."""
    return {"network": network, "data": data, "training": asdict(training), "seed": seed}
