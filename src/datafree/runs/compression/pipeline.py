"""Carry out the steps of a compression. Images are made once; each step is finished, or is not there."""

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import torch
from rich.console import Console

from datafree.classifier import Classifier
from datafree.export.comparison import MOST
from datafree.export.writing import LIBRARIES, Format, export
from datafree.export.writing import RESULT as EXPORTED
from datafree.files import write_json
from datafree.files.writing import atomic_folder
from datafree.quantization.choosing import QuantizationConfig
from datafree.quantization.graphs import require_engine
from datafree.runs.compression.folder import RESULT, compression_folder
from datafree.runs.compression.planning import BATCH_SIZE, Plan, application_for, method_for, planned, task_of
from datafree.runs.compression.pool import make_pool
from datafree.runs.compression.settings import CompressionConfig, read_settings
from datafree.runs.compression.steps import parse_steps
from datafree.runs.compression.table import STUDENT, StepRow, Table, estimate_seconds, read_rows
from datafree.runs.experiment import resume, run
from datafree.runs.hardware import set_threads
from datafree.runs.quantizing.job import FEWEST, QuantizationJob, quantize_network
from datafree.runs.quantizing.job import RESULT as QUANTIZED
from datafree.runs.reading.layout import EXPERIMENT, SUMMARY
from datafree.runs.reporting.console import say
from datafree.runs.reporting.provenance import provenance_of
from datafree.runs.serialization import to_json
from datafree.runs.settings import Experiment
from datafree.sets.saved import SavedConfig
from datafree.synthesis import Method, Schedule
from datafree.synthesis.image_sets import StoredSet
from datafree.synthesis.image_sets.index import read_index
from datafree.teachers import load
from datafree.teachers.code import is_code, require_repeated
from datafree.teachers.folders import LOCAL


@dataclass
class Compression:
    """A compression under way."""

    config: CompressionConfig
    out: Path
    console: Console
    checkpoint: Classifier
    plan: Plan
    method: Method

    def __post_init__(self) -> None:
        self.steps = parse_steps(self.config.steps)

    @property
    def pool(self) -> Path:
        """The folder of the images."""
        return self.out / "pool"

    def folder(self, number: int) -> Path:
        """Return the folder of a step, counted from 1."""
        return self.out / f"{number}-{self.steps[number - 1].kind}"

    def network(self, spec: str) -> Classifier:
        """Return the checkpoint, or a student of a step before."""
        return self.checkpoint if spec == self.config.checkpoint else load(spec)

    @property
    def is_finished(self) -> bool:
        """Whether all steps have left their results."""
        return all(is_finished(self.folder(number)) for number in range(1, len(self.steps) + 1))


def compress(
    config: CompressionConfig, out: str | Path, console: Console | None = None, *, started: float | None = None
) -> list[StepRow]:
    """Carry out the steps of a compression, and write a folder for each, with a table of all.

    A folder with the same settings is continued: finished steps are kept, and a run that was interrupted is resumed. The
    networks equal those of an uninterrupted compression.

    Args:
        config: The settings.
        out: The folder.
        console: Where progress is shown; default: nowhere.
        started: When the command started, in seconds of `time.monotonic`, for the budget; default: now.

    Raises:
        InputError: If a setting is invalid, the budget is too short, a step cannot take the network, or the folder holds
            something else.
    """
    started = time.monotonic() if started is None else started
    set_threads(config.threads)
    steps, out, console = parse_steps(config.steps), Path(out), console or Console(quiet=True)
    if {"quantize", "export"} & {step.kind for step in steps}:
        require_engine("onnxruntime")
    checkpoint = config.load_network(config.checkpoint)
    with compression_folder(out, to_json(config)):
        plan = planned(config, checkpoint, out, time.monotonic() - started)
        work = Compression(config, out, console, checkpoint, plan, method_for(plan.method, checkpoint, plan.flips))
        if work.is_finished and (rows := read_rows(out / RESULT)):
            return rows
        make_pool(config, work.method, plan.images, work.pool, console)
        previous = config.checkpoint
        for number, step in enumerate(steps, 1):
            if not is_finished(work.folder(number)):
                say(console, f"step {number}", f"{step}  ({work.folder(number)})")
                CARRY_OUT[step.kind](work, number, previous)
            if step.trains:
                previous = str(work.folder(number) / STUDENT)
        folders = [work.folder(number) for number in range(1, len(steps) + 1)]
        rows = Table(config, checkpoint, work.method, console).rows(steps, folders)
        write_json(out / RESULT, {"rows": [asdict(row) for row in rows]})
    return rows


def resume_compression(
    out: Path, console: Console | None = None, *, checkpoint: Sequence[str] = (), students: Sequence[str] = ()
) -> list[StepRow]:
    """Continue an interrupted compression from its folder.

    Args:
        out: The folder.
        console: Where progress is shown; default: nowhere.
        checkpoint: The checkpoint if it is code, as it was given. Code that only the folder names is not run.
        students: The students that are code.

    Raises:
        InputError: If the folder is damaged, or it uses code that is not named here.
    """
    config = read_settings(out)
    require_repeated(networks_in(config), {"--teacher": tuple(checkpoint), "--student": tuple(students)})
    return compress(config, out, console)


def networks_in(config: CompressionConfig) -> dict[str, tuple[str, ...]]:
    """Return the checkpoint and the students of a compression, by the options of `datafree resume` that name them."""
    students = dict.fromkeys(step.value for step in parse_steps(config.steps) if step.kind == "distill")
    return {"--teacher": (config.checkpoint,), "--student": tuple(students)}


def result_folder(out: Path) -> Path:
    """Return the folder with the result of the last step, which has a model card.

    Args:
        out: The folder of the compression.
    """
    steps = parse_steps(read_settings(out).steps)
    folder = out / f"{len(steps)}-{steps[-1].kind}"
    return folder / STUDENT if steps[-1].trains else folder


def is_finished(folder: Path) -> bool:
    """Return whether a step has left its result; folders of files appear only when they are complete."""
    return any((folder / name).is_file() for name in (SUMMARY, QUANTIZED, EXPORTED))


def train(work: Compression, number: int, previous: str) -> None:
    """Distil or prune: a run on the images of the pool, resumed if it was interrupted.

    The teacher is always the checkpoint, so that the losses of the steps do not add up; a pruned network starts from the step
    before.
    """
    config, step, folder = work.config, work.steps[number - 1], work.folder(number)
    if (folder / EXPERIMENT).is_file():
        given = {"teacher": code(config.checkpoint), "student": "".join(code(step.value))}
        resume(folder, work.console, **given, estimate_seconds=estimate_seconds(config))
        return
    images = read_index(work.pool).images
    start = "" if previous == config.checkpoint else f"{LOCAL}{previous}"
    before = sum(each.trains for each in work.steps[: number - 1])
    experiment = Experiment(
        task=task_of(config, step.value if step.kind == "distill" else start),
        method=SavedConfig(images=str(work.pool), batch_size=images),
        schedule=Schedule(warmup_batches=1, refresh_every=0, pool_batches=1, batch_size=min(BATCH_SIZE, images)),
        application=application_for(step, work.method, work.plan, before),
        seed=config.seed,
        device=config.device,
        threads=config.threads,
    )
    run(experiment, folder, console=work.console, estimate_seconds=estimate_seconds(config))


def code(spec: str) -> tuple[str, ...]:
    """Return a network as a tuple if it is code, else an empty one."""
    return (spec,) if is_code(spec) else ()


def quantized(work: Compression, number: int, previous: str) -> None:
    """Quantise the network of the step before on the images of the pool."""
    config, step = work.config, work.steps[number - 1]
    job = QuantizationJob(
        config=QuantizationConfig(bits=step.value, recovery_steps=work.plan.recovery_steps),
        method=SavedConfig(images=str(work.pool)),
        network=previous,
        images=max(FEWEST, read_index(work.pool).images),
        data=config.data,
        data_root=config.data_root,
        seed=config.seed,
        threads=config.threads,
    )
    quantize_network(
        job, work.network(previous), work.folder(number), console=work.console, weights=weights(work, previous)
    )


def exported(work: Compression, number: int, previous: str) -> None:
    """Write the network of the step before for other tools; a quantised file is copied with its card."""
    step, folder = work.steps[number - 1], work.folder(number)
    before = work.folder(number - 1) if number > 1 else None
    if before is not None and (before / QUANTIZED).is_file():
        with atomic_folder(folder) as new:
            for name in ("model.onnx", "README.md"):
                shutil.copyfile(before / name, new / name)
            write_json(new / EXPORTED, {"format": "onnx", "copied_from": before.name})
        return
    network, format = work.network(previous), cast(Format, step.value)
    provenance = provenance_of(previous, network, weights=weights(work, previous), library=LIBRARIES[format])
    images = StoredSet(work.pool).read(torch.arange(min(MOST, read_index(work.pool).images))).images
    export(network, folder, format, images=images, header=provenance.header, provenance=provenance.facts)


def weights(work: Compression, spec: str) -> str:
    """Return the weights file that was named with a network; empty for students."""
    return work.config.weights if spec == work.config.checkpoint else ""


CARRY_OUT: dict[str, Callable[[Compression, int, str], None]] = {
    "distill": train,
    "prune": train,
    "quantize": quantized,
    "export": exported,
}
