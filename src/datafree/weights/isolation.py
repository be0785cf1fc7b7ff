"""Work on an untrusted file in a child process with a limit of memory and time.

A damaged or malicious file can make a parser fill the memory, loop where Ctrl-C is not seen, or crash. In a child process
none of these reaches the run. On Linux the child is a fork, which starts in milliseconds; it uses one thread and ends
without running anything of its parent's. Elsewhere a new process is spawned, which takes seconds.
"""

import gc
import multiprocessing
import os
import select
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import torch

from datafree.types import InputError

Work = Callable[[str, IO[bytes]], None]
"""reads the file with this path and writes its result to the open file; may raise `InputError`"""

DONE, REFUSED, OUT_OF_MEMORY, CRASHED = 0, 3, 4, 5
"""exit codes of the child"""
MESSAGE_LIMIT = 2000
"""bytes of an error message"""
CLOCK = 4.0
"""seconds by the clock per second of the processor, because the machine may be busy and the disk slow"""
FORKS = sys.platform == "linux"


class LimitExceeded(Exception):
    """The child exceeded a limit of time or memory, or crashed. The message says which, as the end of a sentence."""


def isolated(work: Work, path: str | Path, memory: int, seconds: float) -> IO[bytes]:
    """Run a function on a file in a child process.

    Args:
        work: A function of a module, not a closure. Modules that it needs should be imported already.
        path: The file.
        memory: Bytes that the child may allocate in addition to the memory of this process.
        seconds: Time that the child may use, of a processor; and `CLOCK` times as much by the clock.

    Returns:
        The open file that `work` wrote. It has no name and vanishes when it is closed.

    Raises:
        InputError: If `work` raises it; with the same message.
        LimitExceeded: If the child exceeds a limit or crashes.
    """
    result = _unnamed_file()
    run = _fork if FORKS else _spawn
    try:
        code, message = run(work, str(path), result, memory, seconds)
        if code == REFUSED:
            raise InputError(message)
        if code == OUT_OF_MEMORY:
            raise LimitExceeded(f"takes more than {memory / 2**20:.0f} MiB of memory")
        if code is None:
            raise LimitExceeded(f"takes more than {seconds:.0f} s")
        if code != DONE:
            raise LimitExceeded("crashes the process that does it")
    except BaseException:
        result.close()
        raise
    return result


def _unnamed_file() -> IO[bytes]:
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("datafree"), "w+b")
    return tempfile.TemporaryFile()


def _fork(work: Work, path: str, result: IO[bytes], memory: int, seconds: float) -> tuple[int | None, str]:
    """Return the exit code and the message of a forked child; no code if it exceeded its time."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        # A fork beside other threads is safe here: the child takes no lock of theirs, and starts no thread.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        _child(work, path, result, writer, memory, seconds)
    try:
        os.close(writer)
        message = _read_until(reader, time.monotonic() + CLOCK * seconds)
    except BaseException:  # Ctrl-C, for example
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    finally:
        os.close(reader)
    if message is None:
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    late = message is None or code in (-signal.SIGXCPU, -signal.SIGALRM, -signal.SIGKILL)
    return None if late else code, (message or b"").decode(errors="replace")


def _read_until(reader: int, end: float) -> bytes | None:
    """Return what a child wrote to a pipe before it closed it; None if the time is up."""
    content = b""
    while True:
        if not select.select([reader], [], [], max(0.0, end - time.monotonic()))[0]:
            return None
        chunk = os.read(reader, 4096)
        if not chunk:
            return content
        content += chunk


def _child(work: Work, path: str, result: IO[bytes], writer: int, memory: int, seconds: float) -> None:
    """Do the work in a fork and end it. Nothing of the parent's may run: no handler, finalizer, buffer or thread."""
    code = CRASHED
    try:
        gc.disable()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
        signal.alarm(int(CLOCK * seconds) + 2)  # if the parent is killed
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nothing, descriptor)
        _limit_resources(memory, seconds)
        torch.set_num_threads(1)
        code, message = _attempt(work, path, result)
        os.write(writer, message)
    finally:
        os._exit(code)


def _limit_resources(memory: int, seconds: float) -> None:
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limits = {
        resource.RLIMIT_AS: pages * resource.getpagesize() + memory,
        resource.RLIMIT_CPU: int(seconds) + 1,
        resource.RLIMIT_CORE: 0,
    }
    for kind, limit in limits.items():
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def _attempt(work: Work, path: str, result: IO[bytes]) -> tuple[int, bytes]:
    """Do the work and return the exit code with the message."""
    try:
        work(path, result)
        result.flush()
    except InputError as fault:
        return REFUSED, str(fault).encode(errors="replace")[:MESSAGE_LIMIT]
    except (MemoryError, OSError):
        return OUT_OF_MEMORY, b""
    except Exception as fault:  # torch has errors of its own for memory
        memory_words = ("alloc", "memory")
        return OUT_OF_MEMORY if any(word in str(fault) for word in memory_words) else CRASHED, b""
    return DONE, b""


def _spawn(work: Work, path: str, result: IO[bytes], memory: int, seconds: float) -> tuple[int | None, str]:
    """Return the exit code and the message of a spawned child; no code if it exceeded its time."""
    del memory  # the system has no such limit
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        names = [str(Path(folder) / name) for name in ("result", "message")]
        process: Any = context.Process(target=_spawned, args=(work, path, *names), daemon=False)
        process.start()
        process.join(30 + CLOCK * seconds)  # it imports torch first
        if process.is_alive():
            process.kill()
            process.join()
            return None, ""
        message = b""
        with suppress(FileNotFoundError):
            message = Path(names[1]).read_bytes()
            result.write(Path(names[0]).read_bytes())
            result.flush()
        return process.exitcode, message.decode(errors="replace")


def _spawned(work: Work, path: str, result_path: str, message_path: str) -> None:
    with Path(result_path).open("w+b") as result:
        code, message = _attempt(work, path, result)
    Path(message_path).write_bytes(message)
    os._exit(code)
