"""Independent pieces of work side by side: one process each, so many at a time."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar, cast

from joblib import Parallel, delayed
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

T = TypeVar("T")
R = TypeVar("R")


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
    """
    if jobs == 1 or len(pieces) == 1:
        for place, piece in enumerate(pieces):
            yield place, work(piece, console)
        return
    tasks = (delayed(_placed)(work, place, piece) for place, piece in enumerate(pieces))
    results = cast(Iterator[tuple[int, R]], Parallel(n_jobs=jobs, return_as="generator_unordered")(tasks))
    columns = (TextColumn("{task.description:>9}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield from progress.track(results, total=len(pieces), description=label)


def _placed(work: Callable[[T, None], R], place: int, piece: T) -> tuple[int, R]:
    return place, work(piece, None)
