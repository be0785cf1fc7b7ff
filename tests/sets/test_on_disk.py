"""A pool on disk gives the images of a pool in memory, and is an image set."""

import copy
import json
import os
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from datafree.files.stored import StoredFile
from datafree.sets import on_disk
from datafree.sets.image_set import read
from datafree.sets.on_disk import DiskStorage, DiskStore, Origin
from datafree.synthesis.image_sets.shards import Shards, consecutive
from datafree.synthesis.pool import Pool
from datafree.synthesis.storage import MemoryStore
from datafree.types import Batch, InputError

ROW = 4 * 12 + 8 + 4 * 3
"""bytes of an image with its target and its logits"""


def storage(root: Path, memory: float = 10 * ROW, notes: list[str] | None = None) -> DiskStorage:
    origin = Origin(classes=("a", "b", "c"), teacher_sha256="0" * 64, made_by=lambda part: f"a test {part}".strip())
    say = (notes if notes is not None else []).append
    return DiskStorage(root=root, folder=root / "pool", memory=memory, origin=origin, note=say)


def batch(numbers: Sequence[int]) -> Batch:
    """Images whose pixels and logits are functions of their numbers."""
    values = torch.tensor(numbers)
    pixels = (values.view(-1, 1, 1, 1) + torch.arange(12).view(1, 3, 2, 2) / 16) / 1024
    logits = values.view(-1, 1) * torch.tensor([1.0, -1.0, 0.5])
    return Batch(pixels, values % 3, {}, logits)


def same(first: Batch, second: Batch) -> bool:
    assert first.teacher_logits is not None and second.teacher_logits is not None
    pairs = zip(tensors_of(first), tensors_of(second), strict=True)
    return all(torch.equal(a, b) and a.dtype == b.dtype for a, b in pairs)


def tensors_of(one: Batch) -> list[Tensor]:
    return [one.images, one.targets, *([] if one.teacher_logits is None else [one.teacher_logits])]


def store_of(pool: Pool) -> DiskStore:
    assert isinstance(pool.store, DiskStore)
    return pool.store


@pytest.fixture(autouse=True)
def _without_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.mark.parametrize("seed", range(4))
def test_disk_and_memory_give_the_same_images(tmp_path: Path, seed: int):
    chance = random.Random(seed)
    root, capacity, memory = tmp_path, chance.randint(2, 6), chance.choice([4, 9, 16])
    first = chance.randint(3, 9)
    in_memory, on_disk, number = Pool(capacity), Pool(capacity, storage(root, memory * ROW)), 0
    for size in [first, *(chance.randint(1, 9) for _ in range(6))]:
        for pool in (in_memory, on_disk):
            pool.add(batch(range(number, number + size)))
        number += size
        for count in (1, 5, 40):
            torch.manual_seed(number)
            expected = in_memory.draw(count)
            torch.manual_seed(number)
            assert same(on_disk.draw(count), expected)
        assert same(on_disk.newest, in_memory.newest) and same(on_disk.all(), in_memory.all())
        assert torch.equal(on_disk.targets, in_memory.targets)
        if chance.random() < 0.3:
            state = copy.deepcopy(on_disk.state_dict())
            on_disk = Pool(capacity, storage(root, memory * ROW))
            on_disk.load_state_dict(state)


def test_what_fits_stays_in_memory(tmp_path: Path):
    notes: list[str] = []
    small, large = (Pool(count, storage(tmp_path, 8 * ROW, notes)) for count in (2, 3))
    for pool in (small, large):
        pool.add(batch(range(4)))
    assert isinstance(small.store, MemoryStore) and isinstance(large.store, DiskStore)
    assert notes == [
        f"the pool may grow to {12 * ROW} bytes, more than the {8 * ROW} bytes of memory for it, and lies on disk in the "
        "folder pool of the run"
    ]


def test_memory_is_bounded_by_a_shard(tmp_path: Path):
    pool = Pool(1000, storage(tmp_path, 80 * ROW))
    for number in range(100):
        pool.add(batch(range(7 * number, 7 * number + 7)))
    tail = store_of(pool).tail
    assert sum(tensor.nbytes for tensor in tail.values()) == 20 * ROW
    assert len(list((tmp_path / "pool").glob("images-*"))) == 700 // 20


def test_the_pool_is_an_image_set(tmp_path: Path):
    kept = storage(tmp_path)
    pool = Pool(4, kept)
    for number in range(9):
        pool.add(batch(range(5 * number, 5 * number + 5)))
    assert list(kept.finish()) == [tmp_path / "pool"]
    on_disk.delete_unlisted(tmp_path)
    image_set = read(tmp_path / "pool")
    numbers = range(24, 45)  # the ring of 20 images, and what is left of the shard with its first one
    assert same(image_set.batch, batch(list(numbers)))
    assert (image_set.made_by, image_set.classes) == ("a test", ("a", "b", "c"))
    assert {path.name for path in (tmp_path / "pool").iterdir()} == {
        "set.json",
        *json.loads((tmp_path / "pool" / "set.json").read_text())["shards"],
    }


def test_a_set_without_logits_is_read(tmp_path: Path):
    kept = storage(tmp_path)
    pool = Pool(40, kept)
    pool.add(replace(batch(range(30)), teacher_logits=None))
    kept.finish()
    image_set = read(tmp_path / "pool")
    assert image_set.batch.teacher_logits is None and torch.equal(image_set.batch.images, batch(range(30)).images)


def test_generated_features_stay_with_their_images(tmp_path: Path):
    pool = Pool(30, storage(tmp_path))
    pool.keep_block_inputs = True
    features = tuple(torch.rand(20, 2, size, size) for size in (2, 3))
    pool.add(replace(batch(range(20)), block_inputs=features))
    chosen = pool.select(torch.tensor([3, 17, 4]))
    assert all(torch.equal(x, y[[3, 17, 4]]) for x, y in zip(chosen.block_inputs, features, strict=True))


def test_parts_of_a_mixture_share_the_memory_and_have_folders(tmp_path: Path):
    whole = storage(tmp_path, 20 * ROW)
    part = whole.of_part("noise", 2)
    pool = Pool(3, part)
    pool.add(batch(range(4)))
    assert isinstance(pool.store, DiskStore) and part.memory == 10 * ROW
    assert list(whole.finish()) == [tmp_path / "pool" / "noise"]
    assert read(tmp_path / "pool" / "noise").made_by == "a test noise"


def test_shards_of_a_checkpoint_are_kept_and_others_deleted(tmp_path: Path):
    pool = Pool(2, storage(tmp_path, 8 * ROW))
    for number in range(4):
        pool.add(batch(range(5 * number, 5 * number + 5)))
    named = {file.path for file in pool.state_dict()["store"]["shards"].values()}
    for number in range(4, 20):
        pool.add(batch(range(5 * number, 5 * number + 5)))
    found = {path.relative_to(tmp_path).as_posix() for path in (tmp_path / "pool").glob("images-*")}
    alive = {shard.path for shard in store_of(pool).shards.values()}
    assert named <= found and found == named | alive and not named & alive


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (2, 4), (4, 2)])
def test_pools_on_disk_are_divided_again(tmp_path: Path, before: int, after: int):
    from datafree.runs.launching.redividing import redivided

    def pools(count: int) -> list[Pool]:
        kept = storage(tmp_path, 8 * ROW)
        folders = [replace(kept, folder=tmp_path / "pool" / f"{n}-of-{count}", opened=[]) for n in range(count)]
        return [Pool(4, folder) for folder in folders]

    old, new = pools(before), pools(after)
    for number in range(7):
        whole = batch(range(8 * number, 8 * number + 8))
        share = 8 // before
        for rank, pool in enumerate(old):
            rows = slice(rank * share, (rank + 1) * share)
            assert whole.teacher_logits is not None
            pool.add(Batch(whole.images[rows], whole.targets[rows], {}, whole.teacher_logits[rows]))
    states = [{"pool": pool.state_dict(), "is_whole": before == 1} for pool in old]
    for rank, pool in enumerate(new):
        state = redivided(states, rank, after)
        pool.load_state_dict(state["pool"])
        share = 8 // after
        mine = [8 * n + rank * share + i for n in (4, 5, 6, 3) for i in range(share)]  # the ring has four batches
        assert same(pool.all(), batch(mine))


class TestFiles:
    def write(self, folder: Path, **tensors: Tensor) -> None:
        save_file(tensors, folder / "a.safetensors")

    def read(self, folder: Path, output: Tensor, rows: Sequence[int]) -> None:
        Shards(folder).read("a.safetensors", torch.tensor(rows), {"images": output}, torch.arange(len(rows)))

    def test_rows_that_follow_each_other_are_read_at_once(self):
        assert consecutive([5, 3, 4, 9, 6], [2, 0, 1, 4, 3]) == [(3, 0, 4), (9, 4, 1)]
        assert consecutive([1, 2], [1, 0]) == [(1, 1, 1), (2, 0, 1)]

    def test_a_file_that_does_not_fit_is_refused(self, tmp_path: Path):
        self.write(tmp_path, images=torch.zeros(3, 2))
        for output, rows, why in (
            (torch.zeros(1, 3), [0], "does not fit"),
            (torch.zeros(1, 2, dtype=torch.float64), [0], "does not fit"),
            (torch.zeros(1, 2), [3], "fewer images"),
        ):
            with pytest.raises(InputError, match=why):
                self.read(tmp_path, output, rows)

    @pytest.mark.parametrize(
        "header",
        [
            b"",
            b"[]",
            b'{"images": 3}',
            b'{"images": {"dtype": "F32", "shape": [3, 2], "data_offsets": [0, 24000]}}',
            b'{"images": {"dtype": "F32", "shape": [3000000000, 3000000000], "data_offsets": [0, 24]}}',
            b'{"images": {"dtype": "F32", "shape": [-3, -2], "data_offsets": [0, 24]}}',
            b'{"images": {"dtype": "C64", "shape": [3], "data_offsets": [0, 24]}}',
            b'{"images": {"dtype": "F32", "shape": [3, 2], "data_offsets": [-24, 0]}}',
            b'{"images": {"dtype": "F32", "shape": [3, 2], "data_offsets": [true, 24]}}',
            b"\xff\xfe\xfd",
            b"{" * 5000,
        ],
    )
    def test_a_hostile_header_is_one_sentence(self, tmp_path: Path, header: bytes):
        (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(24))
        with pytest.raises(InputError, match=r"^[^;]*; [^;]*$"):
            self.read(tmp_path, torch.zeros(1, 2), [0])
        (tmp_path / "a.safetensors").write_bytes((2**60).to_bytes(8, "little") + header + bytes(24))
        with pytest.raises(InputError, match="not a safetensors file"):
            self.read(tmp_path, torch.zeros(1, 2), [0])

    def test_no_link_is_followed(self, tmp_path: Path):
        (tmp_path / "real").mkdir()
        self.write(tmp_path / "real", images=torch.zeros(3, 2))
        (tmp_path / "a.safetensors").symlink_to(tmp_path / "real" / "a.safetensors")
        (tmp_path / "folder").symlink_to(tmp_path / "real")
        with pytest.raises(InputError, match="symbolic link"):
            self.read(tmp_path, torch.zeros(1, 2), [0])
        with pytest.raises(InputError, match="symbolic link"):
            Shards(tmp_path).header("folder/a.safetensors")

    def test_a_file_that_is_cut_while_it_is_open_is_one_sentence(self, tmp_path: Path):
        self.write(tmp_path, images=torch.ones(3, 2))
        files = Shards(tmp_path)
        files.header("a.safetensors")
        with (tmp_path / "a.safetensors").open("r+b") as file:
            file.truncate(file.seek(0, 2) - 8)
        with pytest.raises(InputError, match="too short"):
            files.read("a.safetensors", torch.tensor([2]), {"images": torch.zeros(1, 2)}, torch.tensor([0]))

    def test_few_files_are_open(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("datafree.synthesis.image_sets.shards.OPEN_FILES", 2)
        files = Shards(tmp_path)
        for number in range(5):
            save_file({"images": torch.full((1, 2), float(number))}, tmp_path / f"{number}.safetensors")
        for number in (0, 1, 2, 3, 4, 0, 4):
            output = torch.zeros(1, 2)
            files.read(f"{number}.safetensors", torch.tensor([0]), {"images": output}, torch.tensor([0]))
            assert output.tolist() == [[number, number]] and len(files.open) <= 2
        files.close()
        assert not files.open


@pytest.mark.parametrize(
    "path", ["", "/etc/passwd", "pool/../a", "pool//a", "pool/.hidden", "a/" * 9 + "a", "pool/a\n"]
)
def test_stored_files_have_plain_paths(path: str):
    with pytest.raises(InputError, match="not a plain path"):
        StoredFile(path, "0" * 64)


@pytest.mark.parametrize(("size", "words"), [(12, "12 bytes"), (1500, "1.5 kB"), (2e9, "2 GB"), (602e9, "602 GB")])
def test_sizes_in_words(size: float, words: str):
    assert on_disk.in_words(size) == words
