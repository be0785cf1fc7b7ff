"""Nothing here can begin by looking at real images: all of them are forbidden, and it works all the same."""

import builtins
import io
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import toys

import datafree.real.data
import datafree.runs.experiment
from datafree import teachers
from datafree.applications.distillation import DistillationConfig, distill
from datafree.commands.main import main
from datafree.real.data import Ledger, open_real
from datafree.runs.experiment import run
from datafree.synthesis import Method, Schedule, Stream


class Touched(AssertionError):
    """Somebody reached for real images."""


@pytest.fixture
def no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every way to real images raises: ours, scikit-learn's, torchvision's, Hugging Face's, and plain files."""

    def forbidden(*_: Any, **__: Any) -> None:
        raise Touched

    import sklearn.datasets
    import torchvision.datasets

    monkeypatch.setattr(datafree.real.data, "open_real", forbidden)
    monkeypatch.setattr(datafree.runs.experiment, "open_real", forbidden)
    monkeypatch.setattr(sklearn.datasets, "load_digits", forbidden)
    for name in ("MNIST", "CIFAR10", "ImageFolder"):
        monkeypatch.setattr(torchvision.datasets, name, forbidden)
    monkeypatch.setitem(sys.modules, "datasets", None)
    monkeypatch.setattr(torch.utils.data.DataLoader, "__init__", forbidden)
    real = builtins.open

    def guarded(file: Any, *arguments: Any, **settings: Any) -> Any:
        if any(word in str(file) for word in ("MNIST", "cifar", "digits.csv", ".parquet")):
            raise Touched
        return real(file, *arguments, **settings)

    monkeypatch.setattr(builtins, "open", guarded)
    monkeypatch.setattr(io, "open", guarded)  # pathlib's


@pytest.mark.usefixtures("no_data")
def test_the_prohibition_holds():
    with pytest.raises(Touched), open("/somewhere/MNIST/raw/train-images-idx3-ubyte"):
        pass
    with pytest.raises(Touched):
        Path("/somewhere/cifar10/train.parquet").read_bytes()
    with pytest.raises(Touched):
        datafree.real.data._digits(Path(), "train")
    with pytest.raises(Touched):
        datafree.real.data.open_real("digits", "test", "evaluation", Ledger())


@pytest.mark.usefixtures("no_data")
@pytest.mark.parametrize("method", toys.TINY.values(), ids=toys.TINY)
def test_a_model_and_an_input_shape_are_enough(method: Method):
    """Not even the teacher of this test has seen an image: its statistics are invented."""
    teacher = teachers.create("convnet_w16", classes=3, shape=(2, 8, 8))
    for name, buffer in teacher.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.5, 1.5)
    student = teachers.create("convnet_w16", classes=3, shape=(2, 8, 8))
    stream = Stream(
        method.build(teacher), student, Schedule(warmup_batches=1, refresh_every=2, pool_batches=2, batch_size=8)
    )
    learned = distill(student, teacher, stream, DistillationConfig(steps=3))
    assert learned(torch.rand(2, 2, 8, 8)).isfinite().all()


@pytest.mark.usefixtures("no_data")
def test_a_whole_run_touches_no_real_image(digits_teacher: Path, tmp_path: Path):
    summary = run(toys.experiment(digits_teacher, method=toys.TINY["adi"]), tmp_path / "run").summary
    assert summary["ledger"] == [] and summary["real images seen by the student"] == 0


@pytest.mark.usefixtures("no_data")
def test_the_command_distils_and_synthesizes_without_data(digits_teacher: Path, tmp_path: Path):
    teacher = [
        "--teacher",
        f"local-dir:{digits_teacher}",
        "--method",
        "deep-inversion",
        "--method.batch_size",
        "8",
        "--method.steps",
        "2",
    ]
    distilled = [
        "--student",
        "convnet_w16",
        "--steps",
        "2",
        "--schedule.warmup_batches",
        "1",
        "--out",
        str(tmp_path / "run"),
    ]
    assert main(["distill", *teacher, *distilled]) == 0
    assert main(["synthesize", *teacher, "--images", "8", "--out", str(tmp_path / "images")]) == 0


def test_without_the_prohibition_the_same_gate_opens():
    assert len(open_real("digits", "test", "evaluation", Ledger())) == 450
