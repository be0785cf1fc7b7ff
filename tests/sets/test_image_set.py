"""Image sets: exact tensors to train on, and 8-bit exports for other programs."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import toys
from PIL import Image
from safetensors.torch import load_file, save_file
from torchvision.transforms.v2.functional import pil_to_tensor

from datafree.classifier import Classifier
from datafree.runs import synthesis_job
from datafree.runs.run_folder import sha256_of
from datafree.sets import image_set
from datafree.sets.image_set import ImageSet
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
    monkeypatch.setattr(image_set, "SHARD_BYTES", per_shard * 64 * 4)
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
    measured = image_set.card(replace(set_of(ten), measured_images={"digits": 1000}), ())
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


def change(**values: object) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        index = json.loads((folder / "set.json").read_text())
        (folder / "set.json").write_text(json.dumps(index | values))

    return spoil


def two_sizes(folder: Path) -> None:
    """Two valid shards whose images differ in shape."""
    tensors = {"images": torch.rand(10, 1, 4, 4), "targets": torch.rand(10), "logits": torch.rand(10, 4)}
    save_file(tensors, folder / "images-2.safetensors")
    shards = {shard.name: sha256_of(shard) for shard in (shard_of(folder), folder / "images-2.safetensors")}
    change(shards=shards, images=20)(folder)


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda folder: (folder / "set.json").unlink(), "set.json is missing or damaged"),
        (lambda folder: (folder / "set.json").write_text("{"), "set.json is missing or damaged"),
        (lambda folder: (folder / "set.json").write_text("[]"), "set.json is missing or damaged"),
        (lambda folder: shard_of(folder).unlink(), "is missing or not a shard"),
        (lambda folder: shard_of(folder).write_bytes(b"half"), "is damaged or belongs to another set"),
        (flip_a_bit, "is damaged or belongs to another set"),
        (another_set, "is damaged or belongs to another set"),
        (change(schema=1), "another version"),
        (change(images=9), "set.json is missing or damaged"),
        (change(shards={}), "set.json is missing or damaged"),
        (change(shards={"../images.safetensors": ""}), "is damaged or belongs to another set"),
        (change(stranger=1), "set.json is missing or damaged"),
        (change(classes="abcd"), "set.json is missing or damaged"),
        (change(measured_images=3), "set.json is missing or damaged"),
        (two_sizes, "set.json is missing or damaged"),
    ],
)
def test_a_damaged_set_is_refused(written: Path, spoil: Callable[[Path], object], fault: str):
    spoil(written)
    with pytest.raises(InputError, match=fault):
        image_set.read(written)


def test_parquet_without_pyarrow_is_refused_before_synthesis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match="parquet needs pyarrow"):
        synthesis_job.synthesize(toys.TINY["noise"], teacher="never loaded", out=tmp_path / "set", format=("parquet",))
    assert list(tmp_path.iterdir()) == []
