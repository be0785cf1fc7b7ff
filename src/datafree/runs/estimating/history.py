"""How a student was made, as far as its estimate depends on it."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datafree.applications.pruning import PruningConfig
from datafree.estimation.families import parts_of
from datafree.files import read_json
from datafree.files.validation import from_plain
from datafree.methods.pictures import PicturesConfig
from datafree.real.ledger import LEDGER, Entry, Ledger
from datafree.runs.reading.described import settings_in
from datafree.runs.run_folder import EXPERIMENT
from datafree.runs.settings import Experiment, read_settings
from datafree.runs.tasks import ExtensionTask, student_start
from datafree.runs.training import TRAINING
from datafree.sets.saved import SavedConfig
from datafree.synthesis import Method
from datafree.synthesis.image_sets.index import read_index
from datafree.synthesis.mixture import Mixture, Part
from datafree.teachers.folders import LOCAL
from datafree.types import InputError

REAL = "the student saw real images, and such students are underrated by 20 points and more"
WEIGHTS = "the student started from other weights, and such students are underrated by 20 points and more"
TEACHER = "the student started from weights of the teacher, and such students were underrated"
UNKNOWN = "it is not known which images the student was trained on"
MOST_STARTS = 8
"""students that started from each other, at most"""


@dataclass(frozen=True)
class History:
    """How a student was made."""

    method: Method | None
    """how its images were synthesized; None: not at all, or it is not known"""
    reason: str = ""
    """why it cannot be estimated; empty if it can"""


def history_of(experiment: Experiment, ledger: Ledger, starts: int = MOST_STARTS) -> History:
    """Return how the student of an experiment was made.

    A student that started from one of another run is like one of both runs, if the first one started from random weights.

    Args:
        experiment: Its settings.
        ledger: The real images that it used.
        starts: How many students may have started from each other.
    """
    task, method = experiment.task, experiment.method
    if method is None or isinstance(task, ExtensionTask) or ledger.images_seen_in_training() != 0:
        return History(method, REAL)
    known = [origin_of_set(part) if isinstance(part, SavedConfig) else part for part in parts_of(method)]
    if any(isinstance(inner, PicturesConfig) for part in known for inner in parts_of(part)):
        return History(method, REAL)
    if None in known or any(isinstance(inner, SavedConfig) for part in known for inner in parts_of(part)):
        return History(method, UNKNOWN)
    methods = [method] if known == list(parts_of(method)) else [part for part in known if part is not None]
    if start := student_start(task):
        before = history_of_start(Path(start.source), starts)
        if before is None or before.reason or before.method is None:
            return History(method, WEIGHTS)
        return History(joined([*methods, before.method]))
    method = joined(methods)
    copied = not getattr(task, "student", "") and not hasattr(task, "gate")  # an amalgamation makes a new network
    if isinstance(experiment.application, PruningConfig) or getattr(task, "inherit", False) or copied:
        return History(method, TEACHER)
    return History(method)


def origin_of_set(saved: SavedConfig) -> Method | None:
    """Return how the images of a set were synthesized, as its index says; None if that is not known."""
    with suppress(InputError, OSError):
        found = settings_in(read_index(Path(saved.images)).made_by.rpartition(", seed ")[0])
        return found if isinstance(found, Method) else None
    return None


def joined(methods: Sequence[Method]) -> Method:
    """Return one method with the families of all."""
    if len(methods) == 1:
        return methods[0]
    parts = (part for method in methods for part in parts_of(method))
    return Mixture(parts=tuple(Part(name=f"part-{n}", method=part, share=1.0) for n, part in enumerate(parts, 1)))


def history_of_start(student: Path, starts: int) -> History | None:
    """Return how the student was made that another one started from; None if that is not known."""
    with suppress(InputError, OSError):
        return history_in(student, starts - 1) if starts else None
    return None


def history_in(student: Path, starts: int = MOST_STARTS) -> History | None:
    """Return how a student in a run folder was made; None if its folder is not in one.

    Args:
        student: The run folder, or the folder of the student in it.
        starts: How many students may have started from each other.

    Raises:
        InputError: If the settings in the run folder are damaged.
    """
    for folder in (student, student.parent):
        if (folder / EXPERIMENT).is_file():
            entries = from_plain(tuple[Entry, ...], read_json(folder / LEDGER), str(folder / LEDGER))
            return history_of(read_settings(folder), Ledger(list(entries)), starts)
    return None


def known_accuracy(spec: str) -> float | None:
    """Return the held-out accuracy of a teacher that `datafree train` wrote; None for any other.

    Args:
        spec: The teacher as it was given: a folder, or local-dir:FOLDER.
    """
    path = Path(spec.removeprefix(LOCAL)) / TRAINING
    with suppress(InputError, OSError, ValueError):
        content: dict[str, Any] = from_plain(dict[str, Any], read_json(path), str(path))
        held_out = from_plain(float, content.get("held_out"), str(path))
        return held_out if 0 <= held_out <= 1 else None
    return None
