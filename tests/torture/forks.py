"""Work in a fork of this loaded process: what it printed, how it ended, how long it took and how much memory it used."""

import contextlib
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CRASHED = 99
"""exit code of a fork whose work raised"""
FORBIDDEN = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "socket.connect")
"""audit events that no hostile file may cause"""


@dataclass(frozen=True)
class Outcome:
    """How a fork ended."""

    code: int
    """exit code; negative: ended by this signal"""
    output: str
    """what it printed, both streams"""
    seconds: float
    peak_mb: float
    """largest resident memory of the fork and of its children"""
    timed_out: bool = False
    events: tuple[str, ...] = ()
    """forbidden audit events"""

    @property
    def traceback(self) -> bool:
        return "Traceback (most recent call last)" in self.output or self.code == CRASHED


def fork(
    work: Callable[[], int | None],
    *,
    timeout: float = 60.0,
    kill_after: float | None = None,
    cwd: Path | None = None,
    audit: bool = False,
) -> Outcome:
    """Run work in a fork.

    Args:
        work: Returns the exit code.
        timeout: Seconds after which the fork and its children are killed; the outcome says so.
        kill_after: Send SIGKILL after this many seconds; this is not a timeout.
        cwd: Working directory.
        audit: Record forbidden audit events.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as events:
        begin = time.monotonic()
        pid = os.fork()
        if pid == 0:
            _child(work, output.fileno(), events.fileno() if audit else None, cwd)
        status, usage, timed_out = _wait(pid, begin, timeout, kill_after)
        texts = []
        for file in (output, events):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    seconds = time.monotonic() - begin
    return Outcome(code, texts[0], seconds, usage.ru_maxrss / 1024, timed_out, tuple(texts[1].split()))


def _wait(pid: int, begin: float, timeout: float, kill_after: float | None) -> tuple[int, resource.struct_rusage, bool]:
    limit, timed_out = min(timeout, kill_after if kill_after is not None else timeout), False
    while True:
        done, status, usage = os.wait4(pid, os.WNOHANG)
        if done:
            return status, usage, timed_out
        if time.monotonic() - begin > limit:
            timed_out = kill_after is None or timeout < kill_after
            try:
                os.killpg(pid, signal.SIGKILL)
            except ProcessLookupError:  # the fork has not made its group yet
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.002)


def _child(work: Callable[[], int | None], output: int, events: int | None, cwd: Path | None) -> None:
    code = CRASHED
    try:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)
        if cwd:
            os.chdir(cwd)
        if events is not None:
            sys.addaudithook(lambda event, _: _record(event, events))
        code = work() or 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


def _record(event: str, handle: int) -> None:
    if event in FORBIDDEN:
        os.write(handle, f"{event}\n".encode())
