"""The cost of a run, measured: three real steps of the student, and of the synthesis.

Where a batch would take long, the steps are those of a smaller batch, and the time is multiplied.
Nothing that the run uses is changed: the steps are taken on a copy of the student, with random numbers of their own.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any

import torch
from torch import nn

from datafree.applications.base import Application
from datafree.applications.trainer import Fabric
from datafree.callback import Callback
from datafree.classifier import Classifier
from datafree.randomness import RandomNumbers
from datafree.synthesis import Method
from datafree.teachers.costs import pass_cost
from datafree.types import Batch, Terms

STEP_SECONDS = 0.5
"""seconds that a timed step may take, about"""
LEAST_IMAGES = 4
"""images of a timed step, at least"""
STEPS = 3
"""steps that are timed, after one that is not: the first one allocates memory and chooses kernels"""


class Enough(Exception):
    """Ends a loop of which enough steps have been timed."""


class Stopwatch(Callback):
    """Notes when each step ends, and ends the loop after a few.

    Args:
        device: Where the steps are computed. A GPU is waited for, since its work is only queued.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.ends: list[float] = []

    def on_step(self) -> None:
        self.stamp()

    def log(self, step: int, terms: Terms) -> None:
        self.stamp()

    def stamp(self) -> None:
        """Note the end of a step.

        Raises:
            Enough: If this was the last step to time.
        """
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.ends.append(time.monotonic())
        if len(self.ends) > STEPS:
            raise Enough

    @property
    def seconds(self) -> float:
        """The median time of a step, in seconds. With fewer than two steps, nothing was measured: 0."""
        durations = sorted(end - start for start, end in zip(self.ends, self.ends[1:], strict=False))
        return durations[len(durations) // 2] if durations else 0.0


@dataclass(frozen=True)
class SynthesisTime:
    """How long a method takes."""

    batch: float
    """seconds per batch"""
    step: float = 0.0
    """seconds per optimization step of a batch; 0 if the method does not optimize each batch by itself"""


def time_student(
    application: Application, student: nn.Module, teacher: Classifier, fabric: Fabric, inputs: Mapping[str, Any]
) -> float:
    """Return the seconds of one step of an application, with its augmentation and the answers of the teacher.

    Args:
        application: The settings.
        student: Copied, not changed.
        teacher: Not changed.
        fabric: Device and precision.
        inputs: What the application takes besides the batches; `batch_size` is the number of images of a step.
    """
    watch = Stopwatch(teacher.device)
    arguments = {name: value for name, value in inputs.items() if name != "batch_size"}
    images = fabric.broadcast(timed_images(teacher, -(-inputs["batch_size"] // fabric.world_size)))
    with RandomNumbers(0), suppress(Enough):
        batches = repeat_of(teacher, images)
        application.build()(deepcopy(student), teacher, batches, **arguments, fabric=fabric, callback=watch)
    return watch.seconds * inputs["batch_size"] / (images * fabric.world_size)


def timed_images(teacher: Classifier, most: int) -> int:
    """Return how many images a timed step has: the whole batch if the teacher is fast enough."""
    cost = pass_cost(teacher)
    return min(most, max(LEAST_IMAGES, int(STEP_SECONDS / max(cost.seconds, 1e-9))))


def repeat_of(teacher: Classifier, count: int) -> Iterator[Batch]:
    """Return an endless stream of one batch of random pixels."""
    images = torch.rand(count, *teacher.shape, device=teacher.device)
    return repeat(Batch(images, teacher.sample_targets(count), {}))


def time_synthesis(method: Method, teacher: Classifier, student: nn.Module) -> SynthesisTime:
    """Return how long a method takes for a batch.

    Args:
        method: The settings.
        teacher: Not changed.
        student: Copied, not changed; an adaptive method asks it.
    """
    watch, whole = Stopwatch(teacher.device), method
    images = timed_images(teacher, method.batch_size)
    method = replace(method, batch_size=images) if hasattr(method, "steps") or not method.passes else method
    scale = whole.batch_size / method.batch_size
    visible = deepcopy(student).eval() if method.adaptive else None
    with RandomNumbers(0):
        synthesizer = method.build(teacher)
        synthesizer.callback = watch
        try:
            start = time.monotonic()
            synthesizer.synthesize(visible)
        except Enough:
            return time_of_batch(method, watch.seconds * scale)
        watch.ends = [start]
        with suppress(Enough):
            while True:
                watch.stamp()
                synthesizer.synthesize(visible)
    return SynthesisTime(watch.seconds * scale)


def time_of_batch(method: Method, step: float) -> SynthesisTime:
    """Return how long a batch takes if one of its steps takes `step` seconds.

    A generator takes a few steps per batch; those of a new one, whose images are discarded, are spread over its batches.
    """
    if hasattr(method, "steps"):
        return SynthesisTime(step * method.passes, step)
    per_batch = getattr(method, "steps_per_batch", 1)
    life, discarded = getattr(method, "reset_every", 0), getattr(method, "discard_first", 0)
    return SynthesisTime(step * per_batch * (1 + discarded / life if life else 1))
