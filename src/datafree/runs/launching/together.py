"""What the processes of a run do together: save checkpoints, each its own part, and stop when one of them is asked to."""

import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import torch
import torch.distributed as distributed

from datafree.applications.trainer import Fabric
from datafree.runs import checkpoints
from datafree.runs.launching.redividing import redivided
from datafree.runs.reading.layout import SCHEMA
from datafree.runs.run_folder import RunFolder
from datafree.types import InputError

INTERVAL = 1.0
"""seconds between two agreements, about"""
OWN = ("stream", "random_state")
"""what each process saves itself; all other states are the same in every process"""


class Stopped(KeyboardInterrupt):
    """The run was asked to stop, and has saved a checkpoint."""


class Together:
    """The processes of one run. Use it as a context manager: it answers signals.

    SIGUSR1 stops a run after a checkpoint; schedulers send it before the time of a job ends. With several processes, so do
    SIGTERM and SIGINT, whichever of the processes receives it; a second signal stops this process at once.

    Args:
        fabric: The processes.
        path: The run folder; that of the first process is used.
    """

    def __init__(self, fabric: Fabric, path: Path) -> None:
        self.fabric, self.count, self.rank = fabric, fabric.world_size, fabric.global_rank
        self.path = Path(fabric.broadcast(str(path)))
        several = self.count > 1
        self.group: Any = distributed.new_group(backend="gloo") if several else None
        self.signals = [signal.SIGUSR1, *([signal.SIGTERM, signal.SIGINT] if several else [])]
        self.before: dict[int, Any] = {}
        self.stopping = False
        self.calls, self.next_call, self.since = 0, 1, time.monotonic()

    def __enter__(self) -> "Together":
        if threading.current_thread() is threading.main_thread():
            self.before = {number: signal.signal(number, self.handle) for number in self.signals}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Remember a signal; stop at once if it is the second one."""
        if self.stopping and number != signal.SIGUSR1:
            raise KeyboardInterrupt
        self.stopping = True

    def agree(self, due: bool) -> tuple[bool, bool]:
        """Return whether a checkpoint is saved now, and whether the run stops after it: the same in all processes.

        Every process calls it at the same points of the run. They talk to each other about once a second.

        Args:
            due: Whether this process would save a checkpoint.
        """
        if self.count == 1:
            return due or self.stopping, self.stopping
        self.calls += 1
        if self.calls < self.next_call:
            return False, False
        pace = max(1e-6, time.monotonic() - self.since) / self.calls
        wanted = torch.tensor([int(due), int(self.stopping), -max(1, min(1000, int(INTERVAL / pace)))])
        distributed.all_reduce(wanted, op=distributed.ReduceOp.MAX, group=self.group)
        save, stop, every = wanted.tolist()
        self.calls, self.next_call, self.since = 0, -every, time.monotonic()
        return bool(save or stop), bool(stop)

    def commit(self, folder: RunFolder | None, step: int, state: Mapping[str, Any]) -> None:
        """Save a checkpoint: the first process everything that is its own or common, each other one its own part.

        Args:
            folder: The run folder, in the first process.
            step: The training step.
            state: The state of the run in this process.
        """
        parts = self.path / "checkpoints"
        if self.rank:
            own = {name: state["states"][name] for name in OWN if name in state["states"]}
            checkpoints.write(parts / checkpoints.PART.format(self.rank), SCHEMA, step, own)
        self.wait()
        if folder:
            folder.commit(step, state, [parts / checkpoints.PART.format(rank) for rank in range(1, self.count)])
        self.wait()

    def newest(self, folder: RunFolder | None) -> tuple[int, Any, str] | None:
        """Return the step and the state of this process in the newest intact checkpoint, and a note; None if there is none.

        With another number of processes than before, the images of all are divided again.
        """
        found = folder.newest() if folder else None
        name = self.fabric.broadcast(folder.chosen if folder and found else "")
        if not name:
            return None
        chosen = self.path / "checkpoints" / name
        step, state = found or checkpoints.read(chosen, SCHEMA)  # of the first process, only what is the same in all
        before = checkpoints.parts_of(chosen)
        if len(before) + 1 == self.count:
            if self.rank:
                state["states"] |= self.read_part(before[self.rank - 1])
            return step, state, ""
        states = [state["states"], *map(self.read_part, before)]
        if "stream" in states[0]:
            streams = [own["stream"] for own in states]
            state["states"]["stream"] = redivided(streams, self.rank, self.count)
        return step, state, _label(len(states), self.count)

    def read_part(self, part: Path) -> Any:
        """Return what one process saved in a checkpoint.

        Raises:
            InputError: If it is damaged.
        """
        try:
            return checkpoints.read(part, SCHEMA, self.path)[1]
        except checkpoints.Damaged as fault:
            raise InputError(
                f"{part.parent} is damaged ({part.name}: {fault}); delete this folder to continue from the one before"
            ) from fault

    def stop_if_asked(self) -> None:
        """Stop the run if one of its processes was asked to. All processes must call it.

        Raises:
            Stopped: In all processes.
        """
        asked = torch.tensor(int(self.stopping))
        if self.count > 1:
            distributed.all_reduce(asked, op=distributed.ReduceOp.MAX, group=self.group)
        if asked:
            raise Stopped

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.count > 1:
            distributed.barrier(group=self.group)


def _label(before: int, now: int) -> str:
    return (
        f"this run was resumed with another number of processes ({now}, before {before}): a batch in progress was started "
        "again, so its student differs from that of an uninterrupted run"
    )
