"""Running the rows of a table: teachers are trained, experiments are run, and what is finished is not run again."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from rich.console import Console

from datafree.benchmarks.shared_images import parts_with_same_images, with_shared_images
from datafree.benchmarks.table import Benchmark, Row
from datafree.ensemble import Ensemble, SingleTeacher
from datafree.evaluation import score
from datafree.files import read_json, sha256_of
from datafree.files.validation import from_plain
from datafree.real.data import open_real
from datafree.real.feature_measuring import measure_real_images
from datafree.real.ledger import LEDGER, Entry, Ledger
from datafree.runs.experiment import Experiment, assess, run
from datafree.runs.logger import read_log
from datafree.runs.planning.fitting import WHOLE
from datafree.runs.reporting import report
from datafree.runs.run_folder import read_experiment
from datafree.runs.serialization import from_json
from datafree.runs.tasks import AmalgamationTask, ExtensionTask, SingleTeacherTask, Task
from datafree.runs.training import TRAINING, example_teacher, recipe, was_trained_with
from datafree.synthesis import features
from datafree.teachers import create, load_folder
from datafree.teachers.folders import WEIGHTS
from datafree.teachers.options import parse_arguments
from datafree.types import InputError, require_at_least


@dataclass(frozen=True, kw_only=True)
class RowSettings:
    """How the rows of a table are run."""

    shorten: int = 1
    """divisor of the training steps of students and teachers; for a quick test"""
    data_root: str = ""
    """folder of the data sets (default: $DATAFREE_DATA, or ./data)"""
    device: str = "auto"
    """cpu, cuda, mps, or auto for an accelerator if there is one"""
    threads: int = 1
    """CPU threads of each run"""
    teachers: Path = Path("benchmarks/teachers")
    """folder of the trained teachers that come with the tables; one that is not there is trained"""

    def __post_init__(self) -> None:
        require_at_least(1, shorten=self.shorten, threads=self.threads)


@dataclass(frozen=True, kw_only=True)
class RowRun:
    """One row of a table for one seed."""

    table: Benchmark
    name: str
    """of the row"""
    teachers: Sequence[Path]
    """their folders"""
    seed: int
    out: Path
    """folder of all runs of the table"""
    settings: RowSettings

    @property
    def row(self) -> Row:
        """The row itself."""
        return self.table.rows[self.name]

    @property
    def folder(self) -> Path:
        """The folder of this run."""
        return self.out / re.sub(r"[^\w]+", "-", self.name) / f"seed-{self.seed}"


def run_row(row_run: RowRun, console: Console | None) -> dict[str, Any]:
    """Run a row for one seed, unless it is finished, and return its summary.

    Raises:
        InputError: If the folder holds a run with other settings.
    """
    console, row = console or Console(quiet=True), row_run.row
    if row.reference:
        return evaluate_reference(row_run, console)
    synthesis_seconds = 0.0
    if row.measured_images:
        row = with_measured_statistics(row_run)
    else:
        for part, first in parts_with_same_images(row_run.table, row).items():
            name = "images" if part == WHOLE else f"images-{part}"
            folder = replace(row_run, name=first).folder.with_name(f"{name}-of-seed-{row_run.seed}")
            row, seconds = with_shared_images(
                row,
                part,
                row_run.teachers[0],
                folder,
                seed=row_run.seed,
                device=row_run.settings.device,
                threads=row_run.settings.threads,
                console=console,
            )
            synthesis_seconds += seconds
    summaries = [run_experiment(experiment, folder, console) for experiment, folder in experiments(row_run, row)]
    return add_seconds(merge_tasks(summaries), synthesis_seconds)


def with_measured_statistics(row_run: RowRun) -> Row:
    """Return the row with feature statistics measured on real images; they are saved beside the run."""
    row, settings = row_run.row, row_run.settings
    file = row_run.folder.with_name(f"{row_run.folder.name}-measured-on-{row.measured_images}.safetensors")
    if not file.is_file():
        teacher = load_folder(row_run.teachers[0]).eval()
        file.parent.mkdir(parents=True, exist_ok=True)
        statistics = measure_real_images(
            teacher, row_run.table.data, row.measured_images, row_run.seed, settings.data_root
        )
        features.save(statistics, file)
    return replace(row, method=replace(cast(Any, row.method), feature_statistics=str(file)))


def train_teachers(table: Benchmark, row: Row, out: Path, settings: RowSettings, console: Console) -> list[Path]:
    """Train the teachers of a row, unless they are there already, and return their folders."""
    network = row.teacher or table.teacher
    if (
        table.stored_teacher
        and (network, row.teacher_args) == (table.teacher, ())
        and (settings.teachers / table.stored_teacher).is_dir()
    ):
        return [stored_teacher(table, settings.teachers)]
    name = f"teacher-{network}" if (network, row.teacher_args) != (table.teacher, ()) else "teacher"
    name += "".join(f"-{re.sub(r'[^A-Za-z0-9]+', '-', argument)}" for argument in row.teacher_args)
    folders = {out / name: table.data}
    if table.teacher_data:
        folders = {out / f"teacher-{number}": data for number, data in enumerate(table.teacher_data, 1)}
    for folder, data in folders.items():
        train_network(table, network, data, folder, 0, settings, console, row.teacher_args)
    return list(folders)


def stored_teacher(table: Benchmark, teachers: Path) -> Path:
    """Return the folder of the trained teacher that comes with a table.

    Raises:
        InputError: If its weights are others.
    """
    folder = teachers / table.stored_teacher
    if sha256_of(folder / WEIGHTS) != table.stored_sha256:
        raise InputError(
            f"{folder / WEIGHTS} is not the teacher of this table; restore it, or remove {folder} to train one"
        )
    return folder


def train_network(
    table: Benchmark,
    network: str,
    data: str,
    folder: Path,
    seed: int,
    settings: RowSettings,
    console: Console,
    teacher_args: Sequence[str] = (),
) -> None:
    """Train a network on real images with labels, unless the folder has it already.

    Args:
        table: Says how.
        network: The network.
        data: The real images.
        folder: The output folder.
        seed: Random seed.
        settings: How the rows are run.
        console: Where progress is shown.
        teacher_args: Arguments of the network, as NAME=VALUE.

    Raises:
        InputError: If the folder has a network with other settings.
    """
    training = replace(table.training, steps=max(1, table.training.steps // settings.shorten))
    made = recipe(network=network, data=data, training=training, seed=seed)
    shape = table.input or (create(table.teacher).shape if teacher_args else ())
    arguments = parse_arguments(tuple(teacher_args), "teacher-args")
    made |= {"input": shape} if shape else {}
    made |= {"arguments": arguments} if arguments else {}
    if (folder / TRAINING).is_file():
        if not was_trained_with(folder, made):
            raise InputError(f"{folder} was trained with other settings; remove it or give another --out")
        return
    example_teacher(
        network=network,
        data=data,
        data_root=settings.data_root,
        out=folder,
        input=shape,
        arguments=arguments,
        training=training,
        seed=seed,
        device=settings.device,
        threads=settings.threads,
        console=console,
    )


def read_training(folder: Path) -> dict[str, Any]:
    """Return the settings that a network was trained with, its accuracy, and the seconds that it took.

    Raises:
        InputError: If the file is damaged.
    """
    path = folder / TRAINING
    trained = from_plain(dict[str, Any], read_json(path), str(path))
    return trained | {"seconds": from_plain(float, trained.get("seconds"), f"{path}: seconds")}


def evaluate_reference(row_run: RowRun, console: Console) -> dict[str, Any]:
    """Return the summary of a row without a run: the oracle, one of the teachers, or their ensemble."""
    table, settings, folder = row_run.table, row_run.settings, row_run.folder
    teachers = [load_folder(path).eval() for path in row_run.teachers]
    test = open_real(table.data, "test", "evaluation", Ledger(), root=settings.data_root, shape=teachers[0].shape)
    seconds, real_images = 0.0, None
    kind, _, choice = row_run.row.reference.partition(" ")
    if kind == "oracle":
        train_network(table, table.student or table.teacher, table.data, folder, row_run.seed, settings, console)
        model = load_folder(folder).eval()
        entries = from_plain(list[Entry], read_json(folder / LEDGER), str(folder / LEDGER))
        real_images = Ledger(entries).count("teacher training")
        seconds = read_training(folder)["seconds"]
    elif kind == "ensemble":
        model = Ensemble(teachers, table.labels, choice).eval()
    else:
        model = SingleTeacher(teachers[int(choice) - 1], test.classes).eval()
    teacher = Ensemble(teachers, table.labels).eval() if table.teacher_data else model
    evaluation = assess(model, teacher, test, console)
    return {
        "student": evaluation,
        "seconds": seconds,
        "scores_after_tasks": [score(evaluation)],
        "curve": [],
        "images_synthesized": 0,
        "real_images_seen": real_images,
        "new_class_images_seen": None,
    }


def experiments(row_run: RowRun, row: Row) -> Iterator[tuple[Experiment, Path]]:
    """Yield the experiments of a row and their folders; in a sequence, each student is the teacher of the next task.

    Args:
        row_run: The run.
        row: Its row, which may have measured statistics or shared images.
    """
    table, settings, steps = row_run.table, row_run.settings, row.application.steps
    shared: dict[str, Any] = {
        "method": row.method,
        "schedule": row.schedule,
        "application": replace(row.application, steps=min(steps, max(1, steps // settings.shorten))),
        "seed": row_run.seed,
        "device": settings.device,
        "threads": settings.threads,
        "evaluation_interval": table.evaluation_interval,
    }

    def task(kind: type[SingleTeacherTask | AmalgamationTask], **values: Any) -> Any:
        return kind(**{"data_root": settings.data_root, **values, **row.task})

    teachers = tuple(f"local-dir:{folder}" for folder in row_run.teachers)
    if table.teacher_data:
        labels = tuple(table.labels)
        amalgamation = task(AmalgamationTask, teacher=teachers, labels=labels, student=table.student, data=table.data)
        yield Experiment(task=amalgamation, **shared), row_run.folder
        return
    teacher = teachers[0]
    if not table.extensions:
        yield (
            Experiment(task=task(Task, teacher=teacher, student=table.student, data=table.data), **shared),
            row_run.folder,
        )
    for number, (new_data, data) in enumerate(table.extensions, 1):
        folder = row_run.folder if len(table.extensions) == 1 else row_run.folder / f"task-{number}"
        extension = task(ExtensionTask, teacher=teacher, new_data=new_data, data=data)
        yield Experiment(task=extension, **shared), folder
        teacher = f"local-dir:{folder / 'student'}"


def run_experiment(experiment: Experiment, folder: Path, console: Console) -> dict[str, Any]:
    """Run an experiment, unless it is finished, and return its summary with its curve of seconds and accuracy.

    Raises:
        InputError: If the folder holds another experiment.
    """
    if not (folder / "summary.json").is_file():
        run(experiment, folder, console=console, resuming=folder.is_dir())
    elif from_json(read_experiment(folder)) != experiment:  # settings added since then have their default
        raise InputError(f"{folder} holds a run with other settings; remove it or give another --out")
    curve = [(line["seconds"], line["accuracy"]) for line in read_log(folder) if line["phase"] == "evaluation"]
    return {**report.read_summary(folder), "curve": curve}


def merge_tasks(summaries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return one summary for a sequence of tasks: the first teacher, the last student, and the sum of all costs."""
    costs = ("seconds", "images_synthesized", "real_images_seen", "new_class_images_seen")
    total = {cost: sum(summary.get(cost) or 0 for summary in summaries) for cost in costs}
    first = {key: summaries[0][key] for key in ("teacher", "teacher_sha256")}
    scores = [score(summary["student"]) for summary in summaries]
    return {**summaries[-1], **total, **first, "scores_after_tasks": scores}


def add_seconds(summary: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """Return a summary that includes the time for images that were synthesized before the run."""
    curve = [(time + seconds, accuracy) for time, accuracy in summary["curve"]]
    return {**summary, "seconds": summary["seconds"] + seconds, "curve": curve}
