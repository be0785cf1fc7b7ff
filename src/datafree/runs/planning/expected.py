"""The second line of a run: its device, its networks, and about how long it will take and how much memory it will need."""

import torch

from datafree.classifier import Classifier
from datafree.evaluation import count_parameters
from datafree.runs.hardware import peak_memory
from datafree.runs.planning.budget import duration
from datafree.synthesis import Method, Schedule
from datafree.teachers.costs import Learner, estimate_run, pass_cost


def networks(
    teacher: Classifier,
    student: Classifier,
    method: Method | None,
    schedule: Schedule,
    steps: int,
    seconds: float | None = None,
) -> str:
    """Return the device of a run, the sizes of its networks, and its expected time and memory.

    Args:
        teacher: The teacher.
        student: The student; on the device of the run, as the teacher.
        method: How images are synthesized; None if they are real, or there are none.
        schedule: When.
        steps: Steps of the student.
        seconds: Expected duration, if it was measured before.
    """
    sizes = (count_parameters(model) for model in (teacher, student))
    line = "{}, teacher {:,} parameters, student {:,} parameters".format(teacher.device, *sizes)
    expected = expectation(teacher, student, method, schedule, steps, seconds)
    return f"{line}, {expected}" if expected else line


def expectation(
    teacher: Classifier,
    student: Classifier,
    method: Method | None,
    schedule: Schedule,
    steps: int,
    seconds: float | None = None,
) -> str:
    """Return about how long a run takes and how much memory, from a few passes; empty if a network cannot be measured."""
    try:
        learner = Learner(pass_cost(student), count_parameters(student))
        found = estimate_run(method, schedule, steps, teacher.shape, pass_cost(teacher), learner)
    except (RuntimeError, ValueError, TypeError) as fault:  # a network may do anything in its backward pass
        if isinstance(fault, torch.OutOfMemoryError):
            raise
        return ""
    return f"about {duration(seconds or found.seconds)} and {memory(peak_memory() * 10**6 + found.bytes)}"


def memory(count: float) -> str:
    """Return a size in words: `40 MB`, `1.5 GB`, `12 GB`."""
    if count < 1e9:
        return f"{max(1, round(count / 1e6))} MB"
    return f"{count / 1e9:.1f} GB" if count < 1e10 else f"{count / 1e9:,.0f} GB"
