"""What one pass through a network costs, measured on a few images: the basis of every estimate of time and memory."""

import math
import os
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from datafree.classifier import Classifier, frozen
from datafree.processes import local
from datafree.randomness import RandomNumbers
from datafree.synthesis import Method, Schedule
from datafree.synthesis.mixture import Mixture

FORWARD, TRAINING = 0.4, 1.5
"""time of a forward pass, and of a training step, in passes forward and backward to the pixels"""
PIXEL_COPIES, WEIGHT_COPIES = 8, 4
"""tensors of the size of the images in an optimization: pixels, gradients, averages and their copies; and of the size of the
weights in training: weights, gradients and two averages"""
SECONDS = 0.1
"""aimed duration of the longer measurement"""
MAX_IMAGES = 32
"""images of the longer measurement, at most"""


@dataclass(frozen=True)
class PassCost:
    """The cost of a forward pass and a backward pass to the pixels.

    .. math:: t(n) = t_0 + n \\, t_1
    """

    overhead: float
    """seconds of a pass that do not depend on the number of images, :math:`t_0`"""
    seconds: float
    """seconds per image, :math:`t_1`"""
    kept: int
    """bytes per image that the forward pass keeps for the backward pass"""

    def of_batch(self, images: float) -> float:
        """Return the seconds of one pass of a batch."""
        return self.overhead + images * self.seconds


@dataclass(frozen=True)
class Learner:
    """What a student costs."""

    cost: PassCost
    """of one pass"""
    parameters: int
    """number of learned parameters"""


def pass_cost(classifier: Classifier) -> PassCost:
    """Measure the cost of a pass on two batches of different sizes. No random number is drawn; nothing is changed.

    A network without gradients is measured in the forward pass only, and keeps nothing.
    """
    with frozen(classifier), RandomNumbers(0):
        single, kept = _best_pass(classifier, 1)
        many = max(2, min(MAX_IMAGES, int(SECONDS / max(single, 1e-6))))
        several, kept_by_all = _best_pass(classifier, many)
    per_image = max(0.0, several - single) / (many - 1) or several / many
    return PassCost(max(0.0, single - per_image), per_image, max(0, kept_by_all - kept) // (many - 1))


def _best_pass(classifier: Classifier, count: int) -> tuple[float, int]:
    """Return the shortest of three timed passes: the first one of a new batch size also compiles kernels."""
    return min(_timed_pass(classifier, count) for _ in range(3))


def _timed_pass(classifier: Classifier, count: int) -> tuple[float, int]:
    """Return the seconds of a pass of some images, and the bytes that it keeps for the backward pass."""
    weights = {local(parameter).untyped_storage().data_ptr() for parameter in classifier.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        gathered = isinstance(tensor, nn.Parameter) or isinstance(tensor._base, nn.Parameter)  # of a sharded network
        if storage.data_ptr() not in weights and not gathered:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()

    images = classifier.probe_images(count).requires_grad_(True)
    _wait(classifier)
    start = time.perf_counter()
    with torch.autograd.graph.saved_tensors_hooks(keep, _same):
        output = classifier(images).sum()
    if output.requires_grad:
        torch.autograd.grad(output, images, allow_unused=True)
    _wait(classifier)
    return time.perf_counter() - start, sum(kept.values())


def _same(saved: Any) -> Any:
    return saved


def _wait(classifier: Classifier) -> None:
    if classifier.device.type == "cuda":
        torch.cuda.synchronize(classifier.device)


@dataclass(frozen=True)
class Estimate:
    """What a run is expected to take. It is an extrapolation from a few images, so it is about right at best."""

    seconds: float
    """duration"""
    bytes: int
    """memory of images, activations and optimizer states, besides the process and the networks"""


def estimate_run(
    method: Method | None,
    schedule: Schedule,
    steps: int,
    shape: tuple[int, int, int],
    teacher: PassCost,
    student: Learner,
) -> Estimate:
    """Estimate the time and the memory of a run.

    Generators, and terms that do not need the teacher, are not counted: with very small networks a run takes longer.

    Args:
        method: How images are synthesized; None: they are real.
        schedule: When.
        steps: Steps of the student.
        shape: Channels, height and width of an image.
        teacher: The cost of a pass through the teacher.
        student: The cost of the student.
    """
    image = 4 * math.prod(shape)
    synthesis = space = pool = 0.0
    for part, own_schedule in sources(method, schedule):
        batches = own_schedule.batches_needed(max(0, steps - 1)) if steps else 0
        pool += own_schedule.pool_batches * part.images_per_batch * image
        if part.passes and batches:
            passes = batches * part.passes * part.images_per_batch / part.batch_size
            synthesis += passes * teacher.of_batch(part.batch_size)
            synthesis += passes * student.cost.of_batch(part.batch_size) if part.adaptive else 0
            space = max(space, part.batch_size * (teacher.kept + PIXEL_COPIES * image))
    shown = method.images_per_batch if method and schedule.refresh_every == 1 else schedule.batch_size
    training = steps * (TRAINING * student.cost.of_batch(shown) + FORWARD * teacher.of_batch(shown))
    learning = shown * (student.cost.kept + PIXEL_COPIES * image) + WEIGHT_COPIES * 4 * student.parameters
    return Estimate(synthesis + training, int(pool + max(space, learning if steps else 0)))


def sources(method: Method | None, schedule: Schedule) -> list[tuple[Method, Schedule]]:
    """Return the parts of a mixture with their schedules; the method itself if it is none; nothing for real images."""
    if isinstance(method, Mixture):
        return [(part.method, part.own_schedule) for part in method.parts]
    return [] if method is None else [(method, schedule)]


def processors() -> tuple[str, ...]:
    """Return the processors of this machine that torch can use, as a user reads them."""
    found = [f"cpu ({os.cpu_count()} cores)"]
    for index in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(index)
        found.append(f"cuda:{index} ({facts.name}, {facts.total_memory / 1e9:.0f} GB)")
    return (*found, *(["mps"] if torch.backends.mps.is_available() else []))
