"""The quantised students of the table of estimates: their teacher in integers, calibrated on synthesized images."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from datafree.benchmarks.estimates.students import FAMILIES
from datafree.benchmarks.estimates.training import (
    STUDENTS,
    Student,
    Trained,
    held_out_batches,
    load_teacher,
    slug,
    stored_students,
)
from datafree.callback import silent
from datafree.classifier import Classifier
from datafree.evaluation import evaluate
from datafree.files import atomic_folder, write_json
from datafree.quantization.choosing import quantize
from datafree.randomness import RandomNumbers
from datafree.runs.quantizing.images import synthesized
from datafree.runs.reading.described import describes
from datafree.teachers.folders import load_folder
from datafree.teachers.sources import load

NETWORK = "quantized.onnx"
"""file of a quantised student in its folder"""


def quantized_students(
    name: str, recipe: str, seed: int, teacher_folder: Path, out: Path, options: Any
) -> list[Student]:
    """Quantise the teacher of a family, unless that is done already, and return the result as a student.

    Args:
        name: The family.
        recipe: How it is quantised.
        seed: Random seed of the images.
        teacher_folder: The folder of the teacher.
        out: The folder of all students.
        options: The options of `datafree bench`.

    Raises:
        InputError: If the folder has a student with other settings.
    """
    family = FAMILIES[name]
    quantization = family.quantizations[recipe]
    folder = out / slug(name) / slug(recipe) / f"seed-{seed}"
    if (before := stored_students(folder, lambda text: describes(text, quantization))) is not None:
        return before
    assert quantization.method is not None, "real images are not used here"
    teacher = load_teacher(family, teacher_folder)
    images = synthesized(quantization.method, teacher, quantization.images, seed, silent)
    batches = held_out_batches(family, teacher, options.data_root)
    with atomic_folder(folder) as new:
        with RandomNumbers(seed):
            quantize(teacher, images, new / NETWORK, quantization.settings, seed=seed)
        found = evaluate(load(str(new / NETWORK)), teacher, batches)
        student = Student(
            teacher=name,
            recipe=recipe,
            seed=seed,
            steps=quantization.settings.recovery_steps,
            folder=str(folder.relative_to(out)),
            accuracy=found.accuracy,
            teacher_accuracy=evaluate(teacher, teacher, batches).accuracy,
            per_class=tuple(value or 0.0 for value in found.per_class),
        )
        write_json(new / STUDENTS, asdict(Trained(repr(quantization), (student,))))
    return [student]


def load_student(folder: Path) -> Classifier:
    """Return a student of the table: a network in float, or a quantised one."""
    return load(str(folder / NETWORK)) if (folder / NETWORK).is_file() else load_folder(folder).eval()
