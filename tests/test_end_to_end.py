"""Whole runs on digits and MNIST, with lower bounds on the accuracy of the students."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from datafree.applications.distillation import DistillationConfig
from datafree.benchmarks.demo import Demo, demo
from datafree.methods import METHODS
from datafree.runs.experiment import Experiment, run
from datafree.runs.tasks import Task
from datafree.runs.training import TrainingConfig, example_teacher
from datafree.synthesis import Schedule
from datafree.synthesis.augmentation import Augmentation

SMALL: dict[str, Any] = {"batch_size": 128, "steps": (60,), "jitter": 1}


@pytest.fixture(scope="module")
def accuracy(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """Held-out accuracy on digits of a teacher and its students, trained for seconds."""
    root = tmp_path_factory.mktemp("digits")
    teacher, training = root / "teacher", TrainingConfig(steps=200)
    accuracies = {"teacher": example_teacher(network="convnet_w64", data="digits", out=teacher, training=training)}
    recipes = {
        "noise": (replace(METHODS["noise"], batch_size=128), Schedule()),
        "deep-inversion": (
            replace(METHODS["deep-inversion"], **SMALL),
            Schedule(warmup_batches=3, refresh_every=0, pool_batches=3),
        ),
    }
    for name, (method, schedule) in recipes.items():
        task = Task(teacher=f"local-dir:{teacher}", student="convnet_w16", data="digits")
        application = DistillationConfig(steps=300, lr=1e-2, augment=Augmentation(shift=0.5))
        experiment = Experiment(task=task, method=method, schedule=schedule, application=application, device="cpu")
        accuracies[name] = run(experiment, root / name).summary["student"]["accuracy"]
    return accuracies


def test_the_teacher_is_accurate(accuracy: dict[str, float]):
    assert accuracy["teacher"] >= 0.985


def test_a_student_that_never_saw_a_real_image_is_accurate(accuracy: dict[str, float]):
    assert accuracy["deep-inversion"] >= 0.9


def test_deep_inversion_is_better_than_noise(accuracy: dict[str, float]):
    assert accuracy["deep-inversion"] >= accuracy["noise"] + 0.05


def test_noise_is_better_than_chance_but_far_from_real_images(accuracy: dict[str, float]):
    assert 0.2 < accuracy["noise"] < 0.93


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_demo_reaches_its_documented_accuracies(tmp_path: Path):
    from rich.console import Console

    rows = {row["model"]: row["accuracy"] for row in demo(Demo(out=tmp_path / "demo"), Console(quiet=True))}
    accuracy = {name.removeprefix("student · "): value for name, value in rows.items()}
    assert accuracy["teacher"] >= 0.99 and accuracy["deep-inversion"] >= 0.95 and accuracy["adi"] >= 0.975
    assert max(accuracy["noise"], accuracy["deep-dream"]) <= accuracy["deep-inversion"] - 0.05
    assert accuracy["adi"] >= accuracy["real images"] - 0.015


@pytest.fixture(scope="session")
def lenet5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MNIST teacher without batch norm, trained in a minute."""
    if not Path(os.environ.get("DATAFREE_DATA", "data"), "MNIST").is_dir():
        pytest.skip("MNIST is not available; set DATAFREE_DATA to the folder that contains it")
    out = tmp_path_factory.mktemp("mnist") / "lenet5"
    assert example_teacher(network="lenet5", data="mnist", out=out, training=TrainingConfig(steps=1500)) >= 0.98
    return out


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_generator_teaches_mnist_to_a_half_size_lenet(lenet5: Path, tmp_path: Path):
    task = Task(teacher=f"local-dir:{lenet5}", student="lenet5_half", data="mnist")
    method = METHODS["fast"]
    application = DistillationConfig(steps=4000, lr=4e-3)
    experiment = Experiment(task=task, method=method, schedule=method.schedule, application=application, device="cpu")
    assert run(experiment, tmp_path / "run").summary["student"]["accuracy"] >= 0.94
