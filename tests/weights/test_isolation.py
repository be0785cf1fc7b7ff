"""Work in a child process: results, refusals, and limits of time and memory."""

import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import IO

import pytest
import torch

from datafree.types import InputError
from datafree.weights import isolation
from datafree.weights.isolation import LimitExceeded, isolated

MIB = 2**20
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are those of Linux")


def copy(path: str, result: IO[bytes]) -> None:
    result.write(Path(path).read_bytes())


def refuse(path: str, result: IO[bytes]) -> None:
    raise InputError(f"{path} is refused")


def fill(path: str, result: IO[bytes]) -> None:
    bytearray(4096 * MIB)  # more than a long session of tests has freed and may use again


def fill_by_torch(path: str, result: IO[bytes]) -> None:
    torch.zeros(1024 * MIB)


def loop(path: str, result: IO[bytes]) -> None:
    pow(7, 10**10)  # a loop in C that does not see Ctrl-C


def wait(path: str, result: IO[bytes]) -> None:
    time.sleep(60)


def crash(path: str, result: IO[bytes]) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def test_the_result_is_handed_back(tmp_path: Path):
    (tmp_path / "x").write_bytes(b"abc" * MIB)
    with isolated(copy, tmp_path / "x", 64 * MIB, 5) as result:
        result.seek(0)
        assert result.read() == b"abc" * MIB


def test_a_refusal_has_the_same_words():
    with pytest.raises(InputError, match="^x is refused$"):
        isolated(refuse, "x", 64 * MIB, 5)


@pytest.mark.parametrize("work", [fill, fill_by_torch])
def test_memory_is_limited(work: isolation.Work):
    with pytest.raises(LimitExceeded, match="takes more than 64 MiB of memory"):
        isolated(work, "x", 64 * MIB, 5)


@pytest.mark.parametrize("work", [loop, wait])
def test_time_is_limited(work: isolation.Work):
    begin = time.monotonic()
    with pytest.raises(LimitExceeded, match="takes more than 0 s"):
        isolated(work, "x", 64 * MIB, 0.1)
    assert time.monotonic() - begin < 5


def test_a_crash_does_not_reach_the_parent():
    with pytest.raises(LimitExceeded, match="crashes"):
        isolated(crash, "x", 64 * MIB, 5)


def children() -> set[str]:
    """The processes that this one has started and that have not been waited for."""
    return {pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}


def test_ctrl_c_ends_the_child_too():
    before = children()
    handler = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell that starts tests in the background ignores it
    try:
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            isolated(wait, "x", 64 * MIB, 20)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert children() <= before


def test_it_works_beside_busy_threads(tmp_path: Path):
    (tmp_path / "x").write_bytes(b"abc")
    busy = threading.Event()
    threads = [
        threading.Thread(target=lambda: [torch.randn(64, 64) for _ in iter(busy.is_set, True)]) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            isolated(copy, tmp_path / "x", 64 * MIB, 5).close()
    finally:
        busy.set()
        for thread in threads:
            thread.join()


def test_a_spawned_process_reads_where_forks_are_unsafe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The process itself is replaced, because it takes seconds to start."""
    started = []

    class Process:
        exitcode = 0

        def __init__(self, *, target: object, args: tuple[object, ...], daemon: bool) -> None:
            self.args = args

        def start(self) -> None:
            work, path, result, message = self.args
            with Path(str(result)).open("w+b") as file:
                code, text = isolation._attempt(work, str(path), file)  # type: ignore[arg-type]
            Path(str(message)).write_bytes(text)
            self.exitcode = code
            started.append(path)

        def join(self, timeout: float) -> None: ...

        def is_alive(self) -> bool:
            return False

    monkeypatch.setattr(isolation, "FORKS", False)
    monkeypatch.setattr(isolation.multiprocessing, "get_context", lambda name: SimpleNamespace(Process=Process))
    (tmp_path / "x").write_bytes(b"abc")
    with isolated(copy, tmp_path / "x", 64 * MIB, 5) as result:
        result.seek(0)
        assert result.read() == b"abc" and started == [str(tmp_path / "x")]
    with pytest.raises(InputError, match="^x is refused$"):
        isolated(refuse, "x", 64 * MIB, 5)
