"""Image files of any size are read on demand and preprocessed as timm does."""

import os
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_data_config
from torchvision.transforms.v2.functional import pil_to_tensor

from datafree.real.data import RealImages, open_real
from datafree.real.decoding import Unreadable, decode
from datafree.real.ledger import Ledger
from datafree.teachers.creation import preprocessing_from_config
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


def folder_of(picture_folder: Path, shape: tuple[int, int, int] | None = (3, 4, 6)) -> RealImages:
    return open_real(f"folder:{picture_folder}", "test", "evaluation", Ledger(), shape=shape)


def read_all(real: RealImages) -> list[int]:
    return [label for batch in real.batches() for label in batch.targets.tolist()]


def test_files_that_are_no_images_are_counted_and_named(picture_folder: Path):
    cats, dogs = picture_folder / "test" / "cat", picture_folder / "test" / "dog"
    (cats / "0.png").write_bytes(b"<html></html>")
    (dogs / "0.png").unlink()
    os.mkfifo(dogs / "0.png")
    (dogs / "2.png").symlink_to("/dev/zero")
    (dogs / "3.png").symlink_to("nowhere")
    for stray in (cats / "notes.TXT", cats / "more.txt", cats / "LICENSE", picture_folder / "test" / "list.csv"):
        stray.write_text("")
    real = folder_of(picture_folder)
    assert read_all(real) == [0, 0, 1] and real.entry.images == 3
    (note,) = real.notes
    assert note.startswith("skipped 8 files in ")
    for reason in (
        "1 damaged or no image (cat/0.png)",
        "3 not a regular file (dog/0.png, ...)",
        "2 of type .txt (cat/more.txt, ...)",
        "1 without an extension (cat/LICENSE)",
        "1 of type .csv (list.csv)",
    ):
        assert reason in note


def test_a_truncated_file_is_left_out_when_it_is_read(picture_folder: Path):
    file = picture_folder / "test" / "cat" / "1.png"
    Image.effect_noise((64, 64), 50).convert("RGB").save(file)
    file.write_bytes(file.read_bytes()[:600])
    real = folder_of(picture_folder)
    assert len(real) == 5 and real.notes == ()
    assert read_all(real) == [0, 0, 1, 1] and real.entry.images == 4
    assert "skipped 1 file" in real.notes[0] and "damaged or no image (cat/1.png)" in real.notes[0]
    assert len(real.select(torch.tensor([1, 4, 1]))) == 1
    with pytest.raises(InputError, match=r"no image of .* can be read .*cat/1\.png"):
        real[1]
    with pytest.raises(InputError, match="no image of .* can be read"):
        list(real.batches(indices=torch.tensor([1])))


def test_a_class_without_a_readable_image_is_refused(picture_folder: Path):
    for file in (picture_folder / "test" / "dog").iterdir():
        file.write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"dog contains no readable image \(.*dog/0\.png"):
        folder_of(picture_folder)
    for file in (picture_folder / "test" / "dog").iterdir():
        file.rename(file.with_suffix(".txt"))
    with pytest.raises(InputError, match="dog contains no image file"):
        folder_of(picture_folder)


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"


def test_postscript_named_as_a_picture_starts_no_program(picture_folder: Path):
    (picture_folder / "test" / "cat" / "e.png").write_bytes(POSTSCRIPT)
    started: list[str] = []
    listening = [True]

    def listen(event: str, _: Any) -> None:
        if listening and event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn"):
            started.append(event)

    sys.addaudithook(listen)  # for the rest of the process
    real = folder_of(picture_folder)
    assert read_all(real) == [0, 0, 0, 1, 1] and "damaged or no image (cat/e.png)" in real.notes[0]
    with pytest.raises(Unreadable):
        decode(POSTSCRIPT, "RGB")
    listening.clear()
    assert started == []


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_of(width: int, height: int) -> bytes:
    """A small file that claims to be a picture of this size."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b"")


@pytest.mark.parametrize("width", [10_000, 20_000, 2**31 - 1])
def test_pictures_of_too_many_pixels_are_not_decoded(width: int, picture_folder: Path):
    (picture_folder / "test" / "cat" / "0.png").write_bytes(png_of(width, 10_000))
    real = folder_of(picture_folder)
    assert "1 of more than 89,478,485 pixels (cat/0.png)" in real.notes[0] and len(real) == 4


def test_extremely_wide_pictures_are_not_enlarged(picture_folder: Path):
    Image.new("RGB", (60_000, 1)).save(picture_folder / "test" / "cat" / "0.png")
    real = folder_of(picture_folder, (3, 224, 224))
    assert len(read_all(real)) == 4 and "pixels after resizing (cat/0.png)" in real.notes[0]


@pytest.mark.parametrize(("format", "kind"), [("PNG", "<u2"), ("TIFF", "<u2"), ("TIFF", ">u2"), ("PPM", "<u2")])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_ramp_of_16_bits_keeps_its_mean(format: str, kind: str, channels: int, tmp_path: Path):
    ramp = np.linspace(0, 65535, 32 * 32).round().astype(kind).reshape(32, 32)
    for label in "ab":
        (tmp_path / "test" / label).mkdir(parents=True)
        Image.fromarray(ramp).save(tmp_path / "test" / label / "0.png", format)
    for size in (32, 16):
        images = folder_of(tmp_path, (channels, size, size)).select(torch.tensor([0, 1])).images
        assert images.shape == (2, channels, size, size)
        assert images.mean().item() == pytest.approx(0.5, abs=2e-3) and images.max() - images.min() > 0.9


def test_12_bits_fill_the_range(tmp_path: Path):
    """A TIFF of 12 bits, whose highest value is 4095."""
    file = tmp_path / "x.tif"
    tags = [(256, 4, 2), (257, 4, 2), (258, 3, 12), (259, 3, 1), (262, 3, 1), (273, 4, 118), (278, 4, 2), (279, 4, 6)]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    file.write_bytes(b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(12) + bytes.fromhex("ffffff000000"))
    assert np.asarray(decode(file, "L")).tolist() == [[255, 255], [0, 0]]


def test_pixels_without_a_known_range_are_refused(picture_folder: Path):
    for pixels, mode in ((np.zeros((4, 6), "float32"), "F"), (np.zeros((4, 6), "int32"), "I")):
        Image.fromarray(pixels).save(picture_folder / "test" / "cat" / "0.png", "TIFF")
        with pytest.raises(
            InputError, match=rf"0\.png has pixels without a known range \(mode {mode}\); convert it to 8"
        ):
            folder_of(picture_folder)


def test_class_folders_named_by_numbers_are_in_numeric_order(tmp_path: Path):
    for label in range(12):
        (tmp_path / "test" / str(label)).mkdir(parents=True)
        Image.new("L", (4, 4), label).save(tmp_path / "test" / str(label) / "0.png")
    real = folder_of(tmp_path, (1, 4, 4))
    assert real.classes == tuple(map(str, range(12)))
    images = real.select(torch.arange(12))
    assert images.images[:, 0, 0, 0].mul(255).round().int().tolist() == images.targets.tolist() == list(range(12))


def test_links_are_followed_but_not_in_circles(picture_folder: Path):
    cats = picture_folder / "test" / "cat"
    (cats / "circle").symlink_to(cats)
    (cats / "9.png").symlink_to(picture_folder / "train" / "cat" / "0.png")
    assert read_all(folder_of(picture_folder)) == [0, 0, 0, 0, 1, 1] and folder_of(picture_folder).notes == ()


def test_a_class_folder_whose_name_is_not_text_is_refused(picture_folder: Path):
    os.mkdir(os.fsencode(picture_folder / "test") + b"/\xff")
    with pytest.raises(InputError, match="whose name is not UTF-8; rename it"):
        folder_of(picture_folder)


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
