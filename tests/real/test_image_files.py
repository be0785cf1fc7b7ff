"""Image files of any size are read on demand and preprocessed as timm does."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_data_config
from torchvision.transforms.v2.functional import pil_to_tensor

from datafree.real.data import open_real
from datafree.real.ledger import Ledger
from datafree.teachers.sources import preprocessing_from_config
from datafree.types import InputError, Preprocessing


def test_a_photograph_is_resized_and_cropped_at_the_centre(picture_folder: Path):
    """A photograph twice as wide as high: red, green, green, blue from left to right. The green half remains."""
    wide = Image.new("RGB", (40, 20), (0, 255, 0))
    wide.paste((255, 0, 0), (0, 0, 10, 20))
    wide.paste((0, 0, 255), (30, 0, 40, 20))
    wide.save(picture_folder / "train" / "cat" / "0.png")
    real = open_real(f"folder:{picture_folder}", "train", "evaluation", Ledger(), shape=(3, 10, 10))
    image = real.select(torch.tensor([0])).images[0]
    assert image.shape == (3, 10, 10)
    inside = image[:, :, 1:9]  # bilinear interpolation blends half a pixel across the edge
    assert torch.equal(inside, torch.tensor([0.0, 1.0, 0.0])[:, None, None].expand_as(inside))


@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
@pytest.mark.parametrize("crop_pct", [0.9, 1.15])
def test_preprocessing_is_the_same_as_timms(crop_mode: str, crop_pct: float, picture_folder: Path):
    photograph = Image.effect_noise((500, 375), 80).convert("RGB")
    photograph.save(picture_folder / "test" / "cat" / "0.png")
    network: Any = timm.create_model("test_resnet")
    network.pretrained_cfg |= {"crop_mode": crop_mode, "crop_pct": crop_pct, "mean": (0.5, 0.5, 0.5)}
    transform: Any = create_transform(**resolve_data_config(model=network), normalize=False)
    expected = transform(photograph)
    preprocessing = preprocessing_from_config(network.pretrained_cfg)
    real = open_real(
        f"folder:{picture_folder}", "test", "evaluation", Ledger(), shape=(3, 160, 160), preprocessing=preprocessing
    )
    assert expected.shape == (3, 160, 160)
    assert torch.equal(real.select(torch.tensor([0])).images[0], expected / 255)


def test_a_file_of_the_requested_size_is_not_cropped(picture_folder: Path):
    noise = Image.effect_noise((6, 4), 80).convert("RGB")
    noise.save(picture_folder / "test" / "cat" / "0.png")
    folder, preprocessing = f"folder:{picture_folder}", Preprocessing(crop_pct=0.5)
    real = open_real(folder, "test", "evaluation", Ledger(), shape=(3, 4, 6), preprocessing=preprocessing)
    assert torch.equal(real.select(torch.tensor([0])).images[0] * 255, pil_to_tensor(noise).float())


def test_large_images_come_in_small_batches(picture_folder: Path):
    real = open_real(f"folder:{picture_folder}", "test", "evaluation", Ledger(), shape=(3, 1024, 2048))
    assert [len(batch) for batch in real.batches()] == [2, 2, 1]
    assert [batch.targets.tolist() for batch in real.batches(1, torch.tensor([4, 0]))] == [[1], [0]]


def test_files_are_read_on_demand(picture_folder: Path):
    real = open_real(f"folder:{picture_folder}", "test", "evaluation", Ledger(), shape=(3, 4, 6))
    Image.new("RGB", (6, 4), (0, 0, 255)).save(picture_folder / "test" / "dog" / "1.png")
    assert real.select(torch.tensor([4])).images[0].mean((1, 2)).tolist() == [0, 0, 1]


def test_the_number_of_threads_does_not_change_the_images(picture_folder: Path):
    real = open_real(f"folder:{picture_folder}", "test", "evaluation", Ledger(), shape=(3, 9, 5))
    expected = next(real.batches()).images
    torch.set_num_threads(2)
    try:
        assert torch.equal(next(real.batches()).images, expected)
    finally:
        torch.set_num_threads(1)


def test_selected_classes_read_the_right_files(picture_folder: Path):
    real = open_real(f"folder:{picture_folder}", "train", "evaluation", Ledger(), shape=(3, 4, 6))
    dogs = real.select_classes(["dog"]).select_classes(["dog"])
    assert dogs.select(torch.tensor([1])).images[0, :, 0, 0].tolist() == pytest.approx([1, 0.2, 1])
    assert dogs.entry.images == 1


def test_files_must_have_one_size_if_no_shape_is_given(picture_folder: Path):
    Image.new("RGB", (5, 5)).save(picture_folder / "train" / "cat" / "odd.png")
    with pytest.raises(InputError, match=r"odd\.png and .*0\.png differ in size; give a shape"):
        open_real(f"folder:{picture_folder}", "train", "evaluation", Ledger())


def test_a_file_that_is_not_an_image_is_named(picture_folder: Path):
    (picture_folder / "test" / "dog" / "0.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"dog/0\.png cannot be read as an image; fix or remove the file"):
        open_real(f"folder:{picture_folder}", "test", "evaluation", Ledger())


def test_a_truncated_file_is_named(picture_folder: Path):
    file = picture_folder / "test" / "dog" / "0.png"
    Image.effect_noise((64, 64), 50).convert("RGB").save(file)
    file.write_bytes(file.read_bytes()[:600])
    real = open_real(f"folder:{picture_folder}", "test", "evaluation", Ledger(), shape=(3, 8, 8))
    with pytest.raises(InputError, match=r"dog/0\.png cannot be read as an image"):
        list(real.batches())


def test_colour_images_do_not_fit_a_one_channel_teacher(picture_folder: Path):
    with pytest.raises(InputError, match="has 3 channels, but the classifier takes 1"):
        open_real(f"folder:{picture_folder}", "test", "evaluation", Ledger(), shape=(1, 8, 8))


@pytest.mark.parametrize("mode", ["L", "RGB", "P"])
def test_grey_images_fit_a_one_channel_teacher(mode: str, tmp_path: Path):
    for split in ("train", "test"):
        for name, value in (("dark", 10), ("light", 200)):
            (tmp_path / split / name).mkdir(parents=True)
            Image.new("L", (8, 8), value).convert(mode).save(tmp_path / split / name / "0.png")
    real = open_real(f"folder:{tmp_path}", "test", "evaluation", Ledger(), shape=(1, 8, 8))
    assert [round(float(image.mean() * 255)) for image in real.select(torch.arange(2)).images] == [10, 200]
