"""Pools on disk: kept by teacher, limited in size, and not trusted."""

import os
import stat
from pathlib import Path

import pytest
import torch
import toys
from safetensors.torch import save_file

from datafree.classifier import Classifier
from datafree.estimation.cache import Cache, cache_folder, key_of
from datafree.estimation.pools import Pool


def pool(count: int = 6) -> Pool:
    images = torch.randint(256, (count, *toys.SHAPE), dtype=torch.uint8)
    return Pool(images, torch.randint(4, (count,)), torch.randint(11, (count,)))


@pytest.fixture
def cache(tmp_path: Path, teacher: Classifier) -> Cache:
    return Cache(tmp_path / "pools", key_of(teacher))


def test_a_pool_is_read_as_it_was_written(cache: Cache, teacher: Classifier):
    first = pool()
    assert cache.write("zskd", first)
    found = cache.read("zskd", teacher)
    assert found is not None
    assert all(toys.same(getattr(found, name), getattr(first, name)) for name in ("images", "decisions", "kept"))
    assert cache.read("dafl", teacher) is None


def test_only_the_owner_can_read_the_folder(cache: Cache):
    cache.write("zskd", pool())
    assert stat.S_IMODE(cache.path("zskd").parent.stat().st_mode) == 0o700


class TestKey:
    def test_it_is_the_same_for_equal_teachers(self, teacher: Classifier):
        assert key_of(teacher) == key_of(teacher)
        assert len(key_of(teacher)) == 32

    def test_it_depends_on_weights_pixels_classes_and_seed(self, teacher: Classifier, plain_teacher: Classifier):
        renamed = toys.classifier(teacher.model)
        renamed.classes = ("a", "b", "c", "d")
        darker = toys.classifier(teacher.model)
        darker.mean = darker.mean + 0.1
        keys = {key_of(each) for each in (teacher, plain_teacher, renamed, darker)} | {key_of(teacher, 1)}
        assert len(keys) == 5


class TestPlace:
    def test_it_is_the_variable_of_datafree(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
        monkeypatch.setenv("DATAFREE_CACHE", str(tmp_path))
        assert cache_folder() == tmp_path / "pools"

    def test_else_the_cache_of_the_desktop_else_that_of_the_home(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
        monkeypatch.delenv("DATAFREE_CACHE")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert cache_folder() == tmp_path / "datafree" / "pools"
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setenv("HOME", str(tmp_path))
        assert cache_folder() == tmp_path / ".cache" / "datafree" / "pools"


class TestLimit:
    def size(self, cache: Cache) -> int:
        cache.write("probe", pool())
        size = cache.path("probe").stat().st_size
        cache.path("probe").unlink()
        return size

    def test_the_pools_used_longest_ago_are_deleted(self, cache: Cache, teacher: Classifier):
        one = self.size(cache)
        small = Cache(cache.folder, cache.key, limit=2 * one)
        for age, name in ((30, "first"), (20, "second")):
            small.write(name, pool())
            os.utime(small.path(name), (1e9 - age, 1e9 - age))
        small.read("first", teacher)  # now it was used last
        small.write("third", pool())
        assert {path.stem for path, _ in small.pools()} == {"first", "third"}

    def test_other_teachers_count_and_their_empty_folders_go(self, cache: Cache):
        one = self.size(cache)
        other = Cache(cache.folder, "0" * 32, limit=one)
        other.write("old", pool())
        os.utime(other.path("old"), (1e9, 1e9))
        Cache(cache.folder, cache.key, limit=one).write("new", pool())
        assert not other.path("old").parent.exists()

    def test_a_pool_that_is_larger_is_not_stored(self, cache: Cache):
        assert not Cache(cache.folder, cache.key, limit=10).write("zskd", pool())
        assert not cache.path("zskd").exists()

    def test_files_of_others_are_left_alone(self, cache: Cache):
        cache.write("zskd", pool())
        (cache.folder / "mine").mkdir()
        for path in (
            cache.folder / "mine" / "x.safetensors",
            cache.folder / "note.txt",
            cache.path("zskd").parent / "x.txt",
        ):
            path.write_text("x" * 10_000)
        Cache(cache.folder, cache.key, limit=1).tidy()
        assert sorted(path.name for path in cache.folder.rglob("*") if path.is_file()) == [
            "note.txt",
            "x.safetensors",
            "x.txt",
        ]


class TestHostileFiles:
    def put(self, cache: Cache, **changes: torch.Tensor | None) -> None:
        good = pool()
        tensors = {"images": good.images, "decisions": good.decisions, "kept": good.kept} | changes
        cache.path("zskd").parent.mkdir(parents=True, exist_ok=True)
        save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, cache.path("zskd"))

    def test_a_good_file_passes(self, cache: Cache, teacher: Classifier):
        self.put(cache)
        assert cache.read("zskd", teacher) is not None

    @pytest.mark.parametrize(
        "changes",
        [
            {"images": None},
            {"images": torch.rand(6, *toys.SHAPE)},
            {"images": torch.zeros(6, 3, 8, 8, dtype=torch.uint8)},
            {"images": torch.zeros(0, *toys.SHAPE, dtype=torch.uint8)},
            {"images": torch.zeros(5, *toys.SHAPE, dtype=torch.uint8)},
            {"decisions": torch.full((6,), 4)},
            {"decisions": torch.full((6,), -1)},
            {"decisions": torch.zeros(6)},
            {"decisions": torch.zeros(6, 4, dtype=torch.int64)},
            {"kept": torch.full((6,), 11)},
            {"kept": torch.full((6,), -1)},
            {"kept": torch.zeros(7, dtype=torch.int64)},
            {"further": torch.zeros(1)},
        ],
    )
    def test_what_is_no_pool_is_not_used(
        self, cache: Cache, teacher: Classifier, changes: dict[str, torch.Tensor | None]
    ):
        self.put(cache, **changes)
        assert cache.read("zskd", teacher) is None

    def test_bytes_that_are_no_tensors_are_not_used(self, cache: Cache, teacher: Classifier):
        cache.path("zskd").parent.mkdir(parents=True)
        for content in (b"", b"x", b"\x80\x04cos\nsystem\n", b"\xff" * 1000):
            cache.path("zskd").write_bytes(content)
            assert cache.read("zskd", teacher) is None

    def test_a_huge_file_is_not_read(self, cache: Cache, teacher: Classifier):
        cache.path("zskd").parent.mkdir(parents=True)
        with cache.path("zskd").open("wb") as file:
            file.truncate(2**30)
        assert cache.read("zskd", teacher) is None

    def test_links_and_pipes_are_not_followed(self, cache: Cache, teacher: Classifier, tmp_path: Path):
        self.put(cache)
        moved = cache.path("zskd").rename(tmp_path / "elsewhere.safetensors")
        cache.path("zskd").symlink_to(moved)
        assert cache.read("zskd", teacher) is None
        cache.path("zskd").unlink()
        os.mkfifo(cache.path("zskd"))
        assert cache.read("zskd", teacher) is None

    def test_a_linked_folder_is_not_written(self, cache: Cache, tmp_path: Path):
        (tmp_path / "target").mkdir()
        cache.folder.mkdir()
        (cache.folder / cache.key).symlink_to(tmp_path / "target")
        assert not cache.write("zskd", pool())
        assert list((tmp_path / "target").iterdir()) == []

    def test_a_folder_that_cannot_be_written_is_no_fault(self, cache: Cache):
        cache.folder.parent.joinpath("pools").write_text("a file in its place")
        assert not cache.write("zskd", pool())
