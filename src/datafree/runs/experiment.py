"""`run` carries out an experiment and writes the run folder; `resume` continues one."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from datafree.classifier import Classifier, fingerprint
from datafree.ensemble import whole_teacher
from datafree.evaluation import count_parameters, evaluate
from datafree.progress import Work
from datafree.real.ledger import Purpose
from datafree.runs.dependencies import dependencies_of
from datafree.runs.estimating.at_end import estimate_of
from datafree.runs.hardware import double_precision, environment, peak_memory, plain_faults
from datafree.runs.launching.lost import ending_together
from datafree.runs.launching.numerics import deterministic_kernels
from datafree.runs.launching.race import after_race
from datafree.runs.launching.together import Together
from datafree.runs.logger import RunLogger
from datafree.runs.planning.expected import networks, note_on_length
from datafree.runs.planning.halving import saying_what_to_lower
from datafree.runs.planning.memory import keep_pools
from datafree.runs.planning.setup import Setup, has_race, is_open, method_of, set_up
from datafree.runs.planning.work import work_of
from datafree.runs.reading.layout import POOL, RACE
from datafree.runs.reporting.answers import answers_of_run
from datafree.runs.reporting.assessment import about, assess_both
from datafree.runs.reporting.assessment import assess as assess
from datafree.runs.reporting.console import say
from datafree.runs.reporting.methods import method_name, part_results
from datafree.runs.reporting.pages.notebook import result_html
from datafree.runs.reporting.report import write_results
from datafree.runs.reporting.times import Stopwatch, TimedStream
from datafree.runs.run_folder import RunFolder, has_checkpoint, require_unused
from datafree.runs.serialization import flatten, to_json
from datafree.runs.settings import Experiment, experiment_json, read_settings
from datafree.runs.task_data import open_task_data, with_pictures
from datafree.runs.tasks import Task, networks_in, student_start
from datafree.runs.tracking import Tracker, open_trackers
from datafree.runs.verdict import findings, probe, verdict
from datafree.sets.on_disk import delete_unlisted
from datafree.synthesis.dividing import part_of
from datafree.teachers.code import require_repeated
from datafree.teachers.costs import sources
from datafree.teachers.inspection import notes_of
from datafree.types import Batch, Diverged, InputError


@dataclass(frozen=True)
class Result:
    """The result of a run."""

    student: Classifier
    """the trained student"""
    summary: dict[str, Any]
    """the content of `summary.json`"""
    path: Path
    """the run folder"""

    def _repr_html_(self) -> str:
        """Return the result as a notebook shows it."""
        return result_html(self.summary, self.path)


def resume(
    path: str | Path,
    console: Console | None = None,
    *,
    teacher: Sequence[str] = (),
    student: str = "",
    devices: int = 0,
    estimate_seconds: float | None = None,
) -> Result:
    """Continue an interrupted run. The student equals that of an uninterrupted run.

    Args:
        path: The run folder.
        console: Where progress is shown; default: nowhere.
        teacher: The teachers that are code, exactly as in the run. Code that only the run folder names is not run.
        student: The student if it is code.
        devices: Number of processes, if it is another one than before; then the student differs.
        estimate_seconds: Time for the estimate without data at the end; default: a part of what the run has taken.

    Raises:
        InputError: If the folder has no unfinished run, a file that the run depends on has changed, or the run uses code that
            is not named here.
        Diverged: If a loss or an image is not finite.
    """
    experiment = read_settings(path)
    require_repeated(
        networks_in(experiment.task), {"--teacher": tuple(teacher), "--student": (student,) if student else ()}
    )
    return run(experiment, path, console=console, resuming=True, devices=devices, estimate_seconds=estimate_seconds)


def run(
    experiment: Experiment,
    out: str | Path,
    *,
    console: Console | None = None,
    resuming: bool = False,
    started: float | None = None,
    devices: int = 0,
    estimate_seconds: float | None = None,
) -> Result:
    """Run an experiment and write its results to a run folder.

    Args:
        experiment: The settings.
        out: The run folder; created if it does not exist, refused if it contains another run.
        console: Where progress is shown; default: nowhere.
        resuming: Continue from the newest checkpoint.
        started: When the command started, in seconds of `time.monotonic`, for the budget; default: now.
        devices: Number of processes of this part of the run; default: that of the experiment.
        estimate_seconds: Time for the estimate without data at the end; default: a part of what the run has taken.

    Raises:
        ProcessLost: If another process of the run was lost; the last checkpoint is kept.
        InputError: If a setting is invalid or a file cannot be used; no incomplete run folder is left.
        OutOfMemory: If the memory is not sufficient; the last checkpoint is kept.
        Diverged: If a loss or an image is not finite; the last checkpoint is kept.
    """
    out = Path(out)
    if is_open(experiment) and not resuming:
        require_unused(out)
    watch = Stopwatch()
    with plain_faults(where=", in a new run"), watch.measure("loading"):
        if has_race(experiment):
            setup, resuming = after_race(experiment, out, resuming, started, devices), True
        else:
            setup = set_up(experiment, resuming, started, devices)
    experiment = setup.experiment
    teacher_sha256 = fingerprint(whole_teacher(setup.teacher).model)
    with ExitStack() as stack:
        stack.enter_context(ending_together(setup.fabric))
        folder = None
        if setup.fabric.is_global_zero:
            folder = stack.enter_context(RunFolder(out, experiment_json(experiment, out, resuming), resume=resuming))
            shutil.rmtree(out / RACE, ignore_errors=True)  # it is decided
        stack.enter_context(plain_faults(where=", in a new run"))
        stack.enter_context(double_precision(experiment.precision))
        stack.enter_context(deterministic_kernels(experiment.deterministic))
        together = stack.enter_context(Together(setup.fabric, out))
        work = work_in(setup)
        with new_logger(setup, folder, work, console, together) as logger:
            say_what_it_takes(setup, logger, work, resuming=resuming)
            with saying_what_to_lower(
                experiment, lambda: logger.states.get("stream"), has_checkpoint=lambda: has_checkpoint(out)
            ):
                probed = train(setup, logger)
        require_finite(setup.student)
        if fingerprint(whole_teacher(setup.teacher).model) != teacher_sha256:
            raise RuntimeError("the run changed the teacher; this is a bug of datafree, please report it")
        summary = summarize(setup, logger, console, watch)
        student, setup = setup.student, setup.with_whole_teacher()
        if setup.fabric.is_global_zero:
            add_estimate(summary, setup, logger, console, watch, estimate_seconds)
        summary["verdict"] = verdict(summary, findings(logger.evidence(probe=probed)))
        if folder:
            folder.require_owner()
        finish_pools(logger)
        together.wait()
        if folder:
            asked = answers_of_run(logger.states.get("stream"), logger.first_batches, setup.teacher, setup.student)
            write_results(folder.path, summary, student, logger.first_batches, asked)
            folder.delete_checkpoints()
            delete_unlisted(folder.path / POOL)
    return Result(student, summary, out)


def synthesizes(experiment: Experiment) -> bool:
    """Return whether a run synthesizes images."""
    return experiment.method is not None and experiment.application.needs_images


def say_what_it_takes(setup: Setup, logger: RunLogger, work: Work, *, resuming: bool) -> None:
    """Say the device of a run, its networks, its expected time, and what the user should know about all of these."""
    closing = 0.0 if resuming else setup.closing_seconds(work.seconds or 0.0)
    say(logger.console, "device", networks(setup.teacher, setup.student, work, closing=closing, resuming=resuming))
    note_networks(setup, logger)
    fitted = setup.seconds is not None
    if not (fitted or resuming) and (note := note_on_length(work, synthesizes=synthesizes(setup.experiment))):
        logger.note(note)


def note_networks(setup: Setup, logger: RunLogger) -> None:
    """Say what the user should know about the networks and the real images of a run."""
    teacher, student, data = setup.teacher, setup.student, setup.data
    for note in dict.fromkeys((*notes_of(teacher), *student.notes, *data.notes)):
        logger.note(note)
    for decision in setup.decisions:
        logger.note(decision)
    if start := student_start(setup.experiment.task):
        logger.note(f"the student starts from the weights in {start.sentence}")
    named = isinstance(setup.experiment.task, Task) and setup.experiment.task.student
    if named and 0 < count_parameters(teacher) < count_parameters(student):
        logger.note("the student has more parameters than the teacher")
    if student.shape != teacher.shape:
        sizes = (f"{shape[1]}x{shape[2]}" for shape in (student.shape, teacher.shape))
        logger.note(
            "the student takes images of {}, the teacher of {}: images are resized for the student".format(*sizes)
        )


def new_logger(
    setup: Setup, folder: RunFolder | None, work: Work, console: Console | None, together: Together
) -> RunLogger:
    """Create the logger of a run."""
    experiment, teacher, student, test = setup.experiment, setup.teacher, setup.student, setup.data.test
    return RunLogger(
        folder,
        teacher,
        student,
        console=console,
        checkpoint_interval=experiment.checkpoint_interval,
        together=together,
        dependencies=dependencies_of(
            to_json(experiment), teacher, student, threads=experiment.threads, device=str(setup.fabric.device)
        )
        | setup.data.dependencies,
        trackers=trackers_of(experiment, folder),
        work=work,
        aims=any(method.aims for method, _ in sources(experiment.method, experiment.schedule)),
        evaluation_interval=experiment.evaluation_interval,
        evaluate=(lambda: evaluate(student, student, test.batches_for(student, student)).score)
        if test and test.labelled
        else None,
    )


def trackers_of(experiment: Experiment, folder: RunFolder | None) -> list[Tracker]:
    """Open the trackers of a run, in the process that writes its folder.

    Raises:
        InputError: If one is not installed or cannot start.
    """
    names = (*(["tensorboard"] if experiment.tensorboard else []), *experiment.trackers)
    return open_trackers(names, folder.path, flatten(to_json(experiment))) if folder else []


def work_in(setup: Setup) -> Work:
    """Return what a run has to do, for the time left."""
    experiment = setup.experiment
    method = experiment.method if experiment.application.needs_images else None
    several = getattr(experiment.application, "select", 1)
    return work_of(
        method,
        experiment.schedule,
        experiment.application.steps,
        setup.teacher,
        setup.student,
        batches_per_step=several,
        passes=experiment.application.passes,
        seconds=setup.seconds,
    )


def train(setup: Setup, logger: RunLogger) -> dict[str, float]:
    """Train the student of a run, in place, and return what was measured of it on its own images; see `probe`."""
    application, new_classes = setup.experiment.application, setup.data.new_classes
    batches = training_batches(setup, logger)
    if new_classes:
        logger.also_register(new=new_classes)
    inputs = setup.extra_inputs()
    application.build()(setup.student, setup.teacher, batches, **inputs, fabric=setup.fabric, callback=logger)
    logger.warn_of_collapse()
    return probe(batches, setup.teacher, setup.visible_student)


def training_batches(setup: Setup, logger: RunLogger) -> Iterator[Batch]:
    """Return the stream of synthesized images; for the ceiling, random batches of real images. Empty if none are needed.

    Raises:
        InputError: If the method cannot use the teacher, or the ceiling has no real images.
    """
    experiment, teacher, student, ledger = setup.experiment, setup.teacher, setup.student, setup.data.ledger
    if not experiment.application.needs_images:
        return iter(())
    if experiment.method is None:
        if not experiment.task.data:
            raise InputError("the ceiling is trained on real images; name them with --data")
        purpose: Purpose = "student training (ceiling)"
        real = open_task_data(experiment.task, "train", ledger, student, purpose, teacher)
        if len(student.classes) > len(teacher.classes):
            real = real.select_classes(teacher.classes)
        if student.shape != teacher.shape:
            real = real.for_network(teacher)
        for note in real.notes:
            logger.note(note)
        logger.also_register(real=real)
        return map(part_of, real.random_batches(experiment.schedule.batch_size))
    stream = TimedStream.of(
        with_pictures(method_of(experiment), teacher, ledger),
        teacher,
        setup.visible_student,
        experiment.schedule,
        logger,
    )
    measured = stream.synthesizer.measured_images
    ledger.add_measured(measured)
    for note in stream.synthesizer.notes:
        logger.note(note)
    for source, count in measured.items():
        logger.note(f"feature statistics were measured on {count:,} real images of {source}")
    if logger.together:
        keep_pools(stream, experiment, teacher, setup.fabric, logger.together.path, logger.note)
    logger.also_register(stream=stream)
    return stream


def finish_pools(logger: RunLogger) -> None:
    """Complete the image sets of pools that lie on disk, and name them."""
    stream = logger.states.get("stream")
    for path in stream.storage.finish() if isinstance(stream, TimedStream) else ():
        say(logger.console, "images", f"{path}  (train on them with --method saved --method.images {path})")


def require_finite(student: Classifier) -> None:
    """Check that the weights are finite. The loss of the last steps was not checked.

    Raises:
        Diverged: If a weight or a statistic is not finite.
    """
    for name, tensor in student.state_dict().items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise Diverged(f"{name} of the student is not finite after the last step; lower the learning rate")


def add_estimate(
    summary: dict[str, Any],
    setup: Setup,
    logger: RunLogger,
    console: Console | None,
    watch: Stopwatch,
    seconds: float | None,
) -> None:
    """Add the estimate of the student to a summary, with its time, if there are no labelled images; and say it."""
    with watch.measure("estimate"):
        estimate = estimate_of(setup, summary["seconds"], console, seconds)
    if estimate:
        summary["estimate"] = estimate.as_dict()
        summary["times"]["estimate"] = round(watch.seconds["estimate"], 2)
        say(logger.console, "estimate", estimate.sentence)


def summarize(setup: Setup, logger: RunLogger, console: Console | None, watch: Stopwatch) -> dict[str, Any]:
    """Evaluate teacher and student, and return the summary of a finished run."""
    seconds = logger.seconds()
    experiment, teacher, student, data = setup.experiment, setup.teacher, setup.student, setup.data
    with watch.measure("evaluation"):
        evaluations = assess_both(teacher, student, data.test, console)
    parts = part_results(experiment.method, logger.first_batches, logger.part_images, teacher, student)
    stream = logger.states.get("stream")
    read = (*data.notes, *(stream.synthesizer.notes if isinstance(stream, TimedStream) else ()))
    for note in (note for note in read if note not in logger.notes):  # files that could not be read
        logger.note(note)
    return {
        "experiment": to_json(experiment),
        "method": experiment.application.label(method_name(experiment.method)),
        "classes": list(student.classes),
        **about(experiment, teacher, student),
        **evaluations,
        "teacher_sha256": fingerprint(whole_teacher(teacher).model),
        "student_sha256": fingerprint(student.model),
        **experiment.application.summarize(student, teacher),
        "images_synthesized": logger.images_synthesized,
        "student_start": asdict(start) if (start := student_start(experiment.task)) else None,
        "real_images_seen": data.ledger.images_seen_by_student(),
        "new_class_images_seen": data.ledger.count("student training (new classes)") if data.new_classes else None,
        "real_images_measured": data.ledger.images_measured(),
        "health": logger.health,
        **({"parts": parts} if parts else {}),
        "notes": logger.notes,
        "ledger": data.ledger.to_json(),
        "seconds": round(seconds, 2),
        "times": watch.with_training(seconds, stream),
        "peak_memory_mb": peak_memory(),
        "environment": environment(experiment.threads, setup.fabric),
    }
