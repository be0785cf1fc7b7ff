"""The work of a run, for the total time left: its batches, the steps of its student, and the expected time of both."""

import torch

from datafree.applications.base import PASSES
from datafree.classifier import Classifier
from datafree.evaluation import count_parameters
from datafree.progress import Work
from datafree.runs.planning.timing import time_synthesis
from datafree.synthesis import Method, Schedule
from datafree.synthesis.generators.training import GeneratorMethod
from datafree.synthesis.mixture import Mixture
from datafree.teachers.costs import Learner, estimate_run, pass_cost, sources


def work_of(
    method: Method | None,
    schedule: Schedule,
    steps: int,
    teacher: Classifier,
    student: Classifier,
    *,
    batches_per_step: int = 1,
    passes: float = PASSES,
    seconds: float | None = None,
) -> Work:
    """Return what a run has to do.

    Args:
        method: How images are synthesized; None if they are real, or there are none.
        schedule: When.
        steps: Steps of the student.
        teacher: The teacher.
        student: The student.
        batches_per_step: Batches that a step of the student takes.
        passes: Passes of both networks for an image of a step, as `Application.passes` counts them.
        seconds: Expected duration of everything, if it was measured before.
    """
    names = [part.name for part in method.parts] if isinstance(method, Mixture) else [""]
    parts = dict(zip(names, sources(method, schedule), strict=False))
    synthesis, student_seconds, space = expected_cost(method, schedule, steps, teacher, student)
    if student_seconds is not None:
        student_seconds *= passes / PASSES
    if seconds is not None and synthesis is not None and student_seconds and synthesis + student_seconds > 0:
        scale = seconds / (synthesis + student_seconds)
        synthesis, student_seconds = scale * synthesis, scale * student_seconds
    return Work(
        steps=steps,
        batches={name: batches_in(own, steps, batches_per_step) for name, (_, own) in parts.items()},
        weights={name: max(part.passes, 0.1) * part.images_per_batch for name, (part, _) in parts.items()},
        steps_per_batch={name: steps_of_batch(part) for name, (part, _) in parts.items()},
        synthesis_seconds=synthesis,
        student_seconds=student_seconds,
        bytes=space,
    )


def batches_in(schedule: Schedule, steps: int, batches_per_step: int) -> int:
    """Return how many batches a schedule has synthesized when the last step of the student begins."""
    if not steps:
        return 0
    if schedule.refresh_every == 1:  # each batch is handed out once
        return schedule.batches_needed(steps * batches_per_step - 1)
    return schedule.batches_needed(steps - 1)


def steps_of_batch(method: Method) -> int:
    """Return the optimization steps of a batch; 0 if the method does not optimize each batch by itself."""
    steps = getattr(method, "steps", 0)
    return sum(steps) if isinstance(steps, tuple) else int(steps)


def expected_cost(
    method: Method | None, schedule: Schedule, steps: int, teacher: Classifier, student: Classifier
) -> tuple[float | None, float | None, int | None]:
    """Return the expected seconds of the synthesis and of the student's steps, and the bytes; None if not known.

    They are estimated from a few passes of both networks.
    """
    try:
        cost, learner = pass_cost(teacher), Learner(pass_cost(student), count_parameters(student))
        whole = estimate_run(method, schedule, steps, teacher.shape, cost, learner)
        without = estimate_run(None, schedule, steps, teacher.shape, cost, learner).seconds
        generators = sum(seconds_of_generator(*source, steps, teacher, student) for source in sources(method, schedule))
    except (RuntimeError, ValueError, TypeError) as fault:  # a network may do anything in its backward pass
        if isinstance(fault, torch.OutOfMemoryError):
            raise
        return None, None, None
    return max(0.0, whole.seconds - without) + generators, without, whole.bytes


def seconds_of_generator(
    method: Method, schedule: Schedule, steps: int, teacher: Classifier, student: Classifier
) -> float:
    """Return the measured seconds of a generator besides the passes through the teacher; 0 for other methods."""
    batches = batches_in(schedule, steps, 1)
    if not isinstance(method, GeneratorMethod) or not batches:
        return 0.0
    same = student.shape == teacher.shape and len(student.classes) == len(teacher.classes)
    if method.adaptive and not same:  # the application asks another student
        return 0.0
    counted = (
        pass_cost(teacher).of_batch(method.batch_size) * method.passes * method.images_per_batch / method.batch_size
    )
    step = time_synthesis(method, teacher, student).batch / method.steps_per_batch
    # The first batch comes after the steps that a new generator discards.
    all_steps = max(batches * method.steps_per_batch, method.discard_first + batches)
    return max(0.0, step * all_steps - counted * batches)
