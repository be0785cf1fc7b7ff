"""Batches that fit into the memory: sizes that are halved until a step does, and what to lower if a step of a run does not."""

import gc
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from math import prod

import torch
from torch import nn

from datafree.callback import Callback
from datafree.classifier import Classifier
from datafree.randomness import RandomNumbers
from datafree.runs.hardware import plain_faults
from datafree.runs.planning.auto import Auto
from datafree.runs.planning.fitting import WHOLE, parts_of
from datafree.runs.planning.memory import free_memory
from datafree.runs.settings import Experiment
from datafree.sets.on_disk import in_words
from datafree.synthesis import Method, Stream
from datafree.synthesis.mixture import Mixed, Mixture
from datafree.teachers.costs import PIXEL_COPIES, pass_cost
from datafree.types import InputError, OutOfMemory, Terms

OPTION = re.compile(r"--method\.(?:([A-Za-z0-9_-]+)\.)?batch-size")
"""the option that takes `auto`, with the name of a part of a mixture"""
LEAST = 2
"""smallest batch that is tried; batch norm needs two images"""


class Enough(Exception):
    """Ends the synthesis of a batch after its first step."""


class FirstStep(Callback):
    """Ends the synthesis of a batch after its first step, when everything that a step needs was allocated."""

    def on_step(self) -> None:
        raise Enough

    def log(self, step: int, terms: Terms) -> None:
        raise Enough


def try_step(method: Method, teacher: Classifier, student: nn.Module) -> None:
    """Take one step of the synthesis of a batch. Nothing is changed.

    Raises:
        OutOfMemory: If the memory is not sufficient.
    """
    with plain_faults(), suppress(Enough), RandomNumbers(0):
        synthesizer = method.build(teacher)
        synthesizer.callback = FirstStep()
        synthesizer.synthesize(deepcopy(student).eval() if method.adaptive else None)


def require_free(method: Method, teacher: Classifier) -> None:
    """Check that a step is expected to fit into main memory. The system may end a process that takes more than there is.

    Raises:
        OutOfMemory: If it is expected not to.
    """
    if teacher.device.type != "cpu" or not method.passes:
        return
    expected = method.batch_size * (pass_cost(teacher).kept + PIXEL_COPIES * 4 * prod(teacher.shape))
    free = free_memory()
    if expected > free:
        raise OutOfMemory(f"a step takes about {in_words(expected)}, and {in_words(free)} of memory are free")


def largest_batch(
    method: Method,
    teacher: Classifier,
    student: nn.Module,
    attempt: Callable[[Method, Classifier, nn.Module], None] = try_step,
) -> Method:
    """Return a method with the batch size that it has, or else half of it, a quarter of it, and so on, of which a step fits.

    Args:
        method: The method; not a mixture.
        teacher: The teacher, on the device of the run.
        student: What an adaptive method asks.
        attempt: Takes a step.

    Raises:
        OutOfMemory: If not even a step of the smallest batch fits.
    """
    while True:
        try:
            require_free(method, teacher)
            attempt(method, teacher, student)
            return method
        except OutOfMemory:
            half = method.batch_size // 2
            if half < LEAST:
                raise OutOfMemory(
                    f"the memory is not sufficient for a batch of {method.batch_size} images; use a smaller teacher or a "
                    "machine with more memory"
                ) from None
        gc.collect()
        if teacher.device.type == "cuda":
            torch.cuda.empty_cache()
        with suppress(InputError):  # a method may need a larger batch, or one that another setting divides
            method = replace(method, batch_size=half)
            continue
        raise OutOfMemory(
            f"the memory is not sufficient for a batch of {method.batch_size} images, the smallest one of this method; use "
            "another one or a machine with more memory"
        )


def with_batches_that_fit(
    experiment: Experiment, teacher: Classifier, student: nn.Module
) -> tuple[Experiment, tuple[str, ...]]:
    """Return an experiment with plain batch sizes in place of `auto`, and what was decided, as notes for the user.

    Args:
        experiment: The settings; `fit_memory` names the parts whose size is `auto`.
        teacher: The teacher, on the device of the run.
        student: What an adaptive method asks.

    Raises:
        InputError: If the method has no such part.
        OutOfMemory: If not even a step of the smallest batch fits.
    """
    method = experiment.method
    assert method is not None
    if isinstance(method, Auto):
        raise InputError("auto chooses the batch sizes of its methods itself; leave --method.batch-size out")
    parts = {part.name: part for part in parts_of(method, experiment.schedule)}
    notes = []
    for name in experiment.fit_memory:
        if (name or WHOLE) not in parts:
            raise InputError(f"--method.{name}.batch-size is no option of this method; leave it out")
        part = parts[name or WHOLE]
        fitted = largest_batch(part.method, teacher, student)
        parts[part.name] = replace(part, method=fitted)
        note = f"the batch size of {name or 'the method'} is {fitted.batch_size}"
        if fitted != part.method:
            note += f", because a step with {2 * fitted.batch_size} does not fit into the memory"
        notes.append(note)
    mixed = isinstance(method, Mixture)
    method = replace(method, parts=tuple(parts.values())) if mixed else parts[WHOLE].method
    return replace(experiment, method=method, fit_memory=()), tuple(notes)


def without_auto(words: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """Return the words of a command without batch sizes that are `auto`, and the names of their parts in a mixture.

    A method that is no mixture has an empty name.
    """
    kept, names, rest = [], [], list(words)
    while rest:
        word = rest.pop(0)
        option, equals, value = word.replace("_", "-").partition("=")
        match = OPTION.fullmatch(option)
        if match and (value if equals else rest[0] if rest else "") == "auto":
            names.append(match[1] or "")
            del rest[: 0 if equals else 1]
        else:
            kept.append(word)
    return kept, tuple(dict.fromkeys(names))


@dataclass(frozen=True)
class Step:
    """A kind of step, for the sentence about the memory that it did not have."""

    option: str
    """the option that sets its batch size"""
    size: int


def failed_step(experiment: Experiment, stream: object) -> Step:
    """Return which step of a run has failed: that of the student, or one of the synthesis."""
    method, schedule = experiment.method, experiment.schedule
    if not isinstance(stream, Stream) or method is None:
        return Step("--batch-size", schedule.batch_size)
    inner = stream.synthesizer.streams if isinstance(stream.synthesizer, Mixed) else {}
    for part in parts_of(method, schedule):
        if part.name in inner and inner[part.name].is_synthesizing:
            return Step(f"--method.{part.name}.batch-size", part.method.batch_size)
    whole = stream.is_synthesizing and not inner
    if whole or (schedule.refresh_every == 1 and not inner):
        return Step("--method.batch-size", method.batch_size)
    return Step("--batch-size", method.batch_size if isinstance(method, Mixture) else schedule.batch_size)


@contextmanager
def saying_what_to_lower(
    experiment: Experiment, stream: Callable[[], object], *, has_checkpoint: Callable[[], bool]
) -> Iterator[None]:
    """Say which batch size to lower, and to what, if the memory is not sufficient in a `with` block.

    Args:
        experiment: The settings.
        stream: Returns the stream of the run, if there is one.
        has_checkpoint: Returns whether the run can be resumed.

    Raises:
        OutOfMemory: If the memory is not sufficient.
    """
    try:
        with plain_faults():
            yield
    except OutOfMemory as fault:
        step = failed_step(experiment, stream())
        reason = str(fault).partition("; ")[0]
        if step.size < 2 * LEAST:
            raise OutOfMemory(f"{reason}; use smaller networks or a machine with more memory") from fault
        elsewhere = ", or resume this one where more memory is free" if has_checkpoint() else ""
        raise OutOfMemory(f"{reason}; lower {step.option} to {step.size // 2} in a new run{elsewhere}") from fault
