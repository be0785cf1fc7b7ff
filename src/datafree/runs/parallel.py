"""Run independent work items in parallel, each in its own process."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import forkserver
from threading import Thread
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from datafree.progress.output import shows_bars
from datafree.types import InputError

T = TypeVar("T")
R = TypeVar("R")


def preload_workers() -> None:
    """Start to import what runs need in the process that workers are forked from, so that they start quickly."""
    forkserver.set_forkserver_preload(["datafree.runs.experiment"])
    forkserver.ensure_running()


def parallel_map(
    function: Callable[[T, Console | None], R], items: Sequence[T], jobs: int, console: Console, label: str
) -> Iterator[tuple[int, R]]:
    """Apply a function to each item, started in order, and yield index and result as soon as each is done.

    With one job, items run in this process and show their own progress on the console. With several, each runs in a worker
    process that gets None as its console, and the console shows how many are done. Results do not depend on `jobs`.

    Args:
        function: The function of an item and a console; with several jobs it and the items must be picklable.
        items: The items; put the longest first to finish early.
        jobs: Number of items at a time.
        console: Where progress is shown.
        label: One word for the items, in the plural.

    Raises:
        InputError: If a worker process was killed.
    """
    if jobs == 1 or len(items) == 1:
        for index, item in enumerate(items):
            yield index, function(item, console)
        return
    preload_workers()
    children = set(multiprocessing.active_children())
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_initialize_worker) as executor:
        columns = (
            TextColumn("{task.description:>9}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        try:
            indices = {executor.submit(function, item, None): index for index, item in enumerate(items)}
            with Progress(*columns, console=console, transient=True, disable=not shows_bars(console)) as progress:
                for future in progress.track(as_completed(indices), total=len(indices), description=label):
                    yield indices[future], future.result()
        except BrokenProcessPool as fault:
            raise InputError(
                f"a worker process was killed, most likely for lack of memory; run fewer {label} at a time with --jobs"
            ) from fault
        finally:  # workers are idle after the last item; before it, a run that is killed here can be resumed
            for process in set(multiprocessing.active_children()) - children:
                process.terminate()


def _initialize_worker() -> None:
    """Leave Ctrl-C to the parent process, and exit when it exits."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
    os._exit(1)
