"""Carry out the steps of a compression. Images are made once; each step is finished, or is not there."""

import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

from rich.console import Console
from torch import Tensor

from datafree.applications.distillation import DistillationConfig
from datafree.callback import silent
from datafree.classifier import Classifier
from datafree.evaluation import measure
from datafree.export.writing import FILES as EXPORTED
from datafree.export.writing import export
from datafree.files import write_json
from datafree.files.writing import atomic_folder
from datafree.quantization.choosing import QuantizationConfig
from datafree.quantization.graphs import require_engine
from datafree.quantization.sessions import OnnxNetwork
from datafree.quantization.workbench import compared, logits_of
from datafree.real.data import open_real
from datafree.real.ledger import Ledger
from datafree.runs.compression.folder import RESULT, compression_folder
from datafree.runs.compression.pool import make_pool
from datafree.runs.compression.steps import parse_steps, plain, pruning
from datafree.runs.experiment import resume, run
from datafree.runs.hardware import require_threads, set_threads
from datafree.runs.planning.budget import parse_budget
from datafree.runs.quantizing.controls import accuracies
from datafree.runs.quantizing.images import held_out
from datafree.runs.quantizing.job import RESULT as QUANTIZED
from datafree.runs.quantizing.job import QuantizationJob, quantize_network
from datafree.runs.reading.layout import EXPERIMENT, SUMMARY
from datafree.runs.reading.summary import read_summary
from datafree.runs.reporting.console import say
from datafree.runs.settings import Experiment
from datafree.runs.tasks import Task
from datafree.sets.image_set import read
from datafree.sets.saved import SavedConfig
from datafree.synthesis import Schedule
from datafree.synthesis.augmentation import Augmentation
from datafree.teachers import load
from datafree.teachers.code import is_code
from datafree.teachers.folders import LOCAL
from datafree.teachers.options import TeacherOptions
from datafree.types import Images, InputError, require_seed

SHARES = {"pool": 0.25, "distill": 0.45, "prune": 0.2, "quantize": 0.1, "export": 0.05}
"""parts of the budget, before they are divided by the sum over the steps"""
COMPARED = 256
"""images of another method on which every step is compared with the checkpoint"""
STUDENT = "student"


@dataclass(frozen=True, kw_only=True)
class CompressionConfig:
    """What is compressed, in which steps."""

    checkpoint: str
    options: TeacherOptions
    steps: str
    budget: str = "30m"
    method: str = "auto"
    images: int = 0
    data: str = ""
    data_root: str = ""
    seed: int = 0
    device: str = "cpu"
    threads: int = 1

    def __post_init__(self) -> None:
        parse_steps(self.steps)
        if parse_budget(self.budget).steps:
            raise InputError(
                f"budget {self.budget!r} counts steps, but several steps share it; give a time, such as 30m"
            )
        require_seed(self.seed)
        require_threads(self.threads)


@dataclass(frozen=True, kw_only=True)
class StepRow:
    """One line of the table."""

    step: str
    parameters: int
    bytes: int
    """size of the weights or of the file"""
    milliseconds: float
    """median time of one image, in torch or in ONNX Runtime"""
    engine: str
    agreement: float
    """with the checkpoint, on images of another method than that of the pool"""
    estimate: float | None
    """estimated retention of accuracy, if the step estimates it"""
    accuracy: float | None
    """on held-out real images; None without any"""


@dataclass
class Compression:
    """A compression under way."""

    config: CompressionConfig
    out: Path
    console: Console
    checkpoint: Classifier

    def __post_init__(self) -> None:
        self.steps = parse_steps(self.config.steps)
        self.shares = {step: SHARES[step.kind] for step in self.steps}
        self.total = SHARES["pool"] + sum(self.shares.values())

    def seconds(self, share: float) -> float:
        """Return a part of the budget, in seconds."""
        return parse_budget(self.config.budget).seconds * share / self.total

    def folder(self, number: int) -> Path:
        """Return the folder of a step, counted from 1."""
        return self.out / f"{number}-{self.steps[number - 1].kind}"

    @property
    def pool(self) -> Path:
        """The folder of the images."""
        return self.out / "pool"


def compress(config: CompressionConfig, out: str | Path, console: Console | None = None) -> list[StepRow]:
    """Carry out the steps of a compression, and write a folder for each, with a table of all.

    A folder with the same settings is continued: finished steps are kept, and a run that was interrupted is resumed.

    Args:
        config: The settings.
        out: The folder.
        console: Where progress is shown; default: nowhere.

    Raises:
        InputError: If a setting is invalid, a step cannot take the network, or the folder holds something else.
    """
    set_threads(config.threads)
    steps, out = parse_steps(config.steps), Path(out)
    if {"quantize", "export"} & {step.kind for step in steps}:
        require_engine("onnxruntime")
    settings = asdict(config) | {"steps": plain(steps)}
    checkpoint = config.options.load_network(config.checkpoint)
    with compression_folder(out, settings):
        work = Compression(config, out, console or Console(quiet=True), checkpoint)
        method = make_pool(work.checkpoint, config, work.pool, work.seconds(SHARES["pool"]), work.console)
        previous = config.checkpoint
        for number in range(1, len(steps) + 1):
            if not is_finished(work.folder(number)):
                say(work.console, f"step {number}", f"{steps[number - 1]}  ({work.folder(number)})")
                CARRY_OUT[steps[number - 1].kind](work, number, previous)
            if steps[number - 1].trains:
                previous = str(work.folder(number) / STUDENT)
        rows = table(work, method)
        write_json(out / RESULT, {"rows": [asdict(row) for row in rows], "settings": settings})
    return rows


def is_finished(folder: Path) -> bool:
    """Return whether a step has left its result; folders of files appear only when they are complete."""
    return any((folder / name).is_file() for name in (SUMMARY, QUANTIZED, "export.json"))


def train(work: Compression, number: int, previous: str) -> None:
    """Distil or prune: a run on the images of the pool, resumed if it was interrupted.

    The teacher is always the checkpoint, so that the losses of the steps do not add up; a pruned network starts from the step
    before.
    """
    config, step, folder = work.config, work.steps[number - 1], work.folder(number)
    options = {name: getattr(config.options, name) for name in config.options.__dataclass_fields__}
    start = "" if previous == config.checkpoint else f"{LOCAL}{previous}"
    images = len(read(work.pool).batch)
    method = SavedConfig(images=str(work.pool), batch_size=images)
    augment = Augmentation(shift=1, cutmix=0.5)
    application = DistillationConfig(augment=augment)
    if step.kind == "prune":
        application = replace(pruning(step.value), augment=augment)
    experiment = Experiment(
        task=Task(
            teacher=config.checkpoint,
            student=step.value if step.kind == "distill" else start,
            data=config.data,
            data_root=config.data_root,
            **options,
        ),
        method=method,
        schedule=Schedule(warmup_batches=1, refresh_every=0, pool_batches=1, batch_size=min(128, images)),
        application=application,
        seed=config.seed,
        device=config.device,
        threads=config.threads,
        budget=f"{max(1.0, work.seconds(work.shares[step])):.1f}s",
    )
    if (folder / EXPERIMENT).is_file():
        code = (config.checkpoint,) if is_code(config.checkpoint) else ()
        resume(folder, work.console, teacher=code)
    else:
        run(experiment, folder, console=work.console, started=time.monotonic())


def quantized(work: Compression, number: int, previous: str) -> None:
    """Quantise the network of the step before on the images of the pool."""
    config, step = work.config, work.steps[number - 1]
    image_set = read(work.pool)
    job = QuantizationJob(
        config=QuantizationConfig(bits=step.value),
        method=SavedConfig(images=str(work.pool)),
        network=previous,
        images=max(16, len(image_set.batch)),
        data=config.data,
        data_root=config.data_root,
        seed=config.seed,
        threads=config.threads,
    )
    quantize_network(job, network(work, previous), work.folder(number), console=work.console)


def exported(work: Compression, number: int, previous: str) -> None:
    """Write the network of the step before for other tools; a quantised file is copied with its card."""
    step, folder = work.steps[number - 1], work.folder(number)
    before = work.folder(number - 1) if number > 1 else None
    if before is not None and (before / QUANTIZED).is_file():
        with atomic_folder(folder) as new:
            for name in ("model.onnx", "README.md"):
                shutil.copyfile(before / name, new / name)
            write_json(new / "export.json", {"format": "onnx", "copied_from": before.name})
        return
    export(network(work, previous), folder, cast(Any, step.value), images=read(work.pool).batch.images)


CARRY_OUT: dict[str, Callable[[Compression, int, str], None]] = {
    "distill": train,
    "prune": train,
    "quantize": quantized,
    "export": exported,
}


def network(work: Compression, spec: str) -> Classifier:
    """Return the checkpoint, or a student of a step before."""
    return work.checkpoint if spec == work.config.checkpoint else load(spec)


def table(work: Compression, method: Any) -> list[StepRow]:
    """Return the table of all steps: each network is compared with the checkpoint on the same images."""
    config, checkpoint = work.config, work.checkpoint
    _, pictures = held_out(method, checkpoint, COMPARED, config.seed, silent)
    rows = [torch_row(work, "checkpoint", checkpoint, pictures, None)]
    last = checkpoint
    for number, step in enumerate(work.steps, 1):
        folder = work.folder(number)
        if step.trains:
            last = load(str(folder / STUDENT))
            estimate = (read_summary(folder).get("estimate") or {}).get("retention")
            rows.append(torch_row(work, str(step), last, pictures, estimate))
        elif (file := folder / EXPORTED.get("onnx", "model.onnx")).is_file():
            rows.append(onnx_row(work, str(step), file, last, pictures))
        else:
            rows.append(torch_row(work, str(step), last, pictures, None))
    return rows


def torch_row(work: Compression, name: str, model: Classifier, pictures: Images, estimate: float | None) -> StepRow:
    """Return the row of a network in torch."""
    cost = measure(model)
    found = compared(work.checkpoint, logits_of(work.checkpoint, pictures), logits_of(model, pictures))

    def engine(images: Tensor) -> Tensor:
        return logits_of(model, images)

    return StepRow(
        step=name,
        parameters=cost.parameters,
        bytes=cost.bytes,
        milliseconds=cost.milliseconds,
        engine="torch",
        agreement=found.agreement,
        estimate=estimate,
        accuracy=accuracy_of(work, engine),
    )


def onnx_row(work: Compression, name: str, file: Path, last: Classifier, pictures: Images) -> StepRow:
    """Return the row of an ONNX file."""
    from datafree.export.comparison import milliseconds

    engine = OnnxNetwork(file)
    found = compared(work.checkpoint, logits_of(work.checkpoint, pictures), engine(pictures))
    return StepRow(
        step=name,
        parameters=sum(parameter.numel() for parameter in last.parameters()),
        bytes=file.stat().st_size,
        milliseconds=milliseconds({"onnx": engine}, pictures[:1])["onnx"],
        engine="ONNX Runtime",
        agreement=found.agreement,
        estimate=None,
        accuracy=accuracy_of(work, engine),
    )


def accuracy_of(work: Compression, engine: Callable[[Tensor], Tensor]) -> float | None:
    """Return the accuracy on held-out real images; None if none with labels are named."""
    config, checkpoint = work.config, work.checkpoint
    if not config.data:
        return None
    inputs: dict[str, Any] = {"shape": checkpoint.shape, "preprocessing": checkpoint.preprocessing}
    real = open_real(config.data, "test", "evaluation", Ledger(), root=config.data_root, **inputs)
    if not real.labelled:
        return None
    real = real.matched_with(checkpoint.classes).select_classes(checkpoint.classes)
    return accuracies(checkpoint, {"": engine}, real)[""]
