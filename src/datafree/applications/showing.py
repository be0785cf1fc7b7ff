"""What `progress=True` does in the functions that train a student."""

from collections.abc import Callable
from functools import wraps
from inspect import signature
from typing import Any, TypeVar, cast

from datafree.callback import Callback, silent
from datafree.progress import Work
from datafree.progress.reporter import Reporter
from datafree.synthesis import Stream
from datafree.synthesis.mixture import Mixed

Function = TypeVar("Function", bound=Callable[..., Any])


def shows_progress(train: Function) -> Function:
    """Give a function that trains a student its argument `progress`, which shows how far the training is.

    Args:
        train: Takes `batches`, `config` and `callback`.
    """
    parameters = signature(train)

    @wraps(train)
    def shown(*arguments: Any, progress: bool = False, callback: Callback = silent, **others: Any) -> Any:
        if not progress:
            return train(*arguments, callback=callback, **others)
        given = parameters.bind(*arguments, **others).arguments
        reporter = Reporter(callback, work_of(given["batches"], given["config"]))
        watch(given["batches"], reporter)
        with reporter.display:
            return train(*arguments, callback=reporter, **others)

    return cast(Function, shown)


def streams_of(batches: object) -> dict[str, Stream]:
    """Return the streams of the parts of a mixture, or a stream by an empty name; nothing if it is no stream."""
    if not isinstance(batches, Stream):
        return {}
    return batches.synthesizer.streams if isinstance(batches.synthesizer, Mixed) else {"": batches}


def work_of(batches: object, config: Any) -> Work:
    """Return how many batches and steps a training takes."""
    streams = streams_of(batches)
    last = max(0, config.steps - 1)
    return Work(
        steps=config.steps,
        batches={name: stream.schedule.batches_needed(last) - stream.batch_count for name, stream in streams.items()},
    )


def watch(batches: object, reporter: Reporter) -> None:
    """Report what a stream synthesizes, unless it has a callback of its own."""
    if isinstance(batches, Stream) and batches.callback is silent:
        batches.callback = batches.synthesizer.callback = reporter
