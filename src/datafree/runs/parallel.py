"""Independent pieces of work side by side: one process each, so many at a time."""

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

from datafree.types import InputError

T = TypeVar("T")
R = TypeVar("R")


def prepare() -> None:
    """Begins to import what runs need in a process from which workers are forked, so that none of them waits for it."""
    forkserver.set_forkserver_preload(["datafree.runs.experiment"])
    forkserver.ensure_running()


def side_by_side(
    work: Callable[[T, Console | None], R], pieces: Sequence[T], jobs: int, console: Console, label: str
) -> Iterator[tuple[int, R]]:
    """Does every piece, begun in this order, and gives its place and result as soon as it is done.

    One at a time, a piece shows its own progress on the console. Several at a time are processes of their own, each as
    silent as it is with a console of None, and the console shows how many are done. Results do not depend on `jobs`.

    Args:
        work: What to do with a piece; for several jobs it and the pieces must be picklable.
        pieces: What to work on; the longest first, if all shall be done soon.
        jobs: So many at a time.
        console: Where progress is shown.
        label: What the pieces are, in one word.

    Raises:
        InputError: If a process was ended from outside.
    """
    if jobs == 1 or len(pieces) == 1:
        for place, piece in enumerate(pieces):
            yield place, work(piece, console)
        return
    prepare()
    before = set(multiprocessing.active_children())
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_belong) as workers:
        columns = (TextColumn("{task.description:>9}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        try:
            places = {workers.submit(work, piece, None): place for place, piece in enumerate(pieces)}
            with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
                for done in progress.track(as_completed(places), total=len(places), description=label):
                    yield places[done], done.result()
        except BrokenProcessPool as fault:
            raise InputError(
                f"a process was ended from outside, most likely for want of memory; do fewer {label} at a time with --jobs"
            ) from fault
        finally:  # after the last piece they are idle; if not, a run that is ended here can be resumed
            for process in set(multiprocessing.active_children()) - before:
                process.terminate()


def _belong() -> None:
    """A worker ends with the process that began it, and only that process is interrupted from the keyboard."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
    os._exit(1)
