"""Compress a trained image classifier when its training data is gone.

A teacher knows a data set we do not have. A synthesizer turns what it knows into images. A stream decides when images
are made, kept and shown. An application uses the stream.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from datafree.applications.distillation import DistillationConfig, distill
    from datafree.augmentation import Augmentation
    from datafree.classifier import Classifier, frozen, record
    from datafree.evaluation import evaluate, health, inception_score, measure, verify
    from datafree.experiment import Experiment, run
    from datafree.methods import METHODS
    from datafree.synthesis import Method, Schedule, Stream, Synthesizer
    from datafree.tasks import Task, student_of
    from datafree.teachers import create, load_folder, save_folder
    from datafree.types import Batch, Diverged, InputError

_PLACES = {
    "Classifier": "classifier",
    "frozen": "classifier",
    "record": "classifier",
    "DistillationConfig": "applications.distillation",
    "distill": "applications.distillation",
    "Augmentation": "augmentation",
    "evaluate": "evaluation",
    "health": "evaluation",
    "inception_score": "evaluation",
    "measure": "evaluation",
    "verify": "evaluation",
    "Experiment": "experiment",
    "Task": "tasks",
    "run": "experiment",
    "student_of": "tasks",
    "METHODS": "methods",
    "Method": "synthesis",
    "Schedule": "synthesis",
    "Stream": "synthesis",
    "Synthesizer": "synthesis",
    "create": "teachers",
    "load_folder": "teachers",
    "save_folder": "teachers",
    "Batch": "types",
    "Diverged": "types",
    "InputError": "types",
}

__all__ = ["__version__", *_PLACES]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    """Public names are imported when they are first used, so that `datafree --help` need not wait for torch."""
    if name not in _PLACES:
        raise AttributeError(f"module 'datafree' has no attribute {name!r}")
    return getattr(import_module(f"datafree.{_PLACES[name]}"), name)
