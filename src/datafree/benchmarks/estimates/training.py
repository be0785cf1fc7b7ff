"""Training the students of the table of estimates. Each is saved after a part of its steps too, as another student."""

import os
import re
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from datafree.applications.distillation import distill
from datafree.applications.pruning import PruningConfig, prune
from datafree.benchmarks.estimates.students import FAMILIES, Family, Recipe
from datafree.benchmarks.rows import RowRun, RowSettings, run_row, stored_teacher
from datafree.callback import Callback
from datafree.classifier import Classifier
from datafree.ensemble import Ensemble
from datafree.evaluation import evaluate
from datafree.files import atomic_folder, read_json, write_json
from datafree.files.validation import from_plain
from datafree.networks.inheritance import inherit
from datafree.real.data import open_real
from datafree.real.ledger import Ledger
from datafree.runs.reading.described import describes
from datafree.runs.tasks import create_student
from datafree.runs.training import TRAINING, example_teacher, recipe, was_trained_with
from datafree.synthesis import Stream
from datafree.teachers.folders import load_folder, save_folder
from datafree.types import Batch, InputError, Terms

STUDENTS = "students.json"
"""file with the students of one training, and their held-out accuracy"""


@dataclass(frozen=True, kw_only=True)
class Student:
    """A student and its held-out accuracy."""

    teacher: str
    """key of `FAMILIES`"""
    recipe: str
    seed: int
    steps: int
    """steps that it has learned; fewer than the recipe's for an early one"""
    folder: str
    """its folder, relative to that of all students"""
    accuracy: float
    teacher_accuracy: float
    per_class: tuple[float, ...]
    """held-out accuracy of each class"""

    @property
    def retention(self) -> float:
        """The accuracy of the student, divided by that of its teacher."""
        return self.accuracy / self.teacher_accuracy


@dataclass(frozen=True)
class Trained:
    """The content of `students.json`."""

    made_by: str
    """the settings"""
    students: tuple[Student, ...]


def slug(name: str) -> str:
    """Return a name as a folder name."""
    return re.sub(r"[^\w]+", "-", name).strip("-")


class Snapshots(Callback):
    """Keeps copies of a student at some steps, while it is trained."""

    def __init__(self, student: Classifier, steps: Sequence[int]) -> None:
        self.student, self.steps = student, steps
        self.copies: dict[int, Classifier] = {}
        self.step = 0

    def log(self, step: int, terms: Terms) -> None:
        if step in self.steps:
            self.copies[step] = deepcopy(self.student)


def train_teacher(name: str, family: Family, out: Path, options: Any, console: Console) -> Path:
    """Train the teacher of a family, or its teachers, unless they are there already, and return their folder.

    Raises:
        InputError: If the folder has a teacher with other settings.
    """
    if family.table is not None and (options.teachers / family.table.stored_teacher).is_dir():
        return stored_teacher(family.table, options.teachers)
    folder = out / slug(name) / "teacher"
    for number, data in enumerate(family.parts, 1):
        train_network(family, data, folder / str(number), options, console)
    if not family.parts:
        train_network(family, family.data, folder, options, console)
    return folder


def train_network(family: Family, data: str, folder: Path, options: Any, console: Console) -> None:
    """Train a teacher of a family on real images, unless it is there already.

    Raises:
        InputError: If the folder has a teacher with other settings.
    """
    training = replace(family.training, steps=max(1, family.training.steps // options.shorten))
    if (folder / TRAINING).is_file():
        if not was_trained_with(folder, recipe(network=family.network, data=data, training=training, seed=0)):
            raise InputError(f"{folder} was trained with other settings; remove it or give another --out")
        return
    example_teacher(
        network=family.network,
        data=data,
        data_root=options.data_root,
        out=folder,
        input=family.input,
        training=training,
        device=options.device,
        threads=options.threads,
        console=console,
    )


def load_teacher(family: Family, folder: Path) -> Classifier:
    """Return the teacher of a family, or all its teachers as one."""
    if family.parts:
        return Ensemble([load_folder(folder / str(number)).eval() for number in range(1, len(family.parts) + 1)]).eval()
    return load_folder(folder).eval()


def held_out_batches(family: Family, teacher: Classifier, data_root: str) -> list[Batch]:
    """Return the held-out images of a family."""
    real = open_real(family.data, "test", "evaluation", Ledger(), root=data_root, shape=teacher.shape)
    return list(real.batches())


def train_students(
    name: str, recipe_name: str, seed: int, teacher_folder: Path, out: Path, options: Any
) -> list[Student]:
    """Train a student, unless it is there already, and return it after each part of its steps.

    Raises:
        InputError: If the folder has students with other settings.
    """
    family = FAMILIES[name]
    if family.table is not None:
        return [run_of_table(name, recipe_name, seed, teacher_folder, out, options)]
    folder = out / slug(name) / slug(recipe_name) / f"seed-{seed}"
    settings = family.recipes[recipe_name]
    if (
        before := stored_students(folder, lambda text: is_made_by(text, family, settings, options.shorten))
    ) is not None:
        return before
    teacher = load_teacher(family, teacher_folder).to(options.device)
    torch.manual_seed(seed)
    copies = learn(settings, family, teacher, options.shorten)
    batches = held_out_batches(family, teacher, options.data_root)
    best = evaluate(teacher, teacher, batches)
    students = []
    with atomic_folder(folder) as new:
        for steps, student in copies.items():
            save_folder(student.eval(), new / f"{steps}-steps")
            found = evaluate(student, teacher, batches)
            students.append(
                Student(
                    teacher=name,
                    recipe=recipe_name,
                    seed=seed,
                    steps=steps,
                    folder=str((folder / f"{steps}-steps").relative_to(out)),
                    accuracy=found.accuracy,
                    teacher_accuracy=best.accuracy,
                    per_class=tuple(value or 0.0 for value in found.per_class),
                )
            )
        first, last = around(family, settings, options.shorten)
        write_json(new / STUDENTS, asdict(Trained(f"{first}{settings!r}{last}", tuple(students))))
    return students


def stored_students(folder: Path, is_made_by: Callable[[str], bool]) -> list[Student] | None:
    """Return the students in a folder; None if it has none.

    Args:
        folder: The folder of one recipe and seed.
        is_made_by: Whether stored settings are those of today.

    Raises:
        InputError: If they are not.
    """
    if not (folder / STUDENTS).is_file():
        return None
    trained = from_plain(Trained, read_json(folder / STUDENTS), str(folder / STUDENTS))
    if not is_made_by(trained.made_by):
        raise InputError(f"{folder} has students with other settings; remove it or give another --out")
    return list(trained.students)


def around(family: Family, settings: Recipe, shorten: int) -> tuple[str, str]:
    """Return what the settings of some students say before their recipe, and after it."""
    start = "" if settings.start == "random" else f" {settings.start}"
    return f"{family.student} {family.lengths} ", f" shorten {shorten}{start}"


def is_made_by(made_by: str, family: Family, settings: Recipe, shorten: int) -> bool:
    """Return whether stored students have these settings. A setting that was added since then has its default.

    Args:
        made_by: The settings of the stored students.
        family: Their family today.
        settings: Their recipe today.
        shorten: The divisor of the steps.
    """
    before, after = around(family, settings, shorten)
    if not (made_by.startswith(before) and made_by.endswith(after)):
        return False
    return describes(made_by[len(before) : len(made_by) - len(after)], replace(settings, start="random"))


def learn(settings: Recipe, family: Family, teacher: Classifier, shorten: int) -> dict[int, Classifier]:
    """Train a student, and return it as it was after each part of its steps."""
    config = replace(settings.application, steps=max(4, settings.application.steps // shorten))
    student = first_student(settings, family, teacher)
    snapshots = Snapshots(student, [max(1, round(part * config.steps)) for part in family.lengths])
    stream = Stream.of(settings.method, teacher, student, settings.schedule)
    if isinstance(config, PruningConfig):
        prune(student, teacher, stream, config, callback=snapshots)
    else:
        distill(student, teacher, stream, config, callback=snapshots)
    return snapshots.copies


def first_student(settings: Recipe, family: Family, teacher: Classifier) -> Classifier:
    """Return a student before its training."""
    if settings.start == "pruned":
        return deepcopy(teacher)
    student = create_student(teacher, family.student)
    if settings.start == "inherited":
        inherit(student, teacher)
    return student


def run_of_table(name: str, row: str, seed: int, teacher: Path, out: Path, options: Any) -> Student:
    """Run a row of a table, unless it is finished, and return its student.

    Args:
        name: The family.
        row: The row.
        seed: Random seed.
        teacher: The folder of its teacher.
        out: The folder of all students; the runs of the table lie beside it.
        options: How the row is run.
    """
    family = FAMILIES[name]
    assert family.table is not None
    settings = RowSettings(
        shorten=options.shorten,
        data_root=options.data_root,
        device=options.device,
        threads=options.threads,
        teachers=options.teachers,
    )
    runs = out.parent / f"bench-{family.table_name}"
    row_run = RowRun(table=family.table, name=row, teachers=[teacher], seed=seed, out=runs, settings=settings)
    summary = run_row(row_run, None)
    return Student(
        teacher=name,
        recipe=row,
        seed=seed,
        steps=family.recipes[row].application.steps,
        folder=os.path.relpath(row_run.folder / "student", out),
        accuracy=summary["student"]["accuracy"],
        teacher_accuracy=summary["teacher"]["accuracy"],
        per_class=tuple(value or 0.0 for value in summary["student"]["per_class"]),
    )
