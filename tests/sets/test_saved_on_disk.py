"""A saved set that is too large for the memory is read from disk, and trains the student of a set in memory."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import toys
from torch import Tensor, nn

from datafree.callback import Callback
from datafree.classifier import Classifier
from datafree.ensemble import Ensemble
from datafree.runs.experiment import resume, run
from datafree.runs.launching.redividing import redivided
from datafree.runs.settings import Experiment
from datafree.sets import image_set
from datafree.sets.image_set import ImageSet
from datafree.sets.saved import SavedConfig
from datafree.synthesis import Schedule, Stream
from datafree.synthesis.image_sets import StoredSet, stored
from datafree.synthesis.mixture import Mixture, Part
from datafree.synthesis.storage import Storage
from datafree.types import Batch, InputError

COUNT, SIDE = 600, 8
IMAGE = 4 * SIDE * SIDE + 8 + 4 * 10
"""bytes of an image with its target and its logits"""


def ten_classes() -> Classifier:
    torch.manual_seed(1)
    network = nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 10))
    return Classifier(network, shape=(1, SIDE, SIDE), classes=tuple(map(str, range(10)))).eval()


def images_held() -> int:
    return toys.images_held((1, SIDE, SIDE))


class Counter(Callback):
    """Notes how many images are held when a batch is there, and at each step."""

    def __init__(self) -> None:
        self.most = 0

    def on_batch(self, batch: Batch, count: int, due: int) -> None:
        self.most = max(self.most, images_held())

    def log(self, step: int, terms: Any) -> None:
        self.most = max(self.most, images_held())


class Scarce(Storage):
    """Memory for no set."""

    def borrows(self, size: int) -> bool:
        return True


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(image_set, "SHARD_BYTES", 70 * IMAGE)
    monkeypatch.setattr(stored, "PIECE_BYTES", 64 * IMAGE)


@pytest.fixture
def folder(small_shards: None, tmp_path: Path) -> Path:
    torch.manual_seed(0)
    batch = Batch(torch.rand(COUNT, 1, SIDE, SIDE), torch.randint(10, (COUNT,)), {}, torch.randn(COUNT, 10))
    names = tuple(map(str, range(10)))
    written = ImageSet(batch=batch, classes=names, teacher_sha256="abc", made_by="a test")
    image_set.write(written, ten_classes(), tmp_path / "set")
    assert len(list((tmp_path / "set").glob("images-*"))) == 9
    return tmp_path / "set"


def test_rows_come_from_their_shards(folder: Path):
    on_disk, whole = StoredSet(folder), image_set.read(folder).batch
    positions = torch.randint(COUNT, (200,))
    chosen = on_disk.read(positions)
    assert torch.equal(chosen.images, whole.images[positions]) and torch.equal(chosen.targets, whole.targets[positions])
    assert whole.teacher_logits is not None and chosen.teacher_logits is not None
    assert torch.equal(chosen.teacher_logits, whole.teacher_logits[positions])
    assert torch.equal(torch.cat([batch.images for batch in on_disk.batches(64)]), whole.images)


def test_opening_a_set_holds_one_piece_of_it(folder: Path, monkeypatch: pytest.MonkeyPatch):
    most, check = 0, stored.require_values

    def counted(*arguments: Any) -> None:
        nonlocal most
        most = max(most, images_held())
        check(*arguments)

    monkeypatch.setattr(stored, "require_values", counted)
    with toys.counting_images():
        StoredSet(folder)
    assert 64 <= most <= 128


def drawn(folder: Path, storage: Storage, callback: Callback) -> list[tuple[Tensor, Tensor]]:
    """Return sums of the images of eight batches and their targets."""
    torch.manual_seed(4)
    schedule = Schedule(pool_batches=2, refresh_every=3, batch_size=16)
    stream = Stream.of(SavedConfig(images=str(folder)), ten_classes(), None, schedule, callback=callback)
    stream.keep_pools_in(storage)
    seen = []
    for step in range(8):
        batch = next(stream)
        callback.log(step, {})
        seen.append((batch.images.sum((1, 2, 3)), batch.targets))
    return seen


def test_a_student_sees_the_same_images_while_few_are_held(folder: Path):
    in_memory, on_disk = Counter(), Counter()
    with toys.counting_images():
        expected = drawn(folder, Storage(), in_memory)
        assert toys.same(drawn(folder, Scarce(), on_disk), expected)
    assert in_memory.most >= 2 * COUNT and 256 <= on_disk.most <= 256 + 2 * 16


def test_a_checkpoint_of_a_set_on_disk_has_no_images(folder: Path):
    teacher = ten_classes()

    def opened() -> Stream:
        torch.manual_seed(4)
        stream = Stream.of(SavedConfig(images=str(folder)), teacher, None, Schedule(refresh_every=0, batch_size=16))
        stream.keep_pools_in(Scarce())
        return stream

    whole = opened()
    next(whole)
    state, numbers = whole.state_dict(), torch.get_rng_state()
    assert state["pool"] == {"written": COUNT, "newest_size": COUNT, "size": COUNT, "store": {"borrowed": True}}
    expected = next(whole)
    for count, rank in ((1, 0), (2, 1), (7, 3)):  # also by another number of processes
        again = opened()
        again.load_state_dict(redivided([state], rank, count))
        torch.set_rng_state(numbers)
        assert again.parts.is_whole and torch.equal(next(again).images, expected.images)


def experiment(teacher: Path, folder: Path, memory: str, **changes: Any) -> Experiment:
    settings: dict[str, Any] = {
        "method": SavedConfig(images=str(folder)),
        "schedule": Schedule(refresh_every=0, batch_size=16),
        "memory": memory,
    }
    return toys.experiment(teacher, **settings | changes)


def test_a_run_gives_the_same_student_also_after_an_interruption(
    folder: Path, digits_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    expected = run(experiment(digits_teacher, folder, ""), tmp_path / "memory").summary
    settings = experiment(digits_teacher, folder, "10kB")
    summary = run(settings, tmp_path / "disk").summary
    for name in ("student_sha256", "images_synthesized"):
        assert summary[name] == expected[name]
    assert not (tmp_path / "disk" / "pool").exists()
    with toys.interrupted(monkeypatch, 7):
        run(settings, tmp_path / "run")
    checkpoints = [path for path in (tmp_path / "run" / "checkpoints").rglob("*") if path.is_file()]
    images = COUNT * 4 * SIDE * SIDE
    assert checkpoints and sum(path.stat().st_size for path in checkpoints) < images + 10**6
    assert resume(tmp_path / "run").summary["student_sha256"] == expected["student_sha256"]


def test_a_set_as_part_of_a_mixture_stays_on_disk(folder: Path, digits_teacher: Path, tmp_path: Path):
    parts = (
        Part(name="saved", method=SavedConfig(images=str(folder)), share=0.5),
        Part(name="noise", method=toys.TINY["noise"], share=0.5, schedule=Schedule(pool_batches=2, refresh_every=0)),
    )
    method = Mixture(parts=parts, batch_size=8)
    students = set()
    for memory in ("", "20kB"):
        settings = experiment(digits_teacher, folder, memory, method=method, schedule=method.schedule)
        students.add(run(settings, tmp_path / f"run{memory}").summary["student_sha256"])
    assert len(students) == 1 and not (tmp_path / "run20kB" / "pool" / "saved").exists()


def test_images_of_some_classes_are_found_on_disk(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("datafree.sets.saved.TARGETS_AT_ONCE", 50)
    teacher = Ensemble([ten_classes()], ("7", "2"))
    batch, everything = SavedConfig(images=str(folder)).build(teacher).synthesize(), image_set.read(folder).batch
    kept = (everything.targets == 7) | (everything.targets == 2)
    assert torch.equal(batch.images, everything.images[kept])
    assert torch.equal(batch.targets, (everything.targets[kept] == 2).long())


def test_a_set_that_changes_while_it_is_used_is_noticed(folder: Path):
    on_disk = StoredSet(folder)
    on_disk.files.close()
    shard = folder / on_disk.shards[3]
    shutil.copyfile(shard, folder / "copy")
    (folder / "copy").replace(shard)
    with pytest.raises(InputError, match=r"00004-of-00009.safetensors has changed while it was in use; start again"):
        on_disk.read(torch.arange(COUNT))


def test_a_shard_larger_than_the_limit_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stored, "SHARD_LIMIT", 1000)
    with pytest.raises(InputError, match="is larger than 1000 bytes"):
        StoredSet(folder)


@pytest.mark.parametrize("batch_size", [0, COUNT])
def test_only_batches_of_all_images_stay_on_disk(folder: Path, batch_size: int):
    teacher = ten_classes()
    config = SavedConfig(images=str(folder), batch_size=batch_size)
    assert config.build(teacher).stored_images is not None
    assert replace(config, batch_size=16).build(teacher).stored_images is None
