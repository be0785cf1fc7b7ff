"""The pool of a compression: images that are made once, as many as a part of the budget allows, and saved as a set."""

from pathlib import Path
from typing import Any

from rich.console import Console

from datafree.classifier import Classifier
from datafree.methods import METHODS
from datafree.runs.planning.auto import Auto, decides_flip, recipe_for
from datafree.runs.planning.fitting import parts_of
from datafree.runs.planning.timing import time_synthesis
from datafree.runs.reporting.console import say
from datafree.runs.synthesis_job import synthesize
from datafree.synthesis import Method
from datafree.synthesis.image_sets.index import INDEX
from datafree.types import require_one_of

FEWEST, MOST = 256, 8192
"""images of a pool, whatever the budget"""


def method_for(name: str, teacher: Classifier) -> Method:
    """Return a method by name; `auto` is chosen by the teacher.

    Raises:
        InputError: If the method is unknown.
    """
    require_one_of(("auto", *METHODS), method=name)
    return METHODS[name] if name != "auto" else recipe_for(teacher, flips=decides_flip(Auto(), teacher)).method


def images_within(method: Method, teacher: Classifier, seconds: float) -> int:
    """Return how many images a method makes in some time, within the bounds of a pool."""
    parts = parts_of(method, method.schedule)
    total = sum(part.share for part in parts)
    each = sum(
        part.share / total * time_synthesis(part.method, teacher, teacher).batch / part.method.batch_size
        for part in parts
    )
    return max(FEWEST, min(MOST, int(seconds / max(each, 1e-9))))


def make_pool(teacher: Classifier, config: Any, folder: Path, seconds: float, console: Console) -> Method:
    """Synthesize the images of a compression, unless they are there, and return their method.

    Args:
        teacher: The checkpoint.
        config: The settings of the compression; with `images` of 0, the time decides.
        folder: The image set.
        seconds: The time for it.
        console: Where progress is shown.

    Raises:
        InputError: If the method is unknown, or does not support the checkpoint.
    """
    method = method_for(config.method, teacher)
    if not (folder / INDEX).is_file():
        count = config.images or images_within(method, teacher, seconds)
        say(console, "pool", f"{count:,} images  ({folder})")
        synthesize(
            method,
            teacher=config.checkpoint,
            out=folder,
            options=config.options,
            images=count,
            format=(),
            seed=config.seed,
            device=config.device,
            threads=config.threads,
            console=console,
        )
    return method
