"""How processes are counted, what they save, how their states are divided again, and how a run of several ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from datafree.errors import ProcessLost
from datafree.files import read_json
from datafree.runs import checkpoints
from datafree.runs.launching.lost import ending_together
from datafree.runs.launching.redividing import redivided
from datafree.runs.launching.sharding import wants_shards
from datafree.runs.launching.together import Stopped, Together
from datafree.runs.launching.world import World, launched, leave, world_of
from datafree.synthesis.pool import Pool
from datafree.types import Batch, InputError

LAUNCHERS = {
    "torchrun": {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"},
    "srun": {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "8", "SLURM_STEP_NUM_NODES": "2"},
}


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in {name for variables in LAUNCHERS.values() for name in variables}:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_launcher_decides_the_number_of_processes(launcher: str, monkeypatch: pytest.MonkeyPatch):
    assert launched() is None and world_of(3) == World(3) and World(3).size == 3
    for name, value in LAUNCHERS[launcher].items():
        monkeypatch.setenv(name, value)
    assert world_of(1) == world_of(4) == world_of(8) == World(4, 2, external=True)
    with pytest.raises(
        InputError, match="--devices is 3, but the launcher started 4 processes on each of 2 machines; "
    ):
        world_of(3)


def test_students_are_whole_in_every_process_and_teachers_may_be_sharded(monkeypatch: pytest.MonkeyPatch):
    for strategy in ("auto", "ddp", "fsdp"):
        monkeypatch.setenv("LT_STRATEGY", strategy)
        assert world_of(2) == World(2) and wants_shards(False) == (strategy == "fsdp") and wants_shards(True)
    monkeypatch.setenv("LT_STRATEGY", "deepspeed")
    expected = (
        "--strategy is deepspeed, but datafree supports ddp and, to shard the teacher, fsdp; leave --strategy out"
    )
    with pytest.raises(InputError, match=expected):
        world_of(2)


class Processes:
    """Processes that are not connected."""

    def __init__(self, world_size: int = 1, global_rank: int = 0) -> None:
        self.world_size, self.global_rank, self.is_global_zero = world_size, global_rank, not global_rank
        self.device = torch.device("cpu")

    def broadcast(self, obj: Any, src: int = 0) -> Any:
        return obj

    to_device = setup = backward = all_reduce = broadcast


def test_sigusr1_stops_a_run_of_one_process_after_a_checkpoint(tmp_path: Path):
    before = signal.getsignal(signal.SIGUSR1)
    with Together(Processes(), tmp_path) as together:
        assert together.agree(False) == (False, False) and together.agree(True) == (True, False)
        os.kill(os.getpid(), signal.SIGUSR1)
        assert together.agree(False) == (True, True)
    assert signal.getsignal(signal.SIGUSR1) == before and issubclass(Stopped, KeyboardInterrupt)


def test_a_closed_connection_is_a_lost_process_and_other_faults_are_not():
    with (
        pytest.raises(ProcessLost, match="another one of 2 processes was lost"),
        ending_together(Processes(2, 1)),
    ):
        raise RuntimeError("[pair.cc:534] Connection closed by peer [127.0.0.1]:1")
    with pytest.raises(RuntimeError, match="a bug"), ending_together(Processes(2, 1)):
        raise RuntimeError("a bug")


def pool_of(rows: list[int], batch: int) -> dict[str, Any]:
    """Return the state of a pool of three batches to which rows were added."""
    pool = Pool(3)
    for start in range(0, len(rows), batch):
        values = torch.tensor(rows[start : start + batch], dtype=torch.float32)
        pool.add(Batch(values[:, None, None, None], values.long(), {}))
    return pool.state_dict()


def stream_of(rows: list[int], batch: int, is_whole: bool) -> dict[str, Any]:
    synthesizer = {"descent": {"parameters": torch.zeros(1)}, "start": {"position": 5}}
    return {"step": 7, "pool": pool_of(rows, batch), "is_whole": is_whole, "synthesizer": synthesizer}


def rows_in(state: dict[str, Any]) -> list[int]:
    pool = Pool(3)
    pool.load_state_dict(state["pool"])
    return pool.all().targets.tolist()


def test_pools_are_divided_again():
    one = stream_of([0, 1, 2, 3, 10, 11, 12, 13], 4, is_whole=True)
    two = [stream_of([0, 1, 10, 11], 2, is_whole=False), stream_of([2, 3, 12, 13], 2, is_whole=False)]
    assert [rows_in(redivided([one], rank, 2)) for rank in range(2)] == [[0, 1, 10, 11], [2, 3, 12, 13]]
    assert rows_in(redivided(two, 0, 1)) == rows_in(one) and redivided(two, 0, 1)["is_whole"]
    four = [redivided(two, rank, 4) for rank in range(4)]
    assert [rows_in(state) for state in four] == [[0, 10], [1, 11], [2, 12], [3, 13]]
    assert not any(state["is_whole"] for state in four)
    again = redivided(four, 1, 2)
    assert rows_in(again) == [2, 3, 12, 13] and again["pool"]["size"] == 6 and again["pool"]["newest_size"] == 2
    assert again["step"] == 7 and again["synthesizer"] == {"descent": None, "start": {"position": 5}}


def test_a_pool_that_no_process_can_divide_stays_whole():
    same = [stream_of([0, 1, 2], 3, is_whole=True) for _ in range(2)]
    assert rows_in(redivided(same, 1, 2)) == [0, 1, 2] and redivided(same, 1, 2)["is_whole"]
    assert [rows_in(redivided(same, rank, 3)) for rank in range(3)] == [[0], [1], [2]]


def test_a_checkpoint_holds_the_parts_of_all_processes(tmp_path: Path):
    for rank in (1, 2):
        checkpoints.write(tmp_path / checkpoints.PART.format(rank), 2, 5, {"rank": rank})
    parts = [tmp_path / checkpoints.PART.format(rank) for rank in (1, 2)]
    checkpoints.commit(tmp_path, 2, 5, {"rank": 0}, parts)
    folder = tmp_path / "00000001"
    assert checkpoints.read(folder, 2) == (5, {"rank": 0}) and not parts[0].exists()
    assert [checkpoints.read(part, 2) for part in checkpoints.parts_of(folder)] == [(5, {"rank": 1}), (5, {"rank": 2})]
    (folder / "part-2" / checkpoints.MANIFEST).write_text("{}")
    with pytest.raises(checkpoints.Damaged, match=r"sha256 of part-2/manifest.json differs"):
        checkpoints.read(folder, 2)


RUN = [
    "--method",
    "fast",
    "--method.reset-every",
    "100",
    "--steps",
    "200",
    "--device",
    "cpu",
    "--checkpoint-interval",
    "1",
]


def command(words: list[str], processes: int = 0) -> list[str]:
    """Return a command of datafree; under torchrun if a number of processes is given."""
    start = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m", "datafree"]
    return [sys.executable, "-m", *(start if processes else ["datafree"]), *words]


def stopped(words: list[str], folder: Path, how: int, processes: int = 0, child: bool = False) -> int:
    """Start a run, send a signal to it or to a child after its first checkpoint, and return its exit code."""
    running = subprocess.Popen(command(words, processes), stderr=subprocess.PIPE, text=True)
    while running.poll() is None and not (folder / "checkpoints" / "00000001").exists():
        time.sleep(0.2)
    target = (
        int(Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()[0]) if child else running.pid
    )
    os.kill(target, how)
    running.communicate()
    return running.returncode


@pytest.mark.slow
def test_a_run_of_two_processes_is_stopped_lost_and_resumed(digits_teacher: Path, tmp_path: Path):
    words = ["distill", "--teacher", f"local-dir:{digits_teacher}", "--student", "convnet_w16", *RUN]
    whole, asked, lost, other = (tmp_path / name for name in ("whole", "asked", "lost", "other"))
    subprocess.run(command([*words, "--out", str(whole)], 2), check=True)
    assert stopped([*words, "--out", str(asked), "--devices", "2"], asked, signal.SIGUSR1) == 75
    assert stopped([*words, "--out", str(lost), "--devices", "2"], lost, signal.SIGKILL, child=True) == 76
    assert stopped([*words, "--out", str(other)], other, signal.SIGTERM, processes=2) == 1
    subprocess.run(command(["resume", str(asked)]), check=True)
    subprocess.run(command(["resume", str(lost)], 2), check=True)
    subprocess.run(command(["resume", str(other), "--devices", "1"]), check=True)
    students = [read_json(folder / "summary.json") for folder in (whole, asked, lost, other)]
    assert students[0]["student_sha256"] == students[1]["student_sha256"] == students[2]["student_sha256"]
    assert any("another number of processes (1, before 2)" in note for note in students[3]["notes"])


@pytest.mark.slow
def test_a_run_with_a_sharded_teacher_is_stopped_and_resumed(
    digits_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    words = ["distill", "--teacher", f"local-dir:{digits_teacher}", "--student", "convnet_w16", *RUN]
    whole, asked, other, alone = (tmp_path / name for name in ("whole", "asked", "other", "alone"))
    sharded = [*words, "--shard-teacher", "--devices", "2"]
    subprocess.run(command([*sharded, "--out", str(whole)]), check=True)
    assert stopped([*sharded, "--out", str(asked)], asked, signal.SIGUSR1) == 75
    assert stopped([*sharded, "--out", str(alone)], alone, signal.SIGUSR1) == 75
    monkeypatch.setenv("LT_STRATEGY", "fsdp")  # as `fabric run --strategy fsdp` does
    subprocess.run(command([*words, "--out", str(other)], 2), check=True)
    monkeypatch.delenv("LT_STRATEGY")
    subprocess.run(command(["resume", str(asked)]), check=True)
    subprocess.run(command(["resume", str(alone), "--devices", "1"]), check=True)
    students = [read_json(folder / "summary.json") for folder in (whole, asked, other, alone)]
    assert students[0]["student_sha256"] == students[1]["student_sha256"] == students[2]["student_sha256"]
    assert len({student["teacher_sha256"] for student in students}) == 1
    assert read_json(other / "experiment.json")["shard_teacher"] is True
    assert any("another number of processes (1, before 2)" in note for note in students[3]["notes"])
    for folder in (whole, alone):  # what the first process computes with the whole teacher
        assert (folder / "synthetic" / "answers.json").exists()


@pytest.mark.slow
def test_a_race_of_two_processes_is_lost_stopped_and_resumed(
    digits_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    words = ["distill", "--teacher", f"local-dir:{digits_teacher}", "--student", "convnet_w16", "--data", "digits"]
    words += ["--method", "auto:race", "--budget", "60steps", "--batch-size", "8", "--device", "cpu", "--devices", "2"]
    script = Path(__file__).with_name("small_race.py")
    whole, lost, asked = (tmp_path / name for name in ("whole", "lost", "asked"))

    def race(*words: str) -> int:
        return subprocess.run([sys.executable, str(script), *words], check=False).returncode

    assert race(*words, "--out", str(whole)) == 0
    for folder, number, code in ((lost, signal.SIGKILL, 76), (asked, signal.SIGUSR1, 75)):
        monkeypatch.setenv("SMALL_RACE_SIGNAL", str(int(number)))
        assert race(*words, "--out", str(folder)) == code
        assert (folder / "race" / "deep-inversion" / "checkpoints").exists()
    assert not (lost / "race" / "procedural").exists()
    monkeypatch.delenv("SMALL_RACE_SIGNAL")
    assert race("resume", str(lost)) == race("resume", str(asked), "--devices", "1") == 0
    students = [read_json(folder / "summary.json") for folder in (whole, lost, asked)]
    assert students[0]["student_sha256"] == students[1]["student_sha256"]
    assert students[0]["notes"][0] == students[1]["notes"][0]  # the scores; those after it name measured seconds
    assert all(student["experiment"]["application"]["steps"] == 42 for student in students)
    assert not any((folder / "race").exists() for folder in (whole, lost, asked))


def test_a_process_leaves_its_group_once():
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    leave()
    assert not torch.distributed.is_initialized()
    leave()
