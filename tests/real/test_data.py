"""The gate to real images, and the ledger that counts what passed it."""

import struct
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_data_config
from torchvision.transforms.v2.functional import pil_to_tensor

from datafree import teachers
from datafree.real.data import Ledger, RealImages, open_real
from datafree.types import InputError, Preprocessing


@pytest.fixture
def picture_folder(tmp_path: Path) -> Path:
    """Two classes of colour pictures, 3 and 2 of them, with one colour each."""
    for split in ("train", "test"):
        for label, count in (("cat", 3), ("dog", 2)):
            place = tmp_path / split / label
            place.mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (6, 4), (255, 51 * number, 0 if label == "cat" else 255)).save(place / f"{number}.png")
    return tmp_path


@pytest.fixture
def tiny_mnist(tmp_path: Path) -> Path:
    """Three images in MNIST's own format."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        (raw / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 2051, 3, 28, 28) + bytes([255]) * 3 * 784)
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, 3) + bytes([7, 0, 9]))
    return tmp_path


def test_digits_are_split_once_and_for_all():
    train, test = (next(open_real("digits", split, "evaluation", Ledger()).once(2000)) for split in ("train", "test"))
    assert (len(train), len(test)) == (1347, 450)
    seen = {image.numpy().tobytes() for image in train.images}
    assert (
        sum(image.numpy().tobytes() in seen for image in test.images) <= 1
    )  # the data set itself repeats a scan or two
    assert torch.equal(next(open_real("digits", "test", "evaluation", Ledger()).once(2000)).images, test.images)
    assert torch.bincount(test.targets).min() >= 40


def test_digits_are_pixels():
    real = open_real("digits", "train", "evaluation", Ledger())
    images = next(real.once(2000)).images
    assert real.shape == (1, 8, 8) and real.classes == tuple("0123456789")
    assert images.dtype == torch.float32 and images.min() == 0 and images.max() == 1


def test_nothing_is_counted_before_it_is_handed_out():
    ledger = Ledger()
    open_real("digits", "test", "evaluation", ledger)
    assert [entry.images for entry in ledger.entries] == [0]


def test_the_ledger_counts_exactly_the_different_images_handed_out():
    ledger = Ledger()
    real = open_real("digits", "train", "student training (ceiling)", ledger)
    real.take(torch.tensor([3, 5, 5]))
    assert ledger.entries[0].images == 2
    real[5], real[6]
    assert ledger.entries[0].images == 3
    stream, handed = real.forever(40), {3, 5, 6}
    for _ in range(3):
        random = torch.get_rng_state()
        next(stream)
        torch.set_rng_state(random)
        handed |= set(torch.randint(len(real), (40,)).tolist())
    assert ledger.entries[0].images == len(handed)
    assert sum(len(batch) for batch in real.once()) == ledger.entries[0].images == 1347


def test_the_ledger_knows_what_for():
    ledger = Ledger()
    for purpose, count in (("evaluation", 10), ("teacher training", 20), ("student training (ceiling)", 30)):
        open_real("digits", "train", purpose, ledger).take(torch.arange(count))  # type: ignore[arg-type]
    assert ledger.students() == 30
    assert ledger.as_json()[1] == {"source": "digits", "split": "train", "purpose": "teacher training", "images": 20}


def test_the_count_goes_on_after_a_resume():
    first, second = Ledger(), Ledger()
    real = open_real("digits", "train", "evaluation", first)
    real.take(torch.arange(10))
    again = open_real("digits", "train", "evaluation", second)
    again.load_state_dict(real.state_dict())
    again.take(torch.arange(5, 15))
    assert second.entries[0].images == 15


def test_a_folder_of_pictures(picture_folder: Path):
    real = open_real(f"folder:{picture_folder}", "train", "evaluation", Ledger())
    batch = next(real.once())
    assert real.classes == ("cat", "dog") and real.shape == (3, 4, 6)
    assert batch.targets.tolist() == [0, 0, 0, 1, 1]
    assert batch.images[1, :, 0, 0].tolist() == pytest.approx([1, 0.2, 0])
    assert batch.images[4, :, 3, 5].tolist() == pytest.approx([1, 0.2, 1])


def test_images_take_the_size_the_classifier_wants(picture_folder: Path):
    real = open_real(f"folder:{picture_folder}", "test", "evaluation", Ledger(), shape=(3, 8, 8))
    assert real.shape == (3, 8, 8) and next(real.once()).images.shape == (5, 3, 8, 8)


def test_mnist_in_its_own_format(tiny_mnist: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DATAFREE_DATA", str(tiny_mnist))
    batch = next(open_real("mnist", "test", "evaluation", Ledger(), shape=(1, 32, 32)).once())
    assert batch.targets.tolist() == [7, 0, 9]
    assert batch.images.shape == (3, 1, 32, 32) and batch.images.min() == 1


def test_a_root_that_is_given_is_stronger_than_the_environment(tiny_mnist: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DATAFREE_DATA", "/nowhere")
    assert len(open_real("mnist", "train", "evaluation", Ledger(), root=str(tiny_mnist))) == 3


def test_cifar10_from_parquet(tmp_path: Path):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    picture = tmp_path / "red.png"
    Image.new("RGB", (32, 32), (255, 0, 0)).save(picture)
    (tmp_path / "cifar10").mkdir()
    table = pyarrow.table({"img": [{"bytes": picture.read_bytes(), "path": ""}], "label": [6]})
    parquet.write_table(table, tmp_path / "cifar10" / "test.parquet")
    real = open_real("cifar10", "test", "evaluation", Ledger(), root=str(tmp_path))
    batch = next(real.once())
    assert real.classes[int(batch.targets[0])] == "frog" and batch.images[0].mean((1, 2)).tolist() == [1, 0, 0]


def test_data_that_is_not_there_is_named_with_its_cure(tmp_path: Path):
    (tmp_path / "MNIST").mkdir()
    with pytest.raises(InputError, match="MNIST is not under .*; set DATAFREE_DATA or --data-root"):
        open_real("mnist", "test", "evaluation", Ledger(), root=str(tmp_path))
    (tmp_path / "cifar-10-batches-py").mkdir()
    with pytest.raises(InputError, match="CIFAR-10 is not under"):
        open_real("cifar10", "test", "evaluation", Ledger(), root=str(tmp_path))


@pytest.mark.parametrize(
    ("name", "shape", "fault"),
    [
        ("digit", None, "data set 'digit' is unknown.*did you mean digits"),
        ("folder:/nowhere", None, "/nowhere/test is no folder"),
        ("digits", (3, 8, 8), "digits has 1 channels, but the classifier takes 3"),
    ],
)
def test_refuses_what_cannot_be_used_and_enters_nothing(name: str, shape: tuple[int, int, int] | None, fault: str):
    ledger = Ledger()
    with pytest.raises(InputError, match=fault):
        open_real(name, "test", "evaluation", ledger, shape=shape)
    assert ledger.entries == []


class TestImageFiles:
    def test_a_photograph_covers_what_is_wanted_and_is_cropped_in_the_middle(self, picture_folder: Path):
        """Twice as wide as high: red, green, green, blue from left to right; the middle half is left."""
        wide = Image.new("RGB", (40, 20), (0, 255, 0))
        wide.paste((255, 0, 0), (0, 0, 10, 20))
        wide.paste((0, 0, 255), (30, 0, 40, 20))
        wide.save(picture_folder / "train" / "cat" / "0.png")
        real = open_real(f"folder:{picture_folder}", "train", "evaluation", Ledger(), shape=(3, 10, 10))
        image = real.take(torch.tensor([0])).images[0]
        assert image.shape == (3, 10, 10)
        inside = image[:, :, 1:9]  # bilinear weights reach over the edge by half a pixel
        assert torch.equal(inside, torch.tensor([0.0, 1.0, 0.0])[:, None, None].expand_as(inside))

    @pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
    @pytest.mark.parametrize("crop_pct", [0.9, 1.15])
    def test_a_network_of_timm_is_shown_what_timm_shows_it(self, crop_mode: str, crop_pct: float, picture_folder: Path):
        photograph = Image.effect_noise((500, 375), 80).convert("RGB")
        photograph.save(picture_folder / "test" / "cat" / "0.png")
        network = timm.create_model("test_resnet")
        network.pretrained_cfg |= {"crop_mode": crop_mode, "crop_pct": crop_pct, "mean": (0.5, 0.5, 0.5)}
        theirs = create_transform(**resolve_data_config(model=network), normalize=False)(photograph)
        view = teachers.preprocessing_in(network.pretrained_cfg)
        real = open_real(f"folder:{picture_folder}", "test", "evaluation", Ledger(), shape=(3, 160, 160), view=view)
        assert theirs.shape == (3, 160, 160)
        assert torch.equal(real.take(torch.tensor([0])).images[0], theirs / 255)

    def test_a_file_of_the_size_wanted_is_shown_whole(self, picture_folder: Path):
        noise = Image.effect_noise((6, 4), 80).convert("RGB")
        noise.save(picture_folder / "test" / "cat" / "0.png")
        folder, view = f"folder:{picture_folder}", Preprocessing(crop_pct=0.5)
        real = open_real(folder, "test", "evaluation", Ledger(), shape=(3, 4, 6), view=view)
        assert torch.equal(real.take(torch.tensor([0])).images[0] * 255, pil_to_tensor(noise).float())

    def test_few_large_images_are_looked_at_together(self, picture_folder: Path):
        real = open_real(f"folder:{picture_folder}", "test", "evaluation", Ledger(), shape=(3, 1024, 2048))
        assert [len(batch) for batch in real.once()] == [2, 2, 1]
        assert [batch.targets.tolist() for batch in real.once(1, torch.tensor([4, 0]))] == [[1], [0]]

    def test_files_are_read_when_they_are_wanted(self, picture_folder: Path):
        real = open_real(f"folder:{picture_folder}", "test", "evaluation", Ledger(), shape=(3, 4, 6))
        Image.new("RGB", (6, 4), (0, 0, 255)).save(picture_folder / "test" / "dog" / "1.png")
        assert real.take(torch.tensor([4])).images[0].mean((1, 2)).tolist() == [0, 0, 1]

    def test_threads_change_nothing(self, picture_folder: Path):
        real = open_real(f"folder:{picture_folder}", "test", "evaluation", Ledger(), shape=(3, 9, 5))
        alone = next(real.once()).images
        torch.set_num_threads(2)
        try:
            assert torch.equal(next(real.once()).images, alone)
        finally:
            torch.set_num_threads(1)

    def test_a_choice_of_classes_reads_the_right_files(self, picture_folder: Path):
        real = open_real(f"folder:{picture_folder}", "train", "evaluation", Ledger(), shape=(3, 4, 6))
        dogs = real.only(["dog"]).only(["dog"])
        assert dogs.take(torch.tensor([1])).images[0, :, 0, 0].tolist() == pytest.approx([1, 0.2, 1])
        assert dogs.entry.images == 1

    def test_sizes_must_agree_where_none_is_wanted(self, picture_folder: Path):
        Image.new("RGB", (5, 5)).save(picture_folder / "train" / "cat" / "odd.png")
        with pytest.raises(InputError, match=r"odd\.png has another size than .*0\.png; give the shape"):
            open_real(f"folder:{picture_folder}", "train", "evaluation", Ledger())

    def test_a_file_that_is_no_image_is_named(self, picture_folder: Path):
        (picture_folder / "test" / "dog" / "0.png").write_bytes(b"no picture")
        with pytest.raises(InputError, match=r"dog/0\.png cannot be read as an image; mend it or take it away"):
            open_real(f"folder:{picture_folder}", "test", "evaluation", Ledger())

    def test_a_file_that_ends_too_early_is_named(self, picture_folder: Path):
        file = picture_folder / "test" / "dog" / "0.png"
        Image.effect_noise((64, 64), 50).convert("RGB").save(file)
        file.write_bytes(file.read_bytes()[:600])
        real = open_real(f"folder:{picture_folder}", "test", "evaluation", Ledger(), shape=(3, 8, 8))
        with pytest.raises(InputError, match=r"dog/0\.png cannot be read as an image"):
            list(real.once())

    def test_colours_do_not_fit_a_teacher_of_one_channel(self, picture_folder: Path):
        with pytest.raises(InputError, match="has 3 channels, but the classifier takes 1"):
            open_real(f"folder:{picture_folder}", "test", "evaluation", Ledger(), shape=(1, 8, 8))


@pytest.mark.parametrize("mode", ["L", "RGB", "P"])
def test_grey_pictures_fit_a_teacher_of_one_channel(mode: str, tmp_path: Path):
    for split in ("train", "test"):
        for name, value in (("dark", 10), ("light", 200)):
            (tmp_path / split / name).mkdir(parents=True)
            Image.new("L", (8, 8), value).convert(mode).save(tmp_path / split / name / "0.png")
    real = open_real(f"folder:{tmp_path}", "test", "evaluation", Ledger(), shape=(1, 8, 8))
    assert [round(float(image.mean() * 255)) for image in real.take(torch.arange(2)).images] == [10, 200]


class TestChoiceOfClasses:
    def test_classes_are_numbered_in_the_order_they_were_named(self):
        ledger = Ledger()
        whole = open_real("digits", "test", "evaluation", ledger)
        some = open_real("digits:7,0-1", "test", "evaluation", ledger)
        assert some.classes == ("7", "0", "1")
        everything, chosen = next(whole.once(1000)), next(some.once(1000))
        for new, old in enumerate((7, 0, 1)):
            expected = everything.images[everything.targets == old]
            assert torch.equal(chosen.images[chosen.targets == new], expected)
        assert len(some) == int(torch.isin(everything.targets, torch.tensor([0, 1, 7])).sum())

    def test_the_ledger_names_the_choice(self):
        ledger = Ledger()
        open_real("digits:0-4", "test", "evaluation", ledger)
        assert ledger.entries[0].source == "digits:0-4"

    @pytest.mark.parametrize(
        ("choice", "match"),
        [("x", "names no classes"), ("4-12", "over 9"), ("3,3", "twice"), ("5-2", "none")],
    )
    def test_a_choice_that_makes_no_sense_is_refused(self, choice: str, match: str):
        with pytest.raises(InputError, match=match):
            open_real(f"digits:{choice}", "test", "evaluation", Ledger())


class TestScenes:
    @pytest.fixture
    def scenes(self, tiny_mnist: Path) -> RealImages:
        return open_real("mosaic", "test", "evaluation", Ledger(), root=str(tiny_mnist))

    def test_there_is_a_digit_in_every_scene_and_a_label_for_every_digit(self, scenes: RealImages):
        batch = next(scenes.once(2000))
        assert scenes.multi_label
        assert batch.images.shape == (2000, 1, 32, 32) and batch.targets.shape == (2000, 10)
        quarters = batch.images.view(2000, 2, 16, 2, 16).amax((2, 4)).flatten(1)
        assert (quarters > 0).any(1).all()
        assert (batch.targets.sum(1) >= 1).all()
        assert (batch.targets.sum(1) <= (quarters > 0).sum(1)).all()

    def test_they_are_the_same_for_everyone(self, scenes: RealImages, tiny_mnist: Path):
        again = open_real("mosaic", "test", "evaluation", Ledger(), root=str(tiny_mnist))
        assert torch.equal(next(again.once(50)).images, next(scenes.once(50)).images)

    def test_a_choice_of_labels_keeps_all_scenes(self, scenes: RealImages, tiny_mnist: Path):
        some = open_real("mosaic:3,0-1", "test", "evaluation", Ledger(), root=str(tiny_mnist))
        assert some.classes == ("3", "0", "1") and len(some) == len(scenes)
        assert torch.equal(next(some.once(100)).targets, next(scenes.once(100)).targets[:, [3, 0, 1]])
