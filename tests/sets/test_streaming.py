"""A set that is larger than the memory is written piece by piece, with the bytes of a set in memory."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zipfile import ZipFile

import pytest
import torch
import toys

from datafree.callback import silent
from datafree.classifier import Classifier
from datafree.methods.noise import NoiseConfig
from datafree.randomness import RandomNumbers
from datafree.runs.synthesizing import job
from datafree.sets import image_set, pictures, spool
from datafree.sets.collecting import Collected, Sources, Wanted, collect
from datafree.sets.image_set import About, Piece
from datafree.sets.spool import Elsewhere, ReadOnce, Spool
from datafree.synthesis import Method
from datafree.synthesis.mixture import Mixture, Part
from datafree.synthesis.pool import Pool
from datafree.types import Batch, Diverged, InputError


class Slow(NoiseConfig):
    """Noise of which three batches are dropped, so that a ring of stored images begins in its middle."""

    @property
    def burn_in(self) -> int:
        return 3


ALL_FORMATS: tuple[image_set.Format, ...] = ("folder", "parquet", "npz", "bin")
MIXED = Mixture(
    parts=(
        Part(name="noise", method=toys.TINY["noise"], share=0.6),
        Part(name="zskd", method=toys.TINY["zskd"], share=0.4),  # soft targets and logits
    )
)
METHODS: dict[str, tuple[Method, dict[str, Any]]] = {
    "noise": (toys.TINY["noise"], {"images": 40}),
    "a method whose first batches are dropped": (Slow(batch_size=8), {"images": 40}),
    "logits": (toys.TINY["zskd"], {"images": 20}),
    "classes": (toys.TINY["deep-inversion"], {"per_class": 2}),
    "mixture": (MIXED, {"images": 30}),
}


def digests(folder: Path) -> dict[str, str]:
    """Return the hash of each file by name; of the zip archive, whose entries have dates, that of its entry."""
    hashes = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        if path.suffix == ".npz":
            content = ZipFile(path).read("images.npy")
        hashes[path.relative_to(folder).as_posix()] = hashlib.sha256(content).hexdigest()
    return hashes


@pytest.mark.parametrize("name", METHODS)
def test_memory_changes_no_byte(name: str, digits_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    method, wanted = METHODS[name]
    monkeypatch.setattr(image_set, "SHARD_BYTES", 4000)
    monkeypatch.setattr(image_set, "AT_ONCE", 8)
    monkeypatch.setattr(job.RunLogger, "seconds", lambda _: 1.0)
    notes: list[str] = []
    monkeypatch.setattr(job.RunLogger, "note", lambda _, text: notes.append(text))
    found = []
    for out, memory in (("memory", ""), ("disk", "3kB")):
        notes.clear()
        job.synthesize(
            method,
            teacher=f"local-dir:{digits_teacher}",
            out=tmp_path / out,
            memory=memory,
            format=ALL_FORMATS,
            **wanted,
        )
        found.append(digests(tmp_path / out))
        spooled = [note for note in notes if f"lie in {out}.unfinished beside the set until it is written" in note]
        assert bool(spooled) == bool(memory)
    assert found[0] == found[1] and sum(name.endswith(".safetensors") for name in found[0]) > 1
    assert {path.name for path in tmp_path.iterdir()} == {"memory", "disk"}


def sources(teacher: Classifier, storage: Any) -> Sources:
    return Sources(
        teacher=teacher,
        student=None,
        callback=silent,
        note=lambda _: None,
        numbers=RandomNumbers(0),
        storage=storage,
    )


def about(collected: Collected) -> About:
    return About(classes=toys.CLASSES, teacher_sha256="abc", made_by="a test", part_of=collected.part_of)


@pytest.mark.parametrize("memory", [0.0, 1e9])
def test_few_images_are_held(teacher: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: float):
    count, batch, shard = 240, 16, 50
    row = 4 * 64 + 8 + 16
    monkeypatch.setattr(image_set, "SHARD_BYTES", shard * row)
    monkeypatch.setattr(spool, "SHARD_BYTES", shard * row)
    monkeypatch.setattr(image_set, "AT_ONCE", 20)
    most = {"synthesis": 0, "writing": 0}

    def look(when: str) -> None:
        most[when] = max(most[when], toys.images_held(toys.SHAPE))

    class Looking(type(silent)):  # type: ignore[misc]
        def on_batch(self, batch: Batch, count: int, due: int) -> None:
            look("synthesis")

    in_order = image_set.in_order

    def looked(*given: Any) -> Any:
        for piece in in_order(*given):
            look("writing")
            yield piece

    monkeypatch.setattr(image_set, "in_order", looked)
    storage = Spool(tmp_path, tmp_path / "pool", memory or shard * row * 4, lambda _: None)
    with toys.counting_images():
        given = replace(sources(teacher, storage), callback=Looking())
        made = collect(NoiseConfig(batch_size=batch), given, Wanted(images=count))
        image_set.write_pieces(made.images, about(made), teacher, tmp_path / "set", ALL_FORMATS)
    if memory:
        assert most["synthesis"] >= count and most["writing"] >= count
    else:
        assert most["synthesis"] <= shard + 3 * batch, most
        assert most["writing"] <= 2 * shard + 3 * 20, most  # one that is written, the tail of the spool, and pieces


def test_what_was_written_leaves_the_disk(tmp_path: Path):
    pool, images = Pool(3), torch.rand(40, 1, 2, 2)
    row = 4 * 4 + 8
    store = ReadOnce(tmp_path, tmp_path / "spool", 30, 4 * row)
    pool.size, pool.store = 30, store
    for start in range(0, 40, 10):  # the first ten are replaced
        pool.add(Batch(images[start : start + 10], torch.zeros(10).long(), {}))

    def files() -> int:
        return len(list((tmp_path / "spool").rglob("images-*")))

    assert files() == 8  # numbers 8 to 39
    assert torch.equal(pool.select(torch.arange(0, 10)).images, images[30:40])
    assert files() == 6  # 28 to 31 is read in part
    assert torch.equal(pool.select(torch.arange(10, 30)).images, images[10:30])
    assert files() == 0


@pytest.mark.parametrize(("free", "kept"), [(2.0, True), (1.9, False)])
def test_images_are_deleted_as_they_are_read_only_where_the_disk_is_too_small_for_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: float, kept: bool
):
    notes: list[str] = []
    storage, images = Spool(tmp_path, tmp_path / "pool", 200, notes.append), torch.rand(30, 1, 2, 2)
    size = 30 * (4 * 4 + 8)
    monkeypatch.setattr(spool.shutil, "disk_usage", lambda _: SimpleNamespace(free=free * size))
    pool = Pool(1, storage)
    pool.add(Batch(images, torch.zeros(30).long(), {}))
    assert pool.store is not None
    again = storage.reopen(30, pool.store.state_dict())
    assert torch.equal(pool.all().images, images) and type(again) is type(pool.store)
    assert len(list((tmp_path / "pool").iterdir())) == (15 if kept else 0)
    sentence = "the disk is too small for both, so a kill while the set is written costs the images"
    assert (sentence in notes[0]) != kept and len(notes) == 1


def test_a_process_that_does_not_write_keeps_no_image(teacher: Classifier):
    with toys.counting_images():
        made = collect(NoiseConfig(batch_size=16), sources(teacher, Elsewhere()), Wanted(images=320))
        assert len(made.images) == 320 and toys.images_held(toys.SHAPE) == 0


def test_pixels_that_are_not_finite_are_never_written(teacher: Classifier, tmp_path: Path):
    pixels = torch.rand(5, *toys.SHAPE)
    pixels[4, 0, 0, 0] = torch.nan
    spoilt = image_set.ImageSet(
        batch=Batch(pixels, torch.zeros(5).long(), {}), classes=toys.CLASSES, teacher_sha256="abc", made_by=""
    )
    with pytest.raises(Diverged, match="some images have non-finite pixels; lower the learning rate of the method"):
        image_set.write(spoilt, teacher, tmp_path / "set")
    assert not list(tmp_path.iterdir())


def test_row_groups_are_bounded(teacher: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from pyarrow import parquet

    monkeypatch.setattr(pictures, "GROUP_BYTES", 1000)
    with pictures.ParquetWriter(toys.CLASSES, tmp_path / "parquet", has_parts=False) as rows:
        for start in range(0, 24, 4):
            images, labels = torch.rand(4, *toys.SHAPE), torch.arange(4)
            rows.add(Batch(images, labels, {}), torch.full((4, 4), float(start)))
    file = parquet.ParquetFile(tmp_path / "parquet" / "train-00000-of-00001.parquet")
    assert file.num_row_groups > 1
    table = file.read()
    assert table["label"].to_pylist() == [0, 1, 2, 3] * 6
    assert [entry["path"] for entry in table["image"].to_pylist()] == [f"{index:06d}.png" for index in range(24)]
    assert [row[0] for row in table["soft_label"].to_pylist()] == [4 * (index // 4) for index in range(24)]


def test_a_set_larger_than_the_disk_is_refused_before_synthesis(
    digits_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(job.shutil, "disk_usage", lambda _: SimpleNamespace(free=10**4))
    expected = rf"^the images take 118 kB, but 10 kB are free in {tmp_path}; lower --images or give another --out$"
    with pytest.raises(InputError, match=expected):
        job.synthesize(
            toys.TINY["noise"], teacher=f"local-dir:{digits_teacher}", out=tmp_path / "a" / "set", images=400
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("height", "sizes"), [(8, [512, 88]), (2048, [1] * 3)])
def test_large_images_are_classified_a_few_at_a_time(height: int, sizes: Sequence[int]):
    class Lengths:
        def __len__(self) -> int:
            return sum(sizes)

        def read(self, start: int, stop: int) -> Batch:
            count = min(stop, len(self)) - start
            return Batch(torch.zeros(count, 1, 2, 2), torch.zeros(count).long(), {}, torch.zeros(count, 4))

    network = Classifier(torch.nn.Identity(), shape=(1, height, height), classes=4)
    made = About(classes=toys.CLASSES, teacher_sha256="", made_by="")
    pieces: list[Piece] = list(image_set.in_order(Lengths(), made, network))
    assert [len(piece.batch) for piece in pieces] == sizes
