"""What happens if a process of a run is lost: all others end, with one sentence and one exit code.

A process that fails writes why into the key-value store that connects the processes. The first process prints it. A process
that was killed is noticed by its closed connections or, if this program has started it, by its exit code.
"""

import os
import re
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import torch.distributed as distributed

from datafree.applications.trainer import Fabric
from datafree.errors import Diverged, InputError, ProcessLost

LOST = 76
"""exit code of a run of which a process was lost; it can be resumed"""
CONNECTION = re.compile(
    "closed by peer|reset by peer|broken pipe|socket closed|connection refused|timed out|NCCL|remote process",
    re.IGNORECASE,
)
"""what torch says if a process is gone"""
POLL, GRACE = 0.3, 5.0
"""seconds between two checks of the other processes, and until a process that still waits for them is ended"""
KEY = "datafree/fault/{}"


@contextmanager
def ending_together(fabric: Fabric) -> Iterator[None]:
    """End all processes of a run if one of them fails inside a `with` block.

    Raises:
        ProcessLost: If another process was lost.
    """
    if fabric.world_size == 1:
        yield
        return
    children: Sequence[Any] = getattr(getattr(getattr(fabric, "strategy", None), "launcher", None), "procs", ())
    ended = threading.Event()
    threading.Thread(target=_watch, args=(fabric, children, ended), daemon=True, name="process-watch").start()
    try:
        yield
    except (InputError, Diverged) as fault:
        _tell(fabric.global_rank, str(fault))
        _kill(children)
        raise
    except RuntimeError as fault:
        if not CONNECTION.search(str(fault)):
            _kill(children)
            raise
        reason = lost(fabric, children)
        _kill(children)
        raise ProcessLost(reason) from fault
    except BaseException as fault:
        if not isinstance(fault, KeyboardInterrupt):
            _kill(children)
        raise
    finally:
        ended.set()


def lost(fabric: Fabric, children: Sequence[Any]) -> str:
    """Return the sentence about a process that was lost."""
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        for number, child in enumerate(children, 1):
            if told := _told(number):
                return f"process {number} of {fabric.world_size} has failed: {told}"
            if child.poll():
                return f"process {number} of {fabric.world_size} was lost ({_how(child.returncode)})"
        for number in range(fabric.world_size if not children else 0):
            if number != fabric.global_rank and (told := _told(number)):
                return f"process {number} of {fabric.world_size} has failed: {told}"
        time.sleep(POLL)
    return f"another one of {fabric.world_size} processes was lost"


def failed_before(rank: int = 0) -> bool:
    """Return whether a process has failed and said so itself."""
    return bool(_told(rank))


def _how(code: int) -> str:
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"


def _store() -> Any:
    return distributed.distributed_c10d._get_default_store()  # pyright: ignore[reportPrivateUsage]


def _tell(rank: int, text: str) -> None:
    with suppress(Exception):  # the store may be gone with the process that holds it
        _store().set(KEY.format(rank), text)


def _told(rank: int) -> str:
    with suppress(Exception):
        store = _store()
        store.set_timeout(timedelta(seconds=2))
        return store.get(KEY.format(rank)).decode() if store.check([KEY.format(rank)]) else ""
    return ""


def _kill(children: Sequence[Any]) -> None:
    for child in children:
        if child.poll() is None:
            with suppress(OSError):
                child.kill()


def _watch(fabric: Fabric, children: Sequence[Any], ended: threading.Event) -> None:
    """End this process if another one is gone and this one still waits for it, as it may on a GPU."""
    parent = os.getppid()
    while not ended.wait(POLL):
        gone = next((number for number, child in enumerate(children, 1) if child.poll()), 0)
        orphaned = "TORCHELASTIC_RUN_ID" not in os.environ and fabric.global_rank > 0 and os.getppid() != parent
        if (gone or orphaned) and not ended.wait(GRACE):
            sentence = lost(fabric, children) if gone else f"process 0 of {fabric.world_size} was lost"
            _kill(children)
            print(f"datafree: {sentence}; resume the run", file=sys.stderr, flush=True)
            os._exit(LOST)
