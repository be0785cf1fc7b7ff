"""Training the students of the table of estimates. Each is saved after a part of its steps too, as another student."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn

from datafree.applications.distillation import distill
from datafree.benchmarks.estimates.students import FAMILIES, Family
from datafree.callback import Callback
from datafree.classifier import Classifier
from datafree.evaluation import evaluate
from datafree.files import atomic_folder, read_json, write_json
from datafree.files.validation import from_plain
from datafree.real.data import open_real
from datafree.real.ledger import Ledger
from datafree.runs.tasks import create_student
from datafree.runs.training import TRAINING, example_teacher, recipe
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
    """Keeps the weights of a student at some steps, while it is trained."""

    def __init__(self, student: nn.Module, steps: Sequence[int]) -> None:
        self.student, self.steps = student, steps
        self.weights: dict[int, dict[str, torch.Tensor]] = {}
        self.step = 0

    def log(self, step: int, terms: Terms) -> None:
        if step in self.steps:
            self.weights[step] = {name: tensor.clone() for name, tensor in self.student.state_dict().items()}


def train_teacher(name: str, family: Family, out: Path, options: Any, console: Console) -> Path:
    """Train the teacher of a family, unless it is there already, and return its folder.

    Raises:
        InputError: If the folder has a teacher with other settings.
    """
    folder = out / slug(name) / "teacher"
    training = replace(family.training, steps=max(1, family.training.steps // options.shorten))
    if (folder / TRAINING).is_file():
        expected = recipe(network=family.network, data=family.data, training=training, seed=0)
        found = from_plain(dict[str, Any], read_json(folder / TRAINING), str(folder / TRAINING))
        if not json.loads(json.dumps(expected)).items() <= found.items():
            raise InputError(f"{folder} was trained with other settings; remove it or give another --out")
        return folder
    example_teacher(
        network=family.network,
        data=family.data,
        data_root=options.data_root,
        out=folder,
        input=family.input,
        training=training,
        device=options.device,
        threads=options.threads,
        console=console,
    )
    return folder


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
    folder = out / slug(name) / slug(recipe_name) / f"seed-{seed}"
    made_by = f"{family.student} {family.lengths} {family.recipes[recipe_name]!r} shorten {options.shorten}"
    if (folder / STUDENTS).is_file():
        trained = from_plain(Trained, read_json(folder / STUDENTS), str(folder / STUDENTS))
        if trained.made_by != made_by:
            raise InputError(f"{folder} was trained with other settings; remove it or give another --out")
        return list(trained.students)
    teacher = load_folder(teacher_folder).eval().to(options.device)
    torch.manual_seed(seed)
    student = create_student(teacher, family.student)
    settings = family.recipes[recipe_name]
    config = replace(settings.application, steps=max(4, settings.application.steps // options.shorten))
    snapshots = Snapshots(student, [max(1, round(part * config.steps)) for part in family.lengths])
    stream = Stream.of(settings.method, teacher, student, settings.schedule)
    distill(student, teacher, stream, config, callback=snapshots)
    batches = held_out_batches(family, teacher, options.data_root)
    best = evaluate(teacher, teacher, batches)
    students = []
    with atomic_folder(folder) as new:
        for steps, weights in snapshots.weights.items():
            student.load_state_dict(weights)
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
        write_json(new / STUDENTS, asdict(Trained(made_by, tuple(students))))
    return students
