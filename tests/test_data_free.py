"""Runs work without real images: every access to them is forbidden here."""

import builtins
import io
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import toys

import datafree.real.data
import datafree.real.datasets
import datafree.runs.task_data
from datafree import teachers
from datafree.applications.distillation import DistillationConfig, distill
from datafree.commands.main import main
from datafree.real.data import open_real
from datafree.real.ledger import Ledger
from datafree.runs.experiment import run
from datafree.synthesis import Method, Schedule, Stream


class RealImagesAccessed(AssertionError):
    """Something tried to read real images."""


@pytest.fixture
def no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forbid real images: those of datafree, scikit-learn, torchvision and Hugging Face, and plain files."""

    def forbidden(*_: Any, **__: Any) -> None:
        raise RealImagesAccessed

    import sklearn.datasets
    import torchvision.datasets

    monkeypatch.setattr(datafree.real.data, "open_real", forbidden)
    monkeypatch.setattr(datafree.runs.task_data, "open_real", forbidden)
    monkeypatch.setattr(sklearn.datasets, "load_digits", forbidden)
    for name in ("MNIST", "CIFAR10", "ImageFolder"):
        monkeypatch.setattr(torchvision.datasets, name, forbidden)
    monkeypatch.setitem(sys.modules, "datasets", None)
    monkeypatch.setattr(torch.utils.data.DataLoader, "__init__", forbidden)
    original = builtins.open

    def guarded(file: Any, *arguments: Any, **settings: Any) -> Any:
        if any(word in str(file) for word in ("MNIST", "cifar", "digits.csv", ".parquet")):
            raise RealImagesAccessed
        return original(file, *arguments, **settings)

    monkeypatch.setattr(builtins, "open", guarded)
    monkeypatch.setattr(io, "open", guarded)  # used by pathlib


@pytest.mark.usefixtures("no_data")
def test_access_to_real_images_is_forbidden():
    with pytest.raises(RealImagesAccessed), open("/somewhere/MNIST/raw/train-images-idx3-ubyte"):
        pass
    with pytest.raises(RealImagesAccessed):
        Path("/somewhere/cifar10/train.parquet").read_bytes()
    with pytest.raises(RealImagesAccessed):
        datafree.real.datasets.read_digits(Path(), "train")
    with pytest.raises(RealImagesAccessed):
        datafree.real.data.open_real("digits", "test", "evaluation", Ledger())


@pytest.mark.usefixtures("no_data")
@pytest.mark.parametrize("method", toys.TINY.values(), ids=toys.TINY)
def test_a_model_and_an_input_shape_are_enough(method: Method):
    """Even the teacher of this test has seen no image: its running statistics are made up."""
    teacher = teachers.create("convnet_w16", classes=3, shape=(2, 8, 8))
    for name, buffer in teacher.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.5, 1.5)
    student = teachers.create("convnet_w16", classes=3, shape=(2, 8, 8))
    stream = Stream(
        method.build(teacher), student, Schedule(warmup_batches=1, refresh_every=2, pool_batches=2, batch_size=8)
    )
    trained = distill(student, teacher, stream, DistillationConfig(steps=3))
    assert trained(torch.rand(2, 2, 8, 8)).isfinite().all()


@pytest.mark.usefixtures("no_data")
def test_a_run_reads_no_real_image(digits_teacher: Path, tmp_path: Path):
    summary = run(toys.experiment(digits_teacher, method=toys.TINY["adi"]), tmp_path / "run").summary
    assert summary["ledger"] == [] and summary["real_images_seen"] == 0


@pytest.mark.usefixtures("no_data")
def test_distill_and_synthesize_work_without_data(digits_teacher: Path, tmp_path: Path):
    teacher = ["--teacher", f"local-dir:{digits_teacher}"]
    method = ["--method", "deep-inversion", "--method.batch-size", "8", "--method.steps", "2"]
    distillation = ["--student", "convnet_w16", "--steps", "2", "--warmup-batches", "1"]
    assert main(["distill", *teacher, *method, *distillation, "--out", str(tmp_path / "run")]) == 0
    assert main(["synthesize", *teacher, *method, "--images", "8", "--out", str(tmp_path / "images")]) == 0


def test_without_this_fixture_real_images_can_be_opened():
    assert len(open_real("digits", "test", "evaluation", Ledger())) == 450
