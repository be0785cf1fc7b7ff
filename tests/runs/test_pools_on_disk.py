"""A run whose pool lies on disk gives the student of a run whose pool is in memory, also after kills."""

import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import toys
from torture.forks import fork

from datafree.runs.experiment import resume, run
from datafree.runs.run_folder import RunFolder
from datafree.runs.settings import Experiment
from datafree.sets.image_set import read
from datafree.synthesis import Schedule
from datafree.synthesis.mixture import Mixture, Part
from datafree.types import InputError

SCHEDULE = Schedule(warmup_batches=4, refresh_every=2, pool_batches=4, batch_size=8)
CALLS = ("fsync", "rename", "replace", "unlink")
"""functions of `os` at which a run is killed"""


def experiment(teacher: Path, memory: str = "", **changes: Any) -> Experiment:
    """A run whose pool of 32 images takes about 10 kB."""
    settings: dict[str, Any] = {"method": toys.TINY["procedural"], "schedule": SCHEDULE, "memory": memory}
    base = toys.experiment(teacher, **settings | changes)
    return replace(base, task=replace(base.task, data="digits"))


@pytest.fixture(scope="module")
def expected(digits_teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The hash of the student of a run in memory."""
    result = run(experiment(digits_teacher), tmp_path_factory.mktemp("runs") / "run")
    assert not (result.path / "pool").exists()
    return result.summary["student_sha256"]


def test_a_pool_on_disk_changes_no_student_and_is_an_image_set(digits_teacher: Path, expected: str, tmp_path: Path):
    result = run(experiment(digits_teacher, "6kB", checkpoint_interval=1e6), tmp_path / "run")
    assert result.summary["student_sha256"] == expected
    assert [note for note in result.summary["notes"] if "lies on disk in the folder pool of the run" in note]
    images = read(tmp_path / "run" / "pool")
    assert 32 <= len(images.batch) <= 36 and images.made_by.startswith("ProceduralConfig")
    assert images.teacher_sha256 == result.summary["teacher_sha256"]
    assert not list((tmp_path / "run").rglob(".tmp-*")) and not (tmp_path / "run" / "checkpoints").exists()


def test_parts_of_a_mixture_lie_on_disk_too(digits_teacher: Path, tmp_path: Path):
    parts = [
        Part(name=name, method=toys.TINY[name], share=0.5, schedule=SCHEDULE)
        for name in ("procedural", "deep-inversion")
    ]
    method = Mixture(parts=tuple(parts), batch_size=8)
    given = {"method": method, "schedule": method.schedule}
    hashes = set()
    for memory in ("", "12kB"):
        result = run(experiment(digits_teacher, memory, **given), tmp_path / f"run{memory}")
        hashes.add(result.summary["student_sha256"])
    assert len(hashes) == 1
    for name in ("procedural", "deep-inversion"):
        assert len(read(tmp_path / "run12kB" / "pool" / name).batch) >= 32


def killed_at(place: int, work: Callable[[], Any]) -> Callable[[], int]:
    """Return work whose process kills itself right before the file operation of this number."""
    done = 0

    def counted(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **settings: Any) -> Any:
            nonlocal done
            done += 1
            if done == place:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments, **settings)

        return call

    def begin() -> int:
        for name in CALLS:
            setattr(os, name, counted(getattr(os, name)))
        work()
        print(f"operations {done}")
        return 0

    return begin


def resumed(out: Path, begin: Experiment) -> str:
    """Return the hash of the student of a run that was killed and goes on."""
    if (out / "summary.json").exists():
        return resumed_summary(out)
    if (out / "experiment.json").exists():
        return resume(out).summary["student_sha256"]
    return run(begin, out).summary["student_sha256"]


def resumed_summary(out: Path) -> str:
    from datafree.runs.reading.summary import read_summary

    return read_summary(out)["student_sha256"]


def kill_and_resume(place: int, teacher: Path, folder: Path, expected: str) -> None:
    settings = experiment(teacher, "6kB")
    outcome = fork(killed_at(place, lambda: run(settings, folder)), timeout=120)
    assert outcome.code == -signal.SIGKILL, outcome.output
    assert resumed(folder, settings) == expected
    assert len(read(folder / "pool").batch) >= 32 and not list(folder.rglob(".tmp-*"))


@pytest.mark.parametrize("place", [60, 140])
def test_a_killed_run_goes_on(place: int, digits_teacher: Path, expected: str, tmp_path: Path):
    kill_and_resume(place, digits_teacher, tmp_path / "run", expected)


@pytest.mark.slow
@pytest.mark.parametrize("place", range(8, 168, 8))
def test_a_run_killed_anywhere_goes_on(place: int, digits_teacher: Path, expected: str, tmp_path: Path):
    kill_and_resume(place, digits_teacher, tmp_path / "run", expected)


def test_a_damaged_or_missing_shard_is_noticed(digits_teacher: Path, tmp_path: Path):
    settings = experiment(digits_teacher, "6kB")
    fork(killed_at(100, lambda: run(settings, tmp_path / "run")), timeout=120)
    for shard in (tmp_path / "run" / "pool").glob("images-*"):
        content = bytearray(shard.read_bytes())
        content[-1] ^= 1
        shard.write_bytes(content)
    with pytest.raises(InputError, match=r"no checkpoint of .* is intact: .*sha256 of pool/images-[0-9]+.safetensors"):
        resume(tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "pool")
    with pytest.raises(InputError, match=r"no checkpoint of .* is intact: .*a file is missing"):
        resume(tmp_path / "run")


def test_a_shard_that_no_checkpoint_names_is_deleted(tmp_path: Path):
    with RunFolder(tmp_path / "run", {"seed": 1}) as folder:
        (folder.path / "pool" / "part").mkdir(parents=True)
        leftover = folder.path / "pool" / "part" / "images-00000003.safetensors"
        leftover.write_bytes(b"x")
        folder.commit(1, {"value": torch.zeros(1)})
        assert not leftover.exists()
