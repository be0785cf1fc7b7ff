"""Image sets: exact tensors to train on, and 8-bit exports for other programs."""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import toys
from PIL import Image
from safetensors.torch import load_file, save_file
from torchvision.transforms.v2.functional import pil_to_tensor

from datafree.classifier import Classifier
from datafree.files import sha256_of
from datafree.runs.synthesizing import job
from datafree.sets import image_set
from datafree.sets.image_set import ImageSet
from datafree.synthesis.image_sets import index, reading
from datafree.types import Batch, InputError

NAMES = ("../../evil", "a/b", "x\n# heading", "plain")


def set_of(batch: Batch) -> ImageSet:
    return ImageSet(batch=batch, classes=NAMES, teacher_sha256="abc", made_by="a recipe")


@pytest.fixture
def ten(bars: Batch) -> Batch:
    return Batch(bars.images[:10], bars.targets[:10], {})


@pytest.fixture
def written(ten: Batch, tmp_path: Path, plain_teacher: Classifier) -> Path:
    image_set.write(set_of(ten), plain_teacher, tmp_path / "set", ("folder", "parquet"))
    return tmp_path / "set"


def test_a_set_is_read_back_exactly(written: Path, ten: Batch):
    read = image_set.read(str(written))
    assert torch.equal(read.batch.images, ten.images) and torch.equal(read.batch.targets, ten.targets)
    assert (read.classes, read.teacher_sha256, read.made_by, read.measured_images) == (NAMES, "abc", "a recipe", {})


@pytest.mark.parametrize("per_shard", [1, 3, 9, 10])
def test_shards_are_concatenated_in_order(
    ten: Batch, tmp_path: Path, plain_teacher: Classifier, monkeypatch: pytest.MonkeyPatch, per_shard: int
):
    monkeypatch.setattr(image_set, "SHARD_BYTES", per_shard * (64 * 4 + 8 + 4 * 4))
    image_set.write(set_of(ten), plain_teacher, tmp_path / "set")
    assert len(list((tmp_path / "set").glob("images-*.safetensors"))) == -(-10 // per_shard)
    batch = image_set.read(tmp_path / "set").batch
    assert torch.equal(batch.images, ten.images) and torch.equal(batch.targets, ten.targets)


def test_missing_teacher_logits_are_computed(written: Path, ten: Batch, plain_teacher: Classifier):
    shard = load_file(next(written.glob("images-*.safetensors")))
    assert torch.allclose(shard["logits"], plain_teacher(ten.images), atol=1e-6)
    assert image_set.read(written).batch.teacher_logits is None


def test_teacher_logits_kept_by_the_method_are_stored(ten: Batch, tmp_path: Path, plain_teacher: Classifier):
    logits = torch.arange(40.0).view(10, 4)
    image_set.write(set_of(replace(ten, teacher_logits=logits)), plain_teacher, tmp_path / "set")
    assert torch.equal(image_set.read(tmp_path / "set").batch.teacher_logits, logits)  # type: ignore[arg-type]


def test_png_files_have_safe_names_by_class_index(written: Path, ten: Batch):
    files = {str(path.relative_to(written / "png")) for path in (written / "png").rglob("*.png")}
    assert files == {f"{index % 4:04d}/{index:06d}.png" for index in range(10)}
    pixels = pil_to_tensor(Image.open(written / "png" / "0001" / "000005.png")) / 255
    assert torch.allclose(pixels, ten.images[5], atol=1 / 255)


def test_colour_images_are_written_in_colour(tmp_path: Path):
    colours = Batch(torch.rand(2, 3, 8, 8), torch.tensor([0, 1]), {}, torch.zeros(2, 4))
    image_set.write(set_of(colours), toys.plain_net(), tmp_path / "set", ("folder",))
    pixels = pil_to_tensor(Image.open(tmp_path / "set" / "png" / "0001" / "000001.png")) / 255
    assert torch.allclose(pixels, colours.images[1], atol=1 / 255)


def test_hugging_face_datasets_loads_the_folder(written: Path, ten: Batch, plain_teacher: Classifier, tmp_path: Path):
    datasets = pytest.importorskip("datasets", exc_type=ImportError)
    datasets.disable_progress_bars()
    data = datasets.load_dataset(str(written), cache_dir=str(tmp_path / "cache"))["train"]
    assert set(data.column_names) == {"image", "label", "soft_label"} and len(data) == 10
    assert data.features["label"].names == list(NAMES)
    assert data["label"][:] == ten.targets.tolist()
    assert torch.allclose(pil_to_tensor(data[7]["image"]) / 255, ten.images[7], atol=1 / 255)
    assert torch.allclose(torch.tensor(data["soft_label"][:]), plain_teacher(ten.images).softmax(1), atol=1e-6)


def test_the_card_names_the_method_and_the_teacher(written: Path, ten: Batch):
    card = (written / "README.md").read_text()
    assert "a recipe" in card and "No real image was used" in card and "SHA-256 `abc`" in card and "Privacy" in card
    measured = image_set.card(replace(set_of(ten), measured_images={"digits": 1000}), 10, ())
    assert "1,000 real images of `digits`" in measured and "No real image was used" not in measured


def test_soft_targets_are_sorted_by_their_most_probable_class(tmp_path: Path):
    soft = Batch(torch.rand(3, 1, 8, 8), torch.eye(4)[[2, 0, 2]], {})
    image_set.write(set_of(soft), toys.plain_net(), tmp_path / "set", ("folder",))
    assert len(list((tmp_path / "set" / "png" / "0002").iterdir())) == 2
    assert torch.equal(image_set.read(tmp_path / "set").batch.targets, soft.targets)


def shard_of(folder: Path) -> Path:
    return next(folder.glob("images-*.safetensors"))


def flip_a_bit(folder: Path) -> None:
    data = bytearray(shard_of(folder).read_bytes())
    data[-5] ^= 1
    shard_of(folder).write_bytes(data)


def another_set(folder: Path) -> None:
    save_file({name: torch.rand(10, 1, 8, 8) for name in ("images", "targets", "logits")}, shard_of(folder))


def write_index(folder: Path, entries: dict[str, Any]) -> None:
    """Write `set.json` with a correct digest, as someone would who means harm."""
    (folder / "set.json").write_text(index._text(entries))


def change(**values: object) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        entries = json.loads((folder / "set.json").read_text())
        del entries["sha256"]
        write_index(folder, entries | values)

    return spoil


def change_shard(**tensors: torch.Tensor) -> Callable[[Path], None]:
    """Replace tensors of the shard, and all hashes with them."""

    def spoil(folder: Path) -> None:
        shard = shard_of(folder)
        save_file(load_file(shard) | tensors, shard)
        change(shards={shard.name: sha256_of(shard)})(folder)

    return spoil


def two_sizes(folder: Path) -> None:
    """Two valid shards whose images differ in shape."""
    tensors = {"images": torch.rand(10, 1, 4, 4), "targets": torch.rand(10), "logits": torch.rand(10, 4)}
    save_file(tensors, folder / "images-2.safetensors")
    shards = {shard.name: sha256_of(shard) for shard in (shard_of(folder), folder / "images-2.safetensors")}
    change(shards=shards, images=20)(folder)


def through_a_link(folder: Path) -> None:
    shard = shard_of(folder)
    shard.replace(folder.parent / "elsewhere")
    shard.symlink_to(folder.parent / "elsewhere")


def index_through_a_link(folder: Path) -> None:
    (folder / "set.json").replace(folder.parent / "elsewhere")
    (folder / "set.json").symlink_to(folder.parent / "elsewhere")


def pipe(folder: Path) -> None:
    shard_of(folder).unlink()
    os.mkfifo(shard_name(folder))


def shard_name(folder: Path) -> Path:
    return folder / next(iter(json.loads((folder / "set.json").read_text())["shards"]))


def pipe_as_index(folder: Path) -> None:
    (folder / "set.json").unlink()
    os.mkfifo(folder / "set.json")


def another_image_count(folder: Path) -> None:
    text = (folder / "set.json").read_text()
    (folder / "set.json").write_text(text.replace('"images": 10', '"images": 11'))


NAN = torch.tensor([float("nan")] + [0.5] * 639).view(10, 1, 8, 8)


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda folder: (folder / "set.json").unlink(), "is not an image set .set.json is missing"),
        (lambda folder: (folder / "set.json").write_text("{"), "set.json is not valid JSON"),
        (lambda folder: (folder / "set.json").write_text("[]"), "is not the index of an image set"),
        (lambda folder: (folder / "set.json").write_bytes(b"\xff"), "is not a text file in UTF-8"),
        (lambda folder: shard_of(folder).unlink(), "does not exist"),
        (lambda folder: shard_of(folder).write_bytes(b"half"), "is damaged or belongs to another set"),
        (flip_a_bit, "is damaged or belongs to another set"),
        (another_set, "is damaged or belongs to another set"),
        (another_image_count, "set.json is damaged or was edited: it differs from its own SHA-256"),
        (pipe, "cannot be read .not a regular file"),
        (pipe_as_index, "set.json cannot be read .not a regular file"),
        (through_a_link, "is behind a symbolic link"),
        (index_through_a_link, "set.json is behind a symbolic link"),
        (change(schema=2), "another version"),
        (change(images=9), "the images of .* have a wrong type or shape"),
        (change(images="10"), "images is '10', but must be an integer"),
        (change(images=True), "images is true"),
        (change(shards={}), "shards is 0, but it must be at least 1"),
        (change(shards=[]), "shards is a list, but must be an object"),
        (change(shards={"../images.safetensors": ""}), "a shard is called '../images.safetensors'"),
        (change(shards={"/etc/passwd": ""}), "a shard is called '/etc/passwd'"),
        (change(shards={"inner/x": ""}), "a shard is called 'inner/x'"),
        (change(shards={"..": ""}), "a shard is called '..'"),
        (change(shards={"a\0b": ""}), "which is not a plain file name"),
        (change(stranger=1), "'stranger' is unknown"),
        (change(classes="abcd"), "classes is 'abcd', but must be a list"),
        (change(classes=["a", "b", "c"]), "the (targets|logits) of .* have"),
        (change(measured_images=3), "measured_images is 3, but must be an object"),
        (change(measured_images={"digits": -1}), "measured-images is -1, but it must be at least 0"),
        (change(seconds=-1.0), "seconds is -1.0"),
        (two_sizes, "the shards of .* do not fit together"),
        (change_shard(images=NAN), "the images of .* have values out of range"),
        (
            change_shard(images=torch.zeros(10, 1, 8, 8, dtype=torch.uint8)),
            "has a tensor of another kind than those of an image set",
        ),
        (change_shard(targets=torch.full((10,), 4)), "the targets of .* have values out of range"),
        (change_shard(targets=torch.full((10,), -1)), "the targets of .* have values out of range"),
        (change_shard(targets=torch.zeros(10, 4).fill_(2)), "the targets of .* have values out of range"),
        (change_shard(targets=torch.zeros(10, dtype=torch.int32)), "has a tensor of another kind"),
        (change_shard(targets=torch.zeros(9, dtype=torch.int64)), "the targets of .* have a wrong type or shape"),
        (change_shard(targets=torch.zeros(10, 4, dtype=torch.int64)), "the targets of .* have a wrong type or shape"),
        (change_shard(logits=torch.zeros(10, 5)), "the logits of .* have a wrong type or shape"),
    ],
)
def test_a_damaged_set_is_refused(written: Path, spoil: Callable[[Path], object], fault: str):
    spoil(written)
    with pytest.raises(InputError, match=fault) as caught:
        image_set.read(written)
    assert "\n" not in str(caught.value)


def test_a_flipped_bit_of_the_index_is_detected(written: Path):
    content = (written / "set.json").read_bytes()
    shard = shard_of(written)
    for position in range(0, len(content), 7):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        (written / "set.json").write_bytes(damaged)
        with pytest.raises(InputError):
            index.read_index(written)
    (written / "set.json").write_bytes(content)
    assert index.read_index(written).shards == {shard.name: sha256_of(shard)}


def test_a_set_larger_than_the_memory_is_refused(written: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reading, "memory", lambda: 1000)
    with pytest.raises(InputError, match="is too large for the memory of this machine"):
        image_set.read(written)


HOSTILE = ("[x](javascript:alert(1))", "a`b``c", "\x1b[2J\u202eevil", "x\n# heading", "<script>", "`")


def test_names_are_inert_in_the_card(ten: Batch):
    soft = Batch(ten.images, ten.targets, {}, torch.zeros(10, 6))
    hostile = ImageSet(
        batch=soft, classes=HOSTILE, teacher_sha256="a`b", made_by="<b>`x`\n# y", measured_images={"`d`": 1}
    )
    text = image_set.card(hostile, 10, ())
    assert "\x1b" not in text and "\u202e" not in text and "\n# heading" not in text and "\n# y" not in text
    for shown in (
        "- `0000`: `[x](javascript:alert(1))`\n",
        "- `0001`: ```a`b``c```\n",
        "`\ufffd[2J\ufffdevil`",
        "`<script>`",
        "- `0005`: `` ` ``\n",
        "Synthesized by ``<b>`x`\ufffd# y``",
        "SHA-256 ``a`b``",
        "real images of `` `d` ``",
    ):
        assert shown in text


def test_classes_are_reordered():
    batch = Batch(torch.zeros(3, 1, 2, 2), torch.tensor([0, 1, 2]), {}, torch.eye(3))
    hard = image_set.reordered(batch, (2, 0, 1))
    assert hard.targets.tolist() == [1, 2, 0]
    assert hard.teacher_logits is not None and hard.teacher_logits.argmax(1).tolist() == [1, 2, 0]
    soft = image_set.reordered(replace(batch, targets=torch.eye(3)), (2, 0, 1))
    assert soft.targets.argmax(1).tolist() == [1, 2, 0]


def test_parquet_without_pyarrow_is_refused_before_synthesis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match="parquet needs pyarrow"):
        job.synthesize(toys.TINY["noise"], teacher="never loaded", out=tmp_path / "set", format=("parquet",))
    assert list(tmp_path.iterdir()) == []
