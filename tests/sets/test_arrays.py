"""Arrays for other tools: by the name of the input, exact, in [0, 1] or normalised."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
import torch

from datafree import teachers
from datafree.classifier import Classifier
from datafree.commands.main import main
from datafree.sets import image_set
from datafree.sets.arrays import ArrayLayout, bin_file, npz_file
from datafree.types import Batch, InputError

IMAGES = torch.rand(5, 3, 8, 6, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def teacher() -> Classifier:
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(144, 2))
    return Classifier(network, shape=(3, 8, 6), classes=2, mean=(0.1, 0.2, 0.3), std=(0.5, 0.5, 0.25))


def write(file: Callable[..., Any], teacher: Classifier, layout: ArrayLayout, folder: Path) -> None:
    """Write the images in two pieces."""
    with file(tuple(IMAGES.shape), teacher, layout, folder) as add:
        add(IMAGES[:3])
        add(IMAGES[3:])


def test_the_array_is_what_numpy_writes(teacher: Classifier, tmp_path: Path):
    write(npz_file, teacher, ArrayLayout(), tmp_path / "npz")
    np.savez(tmp_path / "by_numpy.npz", images=IMAGES.numpy())
    contents = [ZipFile(tmp_path / name).read("images.npy") for name in ("npz/calibration.npz", "by_numpy.npz")]
    assert contents[0] == contents[1]


@pytest.mark.parametrize("name", ["images", "input.1", "file", "pixel_values", "arr_0"])
def test_npz_has_one_array_by_the_name_of_the_input(teacher: Classifier, tmp_path: Path, name: str):
    write(npz_file, teacher, ArrayLayout(input_name=name), tmp_path / "npz")
    with np.load(tmp_path / "npz" / "calibration.npz", allow_pickle=False) as arrays:
        assert arrays.files == [name] and arrays[name].dtype == np.float32
        assert np.array_equal(arrays[name], IMAGES.numpy())


def test_bin_is_raw(teacher: Classifier, tmp_path: Path):
    write(bin_file, teacher, ArrayLayout(), tmp_path / "bin")
    values = np.fromfile(tmp_path / "bin" / "images-5x3x8x6.bin", "<f4")
    assert np.array_equal(values.reshape(IMAGES.shape), IMAGES.numpy())


def test_they_may_be_normalised(teacher: Classifier, tmp_path: Path):
    write(npz_file, teacher, ArrayLayout(normalise=True), tmp_path / "npz")
    expected = (IMAGES - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)) / torch.tensor([0.5, 0.5, 0.25]).view(3, 1, 1)
    with np.load(tmp_path / "npz" / "calibration.npz") as arrays:
        assert np.allclose(arrays["images"], expected.numpy(), atol=1e-6)


@pytest.mark.parametrize("name", ["", "../images", "a/b", "a b", "..", "x" * 101])
def test_an_impossible_name_is_refused(name: str):
    with pytest.raises(
        InputError, match=r"^input-name is '.*', but it must be letters, .*; rename the input of the network$"
    ):
        ArrayLayout(input_name=name)


def test_a_set_has_the_arrays_it_is_asked_for_and_is_read_back(teacher: Classifier, tmp_path: Path):
    made = image_set.ImageSet(
        made_by="noise",
        batch=Batch(IMAGES, torch.zeros(5, dtype=torch.long), {}),
        classes=("0", "1"),
        teacher_sha256="0" * 64,
    )
    image_set.write(made, teacher, tmp_path / "set", ("npz", "bin"), ArrayLayout(input_name="x"))
    assert {path.name for path in (tmp_path / "set").iterdir()} >= {"npz", "bin", "set.json"}
    assert (tmp_path / "set" / "bin" / "x-5x3x8x6.bin").stat().st_size == 4 * IMAGES.numel()
    assert torch.equal(image_set.read(tmp_path / "set").batch.images, IMAGES)
    assert "`npz` and `bin` are exact" in (tmp_path / "set" / "README.md").read_text()


def test_the_command_writes_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    teachers.save_folder(teachers.create("convnet_w16"), tmp_path / "teacher")
    words = ["--method", "noise", "--images", "8", "--method.batch-size", "8", "--format", "npz", "--input-name", "x"]
    assert main(["synthesize", "--teacher", str(tmp_path / "teacher"), *words, "--out", str(tmp_path / "set")]) == 0
    with np.load(tmp_path / "set" / "npz" / "calibration.npz") as arrays:
        assert arrays["x"].shape == (8, 1, 8, 8) and not (tmp_path / "set" / "png").exists()


def test_the_command_refuses_an_impossible_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    words = ["--format", "npz", "--input-name", "a/b", "--out", str(tmp_path / "set")]
    assert main(["synthesize", "--teacher", "lenet5", *words]) == 2
    assert "input-name is 'a/b'" in capsys.readouterr().err and not (tmp_path / "set").exists()
