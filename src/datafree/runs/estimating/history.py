"""How a student was made, as far as its estimate depends on it."""

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
from datafree.runs.run_folder import EXPERIMENT
from datafree.runs.settings import Experiment, read_settings
from datafree.runs.tasks import ExtensionTask, student_start
from datafree.runs.training import TRAINING
from datafree.sets.saved import SavedConfig
from datafree.synthesis import Method
from datafree.teachers.folders import LOCAL
from datafree.types import InputError

REAL = "the student saw real images, and such students are underrated by 20 points and more"
WEIGHTS = "the student started from other weights, and such students are underrated by 20 points and more"
TEACHER = "the student started from weights of the teacher, and such students were underrated"
UNKNOWN = "it is not known which images the student was trained on"


@dataclass(frozen=True)
class History:
    """How a student was made."""

    method: Method | None
    """how its images were synthesized; None: not at all, or it is not known"""
    reason: str = ""
    """why it cannot be estimated; empty if it can"""


def history_of(experiment: Experiment, ledger: Ledger) -> History:
    """Return how the student of an experiment was made.

    Args:
        experiment: Its settings.
        ledger: The real images that it used.
    """
    task, method = experiment.task, experiment.method
    if method is None or isinstance(task, ExtensionTask) or ledger.images_seen_in_training() != 0:
        return History(method, REAL)
    if any(isinstance(part, PicturesConfig) for part in parts_of(method)):
        return History(method, REAL)
    if any(isinstance(part, SavedConfig) for part in parts_of(method)):
        return History(method, UNKNOWN)
    if student_start(task):
        return History(method, WEIGHTS)
    copied = not getattr(task, "student", "") and not hasattr(task, "gate")  # an amalgamation makes a new network
    if isinstance(experiment.application, PruningConfig) or getattr(task, "inherit", False) or copied:
        return History(method, TEACHER)
    return History(method)


def history_in(student: Path) -> History | None:
    """Return how a student in a run folder was made; None if its folder is not in one.

    Args:
        student: The run folder, or the folder of the student in it.

    Raises:
        InputError: If the settings in the run folder are damaged.
    """
    for folder in (student, student.parent):
        if (folder / EXPERIMENT).is_file():
            entries = from_plain(tuple[Entry, ...], read_json(folder / LEDGER), str(folder / LEDGER))
            return history_of(read_settings(folder), Ledger(list(entries)))
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
