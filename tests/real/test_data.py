"""Real images are opened in one place, and the ledger counts them."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from datafree.real.data import RealImages, open_real
from datafree.real.ledger import Ledger
from datafree.types import InputError


def test_the_split_of_digits_is_fixed():
    train, test = (
        next(open_real("digits", split, "evaluation", Ledger()).batches(2000)) for split in ("train", "test")
    )
    assert (len(train), len(test)) == (1347, 450)
    seen = {image.numpy().tobytes() for image in train.images}
    repeated = sum(image.numpy().tobytes() in seen for image in test.images)
    assert repeated <= 1  # the data set itself repeats a scan or two
    assert torch.equal(next(open_real("digits", "test", "evaluation", Ledger()).batches(2000)).images, test.images)
    assert torch.bincount(test.targets).min() >= 40


def test_digits_are_pixels():
    real = open_real("digits", "train", "evaluation", Ledger())
    images = next(real.batches(2000)).images
    assert real.shape == (1, 8, 8) and real.classes == tuple("0123456789")
    assert images.dtype == torch.float32 and images.min() == 0 and images.max() == 1


def test_opening_a_data_set_counts_no_image():
    ledger = Ledger()
    open_real("digits", "test", "evaluation", ledger)
    assert [entry.images for entry in ledger.entries] == [0]


def test_the_ledger_counts_each_distinct_image_once():
    ledger = Ledger()
    real = open_real("digits", "train", "student training (ceiling)", ledger)
    real.select(torch.tensor([3, 5, 5]))
    assert ledger.entries[0].images == 2
    _ = real[5], real[6]
    assert ledger.entries[0].images == 3
    stream, seen = real.random_batches(40), {3, 5, 6}
    for _ in range(3):
        random = torch.get_rng_state()
        next(stream)
        torch.set_rng_state(random)
        seen |= set(torch.randint(len(real), (40,)).tolist())
    assert ledger.entries[0].images == len(seen)
    assert sum(len(batch) for batch in real.batches()) == ledger.entries[0].images == 1347


def test_the_ledger_counts_by_purpose():
    ledger = Ledger()
    for purpose, count in (("evaluation", 10), ("teacher training", 20), ("student training (ceiling)", 30)):
        open_real("digits", "train", purpose, ledger).select(torch.arange(count))  # type: ignore[arg-type]
    assert ledger.images_seen_by_student() == 30
    assert ledger.to_json()[1] == {"source": "digits", "split": "train", "purpose": "teacher training", "images": 20}


def test_counting_continues_after_resuming():
    first, second = Ledger(), Ledger()
    real = open_real("digits", "train", "evaluation", first)
    real.select(torch.arange(10))
    resumed = open_real("digits", "train", "evaluation", second)
    resumed.load_state_dict(real.state_dict())
    resumed.select(torch.arange(5, 15))
    assert second.entries[0].images == 15


def test_an_image_folder_is_read(picture_folder: Path):
    real = open_real(f"folder:{picture_folder}", "train", "evaluation", Ledger())
    batch = next(real.batches())
    assert real.classes == ("cat", "dog") and real.shape == (3, 4, 6)
    assert batch.targets.tolist() == [0, 0, 0, 1, 1]
    assert batch.images[1, :, 0, 0].tolist() == pytest.approx([1, 0.2, 0])
    assert batch.images[4, :, 3, 5].tolist() == pytest.approx([1, 0.2, 1])


def test_images_are_resized_to_the_input_shape(picture_folder: Path):
    real = open_real(f"folder:{picture_folder}", "test", "evaluation", Ledger(), shape=(3, 8, 8))
    assert real.shape == (3, 8, 8) and next(real.batches()).images.shape == (5, 3, 8, 8)


def test_mnist_is_read_from_its_original_files(tiny_mnist: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DATAFREE_DATA", str(tiny_mnist))
    batch = next(open_real("mnist", "test", "evaluation", Ledger(), shape=(1, 32, 32)).batches())
    assert batch.targets.tolist() == [7, 0, 9]
    assert batch.images.shape == (3, 1, 32, 32) and batch.images.min() == 1


def test_root_overrides_the_environment_variable(tiny_mnist: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DATAFREE_DATA", "/nowhere")
    assert len(open_real("mnist", "train", "evaluation", Ledger(), root=str(tiny_mnist))) == 3


def test_cifar10_is_read_from_parquet(tmp_path: Path):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    picture = tmp_path / "red.png"
    Image.new("RGB", (32, 32), (255, 0, 0)).save(picture)
    (tmp_path / "cifar10").mkdir()
    table = pyarrow.table({"img": [{"bytes": picture.read_bytes(), "path": ""}], "label": [6]})
    parquet.write_table(table, tmp_path / "cifar10" / "test.parquet")
    real = open_real("cifar10", "test", "evaluation", Ledger(), root=str(tmp_path))
    batch = next(real.batches())
    assert real.classes[int(batch.targets[0])] == "frog" and batch.images[0].mean((1, 2)).tolist() == [1, 0, 0]


@pytest.mark.parametrize("damage", ["pixels", "labels", "columns", "not parquet"])
def test_a_damaged_parquet_file_is_refused(damage: str, tmp_path: Path):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    file = tmp_path / "cifar10" / "test.parquet"
    file.parent.mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "x.png")
    good = {"bytes": (tmp_path / "x.png").read_bytes(), "path": ""}
    columns: dict[str, Any] = {
        "pixels": {"img": [good, good | {"bytes": b"%!PS-Adobe-3.0 EPSF-3.0"}], "label": [0, 1]},
        "labels": {"img": [good], "label": [10]},
        "columns": {"img": [1], "label": ["x"]},
    }
    if damage == "not parquet":
        file.write_bytes(b"PAR1" * 9)
    else:
        parquet.write_table(pyarrow.table(columns[damage]), file)
    with pytest.raises(InputError, match=r"test\.parquet is not a parquet file of CIFAR-10"):
        open_real("cifar10", "test", "evaluation", Ledger(), root=str(tmp_path))


@pytest.mark.parametrize("damage", ["pipe", "short", "labels"])
def test_damaged_files_of_mnist_are_refused(damage: str, tiny_mnist: Path):
    file = tiny_mnist / "MNIST" / "raw" / "t10k-labels-idx1-ubyte"
    content = file.read_bytes()
    file.unlink()
    if damage == "pipe":
        os.mkfifo(file)
    else:
        file.write_bytes(content[:-2] if damage == "short" else content[:-1] + b"\x0b")
    with pytest.raises(InputError, match="not a regular file|MNIST is damaged; remove it"):
        open_real("mnist", "test", "evaluation", Ledger(), root=str(tiny_mnist))


def test_a_missing_data_set_is_an_error_that_names_the_fix(tmp_path: Path):
    (tmp_path / "MNIST").mkdir()
    with pytest.raises(InputError, match="MNIST is not in .*; set DATAFREE_DATA or --data-root"):
        open_real("mnist", "test", "evaluation", Ledger(), root=str(tmp_path))
    (tmp_path / "cifar-10-batches-py").mkdir()
    with pytest.raises(InputError, match="CIFAR-10 is not in"):
        open_real("cifar10", "test", "evaluation", Ledger(), root=str(tmp_path))


@pytest.mark.parametrize(
    ("name", "shape", "fault"),
    [
        ("digit", None, "unknown data set 'digit'; choose one of digits, .*did you mean digits"),
        ("folder:/nowhere", None, "/nowhere/test is not a folder"),
        ("digits", (4, 8, 8), "digits has 1 channels, but the classifier takes 4"),
    ],
)
def test_a_data_set_that_cannot_be_used_is_refused_and_not_in_the_ledger(
    name: str, shape: tuple[int, int, int] | None, fault: str
):
    ledger = Ledger()
    with pytest.raises(InputError, match=fault):
        open_real(name, "test", "evaluation", ledger, shape=shape)
    assert ledger.entries == []


def test_grey_images_are_repeated_for_a_network_of_colour_images():
    real = open_real("digits", "test", "evaluation", Ledger(), shape=(3, 10, 12))
    images = real.select(torch.arange(3)).images
    assert real.shape == (3, 10, 12) and images.shape == (3, 3, 10, 12)
    assert torch.equal(images[:, 0], images[:, 2])
    assert "the grey images of digits are repeated in 3 channels" in real.notes


def test_colour_images_become_grey_only_on_request(tmp_path: Path):
    for split in ("train", "test"):
        (tmp_path / split / "red").mkdir(parents=True)
        Image.new("RGB", (8, 8), (255, 0, 0)).save(tmp_path / split / "red" / "a.png")
    name = f"folder:{tmp_path}"
    real = open_real(name, "test", "evaluation", Ledger(), shape=(1, 8, 8), make_grey=True)
    images = real.select(torch.tensor([0])).images
    assert images.shape == (1, 1, 8, 8) and torch.allclose(images, torch.tensor(0.299))
    assert f"the colour images of {name} are made grey" in real.notes


class TestSelectedClasses:
    def test_classes_are_relabelled_in_the_given_order(self):
        ledger = Ledger()
        whole = open_real("digits", "test", "evaluation", ledger)
        some = open_real("digits:7,0-1", "test", "evaluation", ledger)
        assert some.classes == ("7", "0", "1")
        everything, selected = next(whole.batches(1000)), next(some.batches(1000))
        for new, old in enumerate((7, 0, 1)):
            expected = everything.images[everything.targets == old]
            assert torch.equal(selected.images[selected.targets == new], expected)
        assert len(some) == int(torch.isin(everything.targets, torch.tensor([0, 1, 7])).sum())

    def test_the_ledger_names_the_selection(self):
        ledger = Ledger()
        open_real("digits:0-4", "test", "evaluation", ledger)
        assert ledger.entries[0].source == "digits:0-4"

    @pytest.mark.parametrize(
        ("selection", "match"),
        [
            ("x", "invalid class selection"),
            ("4-12", "from 0 to 9"),
            ("3,3", "selects a class twice"),
            ("5-2", "invalid class range '5-2'"),
        ],
    )
    def test_an_invalid_selection_is_refused(self, selection: str, match: str):
        with pytest.raises(InputError, match=match):
            open_real(f"digits:{selection}", "test", "evaluation", Ledger())


class TestMosaic:
    @pytest.fixture
    def scenes(self, tiny_mnist: Path) -> RealImages:
        return open_real("mosaic", "test", "evaluation", Ledger(), root=str(tiny_mnist))

    def test_every_scene_has_a_digit_and_every_digit_a_label(self, scenes: RealImages):
        batch = next(scenes.batches(2000))
        assert scenes.multi_label
        assert batch.images.shape == (2000, 1, 32, 32) and batch.targets.shape == (2000, 10)
        quarters = batch.images.view(2000, 2, 16, 2, 16).amax((2, 4)).flatten(1)
        assert (quarters > 0).any(1).all()
        assert (batch.targets.sum(1) >= 1).all()
        assert (batch.targets.sum(1) <= (quarters > 0).sum(1)).all()

    def test_scenes_are_the_same_each_time(self, scenes: RealImages, tiny_mnist: Path):
        again = open_real("mosaic", "test", "evaluation", Ledger(), root=str(tiny_mnist))
        assert torch.equal(next(again.batches(50)).images, next(scenes.batches(50)).images)

    def test_selected_labels_keep_all_scenes(self, scenes: RealImages, tiny_mnist: Path):
        some = open_real("mosaic:3,0-1", "test", "evaluation", Ledger(), root=str(tiny_mnist))
        assert some.classes == ("3", "0", "1") and len(some) == len(scenes)
        assert torch.equal(next(some.batches(100)).targets, next(scenes.batches(100)).targets[:, [3, 0, 1]])
